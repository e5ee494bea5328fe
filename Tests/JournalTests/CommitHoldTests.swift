import IngestCore
import TestSupport
import Testing

@testable import Journal

/// What waits for the DLQ topic holds back commits to Kafka.
@Suite struct CommitHoldTests {
    private func forwarding() throws -> JournalFixture {
        let fixture = try JournalFixture()
        try fixture.reopen { $0.forwardsDeadLetters = true }
        return fixture
    }

    private func committable(_ fixture: JournalFixture, _ partition: TopicPartition = partitionA) -> Int64? {
        fixture.journal.committable()[partition]
    }

    /// Guarantee 2, with dead letters: an event that is only in the journal's store is not committed.
    @Test func commitsWaitForTheDLQTopic() async throws {
        let fixture = try forwarding()
        #expect(fixture.journal.assigned(partitionA, committed: 0) == 0)
        try await fixture.append(numbered(0..<10), origin: .kafka(partitionA, offsets: 0..<10))
        try await fixture.append(numbered(10..<20), origin: .kafka(partitionA, offsets: 10..<20))
        // Offsets 4 and 15, the higher one first.
        try await fixture.reject([5], upTo: 11, partitions: [partitionA: (11, 10)])
        #expect(committable(fixture) == 4)
        try await fixture.reject([16], upTo: 21, partitions: [partitionA: (21, 20)])
        #expect(committable(fixture) == 4 && fixture.journal.snapshot.unforwardedCount == 2)
        fixture.journal.committed([partitionA: 4])
        #expect(committable(fixture) == nil)

        // Also after reopening.
        try fixture.reopen()
        #expect(fixture.journal.snapshot.unforwardedCount == 2 && fixture.journal.checkpoint(of: partitionA)?.hold == 4)
        #expect(fixture.journal.assigned(partitionA, committed: 4) == 20)
        #expect(committable(fixture) == nil)
        #expect(try fixture.waiting() == [1, 2])
        #expect(try fixture.letters().map(\.awaitsForwarding) == [true, true])
        #expect(try fixture.journal.unforwarded(after: 1, limit: 5, maxBytes: 1).map(\.number) == [2])
        #expect(try fixture.journal.unforwarded(limit: 5, maxBytes: 1).map(\.number) == [1])
        #expect(try fixture.journal.unforwarded(limit: 1, maxBytes: .max).map(\.number) == [1])

        // The later one does not release what the earlier one holds.
        try await fixture.markForwarded([2])
        #expect(committable(fixture) == nil)
        try await fixture.markForwarded([1, 2, 77])
        #expect(committable(fixture) == 20)
        #expect(try fixture.waiting().isEmpty && fixture.journal.snapshot.unforwardedCount == 0)
        #expect(try fixture.letters().map(\.awaitsForwarding) == [false, false])
        fixture.journal.committed([partitionA: 20])
        try fixture.reopen()
        #expect(fixture.journal.checkpoint(of: partitionA)?.hold == nil)
    }

    @Test func messagesThatAreNoEventsHoldToo() async throws {
        let fixture = try forwarding()
        #expect(fixture.journal.assigned(partitionA, committed: 5) == 5)
        try await fixture.append(.invalid(7, of: partitionA), origin: .kafka(partitionA, offsets: 5..<9))
        #expect(committable(fixture) == 7)
        fixture.journal.committed([partitionA: 7])
        #expect(committable(fixture) == nil)
        // A letter of HTTP holds nothing, but is forwarded.
        try await fixture.append(.invalid())
        #expect(try fixture.waiting() == [1, 2])
        try await fixture.markForwarded([1])
        #expect(committable(fixture) == 9)
        #expect(try fixture.waiting() == [2])
    }

    @Test func damagedEntriesHoldWhereTheirHeaderAgreesWithTheJournal() async throws {
        let fixture = try forwarding()
        #expect(fixture.journal.assigned(partitionA, committed: 5) == 5)
        try await fixture.append(numbered(0..<3), origin: .kafka(partitionA, offsets: 5..<8))
        try await fixture.append(numbered(3..<6), origin: .kafka(partitionA, offsets: 8..<11))
        try await fixture.reject([], upTo: 7, damaged: [DamagedEntry(sequences: 4..<7, reason: "")])
        #expect(committable(fixture) == 8)
        try await fixture.markForwarded([1])
        fixture.journal.committed([partitionA: 8])
        #expect(committable(fixture) == 11)
        // A header that names a partition that was never consumed.
        try await fixture.append(numbered(6..<9), origin: .kafka(partitionA, offsets: 11..<14))
        try fixture.rewrite("entries", SequenceKey(fixture.stream(), 7)) { $0[40] = 9 }
        try await fixture.reject([], upTo: 10, damaged: [DamagedEntry(sequences: 7..<10, reason: "")])
        #expect(Set(fixture.journal.snapshot.partitions.keys) == [partitionA])
        #expect(try fixture.letters().map { $0.letter.kafka?.partition } == [partitionA, nil])
        #expect(fixture.journal.checkpoint(of: partitionA)?.hold == nil)
    }

