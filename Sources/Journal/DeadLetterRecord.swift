import FoundationEssentials
import IngestCore

/// A dead letter as stored in table `dead_letters`. Keeps the event exactly, so that sending it again gives the same
/// row. Holds pointers into the record: valid as long as those bytes.
///
///      0  u8   version, 1
///      1  u8   state: 0 kept, 1 sent again: goes as soon as the DLQ topic has it
///      2  u16  0
///      4  u32  stream
///      8  u64  sequence that the event had; 0 if it is none that could be sent again
///     16  i64  failed at, milliseconds since 1970-01-01 UTC
///     24  i64  received at, the same
///     32  u32  length of the problem, a JSON object
///     36  u32  length of the source section
///     40       problem, source section, event record: the latter two as in an entry (IngestCore/EntryFormat.swift)
///
/// The source section's range of offsets is empty and stands at the event's own offset.
struct DeadLetterRecord {
    static let version: UInt8 = 1
    static let headerLength = 40
    static let stateOffset = 1
    /// The states.
    enum State: UInt8 {
        case kept = 0
        case retried = 1
    }

    let bytes: UnsafeRawBufferPointer
    let state: State
    let stream: StreamID
    /// `nil` if the event can't be sent again.
    let sequence: UInt64?
    let failedAt: Int64
    let receivedAt: Int64
    let problem: UnsafeRawBufferPointer
    let source: UnsafeRawBufferPointer
    let event: UnsafeRawBufferPointer

    /// - Throws: `MalformedEntry`.
    init(_ bytes: UnsafeRawBufferPointer) throws(MalformedEntry) {
        guard bytes.count >= Self.headerLength, bytes[0] == Self.version else {
            throw MalformedEntry("dead letter of an unknown version")
        }
        guard let state = State(rawValue: bytes[Self.stateOffset]) else {
            throw MalformedEntry("dead letter of an unknown state")
        }
        let problemLength = Int(bytes.loadLittleEndian(32, as: UInt32.self))
        let sourceLength = Int(bytes.loadLittleEndian(36, as: UInt32.self))
        let eventOffset = Self.headerLength + problemLength + sourceLength
        guard eventOffset <= bytes.count else { throw MalformedEntry("dead letter is shorter than its parts") }
        guard sourceLength == 0 || sourceLength >= 20 else {
            throw MalformedEntry("source section of a dead letter is too short")
        }
        self.bytes = bytes
        self.state = state
        stream = StreamID(rawValue: bytes.loadLittleEndian(4))
        let sequence: UInt64 = bytes.loadLittleEndian(8)
        guard sequence < .max else { throw MalformedEntry("sequence of a dead letter is out of range") }
        self.sequence = sequence == 0 ? nil : sequence
        failedAt = bytes.loadLittleEndian(16)
        receivedAt = bytes.loadLittleEndian(24)
        problem = UnsafeRawBufferPointer(rebasing: bytes[Self.headerLength..<(Self.headerLength + problemLength)])
        source = UnsafeRawBufferPointer(rebasing: bytes[(Self.headerLength + problemLength)..<eventOffset])
        event = UnsafeRawBufferPointer(rebasing: bytes[eventOffset...])
    }

    /// The partition that the event came from; `nil` for HTTP.
    var partition: TopicPartition? {
        guard !source.isEmpty else { return nil }
        return TopicPartition(
            topic: String(decoding: source[20...], as: UTF8.self), partition: source.loadLittleEndian(0))
    }

    /// The event.
    /// - Throws: `MalformedEntry`, also if anything follows it.
    func eventView() throws(MalformedEntry) -> EventView {
        var cursor = EventCursor(record: event, sequence: sequence ?? 0)
        guard let view = try cursor.next() else { throw MalformedEntry("dead letter without an event") }
        _ = try cursor.next()
        return view
    }

    /// Whether the problem is of this kind. Exact without decoding: quotes within a JSON string are escaped.
    func isOfKind(_ member: [UInt8]) -> Bool {
        guard problem.count >= member.count else { return false }
        return (0...(problem.count - member.count)).contains { problem[$0...].starts(with: member) }
    }

    /// What `isOfKind` looks for.
    static func kindMember(_ kind: String) throws -> [UInt8] {
        [UInt8]("\"kind\":".utf8) + (try encoder().encode(kind))
    }

    /// Decodes it.
    /// - Parameter withPayload: otherwise the payload is left empty.
    func letter(table: String, withPayload: Bool) throws -> DeadLetter {
        let view = try eventView()
        let problem = try JSONDecoder().decode(ProblemDocument.self, from: Data(problem))
        var kafka: DeadLetter.KafkaOrigin?
        if let partition, let message = view.kafka {
            kafka = DeadLetter.KafkaOrigin(
                partition: partition, offset: message.offset, timestamp: message.timestamp,
                key: message.key.map { Array($0) }, headers: try EventHeaders.decode(view.headers))
        }
        return DeadLetter(
            eventID: view.id, failedAt: failedAt, table: table, problem: problem.problem, kafka: kafka,
            payload: withPayload ? Array(view.payload) : [],
            traceparent: kafka == nil ? view.traceparent.map { String(decoding: $0, as: UTF8.self) } : nil)
    }

    /// The record's bytes.
    static func encode(
        stream: StreamID, sequence: UInt64?, failedAt: Int64, receivedAt: Int64, problem: DeadLetter.Problem,
        kafka: (partition: TopicPartition, offset: Int64)?, event: some Collection<UInt8>
    ) throws -> [UInt8] {
        let problem = try encoder().encode(ProblemDocument(problem))
        let source = kafka.map { sourceSection($0.partition, offset: $0.offset) } ?? []
        var record: [UInt8] = [version, State.kept.rawValue, 0, 0]
        record.reserveCapacity(headerLength + problem.count + source.count + event.count)
        record.appendLittleEndian(stream.rawValue)
        record.appendLittleEndian(sequence ?? 0)
        record.appendLittleEndian(failedAt)
        record.appendLittleEndian(receivedAt)
        record.appendLittleEndian(UInt32(problem.count))
        record.appendLittleEndian(UInt32(source.count))
        record += problem
        record += source
        record += event
        return record
    }

    private static func sourceSection(_ partition: TopicPartition, offset: Int64) -> [UInt8] {
        var section: [UInt8] = []
        section.appendLittleEndian(partition.partition)
        section.appendLittleEndian(offset)
        section.appendLittleEndian(offset)
        section += partition.topic.utf8
        return section
    }

    /// Sorted names: the same letter always gives the same bytes.
    static func encoder() -> JSONEncoder {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return encoder
    }
}

/// `DeadLetter.Problem` with the contract's names.
struct ProblemDocument: Codable {
    var kind: String
    var clickhouse_code: Int?
    var http_status: Int?
    var message: String
    var attempts: Int

    init(_ problem: DeadLetter.Problem) {
        kind = problem.kind
        clickhouse_code = problem.clickHouseCode
        http_status = problem.httpStatus
        message = problem.message
        attempts = problem.attempts
    }

    var problem: DeadLetter.Problem {
        DeadLetter.Problem(
            kind: kind, message: message, clickHouseCode: clickhouse_code, httpStatus: http_status, attempts: attempts)
    }
}

extension EventView {
    /// The event's id, derived where the payload has none. Bytes that are no UTF-8 are replaced: damage.
    var id: String {
        explicitID.map { String(decoding: $0, as: UTF8.self) } ?? EventID.derive(from: payload)
    }
}
