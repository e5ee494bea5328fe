internal import CSimdJSON
internal import IngestCore

/// Puts what a scanner found wrong into words.
struct ProblemWords {
    let eventIDField: String
    let fallbackIDField: String?
    let maxEventBytes: Int

    func problem(of event: CSJEvent) -> InvalidEvent {
        switch event.verdict {
        case CSJ_ATTRIBUTE_MISSING, CSJ_ATTRIBUTE_VALUE, CSJ_SPEC_VERSION:
            InvalidEvent(
                kind: "invalid_cloudevent", message: cloudEventWords(for: event.verdict, attributes: event.attributes),
                byteOffset: event.problem_offset)
        default:
            problem(event.verdict, isFallback: event.is_fallback, byteOffset: event.problem_offset)
        }
    }

    private func cloudEventWords(for verdict: CSJVerdict, attributes: UInt8) -> String {
        let names = [
            (CSJ_CE_ID, "id"), (CSJ_CE_SOURCE, "source"), (CSJ_CE_SPEC_VERSION, "specversion"), (CSJ_CE_TYPE, "type"),
        ]
        .filter { attributes & UInt8($0.0) != 0 }.map { "\"\($0.1)\"" }.joined(separator: ", ")
        return switch verdict {
        case CSJ_ATTRIBUTE_MISSING: "a CloudEvent needs \(names)"
        case CSJ_SPEC_VERSION: "\(names) of the CloudEvent is not \"1.0\""
        default: "\(names) of the CloudEvent is not a string, or empty"
        }
    }

    func problem(_ verdict: CSJVerdict, isFallback: Bool = false, byteOffset: Int) -> InvalidEvent {
        let field = isFallback ? fallbackIDField ?? eventIDField : eventIDField
        let (kind, message) = words(for: verdict, field: field)
        return InvalidEvent(kind: kind, message: message, byteOffset: byteOffset)
    }

    private func words(for verdict: CSJVerdict, field: String) -> (kind: String, message: String) {
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
        case CSJ_TOO_LARGE: ("too_large", "larger than \(maxEventBytes) bytes")
        case CSJ_NO_MEMORY: ("too_large", "no memory to scan a value of this size")
        case CSJ_ID_TYPE: ("invalid_event_id", "\"\(field)\" is neither a string nor an integer")
        case CSJ_ID_EMPTY: ("invalid_event_id", "\"\(field)\" is empty")
        case CSJ_ID_TOO_LONG: ("invalid_event_id", "\"\(field)\" is longer than \(Limits.eventIDBytes) bytes")
        case CSJ_ID_TWICE: ("duplicate_key", "\"\(field)\" occurs more than once")
        default: ("invalid_json", "a byte that JSON does not allow at this place")
        }
    }
}
