import IngestCore
import Journal

/// Random work on a journal, as sources and flusher do it: submissions of varied size to two streams, some of Kafka
/// partitions, seals, flushes, and now and then a restart. The backlog stays small, so that pages are recycled.
struct Workload {
    static let tables = ["first", "second"]

    private struct Progress {
        /// Sealed and not flushed.
        var batches: [BatchPlan] = []
        /// Where the next batch starts.
        var sealedEnd: UInt64 = 1
    }

    private let session: JournalSession
    private var random: SeededGenerator
    private var progress: [String: Progress] = [:]
    private var submissions = 0

    init(_ session: JournalSession, seed: UInt64) {
        self.session = session
        random = SeededGenerator(seed: seed)
    }

    /// - Parameter steps: each is about one commit.
    mutating func run(steps: Int) throws {
        for _ in 0..<steps {
            switch Int.random(in: 0..<100, using: &random) {
            case ..<50:
                for _ in 0..<Int.random(in: 1...4, using: &random) { try submit() }
                if Bool.random(using: &random) { try session.waitForAll() }
            case ..<74: try seal()
            case ..<99: try flush()
            default: try session.reopen()
            }
            if session.current.snapshot.failure != nil { try session.reopen() }
        }
        try session.close()
    }

    private mutating func submit() throws {
        submissions += 1
        let sizes: [Int]
        switch Int.random(in: 0..<20, using: &random) {
        case 0: sizes = [Int.random(in: 20_000..<60_000, using: &random)]
        case 1...3: sizes = (0..<3).map { _ in Int.random(in: 500..<3_000, using: &random) }
        default:
            let count = Int.random(in: 1...12, using: &random)
            sizes = (0..<count).map { _ in Int.random(in: 5..<200, using: &random) }
        }
        guard Int.random(in: 0..<3, using: &random) == 0 else {
            return session.submit(submissions, to: Self.tables.randomElement(using: &random)!, sizes: sizes)
        }
        let partition = Int.random(in: 0...1, using: &random)
        // As a consumer does: it goes on where the journal says that it stands.
        try session.waitForAll()
        let known = session.current.snapshot.partitions[TopicPartition(topic: "topic", partition: Int32(partition))]
        let start = known?.end ?? 0
        session.submit(
            submissions, to: Self.tables[partition], sizes: sizes, partition: Int32(partition),
            offsets: start..<(start + Int64(sizes.count)))
    }

    private mutating func seal() throws {
        let table = Self.tables.randomElement(using: &random)!
        let rows = Int.random(in: 1...40, using: &random)
        do {
            guard
                let plan = try session.seal(table, from: progress[table, default: Progress()].sealedEnd, maxRows: rows)
            else { return }
            progress[table, default: Progress()].batches.append(plan)
            progress[table]!.sealedEnd = plan.sequences.upperBound
        } catch let error where !(error is Failure) {
            // The disk said no: the next step tries again.
        }
    }

    private mutating func flush() throws {
        let table = Self.tables.randomElement(using: &random)!
        while let plan = progress[table]?.batches.first {
            let result = try session.advance(
                table, to: plan.sequences.upperBound, partitions: plan.partitions)
            guard case .success = result else { return }
            progress[table]!.batches.removeFirst()
        }
    }
}
