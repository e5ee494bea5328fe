import IngestCore
import Kafka
import TestSupport
import Testing

@Suite struct CommitTests {
    @Test func onlyWhatTheLedgerSaysIsCommitted() async throws {
        let rig = try Rig(partitions: 2)
        try rig.produce(numbered(0..<20), partition: 0)
        try rig.produce(numbered(0..<20), partition: 1)
        try await rig.withSource { source in
            try await wait(for: "all events") { rig.intake.eventCount == 40 }
            rig.ledger.setFlushed(7, of: Rig.partition(0))
            try await wait(for: "the first commit") { rig.ledger.count(.committed(Rig.partition(0), 7)) == 1 }
            rig.ledger.setFlushed(12, of: Rig.partition(0))
            try await wait(for: "the second commit") { rig.ledger.count(.committed(Rig.partition(0), 12)) == 1 }
        }
        // Closing commits nothing of its own either.
        #expect(try rig.mock.committedOffset(group: "group", topic: Rig.topic, partition: 0) == 12)
        #expect(try rig.mock.committedOffset(group: "group", topic: Rig.topic, partition: 1) == nil)
        #expect(
            rig.ledger.calls.last == .revoked(Rig.partition(1)) || rig.ledger.calls.last == .revoked(Rig.partition(0)))
    }

    @Test func aFailedCommitIsRepeated() async throws {
        let rig = try Rig()
        try rig.produce(numbered(0..<5))
        try await rig.withSource { source in
            try await wait(for: "all events") { rig.intake.eventCount == 5 }
            rig.mock.fail(.offsetCommit, with: .groupAuthorizationFailed, count: 2)
            rig.ledger.setFlushed(5, of: Rig.partition())
            try await wait(for: "a commit") { rig.ledger.count(.committed(Rig.partition(), 5)) == 1 }
        }
        #expect(try rig.mock.committedOffset(group: "group", topic: Rig.topic) == 5)
    }

    @Test func closingCommitsWhatIsFlushedByThen() async throws {
        var rig = try Rig()
        rig.configuration.commitIntervalMilliseconds = 3_600_000
        try rig.produce(numbered(0..<5))
        try await rig.withSource { source in
            try await wait(for: "all events") { rig.intake.eventCount == 5 }
            await source.stopConsuming()
            rig.ledger.setFlushed(5, of: Rig.partition())
            #expect(rig.ledger.count(.committed(Rig.partition(), 5)) == 0)
        }
        #expect(try rig.mock.committedOffset(group: "group", topic: Rig.topic) == 5)
        #expect(rig.ledger.calls.suffix(2) == [.committed(Rig.partition(), 5), .revoked(Rig.partition())])
    }

    @Test func lostPartitionsAreGivenUpWithoutACommit() async throws {
        var rig = try Rig()
        rig.configuration.commitIntervalMilliseconds = 3_600_000
        try rig.produce(numbered(0..<5))
        try await rig.withSource { source in
            try await wait(for: "all events") { rig.intake.eventCount == 5 }
            rig.ledger.setFlushed(5, of: Rig.partition())
            let askCount = rig.ledger.askCount
            rig.mock.fail(.heartbeat, with: .unknownMember)
            try await wait(for: "the revocation") { rig.ledger.count(.revoked(Rig.partition())) == 1 }
            // Not even tried: that the group would refuse it is no reason to rely on.
            #expect(rig.ledger.askCount == askCount)
            #expect(try rig.mock.committedOffset(group: "group", topic: Rig.topic) == nil)
            // The partition comes back, is consumed again and can be committed again.
            try await wait(for: "a new assignment") {
                rig.ledger.count(.assigned(Rig.partition(), committed: nil)) == 2 && rig.intake.eventCount == 10
            }
        }
        #expect(try rig.mock.committedOffset(group: "group", topic: Rig.topic) == 5)
    }

    @Test(arguments: ["cooperative-sticky", "range"])
    func revocationWaitsForSubmissionsAndCommits(strategy: String) async throws {
        var rig = try Rig(partitions: 2)
        rig.configuration.properties.append(("partition.assignment.strategy", strategy))
        rig.configuration.revocationTimeoutMilliseconds = 20_000
        var other = Rig(rig.mock)
        other.configuration.properties.append(("partition.assignment.strategy", strategy))
        for partition: Int32 in 0..<2 { try rig.produce(numbered(0..<10), partition: partition) }
        try await rig.withSource { _ in
            try await wait(for: "the first events") { rig.intake.eventCount == 20 }
            rig.intake.answer { _ in .wait }
            for partition: Int32 in 0..<2 { try rig.produce(numbered(10..<20), partition: partition) }
            try await wait(for: "submissions under way") { rig.intake.waitingCount == 2 }
            try await other.withSource { _ in
                try await wait(for: "the revocation to wait") { rig.ledger.idleTime > .seconds(1) }
                #expect(!rig.ledger.calls.contains { if case .revoked = $0 { true } else { false } })
                for number: Int32 in 0..<2 { rig.ledger.setFlushed(10, of: Rig.partition(number)) }
                rig.intake.releaseAll()
                try await wait(for: "the other member's events") { other.intake.eventCount > 0 }
                let assignment = other.ledger.calls.compactMap { call in
                    if case .assigned(let partition, let committed) = call { (partition, committed) } else { nil }
                }.first
                let (partition, committed) = try #require(assignment)
                let own = rig.ledger.calls
                let offered = try #require(own.firstIndex(of: .offered(partition, 10)))
                let revoked = try #require(own.firstIndex(of: .revoked(partition)))
                #expect(offered < revoked)
                // The mock refuses commits until the new generation is complete, where Kafka takes them. Where it
                // came to that, what was committed is where the other member starts.
                if own.contains(.committed(partition, 10)) {
                    #expect(committed == 10)
                    #expect(other.intake.covered(partition)?.lowerBound == 10)
                }
            }
        }
    }

    @Test func revocationDoesNotWaitForeverForTheJournal() async throws {
        var rig = try Rig(partitions: 2)
        rig.configuration.revocationTimeoutMilliseconds = 100
        let other = Rig(rig.mock)
        try rig.produce(numbered(0..<10), partition: 0)
        try rig.produce(numbered(0..<10), partition: 1)
        rig.intake.answer { _ in .wait }
        try await rig.withSource { _ in
            try await wait(for: "submissions under way") { rig.intake.waitingCount == 2 }
            try await other.withSource { _ in
                // Not committed, so the other member consumes the partition from its start.
                try await wait(for: "the other member's events") { other.intake.eventCount >= 10 }
            }
            rig.intake.releaseAll()
        }
        #expect(rig.ledger.calls.contains { if case .revoked = $0 { true } else { false } })
    }
}
