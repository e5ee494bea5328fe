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

    var code: CSJFormat {
        switch self {
        case .json: CSJ_FORMAT_JSON
        case .ndjson: CSJ_FORMAT_LINES
        case .detect: CSJ_FORMAT_DETECT
        }
    }
}

/// What a body held.
public struct BodyReport: Sendable {
    /// One event that is none.
    public struct Problem: Sendable, Equatable {
        /// Its number in the body, from 0; good and bad events count, skipped lines don't.
        public let index: Int
        /// Where it starts in the body.
        public let offset: Int
        /// Its length, in bytes; 0 where its end can't be told.
        public let length: Int
        /// What is wrong; its offset counts from the start of the body.
        public let error: InvalidEvent
    }

    /// Events appended to the buffer.
    public internal(set) var accepted = 0
    /// Bad events.
    public internal(set) var rejected = 0
    /// The first of them, at most `Limits.reportedProblems`.
    public private(set) var problems: [Problem] = []

    mutating func add(_ event: CSJEvent, at index: Int, field: String) {
        rejected += 1
        guard problems.count < Limits.reportedProblems else { return }
        problems.append(
            Problem(
                index: index, offset: event.offset, length: event.length,
                error: InvalidEvent(event.verdict, field: field, byteOffset: event.problem_offset)))
    }
}
