import IngestCore
import Logging
import Synchronization
import TestSupport
import Testing

@testable import Journal

@Suite struct WatermarkTests {
    private let payload = "{\"v\":\"" + String(repeating: "x", count: 100_000) + "\"}"

    /// Fills the journal until it refuses.
    private func fill(_ fixture: JournalFixture) async throws -> UInt64 {
        var end: UInt64 = 1
        while true {
            do {
                end = try await fixture.append([payload]).upperBound
            } catch let error as IntakeError {
                guard error.isFull else { throw error }
                return end
            }
        }
    }

    private func isRefused(_ fixture: JournalFixture) async throws -> Bool {
        do {
            try await fixture.append(["{}"])
            return false
        } catch let error as IntakeError {
            guard error.isFull else { throw error }
            return true
        }
    }

    @Test func refusedFromTheHighWatermarkUntilBelowTheLowOne() async throws {
        let fixture = try JournalFixture(maxBytes: 10_000_000)
        try fixture.reopen {
            $0.highWatermark = 0.8
            $0.lowWatermark = 0.4
        }
        let end = try await fill(fixture)
        let filled = fixture.journal.snapshot.storedBytes
        #expect((7_800_000...8_000_000).contains(filled))
        #expect(fixture.journal.snapshot.refusal?.isFull == true)
        // Also what is small; also between the marks, whatever is flushed.
        for position in [3, 10, 20, end / 2] {
            #expect(try await isRefused(fixture))
            #expect(fixture.journal.snapshot.refusal?.isFull == true)
            try await fixture.advance(to: position)
        }
        #expect(fixture.journal.snapshot.storedBytes > 3_900_000)
        #expect(try await isRefused(fixture))
        #expect(fixture.journal.snapshot.refusal?.description.contains("below 4000000") == true)
        // Below: at once, before anyone asks.
        try await fixture.advance(to: end / 2 + 3)
        #expect(fixture.journal.snapshot.refusal == nil)
        #expect(try await !isRefused(fixture))
        // Up to the high mark again.
        _ = try await fill(fixture)
        #expect((7_800_000...8_000_000).contains(fixture.journal.snapshot.storedBytes))
    }

    /// What makes room is never refused: seals, parts, dead letters, flushes, discards.
    @Test func flushersNewsIsAlwaysTaken() async throws {
        let fixture = try JournalFixture(maxBytes: 4 << 20)
        let end = try await fill(fixture)
        #expect(try await isRefused(fixture))
        try await fixture.seal(1..<end)
        try await fixture.reseal(1..<end, as: [1..<3, 3..<end])
        try await fixture.reject([2], upTo: 3)
        #expect(try await isRefused(fixture))
        // Sending again is appending.
        await #expect {
            try await fixture.journal.retryDeadLetters([1])
        } throws: { error in
            guard case JournalError.refused(.full) = error else { return false }
            return true
        }
        #expect(try fixture.letters().map(\.isRetried) == [false])
        #expect(fixture.journal.snapshot.streams[fixture.stream()]?.nextSequence == end)
        try await fixture.advance(to: end)
        #expect(try await fixture.journal.retryDeadLetters([1]).changed == 1)
        #expect(try fixture.payloads(end..<end + 1) == [payload])
    }

    /// Of a group that there is not enough room for the first ones are taken; the others' refusal stays visible.
    @Test func aGroupIsCutWhereRoomEnds() async throws {
        let fixture = try JournalFixture(maxBytes: 4 << 20)
        fixture.close()
        // The writer has not started: everything is one group.
        let journal = try Journal.open(fixture.configuration, logger: Logger(label: "test"))
        let stream = journal.stream(table: "events")!.id
        let results = Mutex<[Bool]>([])
        for _ in 0..<60 {
            journal.submit(
                Submission(stream: stream, origin: .http, receivedAt: 5, events: EventBuffer(payloads: [payload])) {
                    result in
                    let isTaken = (try? result.get()) != nil
                    results.withLock { $0.append(isTaken) }
                })
        }
        journal.start { _ in }
        try await eventually("all are answered") { results.withLock { $0.count == 60 } }
        let taken = results.withLock { $0.count { $0 } }
        #expect((35...42).contains(taken))
        #expect(journal.snapshot.refusal?.isFull == true)
        #expect(journal.snapshot.streams[stream]?.nextSequence == UInt64(taken) + 1)
        journal.close()
    }

    /// What is only kept for replay makes room for events that are sent again, as for new ones.
    @Test func keptEntriesDoNotHinderRetries() async throws {
        let fixture = try JournalFixture(maxBytes: 4 << 20)
        try fixture.reopen { $0.retainBytes = 4 << 20 }
        let end = try await fixture.append(Array(repeating: payload, count: 39)).upperBound
        try await fixture.reject(Array(1..<5), upTo: end)
        #expect(fixture.journal.snapshot.storedBytes > 3_900_000)
        #expect(try await fixture.journal.retryDeadLetters([1, 2, 3, 4]).changed == 4)
        #expect(try fixture.payloads(end..<end + 4).count == 4)
    }

    @Test func aSubmissionTooLargeForWhatIsLeftDoesNotStopOthers() async throws {
        let fixture = try JournalFixture(maxBytes: 4 << 20)
        try await fixture.append(Array(repeating: payload, count: 10))
        let large = "{\"v\":\"" + String(repeating: "x", count: 4 << 20) + "\"}"
        await #expect(throws: IntakeError.self) { try await fixture.append([large]) }
        #expect(try await !isRefused(fixture))
        #expect(fixture.journal.snapshot.refusal == nil)
    }
}
