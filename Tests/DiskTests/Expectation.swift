import IngestCore
import Journal

@testable import DiskWriter

/// What a journal must hold, from the ledger of its writer up to some moment.
struct Expectation {
    struct Submission {
        let number: Int
        let table: String
        let count: Int
        let partition: Int
        let offsets: Range<Int>
        var isRefused = false
    }

    struct Table {
        /// Acknowledged, in order.
        var accepted: [(submission: Int, sequences: Range<UInt64>)] = []
        var requestedPosition: UInt64 = 1
        var position: UInt64 = 1
        var requestedSeals: Set<Range<UInt64>> = []
        var seals: [Range<UInt64>] = []

        var end: UInt64 { accepted.last?.sequences.upperBound ?? 1 }

        /// Those with events at or behind `sequence`.
        func accepted(from sequence: UInt64) -> ArraySlice<(submission: Int, sequences: Range<UInt64>)> {
            var (low, high) = (0, accepted.count)
            while low < high {
                let middle = (low + high) / 2
                if accepted[middle].sequences.upperBound <= sequence { low = middle + 1 } else { high = middle }
            }
            return accepted[low...]
        }
    }

    private(set) var identity: String?
    private(set) var submissions: [Int: Submission] = [:]
    private(set) var tables: [String: Table] = [:]
    /// The offset behind the last acknowledged message of each partition.
    private var durableOffsets: [Int: Int] = [:]
    /// The disk may have a meta page whose write failed: what is refused until the journal is opened again may be there
    /// all the same.
    private var hasDoubtfulCommit = false

    /// Takes the next line.
    mutating func apply(_ line: LedgerLine) throws {
        switch line {
        case .opened(let identity):
            guard self.identity == nil || self.identity == identity else { throw Problem("the identity changed") }
            self.identity = identity
            hasDoubtfulCommit = false
        case .submit(let number, let table, let count, let partition, let offsets):
            submissions[number] = Submission(
                number: number, table: table, count: count, partition: partition, offsets: offsets)
        case .accepted(let number, let sequences):
            guard let submission = submissions[number], sequences.count == submission.count else {
                throw Problem("submission \(number) got \(sequences)")
            }
            tables[submission.table, default: Table()].accepted.append((number, sequences))
            note(number, in: &durableOffsets)
        case .refused(let number): submissions[number]?.isRefused = !hasDoubtfulCommit
        case .seal(let table, let sequences): tables[table, default: Table()].requestedSeals.insert(sequences)
        case .sealed(let table, let sequences): tables[table, default: Table()].seals.append(sequences)
        case .advance(let table, let position): tables[table, default: Table()].requestedPosition = position
        case .advanced(let table, let position):
            tables[table, default: Table()].position = position
            tables[table]!.seals.removeAll { $0.lowerBound < position }
        }
    }

    /// A write of a meta page failed.
    mutating func noteFailedCommit() { hasDoubtfulCommit = true }

    /// Checks a journal that was opened at this moment.
    /// - Throws: `Problem`, or what the journal throws.
    func check(_ journal: Journal) throws {
        if let identity, journal.identity != identity { throw Problem("the journal has another identity") }
        let snapshot = journal.snapshot
        var durable = durableOffsets
        var storedBytes = 0
        for name in Workload.tables {
            guard let stream = journal.stream(table: name), let state = snapshot.streams[stream.id] else {
                throw Problem("no stream \(name)")
            }
            let table = tables[name] ?? Table()
            storedBytes += try check(table, name, state, journal, &durable)
            try checkSeals(table, name, try journal.seals(of: stream.id), state)
        }
        guard storedBytes == snapshot.storedBytes else {
            throw Problem("the entries take \(storedBytes) bytes, the journal says \(snapshot.storedBytes)")
        }
        for partition in 0...1 {
            let found = snapshot.partitions[TopicPartition(topic: "topic", partition: Int32(partition))]?.end ?? 0
            guard found == Int64(durable[partition] ?? 0) else {
                throw Problem("partition \(partition) ends at \(found), its events at \(durable[partition] ?? 0)")
            }
        }
    }

