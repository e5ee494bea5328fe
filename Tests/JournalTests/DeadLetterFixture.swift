import IngestCore
import Journal
import TestSupport

extension JournalFixture {
    /// Advances to the end of `sequences`, of which those events were rejected.
    func reject(
        _ rejected: [UInt64], upTo position: UInt64, _ table: String = "events", kind: String = "row_data",
        partitions: [TopicPartition: (entryEnd: UInt64, offset: Int64)] = [:], damaged: [DamagedEntry] = []
    ) async throws {
        let stream = stream(table)
        let events = rejected.map { RejectedEvent(sequence: $0, problem: .rejected("no \($0)", kind: kind)) }
        let result = await withCheckedContinuation { continuation in
            journal.advance(stream, to: position, partitions: partitions, rejected: events, damaged: damaged) {
                continuation.resume(returning: $0)
            }
        }
        try result.get()
    }

    func reseal(_ sequences: Range<UInt64>, as parts: [Range<UInt64>]) async throws {
        let stream = stream()
        let result = await withCheckedContinuation { continuation in
            journal.reseal(sequences, as: parts, in: stream) { continuation.resume(returning: $0) }
        }
        try result.get()
    }

    func markForwarded(_ numbers: [UInt64]) async throws {
        let result = await withCheckedContinuation { continuation in
            journal.markForwarded(numbers) { continuation.resume(returning: $0) }
        }
        try result.get()
    }

    /// Submits one letter alone, as a source does with a message that is no event.
    @discardableResult
    func append(
        _ letter: DeadLetter, events payloads: [String] = [], origin: EventOrigin = .http
    ) async throws -> Receipt {
        try await journal.append(
            stream: stream(), origin: origin, receivedAt: 5, events: EventBuffer(payloads: payloads),
            deadLetters: [letter])
    }

    /// All letters.
    func letters() throws -> [StoredDeadLetter] { try journal.deadLetters(matching: DeadLetterFilter(), limit: .max) }

    /// Numbers of the letters that wait for the DLQ topic.
    func waiting() throws -> [UInt64] { try journal.unforwarded(limit: .max, maxBytes: .max).map(\.number) }

    /// Opens again with a configuration that `change` has changed.
    func reopen(_ change: (inout JournalConfiguration) -> Void) throws {
        change(&configuration)
        try reopen()
    }
}

extension DeadLetter.Problem {
    static func rejected(_ message: String, kind: String = "row_data") -> DeadLetter.Problem {
        DeadLetter.Problem(
            kind: kind, message: message, clickHouseCode: 27, httpStatus: 400, attempts: 2)
    }
}

extension DeadLetter {
    /// A message that is no event.
    static func invalid(_ offset: Int64? = nil, of partition: TopicPartition? = nil, payload: [UInt8] = [0x7B])
        -> DeadLetter
    {
        DeadLetter(
            eventID: payload.withUnsafeBytes { EventID.derive(from: $0) }, failedAt: 1_700_000_000_123, table: "events",
            problem: Problem(kind: "invalid_json", message: "no closing brace"),
            kafka: offset.map {
                KafkaOrigin(partition: partition!, offset: $0, timestamp: -1, key: nil, headers: [])
            }, payload: payload)
    }
}

let partitionA = TopicPartition(topic: "t", partition: 0)
let partitionB = TopicPartition(topic: "t", partition: 1)
