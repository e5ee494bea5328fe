public import IngestCore

/// Why bytes are not an event.
public struct InvalidEvent: Error, Sendable, Equatable, CustomStringConvertible {
    /// `invalid_json`, `not_an_object`, `too_large`, `invalid_event_id`, `duplicate_key` or `invalid_cloudevent`: stable
    /// names, the same as in dead letters.
    public let kind: String
    /// What is wrong, in words.
    public let message: String
    /// Where, from the start of what was scanned.
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
    ///   - traceparent: of an HTTP request, if it had a valid one.
    ///   - failedAt: when it was found, milliseconds since 1970 UTC.
    public init(
        invalid payload: UnsafeRawBufferPointer, _ problem: InvalidEvent, eventID: String?, table: String,
        kafka: KafkaOrigin? = nil, traceparent: String? = nil, failedAt: Int64 = WallClock.milliseconds
    ) {
        self.init(
            eventID: eventID ?? EventID.derive(from: payload), failedAt: failedAt, table: table,
            problem: Problem(kind: problem.kind, message: problem.located), kafka: kafka, payload: Array(payload),
            traceparent: traceparent)
    }
}
