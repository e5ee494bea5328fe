import IngestCore
import Kafka
import Logging
import MetricsTestKit
import Synchronization
import TestSupport
import Testing

@Suite struct LifecycleTests {
    /// How many sources are closed.
    private final class Closed: Sendable {
        let count = Mutex(0)
    }

    @Test func afterStopConsumingNothingIsSubmittedButCommitsGoOn() async throws {
        let rig = try Rig()
        try rig.produce(numbered(0..<10))
        try await rig.withSource { source in
            try await wait(for: "the first events") { rig.intake.eventCount == 10 }
            // One submission is under way, a refused one would be sent again, and more wait behind it.
            rig.intake.answer { _ in .wait }
            try rig.produce(numbered(10..<20))
            try await wait(for: "a submission under way") { rig.intake.waitingCount == 1 }
            try rig.produce(numbered(20..<30))
            await source.stopConsuming()
            let submissions = rig.intake.submissionCount
            rig.intake.releaseAll()
            try rig.produce(numbered(30..<40))
            rig.ledger.setFlushed(10, of: Rig.partition())
            try await wait(for: "a commit") { rig.ledger.count(.committed(Rig.partition(), 10)) == 1 }
            rig.ledger.setFlushed(11, of: Rig.partition())
            try await wait(for: "another commit") { rig.ledger.count(.committed(Rig.partition(), 11)) == 1 }
            #expect(rig.intake.submissionCount == submissions)
            #expect(source.health.detail.contains("stopped"))
        }
        #expect(rig.intake.covered(Rig.partition()).map { $0.upperBound <= 20 } == true)
        #expect(!rig.ledger.calls.dropLast().contains(.revoked(Rig.partition())))
    }

    @Test func afterStopConsumingPartitionsThatComeBackAreNotConsumed() async throws {
        let rig = try Rig()
        try rig.produce(numbered(0..<10))
        try await rig.withSource { source in
            try await wait(for: "the first events") { rig.intake.eventCount == 10 }
            await source.stopConsuming()
            let submissions = rig.intake.submissionCount
            rig.mock.fail(.heartbeat, with: .unknownMember)
            try await wait(for: "a new assignment") {
                rig.ledger.count(.assigned(Rig.partition(), committed: nil)) == 2
                    && source.partitions.first?.isPaused == true
            }
            rig.ledger.setFlushed(10, of: Rig.partition())
            try await wait(for: "a commit") { rig.ledger.count(.committed(Rig.partition(), 10)) == 1 }
            #expect(rig.intake.submissionCount == submissions)
        }
    }

    @Test func brokersThatWereAwayAreReportedAndConsumedAgain() async throws {
        let rig = try Rig()
        try rig.produce(numbered(0..<10))
        try await rig.withSource { source in
            try await wait(for: "the first events") { rig.intake.eventCount == 10 }
            try rig.mock.bringDown()
            try await wait(for: "bad health") { !source.health.isHealthy }
            #expect(source.health.detail.contains("no Kafka broker can be reached"))
            try rig.mock.bringUp()
            try await wait(for: "good health") { source.health.isHealthy }
            try rig.produce(numbered(10..<20))
            try await wait(for: "further events") { rig.intake.covered(Rig.partition()) == 0..<20 }
        }
        #expect(rig.ledger.count(.assigned(Rig.partition(), committed: nil)) == 1)
    }

    @Test func closingEndsInTimeWhileBrokersAreAway() async throws {
        var rig = try Rig()
        rig.configuration.requestTimeoutMilliseconds = 1_000
        try rig.produce(numbered(0..<10))
        let source = try rig.makeSource()
        source.start()
        try await wait(for: "the first events") { rig.intake.eventCount == 10 }
        rig.ledger.setFlushed(10, of: Rig.partition())
        try rig.mock.bringDown()
        let start = ContinuousClock.now
        await source.close()
        #expect(ContinuousClock.now - start < .seconds(5))
        #expect(rig.ledger.calls.last == .revoked(Rig.partition()))
        #expect(source.health.detail == "closed")
    }

