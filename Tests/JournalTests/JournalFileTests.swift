import Foundation
import IngestCore
import Logging
import TestSupport
import Testing

@testable import Journal

/// A file that is no journal, or no whole one, is an error with a way out, and stays as it is.
@Suite struct JournalFileTests {
    private func open(_ path: String) throws -> Journal {
        try Journal.open(
            JournalConfiguration(path: path, minFreeDiskBytes: 0, tables: ["events"]), logger: Logger(label: "test"))
    }

    /// The error of opening the journal, for writing and for reading. Checks that `data.mdb` was not touched.
    private func refusal(_ path: String) throws -> JournalError {
        let before = try? Data(contentsOf: URL(fileURLWithPath: path + "/data.mdb"))
        var errors: [JournalError] = []
        do { _ = try open(path) } catch let error as JournalError { errors.append(error) }
        do { _ = try JournalInspection(path: path) } catch { errors.append(error) }
        #expect((try? Data(contentsOf: URL(fileURLWithPath: path + "/data.mdb"))) == before)
        #expect(errors.count == 2 && errors.first == errors.last, "\(errors)")
        return try #require(errors.first)
    }

    /// A process that is just being started has copies of all descriptors: the lock must not live as long as they do.
    @Test func aClosedJournalIsFreeWhileACopyOfItsLockIsOpen() throws {
        let folder = try TemporaryDirectory("lock")
        var copy: CInt = -1
        do {
            let directory = try JournalDirectory(exclusive: folder.path)
            for name in try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd") {
                let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/" + name)
                // Others' descriptors come and go meanwhile.
                if target?.hasSuffix(folder.path.split(separator: "/").last! + "/ingestd.lock") == true {
                    copy = dup(try #require(CInt(name)))
                }
            }
            #expect(throws: JournalError.self) { try JournalDirectory(exclusive: folder.path) }
            withExtendedLifetime(directory) {}
        }
        #expect(copy >= 0)
        defer { close(copy) }
        _ = try JournalDirectory(exclusive: folder.path)
    }

    /// A closed journal of several megabytes.
    private func journal() async throws -> JournalFixture {
        let fixture = try JournalFixture()
        try await fixture.append((0..<20).map { payload($0, bytes: 100_000) })
        try await fixture.append(numbered(0..<10))
        fixture.close()
        return fixture
    }

    @Test func truncatedFilesAreRefused() async throws {
        let fixture = try await journal()
        let path = fixture.directory.appending("journal")
        let whole = try Data(contentsOf: URL(fileURLWithPath: fixture.dataPath))
        for length in [0, 100, 152, 4_095, 4_096, 8_191, 8_192, 20_000, whole.count / 2, whole.count - 300_000] {
            try whole.prefix(length).write(to: URL(fileURLWithPath: fixture.dataPath))
            let error = try refusal(path)
            guard case .unusable = error else {
                Issue.record("\(length) bytes: \(error)")
                continue
            }
            #expect("\(error)".contains("mv \(path) \(path).damaged"))
        }
        try whole.write(to: URL(fileURLWithPath: fixture.dataPath))
        try fixture.open()
        #expect(try fixture.payloads(1..<31).count == 30)
    }

    /// LMDB does not always write the last pages that it counts: without them nothing is missing.
    @Test func onlyPagesInUseMustBeThere() async throws {
        let fixture = try await journal()
        let path = fixture.directory.appending("journal")
        try fixture.open()
        try await fixture.advance(to: 21)
        // Pages in front are used again, so that the last ones become free.
        for _ in 0..<5 { try await fixture.append(numbered(10..<11)) }
        fixture.close()
        let whole = try Data(contentsOf: URL(fileURLWithPath: fixture.dataPath))
        // The entries were deleted: most pages are free. Find the last one in use.
        var short = 8_192
        var long = whole.count
        while long - short > 4_096 {
            let middle = (short + long) / 2 / 4_096 * 4_096
            try whole.prefix(middle).write(to: URL(fileURLWithPath: fixture.dataPath))
            do {
                #expect(try JournalFile.examine(path)?.length == middle)
                long = middle
            } catch {
                short = middle
            }
        }
        #expect(long < whole.count && short > 8_192)
        try whole.prefix(short).write(to: URL(fileURLWithPath: fixture.dataPath))
        guard case .unusable = try refusal(path) else { throw Timeout(description: "a page in use is missing") }
        try whole.prefix(long).write(to: URL(fileURLWithPath: fixture.dataPath))
        try fixture.open()
        #expect(try fixture.payloads(21..<31) == numbered(0..<10))
        for number in 0..<5 { try await fixture.append([payload(number, bytes: 100_000)]) }
        try await fixture.append((0..<20).map { payload($0, bytes: 100_000) })
        try fixture.reopen()
        #expect(try fixture.payloads(21..<61).count == 40)
        #expect(try JournalInspection(fixture.journal).verify().problems == [])
    }

