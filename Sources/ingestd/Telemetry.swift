import CoreMetrics
import Logging
import Observability

/// Logs and metrics of the process.
enum Telemetry {
    /// Sets up swift-log and swift-metrics for the process. Call once, before anything makes a logger or a metric:
    /// both libraries end the process at a second call.
    /// - Returns: the registry, for `/metrics`.
    static func bootstrap(_ configuration: ServiceConfiguration) -> PrometheusRegistry {
        bootstrapLogging(configuration.log)
        let registry = PrometheusRegistry(descriptions: metrics)
        MetricsSystem.bootstrap(registry)
        Gauge(label: "ingest_build_info", dimensions: [("version", Version.current)]).record(1)
        return registry
    }

    /// Sets up swift-log only: for commands that serve no metrics. Once, as above.
    static func bootstrapLogging(_ configuration: ServiceConfiguration.Log) {
        let level = configuration.level
        let isText =
            switch configuration.format {
            case .text: true
            case .json: false
            case .auto: LogOutput.standardError.isTerminal
            }
        LoggingSystem.bootstrap(
            { label, provider -> any LogHandler in
                if isText { return TextLogHandler(label: label, logLevel: level, metadataProvider: provider) }
                return JSONLogHandler(label: label, logLevel: level, metadataProvider: provider)
            }, metadataProvider: nil)
    }

    /// The log of commands that do one thing and end: only what the user should know.
    static let commandLog = ServiceConfiguration.Log(level: .warning, format: .text)

    /// Help and buckets of the service's own metrics.
    static let metrics: [MetricDescription] = [
        MetricDescription(
            name: "ingest_events_total", help: "Events by source, stream and what became of them on admission."),
        MetricDescription(name: "ingest_journal_events", help: "Events in the journal that are not delivered yet."),
        MetricDescription(name: "ingest_journal_bytes", help: "Bytes that the journal holds."),
        MetricDescription(
            name: "ingest_journal_file_bytes",
            help: "Size of the journal's file: it keeps the pages of what was delivered, to use them again."),
        MetricDescription(name: "ingest_journal_max_bytes", help: "Bytes that the journal may hold."),
        MetricDescription(
            name: "ingest_journal_disk_free_bytes", help: "Bytes that are free on the journal's file system."),
        MetricDescription(
            name: "ingest_journal_oldest_event_age_seconds",
            help: "Age of the oldest event that is not delivered yet; 0 if there is none."),
        MetricDescription(
            name: "ingest_journal_commit_seconds",
            help:
                "Duration of what makes events durable, with its fsync: commits of the journal, writes of its commit log.",
            buckets: MetricDescription.secondsBuckets),
        MetricDescription(
            name: "ingest_clickhouse_insert_seconds", help: "Duration of INSERTs, by stream and result.",
            buckets: MetricDescription.secondsBuckets),
        MetricDescription(
            name: "ingest_clickhouse_insert_rows_total", help: "Rows that ClickHouse has confirmed."),
        MetricDescription(
            name: "ingest_stream_held",
            help: "1 while a stream is held because somebody has to mend something, by reason."),
        MetricDescription(name: "ingest_dead_letters_total", help: "Events that became dead letters, by reason."),
        MetricDescription(name: "ingest_dead_letters_stored", help: "Dead letters in the journal's store."),
        MetricDescription(
            name: "ingest_dead_letters_stored_bytes", help: "Bytes that dead letters take in the journal."),
        MetricDescription(
            name: "ingest_dead_letters_max_bytes", help: "Bytes that dead letters may take in the journal."),
        MetricDescription(
            name: "ingest_dead_letters_unforwarded",
            help: "Dead letters that the dead-letter topic has not acknowledged; Kafka commits wait for theirs."),
        MetricDescription(
            name: "ingest_dlq_produced_total", help: "Dead letters sent to the dead-letter topic, by result."),
        MetricDescription(
            name: "ingest_kafka_consumer_lag",
            help: "Messages behind the end of the partition, from the committed offset."),
        MetricDescription(
            name: "ingest_kafka_unjournaled_events",
            help: "Messages behind the end of the partition, from what the journal has."),
        MetricDescription(
            name: "ingest_kafka_uncommitted_events",
            help: "Events in the journal but not committed yet, by partition."),
        MetricDescription(
            name: "ingest_kafka_rebalances_total",
            help: "Times that partitions were assigned to this process, revoked in order, or lost."),
        MetricDescription(
            name: "ingest_kafka_errors_total", help: "Errors of the Kafka consumer, by librdkafka's name for them."),
        MetricDescription(
            name: "ingest_kafka_consumer_restarts_total",
            help: "Times that the Kafka consumer failed and was replaced by a new one, by reason."),
        MetricDescription(
            name: "ingest_ready", help: "1 while events can be accepted durably, as /readyz says, else 0."),
        MetricDescription(
            name: "ingest_component_healthy",
            help: "1 while a component does its work, else 0; for all streams together, 0 while any does not run."),
        MetricDescription(name: "ingest_build_info", help: "1, with the version that runs as a label."),
        MetricDescription(
            name: "ingest_backpressure_active", help: "1 while a source is held back because the journal has no room."),
    ]
}
