import Glibc
import IngestCore
import Journal

/// A process that writes a journal, for tests of what a disk does to it: such a process can be run under
/// Tests/FaultShim, and on a disk that is full.
///
///     DiskWriter JOURNAL_FOLDER MAX_BYTES MIN_FREE_DISK_BYTES COMMIT_DELAY_MILLISECONDS LEDGER
///
/// Commands come on standard input, one a line; each gets one line of answer:
///
///     append TABLE COUNT BYTES  ->  accepted LOWER UPPER | refused REASON
///     advance TABLE POSITION    ->  advanced | failed REASON
///     state TABLE               ->  state NEXT POSITION TRIMMED STORED_BYTES FILE_BYTES
///     refusal                   ->  refusal REASON | refusal
///     failure                   ->  failure REASON | failure
///     workload SEED STEPS       ->  done
///
/// It ends when standard input does.
@main
struct DiskWriter {
    private let session: JournalSession
    private var submissions = 0

    static func main() {
        let arguments = CommandLine.arguments
        do {
            guard arguments.count == 6, let maxBytes = Int(arguments[2]), let minFree = Int(arguments[3]),
                let commitDelay = Int(arguments[4])
            else { throw Failure(description: "see the comment above DiskWriter for its arguments") }
            var configuration = JournalConfiguration(
                path: arguments[1], maxBytes: maxBytes, minFreeDiskBytes: minFree, tables: Workload.tables)
            configuration.commitDelayMilliseconds = commitDelay
            let ledger = try Ledger(path: arguments[5].isEmpty ? nil : arguments[5])
            var writer = DiskWriter(session: try JournalSession(configuration, ledger: ledger))
            answer("open")
            while let line = readLine() {
                answer(try writer.perform(line.split(separator: " ").map(String.init)))
            }
            try writer.session.close()
        } catch {
            answer("error \(error)")
            exit(1)
        }
    }

    private static func answer(_ text: String) {
        let bytes = Array((text + "\n").utf8)
        guard write(STDOUT_FILENO, bytes, bytes.count) == bytes.count else { exit(2) }
    }

    private mutating func perform(_ words: [String]) throws -> String {
        func number(_ index: Int) throws -> Int {
            guard words.count > index, let number = Int(words[index]) else {
                throw Failure(description: "malformed command: \(words.joined(separator: " "))")
            }
            return number
        }
        switch words.first {
        case "append":
            submissions += 1
            let sizes = Array(repeating: try number(3), count: try number(2))
            switch try session.append(submissions, to: words[1], sizes: sizes) {
            case .success(let receipt):
                return "accepted \(receipt.sequences.lowerBound) \(receipt.sequences.upperBound)"
            case .failure(let error): return "refused \(error)"
            }
        case "advance":
            switch try session.advance(words[1], to: UInt64(try number(2))) {
            case .success: return "advanced"
            case .failure(let error): return "failed \(error)"
            }
        case "state":
            let snapshot = session.current.snapshot
            let state = snapshot.streams[session.stream(words[1])]!
            return "state \(state.nextSequence) \(state.position) \(state.trimmed) \(snapshot.storedBytes) "
                + "\(snapshot.fileBytes)"
        case "refusal": return "refusal \(session.current.snapshot.refusal.map { "\($0)" } ?? "")"
        case "failure": return "failure \(session.current.snapshot.failure.map { "\($0)" } ?? "")"
        case "workload":
            var workload = Workload(session, seed: UInt64(try number(1)))
            try workload.run(steps: try number(2))
            return "done"
        default: throw Failure(description: "unknown command: \(words.joined(separator: " "))")
        }
    }
}