    /// - Parameter durable: gets the offset behind the last durable message of each partition.
    /// - Returns: bytes of the file that the stream's entries take.
    private func check(
        _ table: Table, _ name: String, _ state: StreamState, _ journal: Journal, _ durable: inout [Int: Int]
    ) throws -> Int {
        guard state.nextSequence >= table.end else {
            throw Problem("\(name): ends at \(state.nextSequence), acknowledged up to \(table.end)")
        }
        guard state.trimmed <= state.position, state.position >= table.position,
            state.position <= max(table.position, table.requestedPosition)
        else {
            throw Problem(
                "\(name): trimmed \(state.trimmed), position \(state.position); confirmed \(table.position), "
                    + "requested \(table.requestedPosition)")
        }
        // Sequences of the submissions: of those acknowledged, then as they are found.
        var accepted = table.accepted(from: state.trimmed)
        var storedBytes = 0
        var expected = state.trimmed
        var current: (submission: Int, sequences: Range<UInt64>)?
        let reader = try journal.reader(state.stream.id, state.trimmed..<state.nextSequence)
        while try reader.read({ run in
            let length = run.entry.bytes.count
            // As docs/journal-format.md defines it, for pages of 4,096 bytes.
            storedBytes += length > 4_096 / 2 - 64 ? (length + 16 + 4_095) / 4_096 * 4_096 : length + 32
            while let event = try run.next() {
                guard event.sequence == expected else { throw Problem("\(name): \(event.sequence), not \(expected)") }
                guard let content = DiskEvent(payload: event.payload) else {
                    throw Problem("\(name): event \(expected) is not what was submitted")
                }
                if current?.sequences.contains(expected) != true {
                    // Between what was acknowledged there may be what was refused when its commit was in doubt.
                    let isAccepted = accepted.first.map { $0.sequences.lowerBound <= expected } ?? false
                    current =
                        isAccepted
                        ? accepted.removeFirst() : try unacknowledged(content.submission, at: expected, name)
                    note(current!.submission, in: &durable)
                    guard current!.sequences.contains(expected), current!.sequences.upperBound <= state.nextSequence
                    else { throw Problem("\(name): \(current!) at \(expected)") }
                }
                guard content.submission == current!.submission,
                    content.index == Int(expected - current!.sequences.lowerBound)
                else { throw Problem("\(name): event \(expected) is \(content), not of \(current!)") }
                expected += 1
            }
        }) {}
        guard expected == state.nextSequence else { throw Problem("\(name): events end at \(expected)") }
        return storedBytes
    }

    private func note(_ number: Int, in durable: inout [Int: Int]) {
        guard let submission = submissions[number], !submission.offsets.isEmpty else { return }
        durable[submission.partition] = max(durable[submission.partition] ?? 0, submission.offsets.upperBound)
    }

    /// Events that are durable without having been acknowledged: a submission on its way, in full.
    private func unacknowledged(
        _ number: Int, at sequence: UInt64, _ name: String
    ) throws -> (submission: Int, sequences: Range<UInt64>) {
        guard let submission = submissions[number], submission.table == name else {
            throw Problem("\(name): event \(sequence) is of submission \(number), which nobody made")
        }
        guard !submission.isRefused else {
            throw Problem("\(name): event \(sequence) is of submission \(number), which was refused")
        }
        return (number, sequence..<(sequence + UInt64(submission.count)))
    }

    private func checkSeals(
        _ table: Table, _ name: String, _ found: [Range<UInt64>], _ state: StreamState
    ) throws {
        let expected = table.seals.filter { $0.lowerBound >= state.position }
        let known = table.requestedSeals
        guard Set(expected).isSubset(of: found), found.allSatisfy({ known.contains($0) }),
            found.allSatisfy({ $0.lowerBound >= state.position && $0.upperBound <= state.nextSequence })
        else { throw Problem("\(name): seals \(found), expected \(expected), position \(state.position)") }
    }
}
