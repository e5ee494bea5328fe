import Benchmark

/// The parts that every event goes through, each alone. `tools/bench-micro` holds what they allocate to the thresholds
/// beside this folder; docs/benchmarks.md says more.
let benchmarks: @Sendable () -> Void = {
    Benchmark.defaultConfiguration = .init(
        metrics: [.allocations, .nanosecondsPerEvent], warmupIterations: 3, maxDuration: .seconds(1),
        maxIterations: 300)
    registerEntries()
    registerScans()
    registerRows()
    registerJournal()
}
