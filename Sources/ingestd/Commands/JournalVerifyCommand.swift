import ArgumentParser
import IngestCore
import Journal

extension JournalCommand {
    /// `ingestd journal verify`
    struct Verify: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Reads everything and compares checksums, counts and boundaries; ends with 1 if there is damage.",
            discussion: ConfigurationReference.discussion(of: CommandSettings.journal))

        @Flag(help: "Print JSON, for scripts.")
        var json = false

        @OptionGroup var options: ConfigurationOptions

        func run() throws {
            let path = try options.loadOrExit(CommandSettings.journal).configuration.journal.path
            let progress = ProgressLine()
            let result = try TerminalError.from {
                try JournalInspection(path: path).verify { progress.show($0.text) }
            }
            progress.clear()
            print(json ? try Terminal.json(VerificationReport(path, result)) : Self.text(path, result))
            guard result.isSound else { throw ExitCode.failure }
        }

        private static func text(_ path: String, _ result: JournalVerification) -> String {
            var lines = [
                "journal        \(path)",
                "entries        \(result.entryCount), \(result.byteCount) bytes, \(result.eventCount) sound events",
                "dead letters   \(result.deadLetterCount)", "batches        \(result.sealCount) waiting",
                "partitions     \(result.partitionCount)",
            ]
            for stream in result.uncomparedStreams {
                lines.append("not compared   the bytes of \(stream): events were delivered and deleted meanwhile")
            }
            lines += result.problems.map { "damaged        \(Terminal.printable($0.description))" }
            let hidden = result.problemCount - result.problems.count
            if hidden > 0 { lines.append("damaged        \(hidden) more") }
            lines.append("result         \(result.isSound ? "sound" : Terminal.count(result.problemCount, "problem"))")
            return lines.joined(separator: "\n")
        }
    }

    /// `ingestd journal compact`
    struct Compact: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Makes the journal's file as small as what it holds. The service must be stopped.",
            discussion: """
                A copy is made beside the file and takes its place once it is complete, so the disk needs room for \
                both. A crash costs the copy only.

                \(ConfigurationReference.discussion(of: CommandSettings.journal))
                """)

        @Flag(help: "Print JSON, for scripts.")
        var json = false

        @OptionGroup var options: ConfigurationOptions

        func run() throws {
            let path = try options.loadOrExit(CommandSettings.journal).configuration.journal.path
            let result = try TerminalError.from { try Journal.compact(path: path) }
            print(
                json
                    ? try Terminal.json(CompactionReport(path, result))
                    : "\(path) had \(result.bytesBefore) bytes and has \(result.bytesAfter) now")
        }
    }
}

extension JournalInspection.Progress {
    /// For a progress line.
    var text: String {
        guard let table else { return "dead letters: \(sequence) of \(end)" }
        return "\(table): sequence \(sequence) of \(end), \(byteCount >> 20) MiB read"
    }
}

/// What `journal verify --json` prints.
private struct VerificationReport: Encodable {
    struct Problem: Encodable {
        let place: String
        let first_sequence: UInt64?
        let last_sequence: UInt64?
        let reason: String
    }

    let path: String
    let sound: Bool
    let entries: Int
    let events: Int
    let bytes: Int
    let dead_letters: Int
    let batches: Int
    let partitions: Int
    let problem_count: Int
    let problems: [Problem]
    let uncompared_streams: [String]

    init(_ path: String, _ result: JournalVerification) {
        self.path = path
        sound = result.isSound
        entries = result.entryCount
        events = result.eventCount
        bytes = result.byteCount
        dead_letters = result.deadLetterCount
        batches = result.sealCount
        partitions = result.partitionCount
        problem_count = result.problemCount
        problems = result.problems.map {
            Problem(
                place: $0.place, first_sequence: $0.sequences?.lowerBound, last_sequence: $0.sequences?.last,
                reason: $0.reason)
        }
        uncompared_streams = result.uncomparedStreams
    }
}

/// What `journal compact --json` prints.
private struct CompactionReport: Encodable {
    let path: String
    let bytes_before: Int
    let bytes_after: Int

    init(_ path: String, _ result: JournalCompaction) {
        self.path = path
        bytes_before = result.bytesBefore
        bytes_after = result.bytesAfter
    }
}
