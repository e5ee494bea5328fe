import Foundation
import Testing

/// Thousands of random schedules of failures against the guarantees. `INGESTD_SIMULATIONS=N` runs N of them,
/// `INGESTD_SIMULATION_SEED=S` one again.
@Suite struct SimulationTests {
    @Test func guaranteesHoldInRandomSchedules() {
        let environment = ProcessInfo.processInfo.environment
        let seeds: ClosedRange<UInt64>
        if let seed = environment["INGESTD_SIMULATION_SEED"].flatMap({ UInt64($0) }) {
            seeds = seed...seed
        } else {
            seeds = 1...(environment["INGESTD_SIMULATIONS"].flatMap { UInt64($0) } ?? 1_000)
        }
        var failures = 0
        for seed in seeds where failures < 5 {
            var world = SimulatedWorld(seed: seed)
            world.run(steps: 300)
            if !world.problems.isEmpty { failures += 1 }
            #expect(
                world.problems.isEmpty,
                "INGESTD_SIMULATION_SEED=\(seed): \(world.problems.prefix(3).joined(separator: "; "))")
        }
    }
}
