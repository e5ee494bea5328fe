internal import EventJSON
internal import HTTPTypes
internal import IngestCore
internal import NIOCore

/// The header `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): a client that got no answer sends the
/// same request with the same key again, and gets the answer to the first one.
struct IdempotencyKey {
    static let header = HTTPField.Name("Idempotency-Key")!
    /// Says that an answer is that of an earlier request.
    static let replayed = HTTPField(name: HTTPField.Name("Idempotency-Replayed")!, value: "true")
    private static let maxLength = 255

    /// What the client calls its request.
    let text: String

    /// `nil` if the request has no key.
    /// - Throws: `Problem` 400.
    init?(_ headers: HTTPFields) throws(Problem) {
        guard headers.contains(Self.header) else { return nil }
        guard headers[fields: Self.header].count(where: { _ in true }) == 1 else {
            throw Self.bad("occurs more than once")
        }
        guard let content = Self.content((headers[Self.header] ?? "").utf8) else {
            throw Self.bad("is no string: write \"key\", where \\ stands before \" and \\")
        }
        guard (1...Self.maxLength).contains(content.count), content.allSatisfy({ (0x21...0x7e).contains($0) }) else {
            throw Self.bad("has 1 to \(Self.maxLength) visible ASCII characters, without spaces")
        }
        text = String(decoding: content, as: UTF8.self)
    }

    /// The content of a string (RFC 8941, section 3.3.3), or the value itself if it has no quotes: many clients write
    /// none. `nil` for a broken string.
    private static func content(_ value: String.UTF8View) -> [UInt8]? {
        let (quote, backslash) = (UInt8(ascii: "\""), UInt8(ascii: "\\"))
        guard value.first == quote else { return Array(value) }
        var content: [UInt8] = []
        var rest = value.dropFirst().makeIterator()
        while let byte = rest.next() {
            switch byte {
            case quote: return rest.next() == nil ? content : nil
            case backslash:
                guard let escaped = rest.next(), escaped == quote || escaped == backslash else { return nil }
                content.append(escaped)
            default: content.append(byte)
            }
        }
        return nil
    }

    private static func bad(_ words: String) -> Problem {
        .badRequest("bad_idempotency_key", "the Idempotency-Key \(words)")
    }

    /// The key for the journal, with a fingerprint of all that decides about the events.
    func request(
        stream: StreamID, mode: ContentMode, keepsBadEvents: Bool, body: ByteBuffer
    ) -> RequestKey {
        body.withUnsafeReadableBytes {
            RequestKey(
                clientKey: text, stream: stream, meaning: mode.meaning + (keepsBadEvents ? " dead_letter" : ""),
                body: $0)
        }
    }
}

extension ContentMode {
    /// The same in all versions: it is hashed into what a journal keeps.
    fileprivate var meaning: String {
        switch self {
        case .events(.json): "json"
        case .events(.ndjson): "ndjson"
        case .events(.detect): "detect"
        case .events(.object): "object"
        case .binaryCloudEvent(let id): "binary " + String(decoding: id, as: UTF8.self)
        case .structuredCloudEvent: "structured"
        case .cloudEventBatch: "batch"
        }
    }
}
