internal import IngestCore
internal import Metrics

/// `ingest_events_total{source="http",stream,result}`: counters made once.
struct IngestMetrics: Sendable {
    struct Counters: Sendable {
        /// Events on stable storage.
        let accepted: Counter
        /// Events of requests that held an invalid one.
        let rejected: Counter
        /// Events that were valid and found no room.
        let refused: Counter
    }

    private let byStream: [StreamID: Counters]

    init(_ streams: Set<Stream>) {
        byStream = Dictionary(
            uniqueKeysWithValues: streams.map { stream in
                func counter(_ result: String) -> Counter {
                    Counter(
                        label: "ingest_events_total",
                        dimensions: [("source", "http"), ("stream", stream.table), ("result", result)])
                }
                return (
                    stream.id,
                    Counters(
                        accepted: counter("accepted"), rejected: counter("rejected"), refused: counter("refused"))
                )
            })
    }

    subscript(_ stream: Stream) -> Counters { byStream[stream.id]! }
}
