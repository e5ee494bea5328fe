import IngestCore
import TestSupport
import Testing

@testable import Journal

/// Pages that the commits of a backlog leave scattered between its entries hold entries again.
@Suite struct PageSupplyTests {
    private static let eventsPerCommit = 300

    /// About 64 KiB, 17 pages; a commit leaves about six of the tables' inner pages behind.
    private func append(_ commits: Range<Int>, to fixture: JournalFixture) async throws {
        for commit in commits {
            let payloads = (0..<Self.eventsPerCommit).map { Self.payload(commit, $0) }
            try await fixture.append(payloads)
        }
    }

    private static func payload(_ commit: Int, _ index: Int) -> String {
        "{\"commit\":\(commit),\"index\":\(index),\"text\":\"" + String(repeating: "x", count: 180) + "\"}"
    }

    @Test func fileOfRepeatedBacklogsDoesNotGrow() async throws {
        let fixture = try JournalFixture(maxBytes: 256 << 20)
        let commits = 300
        var sizes: [Int] = []
        for round in 0..<3 {
            let events = UInt64(commits * Self.eventsPerCommit)
            let first = UInt64(round) * events + 1
            try await append(0..<commits, to: fixture)
            let snapshot = fixture.journal.snapshot
            sizes.append(snapshot.fileBytes)
            // What came in is what is read, in order, whichever entries hold it.
            let last = UInt64(commits - 50) * UInt64(Self.eventsPerCommit)
            let found = try fixture.payloads((first + last)..<(first + events))
            let expected = ((commits - 50)..<commits).flatMap { commit in
                (0..<Self.eventsPerCommit).map { Self.payload(commit, $0) }
            }
            #expect(found == expected)
            try await fixture.advance(to: first + events)
            // A transaction deletes so many entries and no more.
            try await eventually("everything is deleted") { fixture.storedBytes() == 0 }
        }
        // Without it each round but the first adds 3 MiB.
        #expect(sizes[2] < sizes[0] + (2 << 20), "\(sizes)")
        #expect(try JournalInspection(fixture.journal).verify().problems.isEmpty)
    }

    @Test func entriesFitIntoOnePageUntilScatteredPagesAreUsedUp() async throws {
        let partition = TopicPartition(topic: "t", partition: 0)
        var supply = PageSupply(pageSize: 4_096)
        #expect(supply.recordBytes(.http) == Limits.entryBytes)
        let value = UnsafeMutableRawBufferPointer.allocate(byteCount: 3 * 4_096, alignment: 8)
        defer { value.deallocate() }
        // The header of pages 1,000 to 1,001.
        value.storeBytes(of: 1_000, as: UInt64.self)
        let entry = UnsafeRawBufferPointer(rebasing: value[16..<8_000])
        // Within the file, or at its end for want of free pages: nothing changes.
        supply.noteEntry(entry, fileEnd: 1_001) { 0 }
        supply.noteEntry(entry, fileEnd: 1_000) { 1_002 - 511 }
        #expect(supply.recordBytes(.http) == Limits.entryBytes)
        supply.noteEntry(entry, fileEnd: 1_000) { 1_002 - 512 }
        #expect(supply.recordBytes(.http) == 4_096 - 16 - 40)
        #expect(supply.recordBytes(.kafka(partition, offsets: 0..<1)) == 4_096 - 16 - 40 - 21)
        for _ in 0..<255 { supply.noteEntry(entry, fileEnd: 2_000) { 0 } }
        #expect(supply.recordBytes(.http) < 4_096)
        supply.noteEntry(entry, fileEnd: 2_000) { 0 }
        #expect(supply.recordBytes(.http) == Limits.entryBytes)
    }

    @Test func entriesBecomeShorterWhileThereIsNoRoom() {
        var supply = PageSupply(pageSize: 4_096)
        for pages in [64, 16, 4, 1, 64] {
            supply.noteNoRoom(freePages: 3)
            #expect(supply.recordBytes(.http) == pages * 4_096 - 16 - 40)
        }
        let value = UnsafeMutableRawBufferPointer.allocate(byteCount: 3 * 4_096, alignment: 8)
        defer { value.deallocate() }
        supply.noteEntry(UnsafeRawBufferPointer(value), fileEnd: 0) { 0 }
        #expect(supply.recordBytes(.http) == Limits.entryBytes)
    }
}
