/// What the registry cannot know from the calls of swift-metrics: a metric's help text and, for distributions, its
/// buckets.
public struct MetricDescription: Sendable, Equatable {
    /// The metric's name as callers give it: `ingest_journal_commit_seconds`.
    public let name: String
    /// One sentence for the `# HELP` line.
    public let help: String
    /// Upper bounds of the buckets, strictly rising, in base units (seconds, bytes), without `+Inf`. `nil` takes
    /// `secondsBuckets`.
    public let buckets: [Double]?

    /// Collects the parts. The bounds must be finite and strictly rising.
    public init(name: String, help: String, buckets: [Double]? = nil) {
        if let buckets {
            precondition(buckets.allSatisfy(\.isFinite), "\(name): bucket bounds must be finite")
            precondition(zip(buckets, buckets.dropFirst()).allSatisfy(<), "\(name): bucket bounds must rise")
        }
        self.name = name
        self.help = help
        self.buckets = buckets
    }

    /// Buckets for durations from a small commit (0.1 ms) to a slow INSERT (a minute).
    public static let secondsBuckets: [Double] = [
        0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
    ]

    /// Buckets for counts of events or rows: powers of ten with two steps between.
    public static let countBuckets: [Double] = [
        1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000,
    ]
}
