import FoundationEssentials
import IngestCore

/// What `GET /v1/status` says. Members that older services do not have are optional. Sums wrap around: whoever answers
/// must not be able to end this process.
struct ServiceStatus: Decodable, Sendable, Equatable {
    struct Component: Decodable, Sendable, Equatable {
        var healthy: Bool
        var detail: String
    }

    struct Journal: Decodable, Sendable, Equatable {
        var id: String?
        var stored_bytes: Int
        var max_bytes: Int?
        var disk_free_bytes: Int?
        var refusing: String?
    }

    /// What came in since the start of the service.
    struct Source: Decodable, Sendable, Equatable {
        var source: String
        var stream: String
        var accepted_events: Int
        var rejected_events: Int
        var dead_letter_events: Int
    }

    struct Stream: Decodable, Sendable, Equatable {
        var stream: String
        var state: String
        var reason: String?
        var pending_events: Int
        var next_sequence: Int
        var oldest_event_age_seconds: Double?
        /// Since the start of the service, as is the next one.
        var inserted_events: Int?
        var dead_letters: Int?
    }

    struct DeadLetters: Decodable, Sendable, Equatable {
        var stored: Int
        var stored_bytes: Int
        var store_full: Bool
        var forwarding: Bool
        var awaiting_forwarding: Int
        var topic_healthy: Bool?
        var topic_detail: String?
    }

    struct Partition: Decodable, Sendable, Equatable {
        var topic: String
        var partition: Int
        var position: Int?
        var committed: Int?
        var lag: Int?
        var uncommitted: Int
        var paused: Bool
    }

    struct Kafka: Decodable, Sendable, Equatable {
        var enabled: Bool
        var healthy: Bool
        var detail: String
        var partitions: [Partition]
    }

    var version: String
    var host: String?
    var uptime_seconds: Double
    var journal: Journal
    var sources: [Source]?
    var streams: [Stream]
    var dead_letters: DeadLetters
    var clickhouse: Component
    var kafka: Kafka

    /// Events that are in the journal and not delivered.
    var pendingEvents: Int { streams.reduce(0) { $0 &+ $1.pending_events } }

    /// Age of the oldest of them; `nil` if there is none, or it is not known.
    var oldestEventAgeSeconds: Double? { streams.compactMap(\.oldest_event_age_seconds).max() }

    /// Totals over sources or streams; `nil` if one is not known.
    func total(_ count: (Source) -> Int) -> Int? { sources.map { $0.reduce(0) { $0 &+ count($1) } } }
    func total(_ count: (Stream) -> Int?) -> Int? {
        streams.reduce(0 as Int?) { sum, stream in sum.flatMap { sum in count(stream).map { sum &+ $0 } } }
    }
}

/// One answer of the service.
struct StatusSample: Sendable {
    let status: ServiceStatus
    /// As it came.
    let document: [UInt8]
    /// On our monotonic clock, in seconds. The service has answered between the two.
    let askedAt: Double
    let answeredAt: Double
}

extension StatusSample {
    /// - Throws: `DecodingError` for what is no status.
    init(document: [UInt8], askedAt: Double, answeredAt: Double) throws {
        let status = try JSONDecoder().decode(ServiceStatus.self, from: Data(document))
        self.init(status: status, document: document, askedAt: askedAt, answeredAt: answeredAt)
    }
}
