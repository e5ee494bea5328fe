internal import CSimdJSON
internal import IngestCore

/// How a body holds its events.
public enum BodyFormat: Sendable {
    /// One JSON object, over as many lines as it likes, or an array of objects.
    case json
    /// One JSON object a line. Lines end with LF or CRLF, the last may lack it; lines of white space are skipped.
    case ndjson
    /// Whichever of the two it is.
    case detect
    /// Exactly one JSON object.
    case object

    var code: CSJFormat {
        switch self {
        case .json: CSJ_FORMAT_JSON
        case .ndjson: CSJ_FORMAT_LINES
        case .detect: CSJ_FORMAT_DETECT
        case .object: CSJ_FORMAT_OBJECT
        }
    }
}

/// What a body held. Every byte of it lies in exactly one event, good or bad, but for white space and an array's own
/// brackets and commas.
///
/// A bad line costs only itself. So does a bad element of an array, as long as quotes, brackets and commas still tell
/// where it ends, which a fault within a string, number or name does not change. Where they don't, the rest of the
/// body, from the start of that element, is one bad event: what is behind might as well be the inside of a string.
public struct BodyReport: Sendable {
    /// One event that is none.
    public struct Problem: Sendable, Equatable {
        /// Its number in the body, from 0; good and bad events count, skipped lines don't.
        public let index: Int
        /// Where it starts in the body.
        public let offset: Int
        /// Its length, in bytes; 0 for what is missing: an element between two commas, or the end of an array.
        public let length: Int
        /// The id that it has all the same; `nil` if it has none, or more than one, or it was not found before what
        /// is wrong, or it can't be kept.
        public let eventID: String?
        /// What is wrong; its offset counts from the start of the body.
        public let error: InvalidEvent
    }

    /// Events appended to the buffer.
    public internal(set) var accepted = 0
    /// Bad events.
    public internal(set) var rejected = 0
    /// The first of them, as many as the caller wants.
    public internal(set) var problems: [Problem] = []
    /// Whether there are more events than the caller wanted: then those behind were not looked at.
    public internal(set) var isCutShort = false
}