    /// An assignment may wait to be looked at, in a client that is told to leave.
    @Test func closingEndsAtAnyMomentOfJoining() async throws {
        var rig = try Rig()
        // What librdkafka then says gives it time between two steps.
        rig.configuration.properties = [("debug", "all")]
        var sources: [KafkaSource] = []
        for number in 0..<24 {
            rig.configuration.groupID = "joining-\(number)"
            sources.append(try rig.makeSource())
        }
        // One after the other, so that they are at different moments when the first is there.
        for source in sources {
            source.start()
            try await Task.sleep(for: .milliseconds(15))
        }
        let first = sources.removeFirst()
        try await wait(for: "the first assignment") { !first.partitions.isEmpty }
        let closed = Closed()
        for source in sources + [first] {
            Task.detached {
                await source.close()
                closed.count.withLock { $0 += 1 }
            }
        }
        let count = sources.count + 1
        try await wait(for: "all are closed") { closed.count.withLock { $0 } == count }
    }

    @Test func aSourceThatNeverStartedOrNeverConnectedCloses() async throws {
        let rig = try Rig()
        let idle = try rig.makeSource()
        await idle.stopConsuming()
        await idle.close()
        try rig.mock.bringDown()
        let unconnected = try rig.makeSource()
        unconnected.start()
        async let stopped: Void = unconnected.stopConsuming()
        async let closed: Void = unconnected.close()
        async let closedTwice: Void = unconnected.close()
        _ = await (stopped, closed, closedTwice)
        await unconnected.stopConsuming()
        #expect(rig.intake.submissionCount == 0)
    }

    @Test func aFatalErrorRestartsTheConsumer() async throws {
        var rig = try Rig()
        // Long enough to be seen.
        rig.configuration.minimumRestartMilliseconds = 4_000
        rig.configuration.maximumRestartMilliseconds = 4_000
        rig.configuration.properties.append(("group.instance.id", "one"))
        let metrics = TestMetrics()
        rig.metrics = metrics
        func restarts(_ reason: String) throws -> Int64 {
            try metrics.expectCounter("ingest_kafka_consumer_restarts_total", [("reason", reason)]).totalValue
        }
        try rig.produce(numbered(0..<10))
        try await rig.withSource { source in
            try await wait(for: "the first events") { rig.intake.eventCount == 10 }
            #expect(try restarts("fatal") == 0)
            rig.ledger.setStart(10, of: Rig.partition())
            rig.mock.fail(.heartbeat, with: .fencedInstance)
            try await wait(for: "the reason in health") {
                source.health.detail.contains("fenced") && source.health.detail.contains("restarted in")
            }
            #expect(!source.health.isHealthy)
            try rig.produce(numbered(10..<20))
            try await wait(for: "further events") { rig.intake.covered(Rig.partition()) == 0..<20 }
            try await wait(for: "good health") { source.health.isHealthy }
        }
        #expect(try restarts("fatal") == 1 && restarts("rebalance") == 0)
        #expect(rig.ledger.count(.revoked(Rig.partition())) == 2)
    }

    @Test func committedOffsetsThatCanNotBeReadRestartTheConsumer() async throws {
        var rig = try Rig()
        let metrics = TestMetrics()
        rig.metrics = metrics
        try rig.produce(numbered(0..<10))
        rig.mock.fail(.offsetFetch, with: .groupAuthorizationFailed, count: 2)
        try await rig.withSource { source in
            try await wait(for: "the reason") {
                rig.lines.lines(at: .error).contains { $0.contains("can't read committed offsets") }
            }
            try await wait(for: "all events") { rig.intake.covered(Rig.partition()) == 0..<10 }
        }
        #expect(rig.intake.eventCount == 10)
        #expect(rig.ledger.calls.first == .assigned(Rig.partition(), committed: nil))
        let restarts = try metrics.expectCounter("ingest_kafka_consumer_restarts_total", [("reason", "rebalance")])
        #expect(restarts.totalValue >= 1)
    }
}
