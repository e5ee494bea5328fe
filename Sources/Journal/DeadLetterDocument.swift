import FoundationEssentials
public import IngestCore

/// A dead letter as it leaves the service, on the DLQ topic and in the API: JSON with the contract's names.
struct DeadLetterDocument: Codable {
    struct Source: Codable {
        var kind: String
        var topic: String?
        var partition: Int32?
        var offset: Int64?
        var key: String?
        var headers: [String: String]?
        var timestamp: String?
        var traceparent: String?
    }

    /// The members that only the API has.
    var id: UInt64?
    var state: String?
    var forwarded: Bool?

    var event_id: String
    var failed_at: String
    var stream: String
    var table: String
    var error: ProblemDocument
    var source: Source
    var payload: String?
    var payload_encoding: String?

    init(_ letter: DeadLetter, withPayload: Bool) {
        event_id = letter.eventID
        failed_at = Timestamp.iso8601(milliseconds: letter.failedAt)
        stream = letter.table
        table = letter.table
        error = ProblemDocument(letter.problem)
        if let kafka = letter.kafka {
            source = Source(
                kind: "kafka", topic: kafka.partition.topic, partition: kafka.partition.partition,
                offset: kafka.offset, key: kafka.key.map(Self.text),
                headers: Dictionary(
                    kafka.headers.map { ($0.name, $0.value.map(Self.text) ?? "") }, uniquingKeysWith: { $1 }),
                timestamp: kafka.timestamp < 0 ? nil : Timestamp.iso8601(milliseconds: kafka.timestamp))
        } else {
            source = Source(kind: "http", traceparent: letter.traceparent)
        }
        guard withPayload else { return }
        // Bytes that are no text must survive as well: they are what the operator has to look at.
        if let text = String(validating: letter.payload, as: UTF8.self) {
            payload = text
            payload_encoding = "utf8"
        } else {
            payload = Data(letter.payload).base64EncodedString()
            payload_encoding = "base64"
        }
    }

    private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
}

extension Journal {
    /// The letter as a message for the DLQ topic: its key is the event's id, its value the contract's JSON.
    public static func message(for letter: StoredDeadLetter) throws -> DeadLetterMessage {
        let value = try DeadLetterRecord.encoder().encode(DeadLetterDocument(letter.letter, withPayload: true))
        return DeadLetterMessage(number: letter.number, key: Array(letter.letter.eventID.utf8), value: Array(value))
    }

    /// The letter as a JSON object for the API: what the DLQ topic gets, and `id` (its number), `state` (`kept` or
    /// `retried`) and `forwarded`.
    /// - Parameters:
    ///   - withPayload: otherwise `payload` and `payload_encoding` are left out.
    ///   - forwards: whether forwarding is on; otherwise `forwarded` is left out, because it would say nothing.
    public static func document(
        for letter: StoredDeadLetter, withPayload: Bool, forwards: Bool = true
    ) throws -> [UInt8] {
        var document = DeadLetterDocument(letter.letter, withPayload: withPayload)
        document.id = letter.number
        document.state = letter.isRetried ? "retried" : "kept"
        document.forwarded = forwards ? !letter.awaitsForwarding : nil
        return Array(try DeadLetterRecord.encoder().encode(document))
    }
}
