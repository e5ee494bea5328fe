public import CoreMetrics
public import Logging
internal import Synchronization

/// The backend of swift-metrics: keeps what the service counts and renders it as Prometheus text.
///
/// Counters, meters, gauges, recorders and timers appear under the names their callers give them (characters that
/// Prometheus does not know become `_`). Timers and aggregating recorders are histograms; timers are exported in
/// seconds. Handles of the same name and labels share one series; the series ends when as many handles were destroyed
/// as were made, and begins at zero if it is made again.
///
/// Bounds: each metric has at most `maximumSeries` series. A handle beyond that records into nothing, is counted in
/// `ingest_metrics_series_dropped_total`, and is logged once per metric. The same happens to a handle whose name is
/// already used for another kind of metric.
///
/// Everything is callable from any thread. Recording takes no lock and allocates nothing; making a handle does both,
/// so make handles once.
public final class PrometheusRegistry: MetricsFactory {
    private struct State {
        var families: [String: MetricFamily] = [:]
        /// Names of samples that are taken: a histogram `x` also owns `x_sum` and so on.
        var sampleNames: Set<String> = []
        /// Where a live series is, to find it again from its handle.
        var places: [ObjectIdentifier: (family: String, labels: String)] = [:]
        /// Metrics whose lost series were logged.
        var reported: Set<String> = []
        var collectors: [@Sendable () -> Void] = []
        /// Bytes of the last rendering, to make room for the next at once.
        var lastSize = 4_096
    }

    private enum Lookup {
        case found(MetricStorage)
        /// - isFirst: the metric's first refusal, the one that is logged.
        case tooManySeries(isFirst: Bool)
        case otherKind(isFirst: Bool)
    }

    private let descriptions: [String: MetricDescription]
    private let maximumSeries: Int
    private let logger: Logger
    private let dropped = CounterSeries()
    private let state = Mutex(State())

    /// - Parameters:
    ///   - descriptions: help texts and buckets by metric; where two have the same name the last counts. Metrics
    ///     without a description are exported without help.
    ///   - maximumSeries: series that one metric may have.
    ///   - processMetrics: whether to export the process's own CPU time, memory and open files.
    ///   - logger: told once for each metric that loses series.
    public init(
        descriptions: [MetricDescription], maximumSeries: Int = 1_000, processMetrics: Bool = true,
        logger: Logger = Logger(label: "metrics")
    ) {
        precondition(maximumSeries > 0, "room for at least one series")
        self.descriptions = Dictionary(
            (Self.ownDescriptions + ProcessMetrics.descriptions + descriptions).map {
                (PrometheusText.metricName($0.name), $0)
            }, uniquingKeysWith: { _, last in last })
        self.maximumSeries = maximumSeries
        self.logger = logger
        register(.counter(dropped), as: Self.droppedName)
        if processMetrics { registerProcessMetrics() }
    }

    /// Has `collect` called at the begin of every `render()`, on its thread, to set gauges whose values lie elsewhere.
    /// Must not block for long nor call `render()`; renders may run side by side.
    public func onScrape(_ collect: @escaping @Sendable () -> Void) {
        state.withLock { $0.collectors.append(collect) }
    }

    /// All series as Prometheus text format 0.0.4, sorted by metric and labels.
    public func render() -> [UInt8] {
        for collect in state.withLock({ $0.collectors }) { collect() }
        let (families, lastSize) = state.withLock { ($0.families, $0.lastSize) }
        var text = PrometheusText(capacity: lastSize + lastSize / 4)
        for (name, family) in families.sorted(by: { $0.key < $1.key }) { family.render(name: name, into: &text) }
        let bytes = text.bytes
        state.withLock { $0.lastSize = bytes.count }
        return bytes
    }

    /// What a counter has counted so far, by labels; empty if there is no such counter. For those who show the same
    /// numbers elsewhere.
    /// - Parameter metric: its name in Prometheus's text.
    public func counts(of metric: String) -> [(labels: [String: String], value: Int64)] {
        (state.withLock { $0.families[metric] }?.series ?? []).compactMap { series in
            guard case .counter(let counter) = series.storage else { return nil }
            let labels = Dictionary(series.dimensions, uniquingKeysWith: { first, _ in first })
            return (labels, counter.wholeValue ?? Int64(counter.value))
        }
    }

    // MARK: - Making handles (swift-metrics calls these)

