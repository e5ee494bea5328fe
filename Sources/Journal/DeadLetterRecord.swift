import FoundationEssentials
import IngestCore

/// A dead letter as stored in the journal, and as it leaves the service (DLQ topic, exports): JSON with the
/// contract's names.
///
///     record   0 u8 version, 1   1 u8 state: 0 stored, 1 forwarded   2 u16 0   4 u32 stream   8 JSON
struct DeadLetterRecord: Codable {
    struct Problem: Codable {
        var kind: String
        var clickhouse_code: Int?
        var http_status: Int?
        var message: String
        var attempts: Int
    }

    struct Source: Codable {
        var kind: String
        var topic: String?
        var partition: Int32?
        var offset: Int64?
        var key: String?
        var headers: [String: String]?
        var timestamp: String?
    }

    static let version: UInt8 = 1
    static let headerLength = 8

    var event_id: String
    var failed_at: String
    var stream: String
    var table: String
    var error: Problem
    var source: Source
    var payload: String
    var payload_encoding: String

    init(_ letter: DeadLetter) {
        event_id = letter.eventID
        failed_at = Timestamp.iso8601(milliseconds: letter.failedAt)
        stream = letter.table
        table = letter.table
        error = Problem(
            kind: letter.problem.kind, clickhouse_code: letter.problem.clickHouseCode,
            http_status: letter.problem.httpStatus, message: letter.problem.message,
            attempts: letter.problem.attempts)
        if let kafka = letter.kafka {
            source = Source(
                kind: "kafka", topic: kafka.partition.topic, partition: kafka.partition.partition,
                offset: kafka.offset, key: kafka.key.map(Self.text),
                headers: Dictionary(
                    kafka.headers.map { ($0.name, $0.value.map(Self.text) ?? "") }, uniquingKeysWith: { $1 }),
                timestamp: kafka.timestamp < 0 ? nil : Timestamp.iso8601(milliseconds: kafka.timestamp))
        } else {
            source = Source(kind: "http")
        }
        // Bytes that are no text must survive as well: they are what the operator has to look at.
        if let text = String(validating: letter.payload, as: UTF8.self) {
            payload = text
            payload_encoding = "utf8"
        } else {
            payload = Data(letter.payload).base64EncodedString()
            payload_encoding = "base64"
        }
    }

    /// The bytes to store.
    func encoded(stream: StreamID) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        var record: [UInt8] = [Self.version, 0, 0, 0]
        record.appendLittleEndian(stream.rawValue)
        record += try encoder.encode(self)
        return record
    }

    private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
}