    /// A letter whose record is damaged goes to the topic as what is left of it; one that is gone holds its message, and
    /// neither is in the way of those behind it.
    @Test func damagedLettersDoNotBlockForwarding() async throws {
        let fixture = try forwarding()
        #expect(fixture.journal.assigned(partitionA, committed: 0) == 0)
        try await fixture.append(numbered(0..<3), origin: .kafka(partitionA, offsets: 0..<3))
        try await fixture.reject([1, 2, 3], upTo: 4, partitions: [partitionA: (4, 3)])
        try fixture.rewrite("dead_letters", NumberKey(number: 1)) { $0[0] = 9 }
        try fixture.rewrite("dead_letters", NumberKey(number: 2)) { $0 = [] }
        #expect(fixture.journal.assigned(partitionA, committed: 0) == 3)
        let waiting = try fixture.journal.unforwarded(limit: .max, maxBytes: .max)
        #expect(waiting.map(\.number) == [1, 3] && waiting[0].letter.problem.kind == "unreadable_letter")
        try await fixture.markForwarded([1, 3])
        #expect(committable(fixture) == 1 && fixture.journal.snapshot.unforwardedCount == 1)
        #expect(try await fixture.journal.discardDeadLetters([2]) == DeadLetterChange())
        fixture.journal.committed([partitionA: 1])
        #expect(committable(fixture) == 3)
    }

    /// Someone who retries while the topic is away must not lose its message, nor the hold.
    @Test func retriedLettersStayUntilTheyAreForwarded() async throws {
        let fixture = try forwarding()
        #expect(fixture.journal.assigned(partitionA, committed: 0) == 0)
        try await fixture.append(numbered(0..<3), origin: .kafka(partitionA, offsets: 0..<3))
        try await fixture.reject([2], upTo: 4, partitions: [partitionA: (4, 3)])
        #expect(try await fixture.journal.retryDeadLetters([1]) == DeadLetterChange(changed: 1))
        // Not twice.
        #expect(try await fixture.journal.retryDeadLetters([1]) == DeadLetterChange())
        #expect(fixture.journal.snapshot.streams[fixture.stream()]?.nextSequence == 5)
        #expect(committable(fixture) == 1)
        try fixture.reopen()
        #expect(try fixture.letters().map(\.isRetried) == [true])
        #expect(try fixture.waiting() == [1])

        // Rejected again: a second letter, whose offset the first one stands for.
        #expect(fixture.journal.assigned(partitionA, committed: 0) == 3)
        try await fixture.reject([4], upTo: 5)
        #expect(try fixture.waiting() == [1, 2])
        try await fixture.markForwarded([1])
        #expect(try fixture.letters().map(\.number) == [2])
        fixture.journal.committed([partitionA: 1])
        #expect(committable(fixture) == 3)
        // The second one after it was forwarded: gone at once.
        try await fixture.markForwarded([2])
        #expect(try await fixture.journal.retryDeadLetters([2]).changed == 1)
        #expect(try fixture.letters().isEmpty)
        #expect(try fixture.payloads(5..<6) == ["{\"n\":1}"])
    }

    @Test func discardingReleases() async throws {
        let fixture = try forwarding()
        #expect(fixture.journal.assigned(partitionA, committed: 0) == 0)
        try await fixture.append(numbered(0..<3), origin: .kafka(partitionA, offsets: 0..<3))
        try await fixture.reject([1, 3], upTo: 4, partitions: [partitionA: (4, 3)])
        #expect(committable(fixture) == nil)
        #expect(try await fixture.journal.discardDeadLetters([1]).changed == 1)
        #expect(committable(fixture) == 2)
        #expect(try fixture.waiting() == [2])
        try fixture.reopen()
        #expect(fixture.journal.checkpoint(of: partitionA)?.hold == 2)
    }

