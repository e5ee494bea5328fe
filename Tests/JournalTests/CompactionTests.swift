import Foundation
import Glibc
import IngestCore
import Logging
import TestSupport
import Testing

@testable import Journal

/// `F_OFD_SETLK` of Linux: a lock of the open file, not of the process, so that it is in the way of our own as well.
private let setOpenFileLock: CInt = 37

@Suite struct CompactionTests {
    /// A closed journal with a file of about 5 MB that holds a few small things of every kind.
    private func sparseJournal(compactAboveBytes: Int = 0) async throws -> JournalFixture {
        let fixture = try JournalFixture(tables: ["events", "other"])
        fixture.configuration.compactAboveBytes = compactAboveBytes
        try await fixture.append((0..<50).map { payload($0, bytes: 100_000) })
        let partition = TopicPartition(topic: "t", partition: 0)
        try await fixture.append(numbered(0..<5), origin: .kafka(partition, offsets: 0..<5))
        try await fixture.append([payload(7, bytes: 20_000)], to: "other")
        try await fixture.append([], to: "other", deadLetters: [letter])
        try await fixture.advance(to: 51)
        try await fixture.seal(51..<54)
        fixture.close()
        return fixture
    }

    private var letter: DeadLetter {
        DeadLetter(
            eventID: "id", failedAt: 1, table: "other", problem: .init(kind: "too_large", message: "m"), kafka: nil,
            payload: Array(payload(1, bytes: 5_000).utf8))
    }

    private func expectEverything(_ fixture: JournalFixture) throws {
        #expect(try fixture.payloads(51..<56) == numbered(0..<5))
        #expect(try fixture.payloads(1..<2, "other") == [payload(7, bytes: 20_000)])
        #expect(try fixture.journal.seals(of: fixture.stream()) == [51..<54])
        let verification = try JournalInspection(fixture.journal).verify()
        #expect(verification.isSound && verification.deadLetterCount == 1 && verification.partitionCount == 1)
        #expect(verification.entryCount == 2)
        #expect(try FileManager.default.contentsOfDirectory(atPath: fixture.directory.appending("journal")).count == 3)
    }

    private func length(_ path: String) throws -> Int {
        try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int ?? 0
    }

    @Test func everythingIsKeptInASmallFile() async throws {
        let fixture = try await sparseJournal()
        let before = try length(fixture.dataPath)
        let inspected = try JournalInspection(path: fixture.configuration.path).identity
        let result = try Journal.compact(path: fixture.configuration.path)
        #expect(before > 5_000_000 && result.bytesBefore == before)
        #expect(result.bytesAfter == (try length(fixture.dataPath)) && result.bytesAfter < 200_000)
        try fixture.open()
        #expect(fixture.journal.identity == inspected)
        try expectEverything(fixture)
        // And it goes on.
        for number in 0..<10 { try await fixture.append([payload(number, bytes: 100_000)]) }
        try await fixture.advance(to: 61)
        try fixture.reopen()
        #expect(try fixture.payloads(61..<66) == (5..<10).map { payload($0, bytes: 100_000) })
        // A second time there is nothing to win.
        fixture.close()
        let again = try Journal.compact(path: fixture.configuration.path)
        #expect(try Journal.compact(path: fixture.configuration.path).bytesBefore == again.bytesAfter)
    }

    /// The folder as it is at each point, if the process dies there.
    @Test func crashAtAnyPointLeavesAJournal() async throws {
        for step in Compactor.Step.allCases {
            let fixture = try await sparseJournal()
            let copy = fixture.directory.appending("crashed")
            let compactor = Compactor(try JournalDirectory(exclusive: fixture.configuration.path)) {
                guard $0 == step else { return }
                try FileManager.default.copyItem(atPath: fixture.configuration.path, toPath: copy)
            }
            _ = try compactor.run()
            let hasLeftover = FileManager.default.fileExists(atPath: copy + "/data.mdb.copy")
            #expect(hasLeftover == (step != .replaced))
            try FileManager.default.removeItem(atPath: fixture.configuration.path)
            try FileManager.default.moveItem(atPath: copy, toPath: fixture.configuration.path)
            try fixture.open()
            try expectEverything(fixture)
        }
    }

