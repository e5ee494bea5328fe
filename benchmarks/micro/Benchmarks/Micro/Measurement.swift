import AllocationCounter
import Benchmark
import IngestCore

extension BenchmarkMetric {
    /// Calls of the allocator in one iteration, by all threads.
    static let allocations = custom("allocations")
    /// Time of one iteration, divided by its events. Not checked: machines are noisy.
    static let nanosecondsPerEvent = custom("nanosecondsPerEvent")
}

extension Benchmark {
    /// Measures `body` as one iteration that handles so many events. What it needs is prepared outside of it.
    func measure(events: Int, _ body: () throws -> Void) rethrows {
        let allocations = allocation_count()
        let start = MonotonicClock.now
        try body()
        let time = MonotonicClock.now - start
        measurement(.allocations, Int(allocation_count() - allocations))
        measurement(.nanosecondsPerEvent, Int(time) / events)
    }

    /// What an iteration may allocate more or less than the threshold says, where threads make it a matter of chance.
    static func tolerance(_ allocations: Int) -> Configuration {
        var configuration = defaultConfiguration
        configuration.thresholds = [.allocations: BenchmarkThresholds(absolute: [.p90: allocations])]
        return configuration
    }
}
