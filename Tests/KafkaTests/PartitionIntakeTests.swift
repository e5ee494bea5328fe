import IngestCore
import Testing

@testable import Kafka

@Suite struct PartitionIntakeTests {
    private func makeIntake(start: Int64? = 0) -> PartitionIntake {
        PartitionIntake(
            partition: TopicPartition(topic: "t", partition: 3), stream: Stream(id: StreamID(rawValue: 1), table: "t"),
            start: start)
    }

    /// Takes an event of `size` bytes.
    private func take(_ intake: PartitionIntake, _ offset: Int64, size: Int = 10, timestamp: Int64 = 0) {
        let admission = intake.admit(offset: offset, timestamp: timestamp == 0 ? offset : timestamp)
        guard admission != .duplicate else { return }
        [UInt8](repeating: 0x20, count: size).withUnsafeBytes {
            intake.append(
                payload: $0, id: .derived, storedID: nil,
                metadata: KafkaMetadata(
                    offset: offset, timestamp: 0, key: nil, headers: UnsafeRawBufferPointer(start: nil, count: 0)),
                receivedAt: 5)
        }
    }

    @Test func rangesMeetAcrossGaps() throws {
        let intake = makeIntake(start: 10)
        take(intake, 12)
        take(intake, 13)
        var run = try #require(intake.takeSubmission(now: 0))
        #expect(run.offsets == 10..<14)
        #expect(run.events.eventCount == 2)
        _ = intake.accepted()
        take(intake, 20)
        run = try #require(intake.takeSubmission(now: 0))
        #expect(run.offsets == 14..<21)
        #expect(intake.position == 21)
    }

    @Test func withoutAStartTheFirstMessageIsTheStart() throws {
        let intake = makeIntake(start: nil)
        #expect(intake.position == nil && intake.takeSubmission(now: 0) == nil)
        take(intake, 100)
        #expect(intake.takeSubmission(now: 0)?.offsets == 100..<101)
        #expect(intake.start == 100)
    }

    @Test func oneSubmissionAtATimeAndTheNextGathersMeanwhile() throws {
        let intake = makeIntake()
        take(intake, 0)
        let first = try #require(intake.takeSubmission(now: 0))
        for offset: Int64 in 1..<50 { take(intake, offset) }
        #expect(intake.takeSubmission(now: 0) == nil)
        #expect(first.events.eventCount == 1)
        #expect(intake.accepted().offsets == 0..<1)
        let second = try #require(intake.takeSubmission(now: 0))
        #expect(second.offsets == 1..<50 && second.events.eventCount == 49)
    }

    @Test func aRefusedRunComesAgainBeforeAllLaterOnesAndUnchanged() throws {
        let intake = makeIntake()
        take(intake, 0)
        let first = try #require(intake.takeSubmission(now: 0))
        take(intake, 1)
        intake.refused(.full(""), now: 1_000)
        take(intake, 2)
        let retryAt = try #require(intake.retryAt)
        #expect(intake.takeSubmission(now: retryAt - 1) == nil)
        let again = try #require(intake.takeSubmission(now: retryAt))
        #expect(again.offsets == 0..<1 && again.events === first.events && again.events.eventCount == 1)
        _ = intake.accepted()
        #expect(intake.takeSubmission(now: retryAt)?.offsets == 1..<3)
    }

    @Test func delaysGrowToABound() throws {
        let intake = makeIntake()
        take(intake, 0)
        var now: UInt64 = 0
        var delays: [UInt64] = []
        for _ in 0..<8 {
            _ = try #require(intake.takeSubmission(now: now))
            intake.refused(.storage(""), now: now)
            delays.append((intake.retryAt! - now) / 1_000_000)
            now = intake.retryAt!
        }
        #expect(delays == [100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000])
    }