    @Test func failureAtAnyPointLeavesTheJournalAsItWas() async throws {
        let fixture = try await sparseJournal()
        let before = try Data(contentsOf: URL(fileURLWithPath: fixture.dataPath))
        for step in Compactor.Step.allCases where step != .replaced {
            #expect(throws: Timeout.self) {
                try Compactor(try JournalDirectory(exclusive: fixture.configuration.path)) {
                    if $0 == step { throw Timeout(description: "failed") }
                }.run()
            }
            #expect(try Data(contentsOf: URL(fileURLWithPath: fixture.dataPath)) == before)
            #expect(!FileManager.default.fileExists(atPath: fixture.dataPath + ".copy"))
        }
    }

    /// A copy that is not the same is not taken.
    @Test func differentCopyIsNotTaken() async throws {
        let fixture = try await sparseJournal()
        let other = try JournalFixture()
        other.close()
        let before = try Data(contentsOf: URL(fileURLWithPath: fixture.dataPath))
        let error = #expect(throws: JournalError.self) {
            try Compactor(try JournalDirectory(exclusive: fixture.configuration.path)) {
                guard $0 == .synced else { return }
                try FileManager.default.removeItem(atPath: fixture.dataPath + ".copy")
                try FileManager.default.copyItem(atPath: other.dataPath, toPath: fixture.dataPath + ".copy")
            }.run()
        }
        #expect("\(error as Any)".contains("differs"))
        #expect(try Data(contentsOf: URL(fileURLWithPath: fixture.dataPath)) == before)
    }

    @Test func journalInUseIsNotCompacted() async throws {
        let fixture = try await sparseJournal()
        let path = fixture.configuration.path
        try fixture.open()
        guard case .inUse = #expect(throws: JournalError.self, performing: { try Journal.compact(path: path) })
        else { throw Timeout(description: "compacted under a writer") }
        fixture.close()
        // A reader as well.
        let lock = try JournalReadLock(shared: path)
        guard case .inUse = #expect(throws: JournalError.self, performing: { try Journal.compact(path: path) })
        else { throw Timeout(description: "compacted under a reader") }
        withExtendedLifetime(lock) {}
        #expect(throws: JournalError.missing(path: "/nonexistent")) { try Journal.compact(path: "/nonexistent") }
    }

    @Test func diskWithoutRoomIsNamed() async throws {
        let fixture = try await sparseJournal()
        let error = #expect(throws: JournalError.self) {
            try Compactor(try JournalDirectory(exclusive: fixture.configuration.path)).run(minFreeDiskBytes: 1 << 60)
        }
        #expect("\(error as Any)".contains("make room"))
        try fixture.open()
        try expectEverything(fixture)
    }

    /// LMDB copies what the header of a value's pages says, wherever it leads.
    @Test func damagedPageHeaderIsRefused() async throws {
        let fixture = try await sparseJournal(compactAboveBytes: 2 << 20)
        try fixture.damagePageHeader(ofPayload: payload(7, bytes: 20_000))
        let error = #expect(throws: JournalError.self) { try Journal.compact(path: fixture.configuration.path) }
        guard case .damaged = error else { throw Timeout(description: "\(error as Any)") }
        // Neither at open.
        try fixture.open()
        #expect(try fixture.payloads(1..<2, "other") == [payload(7, bytes: 20_000)])
        #expect(try length(fixture.dataPath) > 5_000_000)
    }

    /// LMDB keeps the number of the last commit in its lock file as long as someone has that open; the compacted file
    /// begins to count anew.
    @Test func lockFileOfTheOldFileIsNotUsed() async throws {
        for rounds in 0..<2 {
            let fixture = try await sparseJournal()
            for _ in 0..<rounds {
                try fixture.open()
                try await fixture.append(numbered(0..<1), to: "other")
                fixture.close()
            }
            // Like another process that reads: LMDB does not find itself alone.
            let descriptor = Glibc.open(fixture.configuration.path + "/lock.mdb", O_RDWR)
            defer { close(descriptor) }
            try fixture.open()
            var lock = flock()
            lock.l_type = Int16(F_RDLCK)
            lock.l_whence = Int16(SEEK_SET)
            lock.l_len = 1
            #expect(fcntl(descriptor, setOpenFileLock, &lock) == 0)
            fixture.close()
            _ = try Journal.compact(path: fixture.configuration.path)
            try fixture.open()
            #expect(try fixture.payloads(51..<56) == numbered(0..<5))
        }
    }

    @Test func openingCompactsWhatIsNearlyEmpty() async throws {
        let fixture = try await sparseJournal(compactAboveBytes: 2 << 20)
        try fixture.open()
        #expect(try length(fixture.dataPath) < 200_000)
        try expectEverything(fixture)
    }

    @Test func openingLeavesOtherFilesAlone() async throws {
        // Too small to matter.
        let small = try await sparseJournal(compactAboveBytes: 64 << 20)
        let before = try length(small.dataPath)
        try small.open()
        #expect(try length(small.dataPath) == before)
        // Holds too much.
        let full = try JournalFixture()
        for start in stride(from: 0, to: 50, by: 10) {
            try await full.append((start..<start + 10).map { payload($0, bytes: 100_000) })
        }
        try await full.advance(to: 31)
        full.close()
        full.configuration.compactAboveBytes = 2 << 20
        let length = try length(full.dataPath)
        try full.open()
        #expect(try self.length(full.dataPath) == length)
        // Is being read: that is no reason not to open.
        let read = try await sparseJournal(compactAboveBytes: 2 << 20)
        let lock = try JournalReadLock(shared: read.configuration.path)
        try read.open()
        #expect(try self.length(read.dataPath) > 5_000_000)
        withExtendedLifetime(lock) {}
    }
}
