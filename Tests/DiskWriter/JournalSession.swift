import IngestCore
import Journal
import Logging
import Synchronization

/// An open journal that is written to, with every step told to a ledger. One thread uses it; completions come on the
/// journal's own.
final class JournalSession {
    private let configuration: JournalConfiguration
    private let ledger: Ledger
    private var journal: Journal?
    private let answers = Mailbox<Answer>()
    private var outstanding = 0

    private enum Answer: Sendable {
        case events(submission: Int, Result<Receipt, IntakeError>)
        case command(Result<Void, JournalError>)
    }

    /// What became of events.
    private(set) var results: [Int: Result<Receipt, IntakeError>] = [:]

    init(_ configuration: JournalConfiguration, ledger: Ledger) throws {
        self.configuration = configuration
        self.ledger = ledger
        try open()
    }

    /// The open journal.
    var current: Journal { journal! }

    private func open() throws {
        let opened = try Journal.open(configuration, logger: Logger(label: "journal"))
        opened.start { _ in }
        ledger.write(.opened(identity: opened.identity))
        journal = opened
    }

    func close() throws {
        try waitForAll()
        journal?.close()
        journal = nil
    }

    /// Closes it and opens it again, more than once where the disk fails.
    func reopen() throws {
        try close()
        for _ in 0..<10 {
            do {
                return try open()
            } catch is JournalError {
                continue
            }
        }
        try open()
    }

    func stream(_ table: String) -> StreamID { current.stream(table: table)!.id }

    /// Submits events and does not wait.
    /// - Parameter offsets: of a Kafka partition; HTTP without them.
    func submit(_ submission: Int, to table: String, sizes: [Int], partition: Int32 = 0, offsets: Range<Int64>? = nil) {
        let events = EventBuffer()
        for (index, bytes) in sizes.enumerated() {
            DiskEvent(submission: submission, index: index, bytes: bytes).payload.withUnsafeBytes {
                events.append(
                    payload: $0, id: .derived,
                    kafka: offsets.map {
                        KafkaMetadata(
                            offset: $0.lowerBound + Int64(index), timestamp: -1, key: nil,
                            headers: UnsafeRawBufferPointer(start: nil, count: 0))
                    })
            }
        }
        let origin = offsets.map {
            EventOrigin.kafka(TopicPartition(topic: "topic", partition: partition), offsets: $0)
        }
        let told = offsets.map { Int($0.lowerBound)..<Int($0.upperBound) } ?? 0..<0
        ledger.write(
            .submit(
                submission: submission, table: table, count: sizes.count, partition: Int(partition), offsets: told))
        outstanding += 1
        current.submit(
            Submission(
                stream: stream(table), origin: origin ?? .http, receivedAt: WallClock.milliseconds, events: events
            ) { [ledger, answers] result in
                switch result {
                case .success(let receipt):
                    ledger.write(.accepted(submission: submission, sequences: receipt.sequences))
                case .failure: ledger.write(.refused(submission: submission))
                }
                answers.send(.events(submission: submission, result))
            })
    }

    /// Submits events and waits for the answer.
    func append(_ submission: Int, to table: String, sizes: [Int]) throws -> Result<Receipt, IntakeError> {
        submit(submission, to: table, sizes: sizes)
        try waitForAll()
        guard let result = results.removeValue(forKey: submission) else { throw Failure(description: "no answer") }
        return result
    }

    /// Plans the next batch behind `start`, makes its boundaries durable and returns it; `nil` if there is no event.
    func seal(_ table: String, from start: UInt64, maxRows: Int) throws -> BatchPlan? {
        try waitForAll()
        guard let plan = try current.plan(stream(table), from: start, maxRows: maxRows, maxBytes: 1 << 30) else {
            return nil
        }
        ledger.write(.seal(table: table, sequences: plan.sequences))
        try command { current.seal(plan.sequences, in: stream(table), completion: $0) }.get()
        ledger.write(.sealed(table: table, sequences: plan.sequences))
        return plan
    }

    /// Moves the position and waits.
    func advance(
        _ table: String, to position: UInt64, partitions: [TopicPartition: (entryEnd: UInt64, offset: Int64)] = [:]
    ) throws -> Result<Void, JournalError> {
        try waitForAll()
        ledger.write(.advance(table: table, position: position))
        let result = try command {
            current.advance(stream(table), to: position, partitions: partitions, completion: $0)
        }
        if case .success = result { ledger.write(.advanced(table: table, position: position)) }
        return result
    }

    private func command(
        _ body: (@escaping @Sendable (Result<Void, JournalError>) -> Void) -> Void
    ) throws -> Result<Void, JournalError> {
        body { [answers] in answers.send(.command($0)) }
        var batch: [Answer] = []
        guard answers.receive(into: &batch), case .command(let result) = batch.first, batch.count == 1 else {
            throw Failure(description: "an answer that nobody waits for")
        }
        return result
    }

    /// Waits for the answers to everything submitted.
    func waitForAll() throws {
        var batch: [Answer] = []
        while outstanding > 0 {
            guard answers.receive(into: &batch) else { throw Failure(description: "the answers' mailbox is closed") }
            for case .events(let submission, let result) in batch {
                results[submission] = result
                outstanding -= 1
            }
        }
    }
}
