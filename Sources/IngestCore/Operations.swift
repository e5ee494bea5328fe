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

/// What the HTTP side asks of the rest of the service.
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
}