    /// A counter that takes whole increments; shares its series with `makeFloatingPointCounter`.
    public func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        guard case .counter(let series) = storage(.counter, label, dimensions) else { return Self.nothing }
        return series
    }

    /// A counter that takes fractional increments; shares its series with `makeCounter`.
    public func makeFloatingPointCounter(
        label: String, dimensions: [(String, String)]
    ) -> any FloatingPointCounterHandler {
        guard case .counter(let series) = storage(.counter, label, dimensions) else { return Self.nothing }
        return series
    }

    /// A gauge that can be set and moved.
    public func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        guard case .gauge(let series) = storage(.gauge, label, dimensions) else { return Self.nothing }
        return series
    }

    /// A histogram, or a gauge if the values are not to be aggregated.
    public func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        switch storage(aggregate ? .histogram : .gauge, label, dimensions) {
        case .gauge(let series): series
        case .histogram(let series): series
        case .counter, nil: Self.nothing
        }
    }

    /// A histogram of seconds.
    public func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        guard case .histogram(let series) = storage(.histogram, label, dimensions) else { return Self.nothing }
        return series
    }

    /// Where handles without a series record to.
    private static var nothing: NOOPMetricsHandler { NOOPMetricsHandler.instance }

    /// The series of a name and labels, made if it is new; `nil` if it may not be made.
    private func storage(_ kind: MetricKind, _ label: String, _ dimensions: [(String, String)]) -> MetricStorage? {
        let name = PrometheusText.metricName(label)
        let labels = PrometheusText.labels(dimensions)
        let lookup = state.withLock { state -> Lookup in
            if state.families[name] == nil {
                let sampleNames = kind.sampleNames(name)
                guard state.sampleNames.isDisjoint(with: sampleNames) else {
                    return .otherKind(isFirst: state.reported.insert(name).inserted)
                }
                state.sampleNames.formUnion(sampleNames)
                state.families[name] = MetricFamily(kind: kind, help: descriptions[name]?.help)
            }
            guard state.families[name]!.kind == kind else {
                return .otherKind(isFirst: state.reported.insert(name).inserted)
            }
            if let storage = state.families[name]!.retain(labels) { return .found(storage) }
            guard state.families[name]!.series.count < maximumSeries else {
                return .tooManySeries(isFirst: state.reported.insert(name).inserted)
            }
            let storage = MetricStorage(
                kind, bounds: descriptions[name]?.buckets ?? MetricDescription.secondsBuckets)
            state.families[name]!.insert(storage, labels: labels, dimensions: dimensions)
            state.places[storage.identity] = (name, labels)
            return .found(storage)
        }
        switch lookup {
        case .found(let storage): return storage
        case .tooManySeries(let isFirst):
            dropped.increment(by: Int64(1))
            guard isFirst else { return nil }
            logger.warning(
                "metric has too many label combinations; further ones are not exported",
                metadata: ["metric": "\(name)", "maximum_series": "\(maximumSeries)"])
        case .otherKind(let isFirst):
            dropped.increment(by: Int64(1))
            guard isFirst else { return nil }
            logger.error(
                "metric name is already used for another kind of metric; this one is not exported",
                metadata: ["metric": "\(name)", "kind": "\(kind)"])
        }
        return nil
    }

    // MARK: - Destroying handles (swift-metrics calls these)

    /// Gives up a handle; its series ends with the last one.
    public func destroyCounter(_ handler: any CounterHandler) { release(ObjectIdentifier(handler)) }

    /// Gives up a handle; its series ends with the last one.
    public func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) {
        release(ObjectIdentifier(handler))
    }

    /// Gives up a handle; its series ends with the last one.
    public func destroyMeter(_ handler: any MeterHandler) { release(ObjectIdentifier(handler)) }

    /// Gives up a handle; its series ends with the last one.
    public func destroyRecorder(_ handler: any RecorderHandler) { release(ObjectIdentifier(handler)) }

    /// Gives up a handle; its series ends with the last one.
    public func destroyTimer(_ handler: any TimerHandler) { release(ObjectIdentifier(handler)) }

    /// A handle that records into nothing, or whose series has ended, has no place and is let go.
    private func release(_ identity: ObjectIdentifier) {
        state.withLock { state in
            guard let place = state.places[identity] else { return }
            if state.families[place.family]!.release(place.labels) { state.places[identity] = nil }
        }
    }

    // MARK: - Metrics of its own

    private static let droppedName = "ingest_metrics_series_dropped_total"

    private static let ownDescriptions = [
        MetricDescription(
            name: droppedName,
            help: "Metric handles that record into nothing: too many label combinations, or a name used twice.")
    ]

    private func register(_ storage: MetricStorage, as name: String) {
        var family = MetricFamily(kind: storage.kind, help: descriptions[name]?.help)
        family.insert(storage, labels: "")
        state.withLock { [family] state in
            state.families[name] = family
            state.sampleNames.formUnion(storage.kind.sampleNames(name))
        }
    }

    private func registerProcessMetrics() {
        let process = ProcessMetrics()
        register(.counter(process.cpuSeconds), as: "process_cpu_seconds_total")
        register(.gauge(process.residentMemoryBytes), as: "process_resident_memory_bytes")
        register(.gauge(process.startTimeSeconds), as: "process_start_time_seconds")
        register(.gauge(process.openFiles), as: "process_open_fds")
        register(.gauge(process.maximumFiles), as: "process_max_fds")
        onScrape { process.update() }
    }
}
