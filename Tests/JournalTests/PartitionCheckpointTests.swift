import IngestCore
import Testing

@testable import Journal

@Suite struct PartitionCheckpointTests {
    private let a = StreamID(rawValue: 1)
    private let b = StreamID(rawValue: 2)

    /// Offsets 100..<200 taken as events 1..<101 of stream a, the group standing at 100.
    private func taken() -> PartitionCheckpoint {
        var checkpoint = PartitionCheckpoint()
        checkpoint.assign(groupOffset: 100, resumes: false)
        checkpoint.append(offsets: 100..<200, stream: a, sequences: 1..<101, position: 1)
        return checkpoint
    }

    /// Guarantee 2.
    @Test func nothingIsCommittableBeforeItIsFlushed() {
        var checkpoint = taken()
        #expect(checkpoint.committable == nil && checkpoint.flushed == 100)
        checkpoint.flush(stream: a, entryEnd: 51, offset: 150)
        #expect(checkpoint.committable == 150)
        checkpoint.advance(stream: a, to: 101)
        // One commit at a time: 150 is on its way.
        #expect(checkpoint.committable == 150 && checkpoint.flushed == 200)
        checkpoint.confirm(150)
        #expect(checkpoint.committable == 200)
        checkpoint.confirm(200)
        #expect(checkpoint.committable == nil)
    }

    @Test func restartSkipsWhatTheJournalHolds() {
        var checkpoint = taken()
        #expect(checkpoint.resumes(at: 100))
        checkpoint.flush(stream: a, entryEnd: 51, offset: 150)
        // Crashed before, or after, the commit of 150 arrived.
        #expect(checkpoint.resumes(at: 100) && checkpoint.resumes(at: 150))
        // Within what is held unflushed.
        #expect(checkpoint.resumes(at: 170) && checkpoint.resumes(at: 200))
    }

    @Test func operatorsResetIsObeyed() {
        var checkpoint = taken()
        checkpoint.advance(stream: a, to: 101)
        checkpoint.confirm(200)
        #expect(checkpoint.resumes(at: 200))
        for offset: Int64? in [0, 100, 150, 199, 201, 1_000, nil] {
            #expect(!checkpoint.resumes(at: offset), "reset to \(offset as Any)")
        }
        checkpoint.assign(groupOffset: 0, resumes: false)
        #expect(checkpoint.end == 0 && checkpoint.committable == nil)
        checkpoint.append(offsets: 0..<10, stream: a, sequences: 101..<111, position: 101)
        checkpoint.advance(stream: a, to: 111)
        #expect(checkpoint.committable == 10)
    }

    @Test func resetWhileEventsWait() {
        var checkpoint = taken()
        checkpoint.assign(groupOffset: 20, resumes: checkpoint.resumes(at: 20))
        checkpoint.append(offsets: 20..<30, stream: a, sequences: 101..<111, position: 1)
        // The old run's flush says nothing about the new one.
        checkpoint.flush(stream: a, entryEnd: 101, offset: 200)
        checkpoint.advance(stream: a, to: 101)
        #expect(checkpoint.committable == nil && checkpoint.flushed == 20)
        checkpoint.advance(stream: a, to: 111)
        #expect(checkpoint.committable == 30)
    }

    @Test func anotherMembersProgressIsObeyed() {
        var checkpoint = taken()
        checkpoint.advance(stream: a, to: 101)
        checkpoint.confirm(200)
        #expect(!checkpoint.resumes(at: 500))
        checkpoint.assign(groupOffset: 500, resumes: false)
        checkpoint.append(offsets: 500..<510, stream: a, sequences: 101..<111, position: 101)
        checkpoint.advance(stream: a, to: 111)
        #expect(checkpoint.committable == 510)
    }

    @Test func recreatedTopicIsCommittedFromItsNewStart() {
        var checkpoint = taken()
        checkpoint.advance(stream: a, to: 101)
        checkpoint.confirm(200)
        checkpoint.append(offsets: 0..<10, stream: a, sequences: 101..<111, position: 101)
        #expect(checkpoint.committable == nil || checkpoint.committable == 0)
        checkpoint.advance(stream: a, to: 111)
        checkpoint.confirm(0)
        #expect(checkpoint.committable == 10)
    }

