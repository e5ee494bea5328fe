import IngestCore
import Kafka
import Logging
import MetricsTestKit
import TestSupport
import Testing

/// What happens to partitions that are taken away, in order and otherwise.
@Suite struct RevocationTests {
    /// A member that has taken, and not flushed, ten events of each of two partitions, and another that comes. The mock's
    /// coordinator takes the first one's commits meanwhile, as Kafka's does.
    private func rigs() throws -> (Rig, Rig) {
        let mock = try KafkaMock(brokerCount: 2)
        try mock.createTopic(Rig.topic, partitions: 2)
        try mock.slowCoordinator(of: "group", topic: Rig.topic, partitions: 2)
        let rig = Rig(mock)
        for partition: Int32 in 0..<2 {
            try rig.produce(numbered(0..<10), partition: partition)
            rig.ledger.setSettled(false, Rig.partition(partition))
        }
        return (rig, Rig(rig.mock))
    }

    private func isRevoked(_ rig: Rig) -> Bool {
        rig.ledger.calls.contains { if case .revoked = $0 { true } else { false } }
    }

    @Test func partitionsAreGivenUpOnceTheirEventsAreFlushedAndCommitted() async throws {
        var (rig, other) = try rigs()
        rig.configuration.revocationTimeoutMilliseconds = 60_000
        try await rig.withSource { _ in
            try await wait(for: "the first events") { rig.intake.eventCount == 20 }
            try await other.withSource { _ in
                try await wait(for: "the request to flush") { rig.ledger.flushRequestCount == 1 }
                #expect(!isRevoked(rig))
                for number: Int32 in 0..<2 {
                    rig.ledger.setFlushed(10, of: Rig.partition(number))
                    rig.ledger.setSettled(true, Rig.partition(number))
                }
                try await wait(for: "the revocation") { isRevoked(rig) }
                let calls = rig.ledger.calls
                let moved = try #require(
                    (0..<2).map(Rig.partition).first { partition in calls.contains(.revoked(partition)) })
                let committed = try #require(calls.firstIndex(of: .committed(moved, 10)))
                #expect(try committed < #require(calls.firstIndex(of: .revoked(moved))))
                try rig.produce(numbered(10..<20), partition: moved.partition)
                try await wait(for: "the other member's events") { other.intake.covered(moved) == 10..<20 }
                #expect(other.ledger.count(.assigned(moved, committed: 10)) == 1)
            }
        }
    }

    /// A third of `max.poll.interval.ms` is the limit where that is less: beyond it all partitions would be lost.
    @Test(arguments: [(300, 300_000), (60_000, 6_000)])
    func aFlushThatTakesTooLongIsNotWaitedFor(timeout: Int, pollInterval: Int) async throws {
        var (rig, other) = try rigs()
        rig.configuration.revocationTimeoutMilliseconds = timeout
        rig.configuration.properties.append(("max.poll.interval.ms", "\(pollInterval)"))
        let metrics = TestMetrics()
        rig.metrics = metrics
        try await rig.withSource { source in
            try await wait(for: "the first events") { rig.intake.eventCount == 20 }
            try await other.withSource { _ in
                // Delivered again: nothing was committed.
                try await wait(for: "the other member's events") { other.intake.eventCount >= 10 }
                #expect(source.partitions.count == 1)
            }
        }
        #expect(rig.lines.lines(at: .warning).contains { $0.contains("before all of their events are in ClickHouse") })
        func count(_ kind: String) throws -> Int64 {
            try metrics.expectCounter("ingest_kafka_rebalances_total", [("kind", kind)]).totalValue
        }
        #expect(try count("lost") == 0)
        #expect(try count("revoked") >= 1)
    }

    @Test func aShutdownDoesNotWaitForARevocation() async throws {
        var (rig, other) = try rigs()
        rig.configuration.revocationTimeoutMilliseconds = 60_000
        let source = try rig.makeSource()
        source.start()
        try await wait(for: "the first events") { rig.intake.eventCount == 20 }
        other.configuration.requestTimeoutMilliseconds = 1_000
        try await other.withSource { _ in
            try await wait(for: "the request to flush") { rig.ledger.flushRequestCount == 1 }
            let start = ContinuousClock.now
            await source.stopConsuming()
            await source.close()
            #expect(ContinuousClock.now - start < .seconds(10))
        }
    }

    /// Lost partitions are not waited for: they may be someone else's.
    @Test func lostPartitionsAreNotFlushedFirst() async throws {
        var rig = try Rig()
        rig.configuration.revocationTimeoutMilliseconds = 60_000
        let metrics = TestMetrics()
        rig.metrics = metrics
        try rig.produce(numbered(0..<10))
        try await rig.withSource { source in
            try await wait(for: "the first events") { rig.intake.eventCount == 10 }
            rig.intake.answer { _ in .wait }
            rig.ledger.setSettled(false, Rig.partition())
            try rig.produce(numbered(10..<20))
            try await wait(for: "a submission under way") { rig.intake.waitingCount == 1 }
            rig.mock.fail(.heartbeat, with: .unknownMember)
            try await wait(for: "the loss") { isRevoked(rig) }
            #expect(rig.ledger.flushRequestCount == 0)
            #expect(try metrics.expectCounter("ingest_kafka_rebalances_total", [("kind", "lost")]).totalValue == 1)
            // Its answer, late, is counted, and ends the wait of the next assignment.
            rig.intake.releaseAll()
            try await wait(for: "a new assignment") {
                rig.ledger.count(.assigned(Rig.partition(), committed: nil)) == 2
            }
            let accepted = try metrics.expectCounter(
                "ingest_events_total",
                [("source", "kafka"), ("stream", "events_table"), ("result", "accepted")])
            try await wait(for: "the count") { accepted.totalValue >= 20 }
        }
    }

    @Test(arguments: [nil, "one"])
    func onlyADynamicMemberLeavesItsGroup(id: String?) async throws {
        var rig = try Rig()
        rig.configuration.groupInstanceID = id
        rig.configuration.properties.append(("debug", "cgrp"))
        try rig.produce(numbered(0..<10))
        try await rig.withSource { _ in
            try await wait(for: "the first events") { rig.intake.eventCount == 10 }
            rig.ledger.setFlushed(10, of: Rig.partition())
        }
        // With its partitions kept for it, what is flushed is committed all the same.
        #expect(try rig.mock.committedOffset(group: "group", topic: Rig.topic) == 10)
        let left = rig.lines.lines(at: .debug).contains { $0.contains("leave (in state") }
        #expect(left == (id == nil))
    }

    @Test func aFencedMemberSaysWhyAndCommitsNothing() async throws {
        var rig = try Rig()
        rig.configuration.groupInstanceID = "one"
        rig.configuration.commitIntervalMilliseconds = 3_600_000
        rig.configuration.minimumRestartMilliseconds = 60_000
        rig.configuration.maximumRestartMilliseconds = 60_000
        try rig.produce(numbered(0..<10))
        try await rig.withSource { source in
            try await wait(for: "the first events") { rig.intake.eventCount == 10 }
            rig.ledger.setFlushed(10, of: Rig.partition())
            rig.mock.fail(.heartbeat, with: .fencedInstance)
            try await wait(for: "the reason in health") {
                source.health.detail.contains("another process has the group.instance.id \"one\"")
                    && source.health.detail.contains("restarted in")
            }
            #expect(!source.health.isHealthy)
        }
        #expect(try rig.mock.committedOffset(group: "group", topic: Rig.topic) == nil)
        #expect(rig.ledger.count(.committed(Rig.partition(), 10)) == 0)
        #expect(rig.ledger.calls.last == .revoked(Rig.partition()))
    }

    @Test func lagIsSplitWhereTheJournalIs() async throws {
        var rig = try Rig()
        let metrics = TestMetrics()
        rig.metrics = metrics
        try rig.produce(numbered(0..<10))
        rig.intake.answer { _ in .wait }
        try await rig.withSource { source in
            try await wait(for: "messages on their way to the journal") {
                source.partitions.first.map { $0.unjournaled == 10 && $0.uncommitted == 0 && $0.lag == 10 } ?? false
            }
            rig.intake.releaseAll()
            rig.ledger.setFlushed(4, of: Rig.partition())
            try await wait(for: "messages in the journal") {
                source.partitions.first.map { $0.unjournaled == 0 && $0.uncommitted == 6 && $0.lag == 6 } ?? false
            }
            let dimensions = [("topic", "events"), ("partition", "0")]
            try await wait(for: "the gauges") {
                try metrics.expectGauge("ingest_kafka_unjournaled_events", dimensions).lastValue == 0
                    && metrics.expectGauge("ingest_kafka_uncommitted_events", dimensions).lastValue == 6
            }
            #expect(try metrics.expectCounter("ingest_kafka_rebalances_total", [("kind", "assigned")]).totalValue == 1)
        }
    }

    /// Messages that retention took before they were consumed, and an offset that never existed.
    @Test func offsetsThatKafkaDoesNotHaveAreReported() async throws {
        let rig = try Rig(partitions: 2)
        // The mock keeps 5 MiB of a partition.
        let padding = String(repeating: "x", count: 900_000)
        for number in 0..<10 { try rig.produce(["{\"event_id\":\"\(number)\",\"padding\":\"\(padding)\"}"]) }
        try rig.produce(numbered(0..<10), partition: 1)
        try rig.mock.commit(1, group: "group", topic: Rig.topic, partition: 0)
        try rig.mock.commit(500, group: "group", topic: Rig.topic, partition: 1)
        try await rig.withSource { _ in
            try await wait(for: "what is there") {
                rig.intake.covered(Rig.partition(1)) == 0..<10
                    && rig.intake.accepted.contains { $0.partition == Rig.partition(0) && $0.offsets.upperBound == 10 }
            }
        }
        for partition in 0..<2 {
            #expect(
                rig.lines.lines(at: .warning).contains {
                    $0.contains("events [\(partition)]: offset reset (at offset \(partition == 0 ? 1 : 500)")
                })
        }
    }

    @Test func aWideTopicIsTakenWithinTheBound() async throws {
        let partitionCount: Int32 = 200
        var rig = try Rig(partitions: partitionCount)
        let limit = 4 << 20
        rig.configuration.maximumInFlightBytes = limit
        let padding = String(repeating: "x", count: 10_000)
        for partition in 0..<partitionCount {
            try rig.produce(
                (0..<5).map { "{\"event_id\":\"\(partition)-\($0)\",\"padding\":\"\(padding)\"}" },
                partition: partition)
        }
        rig.intake.answer { _ in .wait }
        try await rig.withSource { source in
            try await wait(for: "all partitions paused") {
                source.partitions.count == partitionCount && source.partitions.allSatisfy(\.isPaused)
            }
            #expect(source.partitions.reduce(0) { $0 + ($1.position ?? 0) } * 10_000 < limit + 100_000)
            rig.intake.releaseAll()
            try await wait(for: "all events") { rig.intake.eventCount == 5 * Int(partitionCount) }
        }
    }
}
