import Foundation

@testable import ingestd

/// Answers of a service, for tests of what `ingestd top` makes of them.
enum StatusFixture {
    /// A service with one stream and one source, in which nothing has happened.
    static let quiet = ServiceStatus(
        version: "1.2.3", host: "ingest-1", uptime_seconds: 100,
        journal: .init(id: "j", stored_bytes: 0, max_bytes: 10_000, disk_free_bytes: 5 << 30, refusing: nil),
        sources: [source("http")], streams: [stream("events")],
        dead_letters: .init(
            stored: 0, stored_bytes: 0, store_full: false, forwarding: false, awaiting_forwarding: 0,
            topic_healthy: nil, topic_detail: nil),
        clickhouse: .init(healthy: true, detail: "reachable"),
        kafka: .init(enabled: false, healthy: true, detail: "off", partitions: []))

    static func source(_ name: String, accepted: Int = 0) -> ServiceStatus.Source {
        .init(source: name, stream: "events", accepted_events: accepted, rejected_events: 0, dead_letter_events: 0)
    }

    static func stream(
        _ name: String, state: String = "running", reason: String? = nil, pending: Int = 0, taken: Int = 0
    ) -> ServiceStatus.Stream {
        .init(
            stream: name, state: state, reason: reason, pending_events: pending, next_sequence: 1 + taken,
            oldest_event_age_seconds: nil, inserted_events: taken - pending, dead_letters: 0)
    }

    static func partition(_ topic: String, _ number: Int, lag: Int?) -> ServiceStatus.Partition {
        .init(topic: topic, partition: number, position: 5, committed: 4, lag: lag, uncommitted: 1, paused: false)
    }

    /// An answer that came at this time, at once.
    static func sample(_ status: ServiceStatus, at seconds: Double) -> StatusSample {
        StatusSample(status: status, document: [], askedAt: seconds, answeredAt: seconds)
    }

    /// The answer some time after another, with counters that went on.
    static func sample(
        after seconds: Double, from status: ServiceStatus = quiet, _ change: (inout ServiceStatus) -> Void = { _ in }
    ) -> StatusSample {
        var status = status
        status.uptime_seconds += seconds
        change(&status)
        return sample(status, at: 1_000 + seconds)
    }
}
