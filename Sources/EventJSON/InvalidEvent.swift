internal import CSimdJSON
public import IngestCore

/// Why bytes are not an event.
public struct InvalidEvent: Error, Sendable, Equatable, CustomStringConvertible {
    /// `invalid_json`, `not_an_object`, `too_large`, `invalid_event_id` or `duplicate_key`: stable names, the same
    /// as in dead letters.
    public let kind: String
    /// What is wrong, in words.
    public let message: String
    /// Where, from the start of what was scanned; of an event whose strings or encoding are broken, its start.
    public let byteOffset: Int?

    /// Collects the parts.
    public init(kind: String, message: String, byteOffset: Int?) {
        self.kind = kind
        self.message = message
        self.byteOffset = byteOffset
    }

    /// All of it in one line.
    public var description: String { "\(kind): \(located)" }

    /// The message and where.
    fileprivate var located: String { byteOffset.map { "\(message) (byte \($0))" } ?? message }
}

extension DeadLetter {
    /// A dead letter of what a source found to be no event.
    /// - Parameters:
    ///   - payload: the bytes, which are copied.
    ///   - problem: what is wrong; its offset counts from the start of `payload`.
    ///   - eventID: the event's id if it has one that can be told; else it is derived from `payload`.
    ///   - table: the destination table.
    ///   - kafka: the message that it was; `nil` for HTTP.
    ///   - failedAt: when it was found, milliseconds since 1970 UTC.
    public init(
        invalid payload: UnsafeRawBufferPointer, _ problem: InvalidEvent, eventID: String?, table: String,
        kafka: KafkaOrigin? = nil, failedAt: Int64 = WallClock.milliseconds
    ) {
        self.init(
            eventID: eventID ?? EventID.derive(from: payload), failedAt: failedAt, table: table,
            problem: Problem(kind: problem.kind, message: problem.located), kafka: kafka, payload: Array(payload))
    }
}

extension InvalidEvent {
    init(_ verdict: CSJVerdict, field: String, byteOffset: Int) {
        let (kind, message) = Self.words(for: verdict, field: field)
        self.init(kind: kind, message: message, byteOffset: byteOffset)
    }

    private static func words(for verdict: CSJVerdict, field: String) -> (kind: String, message: String) {
        switch verdict {
        case CSJ_BAD_UTF8: ("invalid_json", "not UTF-8")
        case CSJ_CONTROL_CHARACTER: ("invalid_json", "a control character within a string is not escaped")
        case CSJ_UNCLOSED_STRING: ("invalid_json", "a string is not closed")
        case CSJ_BAD_ESCAPE: ("invalid_json", "a bad escape sequence in a string, or half of a surrogate pair")
        case CSJ_BAD_NUMBER: ("invalid_json", "not a JSON number")
        case CSJ_TRUNCATED: ("invalid_json", "ends before the value does")
        case CSJ_TRAILING: ("invalid_json", "something follows the value; an event is exactly one JSON object")
        case CSJ_TOO_DEEP: ("invalid_json", "nested deeper than \(Limits.jsonDepth) levels")
        case CSJ_EMPTY: ("invalid_json", "empty")
        case CSJ_NOT_AN_OBJECT: ("not_an_object", "an event is a JSON object, not an array or a scalar")
        case CSJ_TOO_LARGE: ("too_large", "larger than \(Limits.eventBytes) bytes")
        case CSJ_NO_MEMORY: ("too_large", "no memory to scan a value of this size")
        case CSJ_ID_TYPE: ("invalid_event_id", "\"\(field)\" is neither a string nor an integer")
        case CSJ_ID_EMPTY: ("invalid_event_id", "\"\(field)\" is empty")
        case CSJ_ID_TOO_LONG: ("invalid_event_id", "\"\(field)\" is longer than \(Limits.eventIDBytes) bytes")
        case CSJ_ID_TWICE: ("duplicate_key", "\"\(field)\" occurs more than once")
        default: ("invalid_json", "a byte that JSON does not allow at this place")
        }
    }
}
