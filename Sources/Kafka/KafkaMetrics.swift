internal import CoreMetrics
internal import IngestCore

/// The source's metrics. Handles are made once for each stream and each assigned partition. Used by the poll thread.
final class KafkaMetrics {
    /// What became of a stream's messages, counted once a submission.
    final class StreamCounters {
        let accepted: Counter
        let deadLetters: Counter
        let skipped: Counter

        fileprivate init(_ stream: Stream, _ factory: any MetricsFactory) {
            func counter(_ result: String) -> Counter {
                Counter(
                    label: "ingest_events_total",
                    dimensions: [("source", "kafka"), ("stream", stream.table), ("result", result)], factory: factory)
            }
            accepted = counter("accepted")
            deadLetters = counter("dead_letter")
            skipped = counter("skipped")
        }
    }

    /// Where the group stands in one partition.
    final class PartitionGauges {
        let lag: Gauge
        let unjournaled: Gauge
        let uncommitted: Gauge

        fileprivate init(_ partition: TopicPartition, _ factory: any MetricsFactory) {
            let dimensions = [("topic", partition.topic), ("partition", String(partition.partition))]
            lag = Gauge(label: "ingest_kafka_consumer_lag", dimensions: dimensions, factory: factory)
            unjournaled = Gauge(label: "ingest_kafka_unjournaled_events", dimensions: dimensions, factory: factory)
            uncommitted = Gauge(label: "ingest_kafka_uncommitted_events", dimensions: dimensions, factory: factory)
        }

        /// The partition is someone else's now: its numbers must not stand still here.
        func destroy() {
            lag.destroy()
            unjournaled.destroy()
            uncommitted.destroy()
        }
    }

    private let factory: any MetricsFactory
    private var errors: [String: Counter] = [:]
    /// Rebalances that brought partitions, took them in order, and took them without asking.
    let assigned: Counter
    let revoked: Counter
    let lost: Counter
    private let restarts: [KafkaFailure.Cause: Counter]
    private var streams: [StreamID: StreamCounters] = [:]
    /// 1 while partitions are paused because the journal has no room.
    let backpressure: Gauge

    init(factory: any MetricsFactory) {
        self.factory = factory
        backpressure = Gauge(
            label: "ingest_backpressure_active", dimensions: [("source", "kafka")], factory: factory)
        backpressure.record(0)
        func rebalances(_ kind: String) -> Counter {
            Counter(label: "ingest_kafka_rebalances_total", dimensions: [("kind", kind)], factory: factory)
        }
        assigned = rebalances("assigned")
        revoked = rebalances("revoked")
        lost = rebalances("lost")
        restarts = KafkaFailure.Cause.allCases.reduce(into: [:]) { restarts, cause in
            restarts[cause] = Counter(
                label: "ingest_kafka_consumer_restarts_total", dimensions: [("reason", cause.rawValue)],
                factory: factory)
        }
    }

    /// Counts a client that failed and is replaced.
    func countRestart(_ cause: KafkaFailure.Cause) { restarts[cause]?.increment() }

    /// Counts an error by librdkafka's name for it, of which there are some 200.
    func countError(_ name: String) {
        if errors[name] == nil {
            errors[name] = Counter(
                label: "ingest_kafka_errors_total", dimensions: [("error", name)], factory: factory)
        }
        errors[name]?.increment()
    }

    func counters(for stream: Stream) -> StreamCounters {
        if let counters = streams[stream.id] { return counters }
        let counters = StreamCounters(stream, factory)
        streams[stream.id] = counters
        return counters
    }

    func gauges(for partition: TopicPartition) -> PartitionGauges { PartitionGauges(partition, factory) }
}

/// What became of messages to the dead-letter topic. Used by the producer's thread.
final class DeadLetterMetrics {
    /// Acknowledged.
    let ok: Counter
    /// Failed for a reason that passes: the sender sends it again.
    let retry: Counter
    /// The topic will never take the message.
    let error: Counter

    init(factory: any MetricsFactory) {
        func counter(_ result: String) -> Counter {
            Counter(label: "ingest_dlq_produced_total", dimensions: [("result", result)], factory: factory)
        }
        ok = counter("ok")
        retry = counter("retry")
        error = counter("error")
    }
}
