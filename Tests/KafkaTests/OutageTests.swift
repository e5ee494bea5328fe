import IngestCore
import Kafka
import TestSupport
import Testing

/// Whatever Kafka does, consuming goes on, nothing is lost, and what is flushed is committed in the end.
@Suite struct OutageTests {
    /// Waits until partition 0 was taken up to `end`, flushes it, and waits until the group has that offset.
    private func settle(_ rig: Rig, at end: Int64) async throws {
        try await eventually("all events up to \(end)") {
            rig.intake.accepted.map(\.offsets.upperBound).max() == end
                && Set(rig.intake.events(of: Rig.partition()).map(\.offset)) == Set(0..<end)
        }
        rig.ledger.setFlushed(end, of: Rig.partition())
        // Where the partition is consumed from when it is assigned again: the rest is in the journal.
        rig.ledger.setStart(end, of: Rig.partition())
        try await eventually("the commit of \(end)", within: .seconds(45)) {
            rig.ledger.count(.committed(Rig.partition(), end)) > 0
        }
        #expect(try rig.mock.committedOffset(group: "group", topic: Rig.topic) == end)
    }

    /// Runs cases at the same time: each mostly waits for the mock's three seconds of group formation.
    private func concurrently<Case: Sendable>(
        _ cases: [Case], _ body: @escaping @Sendable (Case) async throws -> Void
    ) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for each in cases {
                group.addTask {
                    do {
                        try await body(each)
                    } catch {
                        throw Timeout(description: "\(each): \(error)")
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    @Test func brokersThatGoAndComeUnderConsumption() async throws {
        let rig = try Rig()
        try rig.produce(numbered(0..<100))
        try await rig.withSource { source in
            try await settle(rig, at: 100)
            for round in 1...3 {
                let start = round * 100
                // A commit is due when they go.
                try rig.produce(numbered(start..<(start + 50)))
                try await eventually("events before the outage") { rig.intake.eventCount == start + 50 }
                rig.ledger.setFlushed(Int64(start + 50), of: Rig.partition())
                try rig.mock.bringDown()
                try await eventually("bad health") { !source.health.isHealthy }
                try rig.mock.bringUp()
                try rig.produce(numbered((start + 50)..<(start + 100)))
                try await settle(rig, at: Int64(start + 100))
                try await eventually("good health") { source.health.isHealthy }
            }
        }
        // The group was not left, so nothing came twice.
        #expect(rig.intake.covered(Rig.partition()) == 0..<400)
        #expect(rig.ledger.count(.assigned(Rig.partition(), committed: nil)) == 1)
        #expect(rig.intake.events(of: Rig.partition()).map(\.offset) == Array(0..<400))
    }

    @Test func consumingStartsOnceBrokersAreThere() async throws {
        let rig = try Rig()
        try rig.produce(numbered(0..<10))
        try rig.mock.bringDown()
        try await rig.withSource { source in
            try await eventually("bad health") { source.health.detail.contains("no Kafka broker can be reached") }
            try rig.mock.bringUp()
            try await settle(rig, at: 10)
            #expect(source.health.isHealthy)
        }
    }

    @Test func aCoordinatorThatFailsWhileTheGroupIsJoined() async throws {
        try await concurrently([KafkaMock.Request.findCoordinator, .joinGroup, .syncGroup, .offsetFetch]) { request in
            let rig = try Rig()
            try rig.produce(numbered(0..<10))
            rig.mock.fail(request, with: [.coordinatorNotAvailable, .notCoordinator, .coordinatorIsLoading])
            try await rig.withSource { source in
                try await settle(rig, at: 10)
                try rig.produce(numbered(10..<20))
                try await settle(rig, at: 20)
                #expect(source.health.isHealthy)
            }
        }
    }

    @Test func commitsThatFail() async throws {
        try await concurrently([
            KafkaMockError.coordinatorNotAvailable, .notCoordinator, .coordinatorIsLoading, .rebalanceInProgress,
            .requestTimedOut, .unknownMember, .groupAuthorizationFailed,
        ]) { error in
            let rig = try Rig()
            try rig.produce(numbered(0..<10))
            try await rig.withSource { source in
                try await settle(rig, at: 10)
                // A forgotten member joins anew, for which the mock takes more than ten seconds.
                rig.mock.fail(.offsetCommit, with: error, count: error == .unknownMember ? 1 : 3)
                try rig.produce(numbered(10..<20))
                try await settle(rig, at: 20)
            }
        }
    }

    @Test func heartbeatsThatFail() async throws {
        try await concurrently([
            KafkaMockError.coordinatorNotAvailable, .notCoordinator, .coordinatorIsLoading, .rebalanceInProgress,
        ]) { error in
            let rig = try Rig()
            try rig.produce(numbered(0..<10))
            try await rig.withSource { source in
                try await settle(rig, at: 10)
                rig.mock.fail(.heartbeat, with: error, count: 2)
                rig.mock.fail(.joinGroup, with: error == .rebalanceInProgress ? .coordinatorIsLoading : error)
                try rig.produce(numbered(10..<20))
                try await settle(rig, at: 20)
                try rig.produce(numbered(20..<30))
                try await settle(rig, at: 30)
                try await eventually("good health") { source.health.isHealthy }
            }
        }
    }

    /// The broker with the partition is well, the one with the group is not; then another one takes the group over.
    @Test func aCoordinatorThatIsLost() async throws {
        let mock = try KafkaMock(brokerCount: 3)
        try mock.createTopic(Rig.topic, partitions: 1)
        try mock.setLeader(1, of: Rig.topic)
        try mock.setCoordinator(2, of: "group")
        let rig = Rig(mock)
        try rig.produce(numbered(0..<10))
        try await rig.withSource { source in
            try await settle(rig, at: 10)
            try mock.bringDown(broker: 2)
            // Consuming goes on without it; commits wait.
            try rig.produce(numbered(10..<20))
            try await eventually("events without a coordinator") { rig.intake.eventCount == 20 }
            rig.ledger.setFlushed(20, of: Rig.partition())
            rig.ledger.setStart(20, of: Rig.partition())
            try mock.setCoordinator(3, of: "group")
            try rig.produce(numbered(20..<30))
            try await settle(rig, at: 30)
            try await eventually("good health") { source.health.isHealthy }
        }
        try mock.bringUp(broker: 2)
    }

    /// The broker with the partition goes away, and another one becomes its leader.
    @Test func aLeaderThatIsLost() async throws {
        let mock = try KafkaMock(brokerCount: 3)
        try mock.createTopic(Rig.topic, partitions: 1)
        try mock.setLeader(1, of: Rig.topic)
        try mock.setCoordinator(2, of: "group")
        let rig = Rig(mock)
        try rig.produce(numbered(0..<10))
        try await rig.withSource { _ in
            try await settle(rig, at: 10)
            try mock.setLeader(3, of: Rig.topic)
            try mock.bringDown(broker: 1)
            try rig.produce(numbered(10..<20))
            try await settle(rig, at: 20)
        }
        try mock.bringUp(broker: 1)
    }
}
