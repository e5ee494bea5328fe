import IngestCore
import Synchronization
import TestSupport
import Testing

@testable import Journal

@Suite struct RetentionTests {
    private func fixture(
        age: Duration = .zero, bytes: Int = 0, maxBytes: Int = 64 << 20, tables: [String] = ["events"]
    ) throws -> JournalFixture {
        let fixture = try JournalFixture(maxBytes: maxBytes, tables: tables)
        fixture.configuration.retainMilliseconds = Int64(age / .milliseconds(1))
        fixture.configuration.retainBytes = bytes
        try fixture.reopen()
        return fixture
    }

    private let hour: Int64 = 3_600_000

    @Test func withoutABoundFlushedEntriesGoAtOnce() async throws {
        let fixture = try fixture()
        try await fixture.append(numbered(0..<1))
        try await fixture.append(numbered(1..<2))
        try await fixture.advance(to: 2)
        #expect(try fixture.entryStarts() == [2])
    }

    @Test func youngEntriesAreKept() async throws {
        let fixture = try fixture(age: .seconds(3_600))
        let now = WallClock.milliseconds
        try await fixture.append(numbered(0..<1), receivedAt: now - 2 * hour)
        try await fixture.append(numbered(1..<2), receivedAt: now - hour / 2)
        try await fixture.append(numbered(2..<3), receivedAt: now)
        try await fixture.advance(to: 4)
        #expect(try fixture.entryStarts() == [2, 3])
        #expect(try fixture.payloads(2..<4) == numbered(1..<3))
        try fixture.reopen()
        #expect(try fixture.entryStarts() == [2, 3])
    }

    @Test func entriesGoWhenTheirTimeIsOver() async throws {
        let fixture = try fixture(age: .milliseconds(1))
        let due = WallClock.milliseconds + 2_000
        try await fixture.append(numbered(0..<1), receivedAt: due)
        try await fixture.advance(to: 2)
        let kept = try fixture.entryStarts()
        // A busy machine may come too late to see it.
        if WallClock.milliseconds < due { #expect(kept == [1]) }
        try await eventually("the entry goes") { try fixture.entryStarts().isEmpty }
        #expect(fixture.storedBytes() == 0)
    }

    /// A time of receipt that lies years ahead is damage.
    @Test func damagedTimeKeepsNothing() async throws {
        let fixture = try fixture(age: .seconds(3_600))
        try await fixture.append(numbered(0..<1), receivedAt: WallClock.milliseconds - 2 * hour)
        try await fixture.append(numbered(1..<2), receivedAt: WallClock.milliseconds - 2 * hour)
        try await fixture.append(numbered(2..<3))
        try fixture.journal.rewriteEntry(1, of: fixture.stream()) { $0[30] ^= 0x10 }
        try fixture.journal.rewriteEntry(2, of: fixture.stream()) { $0[8] = 9 }
        try await fixture.advance(to: 4)
        #expect(try fixture.entryStarts() == [3])
    }

    @Test func newestEntriesAreKeptWithinTheBytes() async throws {
        // An entry of 20,000 bytes takes five pages.
        let fixture = try fixture(bytes: 3 * 20_480 + 100)
        for number in 0..<8 {
            try await fixture.append([payload(number, bytes: 20_000)])
            try await fixture.advance(to: UInt64(number) + 2)
        }
        #expect(try fixture.entryStarts() == [6, 7, 8])
        // Counted anew from the file.
        try fixture.reopen()
        for number in 8..<10 { try await fixture.append([payload(number, bytes: 20_000)]) }
        #expect(try fixture.entryStarts() == [6, 7, 8, 9, 10], "entries that wait are not kept ones")
        try await fixture.advance(to: 11)
        #expect(try fixture.entryStarts() == [8, 9, 10])
        #expect(fixture.storedBytes() == 3 * 20_480)
    }

    @Test func bothBoundsCount() async throws {
        let fixture = try fixture(age: .seconds(3_600), bytes: 3 * 20_480 + 100)
        let now = WallClock.milliseconds
        for (number, age) in [3, 2, 0, 0].enumerated() {
            try await fixture.append([payload(number, bytes: 20_000)], receivedAt: now - Int64(age) * hour)
        }
        try await fixture.advance(to: 5)
        #expect(try fixture.entryStarts() == [3, 4], "two are too old")
        for number in 4..<7 { try await fixture.append([payload(number, bytes: 20_000)]) }
        try await fixture.advance(to: 8)
        #expect(try fixture.entryStarts() == [5, 6, 7], "two are too many")
    }

    @Test func oldestOfAllStreamsGoFirst() async throws {
        let fixture = try fixture(bytes: 3 * 20_480 + 100, tables: ["a", "b"])
        let now = WallClock.milliseconds - 10_000
        for (number, table) in ["a", "b", "a", "b", "b"].enumerated() {
            try await fixture.append([payload(number, bytes: 20_000)], to: table, receivedAt: now + Int64(number))
        }
        try await fixture.advance(to: 4, "b")
        #expect(try fixture.entryStarts("a") == [1, 2], "not flushed")
        #expect(try fixture.entryStarts("b") == [1, 2, 3])
        try await fixture.advance(to: 3, "a")
        #expect(try fixture.entryStarts("a") == [2])
        #expect(try fixture.entryStarts("b") == [2, 3])
    }

    /// Kept entries are no reason to refuse new ones.
    @Test func keptEntriesNeverCostAdmission() async throws {
        let fixture = try fixture(age: .seconds(3_600), maxBytes: 4 << 20)
        for number in 0..<120 {
            let sequences = try await fixture.append([payload(number, bytes: 100_000)])
            try await fixture.advance(to: sequences.upperBound)
            #expect(fixture.journal.snapshot.storedBytes <= 4 << 20)
        }
        let kept = try fixture.entryStarts()
        #expect(kept.count >= 20 && kept.last == 120, "as many as there is room for: \(kept)")
        #expect(kept == Array(kept[0]..<121))
        #expect(fixture.journal.snapshot.refusal == nil)
        // What waits still counts.
        await #expect(throws: IntakeError.self) {
            for number in 0..<60 { try await fixture.append([payload(number, bytes: 100_000)]) }
        }
        let waiting = fixture.journal.snapshot.streams[fixture.stream()]!
        #expect(try fixture.entryStarts().first == 121, "all kept ones went first")
        #expect(waiting.pendingEvents >= 36 && waiting.position == 121)
    }

