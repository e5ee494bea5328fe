import ClickHouse
import FoundationEssentials
import IngestCore
import Journal
import Kafka
import Observability
import Pipeline
import Synchronization

/// Answers the HTTP side's questions about the rest of the service.
final class Operations: ServiceOperations {
    private let journal: Journal
    private let pipeline: Pipeline
    private let kafka: KafkaSource?
    private let deadLetterTopic: DeadLetterProducer?
    private let clickHouse: ClickHouseClient
    private let registry: PrometheusRegistry
    private let deadLetters: DeadLetterDesk
    private let isStopping = Atomic(false)
    private let started = MonotonicClock.now

    init(
        journal: Journal, pipeline: Pipeline, kafka: KafkaSource?, deadLetterTopic: DeadLetterProducer?,
        clickHouse: ClickHouseClient, registry: PrometheusRegistry
    ) {
        self.journal = journal
        self.pipeline = pipeline
        self.kafka = kafka
        self.deadLetterTopic = deadLetterTopic
        self.clickHouse = clickHouse
        self.registry = registry
        deadLetters = DeadLetterDesk(journal: journal, forwards: deadLetterTopic != nil)
        registry.onScrape { pipeline.updateGauges() }
    }

    /// From now on the service is not ready.
    func beginShutdown() { isStopping.store(true, ordering: .releasing) }

    func insertion(of sequences: Range<UInt64>, in stream: StreamID, timeout: Duration) async -> InsertionReport? {
        await pipeline.insertion(of: sequences, in: stream, timeout: timeout)
    }

    func liveness() -> [ComponentHealth] {
        let failure = journal.snapshot.failure
        return [
            ComponentHealth(
                component: "journal", isHealthy: failure == nil, isRequired: true,
                detail: failure.map { "\($0)" } ?? "writing")
        ]
    }

    func readiness() -> [ComponentHealth] {
        let snapshot = journal.snapshot
        var components: [ComponentHealth] = []
        if isStopping.load(ordering: .acquiring) {
            components.append(
                ComponentHealth(component: "service", isHealthy: false, isRequired: true, detail: "shutting down"))
        }
        components.append(
            ComponentHealth(
                component: "journal", isHealthy: snapshot.refusal == nil, isRequired: true,
                detail: snapshot.refusal.map { "\($0)" } ?? "\(snapshot.storedBytes) bytes stored"))
        if snapshot.deadLettersFull {
            components.append(
                ComponentHealth(
                    component: "dead_letters", isHealthy: false, isRequired: false,
                    detail: "the store is full (JOURNAL_DEAD_LETTERS_MAX_BYTES): retry or discard some"))
        }
        components.append(clickHouse.state())
        if let kafka { components.append(kafka.health) }
        if let deadLetterTopic { components.append(deadLetterTopic.health) }
        for stream in pipeline.status where stream.mode != "running" {
            components.append(
                ComponentHealth(
                    component: "stream \(stream.table)", isHealthy: false, isRequired: false,
                    detail: "\(stream.mode): \(stream.reason ?? "shutting down")"))
        }
        return components
    }

    func statusDocument() -> [UInt8] {
        let document = StatusDocument(
            uptimeSeconds: Double((MonotonicClock.now - started) / 1_000_000) / 1_000, journalID: journal.identity,
            snapshot: journal.snapshot, streams: pipeline.status, kafka: kafka,
            deadLetterTopic: deadLetterTopic?.health,
            clickHouse: clickHouse.state())
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return Array(try encoder.encode(document))
        } catch {
            // A document of strings and numbers; only a number that is none could fail.
            preconditionFailure("the status can't be encoded: \(error)")
        }
    }

    func metricsText() -> [UInt8] { registry.render() }

    func deadLettersDocument(
        _ filter: DeadLetterFilter, after: UInt64, limit: Int
    ) async throws(OperationFailure) -> [UInt8] {
        try deadLetters.list(filter, after: after, limit: limit)
    }

    func deadLetterDocument(_ number: UInt64) async throws(OperationFailure) -> [UInt8] {
        try deadLetters.show(number)
    }

    func retryDeadLetters(_ selection: DeadLetterSelection) async throws(OperationFailure) -> DeadLetterChange {
        guard !isStopping.load(ordering: .acquiring) else { throw .unavailable("the service is shutting down") }
        let change = try await deadLetters.retry(selection)
        wakeStreamsThatWaitForRoom(change)
        return change
    }

    func discardDeadLetters(_ selection: DeadLetterSelection) async throws(OperationFailure) -> DeadLetterChange {
        guard !isStopping.load(ordering: .acquiring) else { throw .unavailable("the service is shutting down") }
        let change = try await deadLetters.discard(selection)
        wakeStreamsThatWaitForRoom(change)
        return change
    }

    /// There may be room in the store of dead letters again.
    private func wakeStreamsThatWaitForRoom(_ change: DeadLetterChange) {
        if change.changed > 0 { pipeline.retryNow() }
    }

    func retryStream(_ name: String?) throws(OperationFailure) {
        guard let name else { return pipeline.retryNow() }
        guard let stream = journal.stream(table: name) else {
            throw .notFound("there is no stream \"\(name)\": a stream has the name of its table")
        }
        pipeline.retryNow(stream.id)
    }
}

/// What `/v1/status` shows.
private struct StatusDocument: Encodable {
    struct Component: Encodable {
        let healthy: Bool
        let detail: String
    }

    struct JournalPart: Encodable {
        /// By which commands know that this is the service that has their journal.
        let id: String
        let stored_bytes: Int
        let file_bytes: Int
        let dead_letters: Int
        let refusing: String?
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
    let uptime_seconds: Double
    let journal: JournalPart
    let streams: [StreamPart]
    let dead_letters: DeadLetterPart
    let clickhouse: Component
    let kafka: KafkaPart

    init(
        uptimeSeconds: Double, journalID: String, snapshot: Journal.Snapshot, streams: [Pipeline.StreamStatus],
        kafka: KafkaSource?,
        deadLetterTopic: ComponentHealth?, clickHouse: ComponentHealth
    ) {
        version = Version.current
        uptime_seconds = uptimeSeconds
        journal = JournalPart(
            id: journalID, stored_bytes: snapshot.storedBytes, file_bytes: snapshot.fileBytes,
            dead_letters: snapshot.deadLetterCount, refusing: snapshot.refusal.map { "\($0)" })
        self.streams = streams.map {
            StreamPart(
                stream: $0.table, state: $0.mode, reason: $0.reason,
                pending_events: $0.nextSequence - $0.flushedPosition, next_sequence: $0.nextSequence,
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