    @Test func garbageIsRefused() async throws {
        let fixture = try await journal()
        let path = fixture.directory.appending("journal")
        let whole = try Data(contentsOf: URL(fileURLWithPath: fixture.dataPath))
        func refusal(_ change: (inout Data) -> Void) throws -> JournalError {
            var data = whole
            change(&data)
            try data.write(to: URL(fileURLWithPath: fixture.dataPath))
            return try self.refusal(path)
        }
        guard case .foreign = try refusal({ $0.replaceSubrange(0..<8_192, with: Data(repeating: 0x5A, count: 8_192)) })
        else { throw Timeout(description: "garbage header") }
        guard case .foreign = try refusal({ $0 = Data("hello\n".utf8) }) else { throw Timeout(description: "text") }
        // One of the two meta pages, and the fields that LMDB believes.
        for range in [0..<4_096, 4_096..<8_192, 16..<20, 4_112..<4_116, 40..<44, 4_136..<4_140] {
            let error = try refusal { $0.replaceSubrange(range, with: Data(repeating: 0xFF, count: range.count)) }
            guard case .unusable = error else { throw Timeout(description: "\(range): \(error)") }
        }
        // The last page and the roots, in both meta pages.
        for offset in [80, 128, 136] {
            let error = try refusal {
                $0.replaceSubrange(offset + 4..<offset + 7, with: [1, 1, 1])
                $0.replaceSubrange(offset + 4_100..<offset + 4_103, with: [1, 1, 1])
            }
            guard case .unusable = error else { throw Timeout(description: "\(offset): \(error)") }
        }
    }

    @Test func whatIsNoFileIsRefused() throws {
        let folder = try TemporaryDirectory("journal")
        try FileManager.default.createDirectory(
            atPath: folder.appending("data.mdb"), withIntermediateDirectories: false)
        guard case .foreign(_, let reason) = try refusal(folder.path) else {
            throw Timeout(description: "folder taken")
        }
        #expect(reason.contains("no regular file"))
        // The journal's folder is a file.
        try Data("x".utf8).write(to: URL(fileURLWithPath: folder.appending("file")))
        let error = #expect(throws: JournalError.self) { try open(folder.appending("file")) }
        guard case .io(let text) = error else { throw Timeout(description: "file taken for a folder") }
        #expect(text.contains("Not a directory"))
    }

    @Test func garbageInTheLockFileDoesNoHarm() async throws {
        let fixture = try await journal()
        for length in [0, 1, 100, 20_000] {
            try Data(repeating: 0xA5, count: length).write(
                to: URL(fileURLWithPath: fixture.directory.appending("journal/lock.mdb")))
            try fixture.open()
            #expect(try fixture.payloads(21..<31) == numbered(0..<10))
            try await fixture.append(numbered(0..<1))
            fixture.close()
        }
    }

    /// Without permission the error names the user and the command. Tests may run as root, who may do anything; so for
    /// the time of the call this thread is nobody to the file system.
    @Test func foldersWithoutPermissionAreNamed() async throws {
        let fixture = try await journal()
        let path = fixture.directory.appending("journal")
        for readable in [false, true] {
            chmod(fixture.directory.path, 0o755)
            chmod(path, readable ? 0o555 : 0o000)
            guard case .io(let text) = try openAsNobody(path) else { throw Timeout(description: "opened") }
            #expect(text.contains("Permission denied") && text.contains("chown -R"), "\(text)")
        }
        chmod(path, 0o755)
        try fixture.open()
    }

    private func openAsNobody(_ path: String) throws -> JournalError? {
        // In C libraries since ever, but not in Swift's Glibc.
        let setfsuid = unsafeBitCast(dlsym(nil, "setfsuid"), to: (@convention(c) (UInt32) -> CInt).self)
        let user = setfsuid(65_534)
        defer { _ = setfsuid(UInt32(user)) }
        do {
            _ = try open(path)
            return nil
        } catch let error as JournalError {
            return error
        }
    }

    /// A journal is made as a whole or not at all, and leftovers of the attempt go.
    @Test func interruptedMakingLeavesNothing() throws {
        let folder = try TemporaryDirectory("journal")
        for name in ["data.mdb.new", "data.mdb.copy"] {
            try Data(repeating: 7, count: 10_000).write(to: URL(fileURLWithPath: folder.appending(name)))
        }
        try open(folder.path).close()
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
        #expect(names == ["data.mdb", "ingestd.lock", "lock.mdb"])
    }
}
