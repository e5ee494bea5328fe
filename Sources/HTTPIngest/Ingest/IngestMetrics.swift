internal import CoreMetrics
internal import IngestCore
internal import Synchronization

/// `ingest_events_total{source="http",stream,result}` and `ingest_backpressure_active{source="http"}`: handles made
/// once.
struct IngestMetrics: Sendable {
    struct Counters: Sendable {
        /// Events on stable storage.
        let accepted: Counter
        /// Bad events that became dead letters.
        let deadLettered: Counter
        /// Events of requests that held an invalid one.
        let rejected: Counter
        /// Events that found no room.
        let refused: Counter
    }

    let backpressure: BackpressureGauge
    private let byStream: [StreamID: Counters]

    init(_ streams: Set<Stream>, factory: any MetricsFactory) {
        backpressure = BackpressureGauge(factory)
        byStream = Dictionary(
            uniqueKeysWithValues: streams.map { stream in
                func counter(_ result: String) -> Counter {
                    Counter(
                        label: "ingest_events_total",
                        dimensions: [("source", "http"), ("stream", stream.table), ("result", result)],
                        factory: factory)
                }
                return (
                    stream.id,
                    Counters(
                        accepted: counter("accepted"), deadLettered: counter("dead_letter"),
                        rejected: counter("rejected"), refused: counter("refused"))
                )
            })
    }

    subscript(_ stream: Stream) -> Counters { byStream[stream.id]! }
}

/// 1 while the last events were refused for want of room, 0 once some were accepted.
final class BackpressureGauge: Sendable {
    private let gauge: Gauge
    /// Spares almost every request the lock.
    private let isActive = Atomic(false)
    private let lock = Mutex(())

    init(_ factory: any MetricsFactory) {
        gauge = Gauge(label: "ingest_backpressure_active", dimensions: [("source", "http")], factory: factory)
        gauge.record(0)
    }

    func record(_ isFull: Bool) {
        guard isActive.load(ordering: .relaxed) != isFull else { return }
        lock.withLock { _ in
            gauge.record(isFull ? 1 : 0)
            isActive.store(isFull, ordering: .relaxed)
        }
    }
}