    @Test func onlyLastingRefusalsBlock() throws {
        let intake = makeIntake()
        take(intake, 0)
        var now: UInt64 = 0
        for refusals in 1...8 {
            _ = try #require(intake.takeSubmission(now: now))
            intake.refused(.overloaded, now: now)
            #expect(intake.isBlocked == (refusals >= 8))
            now = intake.retryAt!
        }
        // Blocked until accepted: a retry under way says nothing yet.
        _ = try #require(intake.takeSubmission(now: now))
        #expect(intake.isBlocked)
        _ = intake.accepted()
        #expect(!intake.isBlocked)
        take(intake, 1)
        _ = try #require(intake.takeSubmission(now: now))
        intake.refused(.full(""), now: now)
        #expect(intake.isBlocked)
    }

    @Test func runsAreBoundedAndALargeEventGetsItsOwn() throws {
        let intake = makeIntake()
        for offset: Int64 in 0..<30 { take(intake, offset, size: 100_000) }
        take(intake, 30, size: 3 << 20)
        take(intake, 31)
        var ranges: [Range<Int64>] = []
        while let run = intake.takeSubmission(now: 0) {
            ranges.append(run.offsets)
            #expect(run.byteCount <= Limits.entryBytes || run.events.eventCount == 1)
            _ = intake.accepted()
        }
        #expect(ranges == [0..<10, 10..<20, 20..<30, 30..<31, 31..<32])
        #expect(intake.heldBytes == 0)
    }

    @Test func deadLettersAndTombstonesAreCovered() throws {
        let intake = makeIntake()
        #expect(intake.admit(offset: 0, timestamp: 1) == .next)
        intake.skip(offset: 0, receivedAt: 1)
        #expect(intake.admit(offset: 1, timestamp: 1) == .next)
        let letter = DeadLetter(
            eventID: "x", failedAt: 0, table: "t", problem: DeadLetter.Problem(kind: "invalid_json", message: ""),
            kafka: nil, payload: [1, 2, 3])
        intake.append(letter, offset: 1, receivedAt: 1)
        #expect(intake.heldBytes > 3)
        let run = try #require(intake.takeSubmission(now: 0))
        #expect(run.offsets == 0..<2)
        #expect(run.skippedCount == 1 && run.deadLetters == [letter] && run.events.eventCount == 0)
        _ = intake.accepted()
        #expect(intake.heldBytes == 0)
    }

    @Test func aRepeatedMessageIsTakenOnce() throws {
        let intake = makeIntake()
        take(intake, 0, timestamp: 77)
        #expect(intake.admit(offset: 0, timestamp: 77) == .duplicate)
        take(intake, 1)
        #expect(intake.takeSubmission(now: 0)?.events.eventCount == 2)
    }

    @Test func aPartitionThatWasMadeAnewIsConsumedFromItsNewPosition() throws {
        let intake = makeIntake(start: 100)
        take(intake, 100, timestamp: 5)
        // The topic was deleted and made again; `auto.offset.reset` goes back to its start.
        #expect(intake.admit(offset: 0, timestamp: 9) == .moved(from: 101))
        take(intake, 0, timestamp: 9)
        take(intake, 1)
        #expect(intake.takeSubmission(now: 0)?.offsets == 100..<101)
        _ = intake.accepted()
        #expect(intake.takeSubmission(now: 0)?.offsets == 0..<2)
    }

    @Test func discardingKeepsWhatWasHandedOver() throws {
        let intake = makeIntake()
        take(intake, 0)
        _ = try #require(intake.takeSubmission(now: 0))
        take(intake, 1)
        intake.discardUnsubmitted()
        #expect(intake.accepted().offsets == 0..<1)
        #expect(intake.takeSubmission(now: 0) == nil)
        #expect(intake.heldBytes == 0)
        take(intake, 2)
        _ = try #require(intake.takeSubmission(now: 0))
        intake.refused(.full(""), now: 0)
        intake.discardUnsubmitted()
        #expect(intake.retryAt == nil && intake.heldBytes == 0 && !intake.isBlocked)
    }
}
