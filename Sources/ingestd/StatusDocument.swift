import FoundationEssentials
import Glibc
import IngestCore
import Journal
import Kafka
import Observability
import Pipeline

/// What `/v1/status` shows.
struct StatusDocument: Encodable {
    struct Component: Encodable {
        let healthy: Bool
        let detail: String
    }

    struct JournalPart: Encodable {
        /// By which commands know that this is the service that has their journal.
        let id: String
        let stored_bytes: Int
        let max_bytes: Int
        let disk_free_bytes: OrNull<UInt64>
        let file_bytes: Int
        let dead_letters: Int
        let refusing: String?
    }

    struct SourcePart: Encodable {
        let source: String
        let stream: String
        let accepted_events: Int64
        let rejected_events: Int64
        let dead_letter_events: Int64
    }

    struct DeadLetterPart: Encodable {
        let stored: Int
        let stored_bytes: Int
        let store_full: Bool
        let forwarding: Bool
        let awaiting_forwarding: Int
        let topic_healthy: Bool?
        let topic_detail: String?
    }

    struct StreamPart: Encodable {
        let stream: String
        let state: String
        let reason: String?
        let pending_events: UInt64
        let oldest_event_age_seconds: OrNull<Double>
        let inserted_events: Int64
        let dead_letters: Int64
        let next_sequence: UInt64
        let flushed_position: UInt64
        let stored_bytes: UInt64
        let inserts_in_flight: Int
    }

    struct PartitionPart: Encodable {
        let topic: String
        let partition: Int32
        let position: Int64?
        let committed: Int64?
        let end: Int64?
        let lag: Int64?
        let unjournaled: Int64?
        let uncommitted: Int64
        let paused: Bool
    }

    struct KafkaPart: Encodable {
        let enabled: Bool
        let healthy: Bool
        let detail: String
        let partitions: [PartitionPart]
    }

    let version: String
    let host: String
    let time: String
    let uptime_seconds: Double
    let journal: JournalPart
    let sources: [SourcePart]
    let streams: [StreamPart]
    let dead_letters: DeadLetterPart
    let clickhouse: Component
    let kafka: KafkaPart

    init(
        uptimeSeconds: Double, journal: Journal, pipeline: Pipeline, totals: EventTotals, kafka: KafkaSource?,
        deadLetterTopic: ComponentHealth?, clickHouse: ComponentHealth
    ) {
        let snapshot = journal.snapshot
        let oldestAges = pipeline.oldestEventAges
        version = Version.current
        host = hostName()
        time = Timestamp.iso8601(milliseconds: WallClock.milliseconds)
        uptime_seconds = uptimeSeconds
        self.journal = JournalPart(
            id: journal.identity, stored_bytes: snapshot.storedBytes, max_bytes: journal.maxBytes,
            disk_free_bytes: OrNull(journal.freeDiskBytes), file_bytes: snapshot.fileBytes,
            dead_letters: snapshot.deadLetterCount, refusing: snapshot.refusal.map { "\($0)" })
        sources = totals.bySource.map { key, total in
            SourcePart(
                source: key.source, stream: key.stream, accepted_events: total.accepted,
                rejected_events: total.rejected, dead_letter_events: total.deadLettered)
        }
        streams = pipeline.status.map {
            StreamPart(
                stream: $0.table, state: $0.mode, reason: $0.reason,
                pending_events: $0.nextSequence - $0.flushedPosition,
                oldest_event_age_seconds: OrNull(oldestAges[$0.table]),
                inserted_events: totals.inserted[$0.table] ?? 0, dead_letters: totals.deadLetters[$0.table] ?? 0,
                next_sequence: $0.nextSequence,
                flushed_position: $0.flushedPosition, stored_bytes: $0.storedBytes,
                inserts_in_flight: $0.insertsInFlight)
        }
        dead_letters = DeadLetterPart(
            stored: snapshot.deadLetterCount, stored_bytes: snapshot.deadLetterBytes,
            store_full: snapshot.deadLettersFull, forwarding: deadLetterTopic != nil,
            awaiting_forwarding: snapshot.unforwardedCount, topic_healthy: deadLetterTopic?.isHealthy,
            topic_detail: deadLetterTopic?.detail)
        clickhouse = Component(healthy: clickHouse.isHealthy, detail: clickHouse.detail)
        let health = kafka?.health
        self.kafka = KafkaPart(
            enabled: kafka != nil, healthy: health?.isHealthy ?? true,
            detail: health?.detail ?? "KAFKA_CONSUMER_ENABLED=false",
            partitions: (kafka?.partitions ?? []).map {
                PartitionPart(
                    topic: $0.partition.topic, partition: $0.partition.partition, position: $0.position,
                    committed: $0.committed, end: $0.end, lag: $0.lag, unjournaled: $0.unjournaled,
                    uncommitted: $0.uncommitted, paused: $0.isPaused)
            })
    }
}

/// A value that may be unknown. (The member of an `Optional` would be left out, and readers could not tell that from an
/// older service.)
struct OrNull<Value: Encodable>: Encodable {
    private let value: Value?

    init(_ value: Value?) { self.value = value }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        if let value { try container.encode(value) } else { try container.encodeNil() }
    }
}

/// What was counted since the start of the process, from the metrics, so that both say the same.
struct EventTotals {
    struct Source: Comparable, Hashable {
        let source: String
        let stream: String

        static func < (left: Self, right: Self) -> Bool { (left.source, left.stream) < (right.source, right.stream) }
    }

    struct Admission {
        var accepted: Int64 = 0
        /// Bad, or there was no room for them: nothing of them is kept.
        var rejected: Int64 = 0
        var deadLettered: Int64 = 0
    }

    /// In order.
    let bySource: [(key: Source, value: Admission)]
    /// By table.
    let inserted: [String: Int64]
    let deadLetters: [String: Int64]

    init(_ registry: PrometheusRegistry) {
        var admissions: [Source: Admission] = [:]
        for (labels, value) in registry.counts(of: "ingest_events_total") {
            guard let source = labels["source"], let stream = labels["stream"] else { continue }
            let key = Source(source: source, stream: stream)
            switch labels["result"] {
            case "accepted": admissions[key, default: Admission()].accepted += value
            case "rejected", "refused": admissions[key, default: Admission()].rejected += value
            case "dead_letter": admissions[key, default: Admission()].deadLettered += value
            // "skipped": messages without a payload, which are no events.
            default: break
            }
        }
        bySource = admissions.sorted { $0.key < $1.key }
        inserted = Self.byStream(registry.counts(of: "ingest_clickhouse_insert_rows_total"))
        deadLetters = Self.byStream(registry.counts(of: "ingest_dead_letters_total"))
    }

    private static func byStream(_ counts: [(labels: [String: String], value: Int64)]) -> [String: Int64] {
        counts.reduce(into: [:]) { totals, count in
            if let stream = count.labels["stream"] { totals[stream, default: 0] += count.value }
        }
    }
}

private func hostName() -> String {
    var buffer = [CChar](repeating: 0, count: Int(HOST_NAME_MAX) + 1)
    guard gethostname(&buffer, buffer.count) == 0 else { return "unknown" }
    return buffer.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
}