    /// From the high watermark on events are refused down to the low one; kept entries don't count for either.
    @Test func keptEntriesDoNotCountForTheWatermarks() async throws {
        let fixture = try fixture(age: .seconds(3_600), maxBytes: 4 << 20)
        // 40 entries fit; below 36 is the low watermark.
        for number in 0..<3 { try await fixture.append([payload(number, bytes: 100_000)]) }
        try await fixture.advance(to: 4)
        for number in 3..<43 { try await fixture.append([payload(number, bytes: 100_000)]) }
        #expect(fixture.journal.snapshot.streams[fixture.stream()]?.pendingEvents == 40)
        #expect(try fixture.entryStarts().first == 4)
        await #expect(throws: IntakeError.self) { try await fixture.append([payload(43, bytes: 100_000)]) }
        #expect(fixture.journal.snapshot.refusal != nil)
        // Sources that stopped wait for the refusal to end: what is flushed now is not kept.
        try await fixture.advance(to: 20)
        try await eventually("there is room") { fixture.journal.snapshot.refusal == nil }
        #expect(try fixture.entryStarts().first == 20)
    }

    /// Many entries go in several transactions, without being asked again.
    @Test func trimmingIsBoundedAndGoesOn() async throws {
        let fixture = try JournalFixture()
        let commits = Atomic(0)
        fixture.close()
        try fixture.open { _ in commits.add(1, ordering: .relaxed) }
        let count = 10_000
        let stream = fixture.stream()
        let partition = TopicPartition(topic: "t", partition: 0)
        try await withCheckedThrowingContinuation { (done: CheckedContinuation<Void, any Error>) in
            for number in 0..<count {
                let events = EventBuffer()
                events.append("{}", kafka: Int64(number))
                fixture.journal.submit(
                    Submission(
                        stream: stream, origin: .kafka(partition, offsets: Int64(number)..<Int64(number + 1)),
                        receivedAt: 0, events: events
                    ) { result in
                        if number == count - 1 { done.resume(with: result.map { _ in }.mapError { $0 }) }
                    })
            }
        }
        #expect(try fixture.entryStarts().count == count)
        let before = commits.load(ordering: .relaxed)
        try await fixture.advance(to: UInt64(count) + 1)
        try await eventually("all are trimmed") { try fixture.entryStarts().isEmpty }
        #expect(commits.load(ordering: .relaxed) - before >= 3)
        #expect(fixture.storedBytes() == 0)
    }
}
