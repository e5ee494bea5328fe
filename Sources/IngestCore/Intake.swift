/// Events that a source hands over to the pipeline: they become durable together or not at all.
public struct Submission: Sendable {
    /// Where they go.
    public let stream: StreamID
    /// Where they came from.
    public let origin: EventOrigin
    /// When they were received, milliseconds since 1970 UTC.
    public let receivedAt: Int64
    /// The events. May be empty when only offsets or dead letters are to be recorded.
    public let events: EventBuffer
    /// Events of the same run that can never be inserted; stored in the same transaction.
    public let deadLetters: [DeadLetter]
    /// By which a repetition is recognized; `nil` if it need not be.
    public let request: RequestKey?
    /// Called exactly once on the journal's writer thread, after the events are on stable storage or were refused.
    /// Must not block.
    public let completion: @Sendable (Result<Receipt, IntakeError>) -> Void

    /// Collects the parts; the buffer's ownership passes with `EventIntake.submit`.
    public init(
        stream: StreamID, origin: EventOrigin, receivedAt: Int64, events: EventBuffer, deadLetters: [DeadLetter] = [],
        request: RequestKey? = nil, completion: @escaping @Sendable (Result<Receipt, IntakeError>) -> Void
    ) {
        self.stream = stream
        self.origin = origin
        self.receivedAt = receivedAt
        self.events = events
        self.deadLetters = deadLetters
        self.request = request
        self.completion = completion
    }
}

/// The answer to accepted events.
public struct Receipt: Sendable, Equatable {
    /// The sequences given to the events; empty if there were none.
    public let sequences: Range<UInt64>
    /// The numbers given to the dead letters, in their order.
    public let deadLetters: Range<UInt64>
    /// The same request was accepted before: these are the numbers that it got then, and nothing was added now.
    public let isRepeat: Bool

    /// Collects the parts.
    public init(sequences: Range<UInt64>, deadLetters: Range<UInt64> = 0..<0, isRepeat: Bool = false) {
        self.sequences = sequences
        self.deadLetters = deadLetters
        self.isRepeat = isRepeat
    }
}

/// Why events were refused. Nothing of the submission was kept; the source still has it.
public enum IntakeError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The journal has reached `JOURNAL_MAX_BYTES`, or the disk has no room. Passes when ClickHouse drains it.
    case full(String)
    /// Too much waits for the disk at this moment. Passes within milliseconds.
    case overloaded
    /// The service is stopping.
    case shuttingDown
    /// The request's key belongs to a request that said something else. Does not pass by itself.
    case keyReused
    /// The disk answered with an error.
    case storage(String)

    /// Whether it is a matter of room.
    public var isFull: Bool {
        if case .full = self { true } else { false }
    }

    /// What happened, for logs and HTTP answers.
    public var description: String {
        switch self {
        case .full(let reason): "the journal has no room: \(reason)"
        case .overloaded: "more events are waiting for the disk than may wait; send again"
        case .shuttingDown: "the service is shutting down"
        case .keyReused: "its idempotency key was used for another request: give each request a key of its own"
        case .storage(let reason): "the journal could not write: \(reason)"
        }
    }
}

/// The receiving end of the pipeline, as sources see it.
public protocol EventIntake: Sendable {
    /// Takes a submission and returns at once. Callable from any thread.
    func submit(_ submission: Submission)
}

extension EventIntake {
    /// Submits and waits until the events are on stable storage.
    public func append(
        stream: StreamID, origin: EventOrigin, receivedAt: Int64, events: EventBuffer, deadLetters: [DeadLetter] = [],
        request: RequestKey? = nil
    ) async throws(IntakeError) -> Receipt {
        let result = await withCheckedContinuation { continuation in
            submit(
                Submission(
                    stream: stream, origin: origin, receivedAt: receivedAt, events: events, deadLetters: deadLetters,
                    request: request
                ) { continuation.resume(returning: $0) })
        }
        return try result.get()
    }
}
