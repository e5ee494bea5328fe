/// What a metric is in Prometheus's words.
enum MetricKind: String {
    case counter, gauge, histogram

    /// Names of the samples that a metric of this kind is exported as, none of which may belong to another metric.
    func sampleNames(_ name: String) -> [String] {
        switch self {
        case .counter, .gauge: [name]
        case .histogram: [name, "\(name)_bucket", "\(name)_sum", "\(name)_count"]
        }
    }
}

/// Where one series is kept.
enum MetricStorage {
    case counter(CounterSeries)
    case gauge(GaugeSeries)
    case histogram(HistogramSeries)

    init(_ kind: MetricKind, bounds: [Double]) {
        switch kind {
        case .counter: self = .counter(CounterSeries())
        case .gauge: self = .gauge(GaugeSeries())
        case .histogram: self = .histogram(HistogramSeries(bounds: bounds))
        }
    }

    var kind: MetricKind {
        switch self {
        case .counter: .counter
        case .gauge: .gauge
        case .histogram: .histogram
        }
    }

    /// Stable as long as the series is kept; handles are the series themselves.
    var identity: ObjectIdentifier {
        switch self {
        case .counter(let series): ObjectIdentifier(series)
        case .gauge(let series): ObjectIdentifier(series)
        case .histogram(let series): ObjectIdentifier(series)
        }
    }
}

/// All series of one metric, sorted by labels.
struct MetricFamily {
    struct Series {
        /// Rendered labels.
        let labels: String
        /// The same as they were given, for readers within the process.
        let dimensions: [(String, String)]
        let storage: MetricStorage
        /// Handles made and not yet destroyed.
        var handles = 1
    }

    let kind: MetricKind
    let help: String?
    private(set) var series: [Series] = []

    init(kind: MetricKind, help: String?) {
        self.kind = kind
        self.help = help
    }

    /// Makes another handle of an existing series.
    mutating func retain(_ labels: String) -> MetricStorage? {
        let (index, isPresent) = position(of: labels)
        guard isPresent else { return nil }
        series[index].handles += 1
        return series[index].storage
    }

    /// Adds a series with its first handle. There must be none with these labels.
    mutating func insert(_ storage: MetricStorage, labels: String, dimensions: [(String, String)] = []) {
        let (index, isPresent) = position(of: labels)
        precondition(!isPresent, "two series with the same labels")
        series.insert(Series(labels: labels, dimensions: dimensions, storage: storage), at: index)
    }

    /// Gives up a handle.
    /// - Returns: whether it was the last one; then the series is gone.
    mutating func release(_ labels: String) -> Bool {
        let (index, isPresent) = position(of: labels)
        precondition(isPresent, "a handle without a series")
        series[index].handles -= 1
        guard series[index].handles == 0 else { return false }
        series.remove(at: index)
        return true
    }

    /// Where `labels` is, or would be inserted.
    private func position(of labels: String) -> (index: Int, isPresent: Bool) {
        var low = 0
        var high = series.count
        while low < high {
            let middle = (low + high) / 2
            if series[middle].labels < labels { low = middle + 1 } else { high = middle }
        }
        return (low, low < series.count && series[low].labels == labels)
    }

    /// Appends the family's lines; nothing if it has no series.
    func render(name: String, into text: inout PrometheusText) {
        guard !series.isEmpty else { return }
        text.family(name: name, help: help, type: kind.rawValue)
        for series in series {
            switch series.storage {
            case .counter(let counter):
                let value = counter.wholeValue.map { String($0) } ?? PrometheusText.number(counter.value)
                text.sample(name: name, labels: series.labels, value: value)
            case .gauge(let gauge):
                text.sample(name: name, labels: series.labels, value: PrometheusText.number(gauge.value))
            case .histogram(let histogram):
                render(histogram, name: name, labels: series.labels, into: &text)
            }
        }
    }

    private func render(
        _ histogram: HistogramSeries, name: String, labels: String, into text: inout PrometheusText
    ) {
        let prefix = labels.isEmpty ? "" : labels + ","
        var total: UInt64 = 0
        for (index, count) in histogram.counts.enumerated() {
            total += count
            let bound = index < histogram.bounds.count ? histogram.bounds[index] : .infinity
            text.sample(
                name: name, suffix: "_bucket", labels: "\(prefix)le=\"\(PrometheusText.number(bound))\"",
                value: String(total))
        }
        text.sample(name: name, suffix: "_sum", labels: labels, value: PrometheusText.number(histogram.sum))
        text.sample(name: name, suffix: "_count", labels: labels, value: String(total))
    }
}
