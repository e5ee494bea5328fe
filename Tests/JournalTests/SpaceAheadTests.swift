import IngestCore
import TestSupport
import Testing

@testable import Journal

@Suite struct SpaceAheadTests {
    private static let mebibyte = 1 << 20

    @Test func smallCommitsOfAGrowingFileGetPagesInAdvance() {
        var ahead = SpaceAhead(isWritten: false)
        func next(_ commitBytes: Int, _ file: Int, free: Int = 0) -> SpaceAhead.Step {
            ahead.next(commitBytes: commitBytes, fileBytes: file, freeBytes: { free })
        }
        // The first commit knows of no growth; neither does one of the same size.
        #expect(next(200, 64 * Self.mebibyte) == .nothing)
        #expect(next(200, 64 * Self.mebibyte) == .nothing)
        #expect(next(200, 65 * Self.mebibyte) == .write(Self.mebibyte))
        #expect(next(200, 66 * Self.mebibyte) == .delete)
        // What was freed can be used a few commits later; until then the file grows.
        for size in 67...69 { #expect(next(200, size * Self.mebibyte) == .nothing) }
        #expect(next(200, 70 * Self.mebibyte, free: Self.mebibyte) == .nothing)
        #expect(next(1 << 20, 71 * Self.mebibyte) == .nothing)
        #expect(next(0, 72 * Self.mebibyte) == .nothing)
        #expect(next(200, 73 * Self.mebibyte) == .write(Self.mebibyte))
    }

    @Test func smallFilesStaySmall() {
        var ahead = SpaceAhead(isWritten: false)
        _ = ahead.next(commitBytes: 1, fileBytes: 0) { 0 }
        #expect(ahead.next(commitBytes: 1, fileBytes: 1_000_000) { 0 } == .nothing)
        #expect(ahead.next(commitBytes: 1, fileBytes: 1_600_000) { 0 } == .write(100_000))
    }

    @Test func whatAnEndedProcessHasWrittenIsDeleted() {
        var ahead = SpaceAhead(isWritten: true)
        #expect(ahead.next(commitBytes: 0, fileBytes: 0) { 0 } == .delete)
        #expect(ahead.next(commitBytes: 0, fileBytes: 0) { 0 } == .nothing)
    }

    /// While the file grows by small commits some of them extend it much, and those between them not at all.
    @Test func commitsUseTheSpaceThatIsThere() async throws {
        let fixture = try JournalFixture(maxBytes: 256 << 20)
        let payload = "{\"text\":\"" + String(repeating: "x", count: 60_000) + "\"}"
        var extensions: [Int] = []
        var size = 0
        for _ in 0..<300 {
            try await fixture.append([payload])
            let now = fixture.journal.snapshot.fileBytes
            if now > size { extensions.append(now - size) }
            size = now
        }
        #expect(extensions.count < 200, "\(extensions.count)")
        #expect(size < 300 * (68 << 10) + 4 * Self.mebibyte)
        // Nothing of it stays.
        try await fixture.append([payload])
        try await fixture.append([payload])
        try fixture.reopen()
        try await fixture.append([payload])
        #expect(try fixture.metaKeys() == ["format", "id"])
        #expect(try JournalInspection(fixture.journal).verify().problems.isEmpty)
    }
}

extension JournalFixture {
    fileprivate func metaKeys() throws -> [String] {
        try journal.environment.read { transaction in
            var keys: [String] = []
            let cursor = try transaction.cursor(journal.tables.meta)
            var record = try cursor.first()
            while let found = record {
                keys.append(String(decoding: found.key, as: UTF8.self))
                record = try cursor.next()
            }
            return keys
        }
    }
}