    @Test func changedRouteWaitsForTheOldStream() {
        var checkpoint = taken()
        #expect(checkpoint.resumes(at: 100))
        checkpoint.assign(groupOffset: 100, resumes: true)
        checkpoint.append(offsets: 200..<300, stream: b, sequences: 1..<101, position: 1)
        checkpoint.advance(stream: b, to: 101)
        #expect(checkpoint.flushed == 100 && checkpoint.committable == nil)
        checkpoint.advance(stream: a, to: 101)
        #expect(checkpoint.flushed == 300 && checkpoint.committable == 300)
    }

    @Test func messagesThatAreNoEventsMoveTheOffset() {
        var checkpoint = PartitionCheckpoint()
        checkpoint.assign(groupOffset: nil, resumes: false)
        // Nothing waits in the stream: done at once.
        checkpoint.append(offsets: 5..<8, stream: a, sequences: 41..<41, position: 41)
        #expect(checkpoint.committable == 8)
        checkpoint.confirm(8)
        checkpoint.append(offsets: 8..<9, stream: a, sequences: 41..<42, position: 41)
        // Behind an event that waits: done with it.
        checkpoint.append(offsets: 9..<12, stream: a, sequences: 42..<42, position: 41)
        #expect(checkpoint.committable == nil)
        checkpoint.flush(stream: a, entryEnd: 42, offset: 9)
        checkpoint.advance(stream: a, to: 42)
        checkpoint.confirm(9)
        #expect(checkpoint.committable == 12)
    }

    @Test func nothingIsCommittablePastAHold() {
        var checkpoint = taken()
        // Set before the position moves over the letter's message.
        checkpoint.hold(at: 130)
        checkpoint.flush(stream: a, entryEnd: 51, offset: 150)
        #expect(checkpoint.committable == 130 && checkpoint.flushed == 150)
        checkpoint.advance(stream: a, to: 101)
        checkpoint.confirm(130)
        #expect(checkpoint.committable == nil && checkpoint.flushed == 200)
        checkpoint.hold(at: 160)
        #expect(checkpoint.committable == 160)
        // What is released while a commit is under way comes with the next.
        checkpoint.hold(at: nil)
        #expect(checkpoint.committable == 160)
        checkpoint.confirm(160)
        #expect(checkpoint.committable == 200)
    }

    @Test func aPartitionIsSettledOnceNothingIsOnItsWay() {
        #expect(PartitionCheckpoint().isSettled)
        var checkpoint = taken()
        #expect(!checkpoint.isSettled)
        checkpoint.flush(stream: a, entryEnd: 51, offset: 150)
        #expect(!checkpoint.isSettled)
        checkpoint.hold(at: 160)
        checkpoint.advance(stream: a, to: 101)
        #expect(!checkpoint.isSettled)
        checkpoint.hold(at: nil)
        // Whether it is committed is another question.
        #expect(checkpoint.isSettled && checkpoint.committed != 200)
    }

    @Test func holdsNeverMoveCommitsBack() {
        var checkpoint = taken()
        checkpoint.advance(stream: a, to: 101)
        // A letter from before an operator's reset.
        checkpoint.hold(at: 20)
        #expect(checkpoint.committable == nil)
        checkpoint.confirm(200)
        checkpoint.append(offsets: 200..<210, stream: a, sequences: 101..<111, position: 101)
        checkpoint.advance(stream: a, to: 111)
        #expect(checkpoint.committable == nil)
        checkpoint.hold(at: nil)
        #expect(checkpoint.committable == 210)
    }

    @Test func firstStartWithoutACommittedOffsetIsRememberedToo() {
        var checkpoint = PartitionCheckpoint()
        #expect(!checkpoint.resumes(at: nil))
        checkpoint.assign(groupOffset: nil, resumes: false)
        checkpoint.append(offsets: 0..<10, stream: a, sequences: 1..<11, position: 1)
        #expect(checkpoint.resumes(at: nil))
    }

    @Test func recordsComeBackAsTheyWere() throws {
        var checkpoint = taken()
        checkpoint.append(offsets: 200..<300, stream: b, sequences: 1..<101, position: 1)
        let copy = try checkpoint.record.withUnsafeBytes { try PartitionCheckpoint(record: $0) }
        #expect(copy == checkpoint)
        #expect(throws: MalformedEntry.self) {
            try checkpoint.record.dropLast().withUnsafeBytes { try PartitionCheckpoint(record: $0) }
        }
    }
}