    /// An operator's reset to before, and beyond, what waits.
    @Test func resetsAreObeyedWhileLettersWait() async throws {
        let fixture = try forwarding()
        #expect(fixture.journal.assigned(partitionA, committed: 100) == 100)
        try await fixture.append(numbered(0..<10), origin: .kafka(partitionA, offsets: 100..<110))
        try await fixture.reject([6], upTo: 11, partitions: [partitionA: (11, 110)])
        #expect(committable(fixture) == 105)
        fixture.journal.committed([partitionA: 105])
        fixture.journal.revoked(partitionA)

        #expect(fixture.journal.assigned(partitionA, committed: 90) == 90)
        try await fixture.append(numbered(0..<5), origin: .kafka(partitionA, offsets: 90..<95))
        try await fixture.advance(to: 16, partitions: [partitionA: (16, 95)])
        #expect(committable(fixture) == 95)
        fixture.journal.committed([partitionA: 95])
        fixture.journal.revoked(partitionA)

        #expect(fixture.journal.assigned(partitionA, committed: 500) == 500)
        try await fixture.append(numbered(0..<5), origin: .kafka(partitionA, offsets: 500..<505))
        try await fixture.advance(to: 21, partitions: [partitionA: (21, 505)])
        #expect(committable(fixture) == nil)
        try await fixture.markForwarded([1])
        #expect(committable(fixture) == 505)
    }

    @Test func whatWaitsIsKeptWhileForwardingIsOff() async throws {
        let fixture = try forwarding()
        #expect(fixture.journal.assigned(partitionA, committed: 0) == 0)
        try await fixture.append(numbered(0..<3), origin: .kafka(partitionA, offsets: 0..<3))
        try await fixture.reject([1, 2], upTo: 4, partitions: [partitionA: (4, 3)])
        #expect(committable(fixture) == nil)
        try fixture.reopen { $0.forwardsDeadLetters = false }
        #expect(fixture.journal.assigned(partitionA, committed: 0) == 3)
        try await fixture.append(.invalid(3, of: partitionA), origin: .kafka(partitionA, offsets: 3..<4))
        #expect(committable(fixture) == 3 && fixture.journal.snapshot.unforwardedCount == 0)
        #expect(try fixture.waiting().isEmpty)
        #expect(try fixture.letters().map(\.awaitsForwarding) == [false, false, false])
        #expect(try await fixture.journal.discardDeadLetters([2]).changed == 1)

        // On again: the one that waited does, and the commit that was announced without it is not made.
        try fixture.reopen { $0.forwardsDeadLetters = true }
        #expect(try fixture.waiting() == [1])
        #expect(fixture.journal.checkpoint(of: partitionA)?.hold == 0)
        #expect(fixture.journal.checkpoint(of: partitionA)?.committable == nil)
        try await fixture.markForwarded([1])
        #expect(fixture.journal.checkpoint(of: partitionA)?.committable == 3)
    }

    /// Against a plain list, with transactions that fail.
    @Test func lowestOffsetIsKnownInAnyOrder() {
        var random = SplitMix(state: 42)
        var holds = CommitHolds()
        var model: [(partition: TopicPartition, offset: Int64, number: UInt64)] = []
        var committed = (holds, model)
        for number in 1...20_000 as ClosedRange<UInt64> {
            let partition = random.next() % 2 == 0 ? partitionA : partitionB
            if model.isEmpty || random.next() % 5 < (number / 2_000 % 2 == 0 ? 3 : 2) {
                let offset = Int64(random.next() % 50)
                holds.add(offset, of: partition, for: number)
                model.append((partition, offset, number))
            } else {
                let index = Int(random.next() % UInt64(model.count))
                let letter = model.remove(at: index)
                holds.release(letter.offset, of: letter.partition, for: letter.number)
            }
            for partition in [partitionA, partitionB] {
                let lowest = model.lazy.filter { $0.partition == partition }.map(\.offset).min()
                guard holds[partition] == lowest else {
                    Issue.record("step \(number): \(holds[partition] as Any) is not \(lowest as Any)")
                    return
                }
            }
            switch random.next() % 10 {
            case 0:
                holds.commit()
                committed.1 = model
            case 1:
                holds.rollBack()
                model = committed.1
            default: break
            }
        }
    }
}

/// Numbers that are the same in every run [Steele, Lea, Flood: Fast splittable pseudorandom number generators].
private struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
