/// The state of one component, as `/readyz` and `/livez` report it.
public struct ComponentHealth: Sendable, Equatable {
    /// `journal`, `kafka`, `clickhouse` and so on.
    public let component: String
    /// Whether the component does its work.
    public let isHealthy: Bool
    /// Whether an unhealthy state makes the service not ready (able to accept durably). ClickHouse being away does not.
    public let isRequired: Bool
    /// What is going on, in words.
    public let detail: String

    /// Collects the parts.
    public init(component: String, isHealthy: Bool, isRequired: Bool, detail: String) {
        self.component = component
        self.isHealthy = isHealthy
        self.isRequired = isRequired
        self.detail = detail
    }
}

/// What became of accepted events whose sender waits until they are inserted.
public struct InsertionReport: Sendable, Equatable {
    /// Events that are in ClickHouse.
    public let inserted: Int
    /// Events that became dead letters.
    public let deadLettered: Int
    /// Their event ids, at most `Limits.reportedProblems`.
    public let deadLetterIDs: [String]

    /// Collects the parts.
    public init(inserted: Int, deadLettered: Int, deadLetterIDs: [String]) {
        self.inserted = inserted
        self.deadLettered = deadLettered
        self.deadLetterIDs = deadLetterIDs
    }
}

/// An operation that could not be done; nothing was changed.
public enum OperationFailure: Error, Sendable, Equatable, CustomStringConvertible {
    /// What it names does not exist.
    case notFound(String)
    /// It can't be done to this, ever.
    case impossible(String)
    /// It can't be done now.
    case unavailable(String)

    /// Why, and what to do.
    public var description: String {
        switch self {
        case .notFound(let reason), .impossible(let reason), .unavailable(let reason): reason
        }
    }
}

/// What the HTTP side asks of the rest of the service. Callable from any thread.
public protocol ServiceOperations: Sendable {
    /// Waits until the events are in ClickHouse or dead letters.
    /// - Returns: `nil` when `timeout` passed first, or the service began to stop; the events stay accepted.
    func insertion(of sequences: Range<UInt64>, in stream: StreamID, timeout: Duration) async -> InsertionReport?

    /// Whether the process works at all; unhealthy means that it should be restarted.
    func liveness() -> [ComponentHealth]

    /// Whether events can be accepted durably.
    func readiness() -> [ComponentHealth]

    /// The state as a JSON document.
    func statusDocument() -> [UInt8]

    /// The metrics in Prometheus text format 0.0.4.
    func metricsText() -> [UInt8]

    /// The dead letters with numbers above `after` that match, in order of their numbers, as a JSON document:
    /// `{"dead_letters":[...],"next_after":N}`; `next_after` only if there may be more. Each letter has the members of
    /// a DLQ message without the payload, and `id` (its number) and `state`.
    func deadLettersDocument(
        _ filter: DeadLetterFilter, after: UInt64, limit: Int
    ) async throws(OperationFailure) -> [UInt8]

    /// The dead letters that match with the highest numbers, the newest first, as above without `next_after`.
    func newestDeadLettersDocument(_ filter: DeadLetterFilter, limit: Int) async throws(OperationFailure) -> [UInt8]

    /// One dead letter with its payload, as a JSON document.
    func deadLetterDocument(_ number: UInt64) async throws(OperationFailure) -> [UInt8]

    /// Sends dead letters again: each event is appended to its stream as it was, under its own id.
    func retryDeadLetters(_ selection: DeadLetterSelection) async throws(OperationFailure) -> DeadLetterChange

    /// Deletes dead letters for good.
    func discardDeadLetters(_ selection: DeadLetterSelection) async throws(OperationFailure) -> DeadLetterChange

    /// Tries a stream that is held or in a pause again now; `nil` means all streams.
    func retryStream(_ name: String?) throws(OperationFailure)
}
