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
            uptimeSeconds: Double((MonotonicClock.now - started) / 1_000_000) / 1_000, journal: journal,
            pipeline: pipeline, totals: EventTotals(registry), kafka: kafka, deadLetterTopic: deadLetterTopic?.health,
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

    func newestDeadLettersDocument(
        _ filter: DeadLetterFilter, limit: Int
    ) async throws(OperationFailure) -> [UInt8] {
        try deadLetters.listNewest(filter, limit: limit)
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
