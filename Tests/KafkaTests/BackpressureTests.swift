import IngestCore
import Kafka
import MetricsTestKit
import Synchronization
import TestSupport
import Testing

@Suite struct BackpressureTests {
    @Test(arguments: [IntakeError.full("test"), .overloaded, .storage("test")])
    func refusedMessagesAreSubmittedAgainInOrder(error: IntakeError) async throws {
        let rig = try Rig(partitions: 2)
        // Every third submission of partition 0 is refused, and the first five in a row.
        let count = Mutex(0)
        rig.intake.answer { partition in
            guard partition == Rig.partition(0) else { return .accept }
            let number = count.withLock { count in
                count += 1
                return count
            }
            return number <= 5 || number % 3 == 0 ? .refuse(error) : .accept
        }
        try rig.produce(numbered(0..<300), partition: 0)
        try rig.produce(numbered(0..<300), partition: 1)
        try await rig.withSource { source in
            try await wait(for: "the first events of both partitions") { rig.intake.eventCount == 600 }
            for start in stride(from: 300, to: 600, by: 50) {
                try rig.produce(numbered(start..<(start + 50)), partition: 0)
                try await wait(for: "further events") {
                    rig.intake.events(of: Rig.partition(0)).count == start + 50
                }
            }
        }
        #expect(rig.intake.refusalCount >= 5)
        #expect(rig.intake.events(of: Rig.partition(0)).map(\.offset) == Array(0..<600))
        #expect(rig.intake.events(of: Rig.partition(1)).map(\.offset) == Array(0..<300))
        #expect(rig.intake.covered(Rig.partition(0)) == 0..<600)
    }

    @Test func aPartitionThatTheJournalHasNoRoomForIsPausedAndResumed() async throws {
        var rig = try Rig(partitions: 2)
        // Polling goes on while paused, or the group would evict the member.
        rig.configuration.properties += [("max.poll.interval.ms", "6000")]
        rig.intake.answer { $0 == Rig.partition(0) ? .refuse(.full("test")) : .accept }
        let metrics = TestMetrics()
        rig.metrics = metrics
        func backpressure() throws -> Double? {
            try metrics.expectGauge("ingest_backpressure_active", [("source", "kafka")]).lastValue
        }
        try rig.produce(numbered(0..<10), partition: 0)
        try await rig.withSource { source in
            try await wait(for: "the pause") {
                source.partitions.contains { $0.partition == Rig.partition(0) && $0.isPaused }
            }
            // The other partition goes on.
            try rig.produce(numbered(0..<10), partition: 1)
            try await wait(for: "the other partition") { rig.intake.events(of: Rig.partition(1)).count == 10 }
            #expect(source.partitions.contains { $0.partition == Rig.partition(1) && !$0.isPaused })
            try rig.produce(numbered(10..<20), partition: 0)
            #expect(source.health.isHealthy)
            #expect(source.health.detail.contains("paused"))
            #expect(try backpressure() == 1)
            #expect(rig.intake.events(of: Rig.partition(0)).isEmpty)
            rig.intake.releaseAll()
            try await wait(for: "the paused partition") { rig.intake.covered(Rig.partition(0)) == 0..<20 }
            try await wait(for: "the resumption") { source.partitions.allSatisfy { !$0.isPaused } }
            #expect(try backpressure() == 0)
        }
        #expect(rig.intake.events(of: Rig.partition(0)).map(\.offset) == Array(0..<20))
        #expect(rig.ledger.count(.assigned(Rig.partition(0), committed: nil)) == 1, "evicted from the group")
    }

    /// While partitions are paused the source asks for their ends. That question must not hold up polling or the stop.
    @Test func aBrokerThatNoLongerAnswersDoesNotHoldUpAPausedSource() async throws {
        var rig = try Rig()
        rig.configuration.requestTimeoutMilliseconds = 200
        let mock = rig.mock
        rig.intake.answer { _ in
            do { try mock.delayAnswers(milliseconds: 60_000) } catch { Issue.record(error) }
            return .refuse(.full("test"))
        }
        try rig.produce(numbered(0..<10))
        try await rig.withSource { source in
            try await wait(for: "the pause") { source.partitions.contains(where: \.isPaused) }
        }
    }

    @Test func messagesInFlightAreBounded() async throws {
        var rig = try Rig(partitions: 3)
        let limit = 4 << 20
        rig.configuration.maximumInFlightBytes = limit
        rig.intake.answer { _ in .wait }
        let padding = String(repeating: "x", count: 10_000)
        // The mock keeps 5 MiB of a partition.
        for partition: Int32 in 0..<3 {
            try rig.produce(
                (0..<400).map { "{\"event_id\":\"\($0)\",\"padding\":\"\(padding)\"}" }, partition: partition)
        }
        try await rig.withSource { source in
            try await wait(for: "all partitions paused") {
                source.partitions.count == 3 && source.partitions.allSatisfy(\.isPaused)
            }
            let taken = source.partitions.reduce(0) { $0 + ($1.position ?? 0) }
            #expect(taken * 10_000 < limit + 100_000)
            rig.intake.releaseAll()
            try await wait(for: "all events") { rig.intake.eventCount == 1_200 }
        }
        for number: Int32 in 0..<3 {
            #expect(rig.intake.events(of: Rig.partition(number)).map(\.offset) == Array(0..<400))
            #expect(rig.intake.covered(Rig.partition(number)) == 0..<400)
        }
        // Entries are bounded, too.
        #expect(rig.intake.accepted.allSatisfy { $0.events.count <= 110 })
    }
}
