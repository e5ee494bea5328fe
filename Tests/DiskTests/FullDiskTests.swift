import IngestCore
import Journal
import Logging
import TestSupport
import Testing

@testable import DiskWriter

/// The disk is full: new events are refused, what was accepted stays, ClickHouse can still take it, and events are
/// accepted again as soon as there is room. On a real file system, which needs root.
@Suite(.enabled(if: LoopDisk.isPossible, "mounting a file system needs root"))
struct FullDiskTests {
    private static let table = Workload.tables[0]

    /// What differs between runs of a test.
    struct Setting: Sendable, CustomTestStringConvertible {
        var minFreeDiskBytes = 0
        /// With a commit log (not 0) events are smaller, so that they go there first.
        var commitDelayMilliseconds = 0
        var testDescription: String {
            "\(minFreeDiskBytes) bytes kept free, \(commitDelayMilliseconds) ms in the commit log"
        }
    }

    private static let settings = [
        Setting(), Setting(minFreeDiskBytes: 8 << 20), Setting(commitDelayMilliseconds: 10),
        Setting(minFreeDiskBytes: 8 << 20, commitDelayMilliseconds: 10),
    ]

    /// A journal on a file system of 64 MiB.
    private final class Scene {
        let disk: LoopDisk
        let setting: Setting
        private(set) var writer: DiskProcess
        private(set) var end: UInt64 = 1
        private(set) var position: UInt64 = 1

        private var eventBytes: Int { setting.commitDelayMilliseconds > 0 ? 4_000 : 20_000 }

        init(_ setting: Setting) throws {
            self.setting = setting
            disk = try LoopDisk(bytes: 64 << 20)
            writer = try Self.writer(disk, setting)
        }

        private static func writer(_ disk: LoopDisk, _ setting: Setting) throws -> DiskProcess {
            try DiskProcess(
                journal: disk.appending("journal"), maxBytes: 1 << 30, minFreeDiskBytes: setting.minFreeDiskBytes,
                commitDelayMilliseconds: setting.commitDelayMilliseconds)
        }

        /// Appends until events are refused.
        /// - Returns: why they were.
        func fill(bytes: Int? = nil) throws -> String {
            while true {
                switch try writer.append(count: 10, bytes: bytes ?? eventBytes) {
                case .success(let sequences):
                    #expect(sequences.lowerBound >= end)
                    end = sequences.upperBound
                case .failure(let problem): return problem.description
                }
            }
        }

        /// Appends; `false` if the events are refused.
        func append() throws -> Bool {
            guard case .success(let sequences) = try writer.append(count: 10, bytes: eventBytes) else { return false }
            end = sequences.upperBound
            return true
        }

        /// Appends what is too large for the commit log; `false` if it is refused.
        func appendLarge() throws -> Bool {
            guard case .success(let sequences) = try writer.append(count: 1, bytes: 200_000) else { return false }
            end = sequences.upperBound
            return true
        }

        /// The sequence behind the last event that the journal's file has.
        func next() throws -> UInt64 {
            let words = try writer.ask("state \(FullDiskTests.table)").split(separator: " ")
            return try #require(UInt64(words[1]))
        }

        /// Moves the position over so many events.
        /// - Returns: the journal's answer.
        func drain(_ events: UInt64) throws -> String {
            let target = position + min(events, end - position)
            let answer = try writer.ask("advance \(FullDiskTests.table) \(target)")
            if answer == "advanced" { position = target }
            return answer
        }

        func restart() throws {
            try writer.close()
            writer = try Self.writer(disk, setting)
        }

        /// Closes the journal, opens it again in this process and reads everything that must be in it.
        func checkContent() async throws {
            try writer.close()
            let journal = try Journal.open(
                JournalConfiguration(
                    path: disk.appending("journal"), maxBytes: 1 << 30, minFreeDiskBytes: 0, tables: Workload.tables),
                logger: Logger(label: "test"))
            // On a disk that is still full the writer stores what waits in the commit log.
            journal.start { _ in }
            defer { journal.close() }
            let stream = try #require(journal.stream(table: FullDiskTests.table))
            try await eventually("all is stored") { journal.snapshot.streams[stream.id]?.nextSequence == end }
            #expect(journal.snapshot.streams[stream.id]?.position == position)
            let reader = try journal.reader(stream.id, position..<end)
            var expected = position
            while try reader.read({ run in
                while let event = try run.next() {
                    #expect(event.sequence == expected && DiskEvent(payload: event.payload) != nil)
                    expected += 1
                }
            }) {}
            #expect(expected == end)
        }
    }

    /// Where nothing is kept free the disk itself says no; else the journal stops before that.
    @Test(arguments: settings)
    func eventsAreAcceptedAgainWhenThereIsRoom(_ setting: Setting) async throws {
        let scene = try Scene(setting)
        try scene.disk.makeBallast("ballast", bytes: 24 << 20)
        let reason = try scene.fill()
        #expect(reason.hasPrefix("refused the journal has no room") && reason.contains("disk"), "\(reason)")
        #expect(scene.end > 500)
        if setting.minFreeDiskBytes > 0 {
            #expect(try scene.disk.freeBytes() > setting.minFreeDiskBytes / 2)
        }
        #expect(try scene.writer.ask("refusal").contains("disk"))
        #expect(try scene.writer.ask("failure") == "failure ")
        let before = scene.end
        try scene.disk.remove("ballast")
        // ext4 gives room back a moment later.
        try await eventually("the journal has room by itself") { try scene.writer.ask("refusal") == "refusal " }
        #expect(try scene.append())
        _ = try scene.fill()
        #expect(scene.end > before + 500)
        try await scene.checkContent()
    }

    /// The reserve stays free whatever the size of the events.
    @Test(arguments: [100, 300, 3_000])
    func reserveStaysFree(_ eventBytes: Int) async throws {
        let scene = try Scene(Setting(minFreeDiskBytes: 20 << 20))
        try scene.disk.makeBallast("ballast", bytes: 34 << 20)
        let reason = try scene.fill(bytes: eventBytes)
        #expect(reason.contains("JOURNAL_MIN_FREE_DISK_BYTES"), "\(reason)")
        let free = try scene.disk.freeBytes()
        #expect(free > 19 << 20, "\(free) bytes are free")
        try await scene.checkContent()
    }

    /// Not one block is free: ClickHouse can take what waits, that makes room, and nothing else is needed.
    @Test(arguments: settings)
    func fullDiskDrains(_ setting: Setting) async throws {
        let scene = try Scene(setting)
        _ = try scene.fill()
        try scene.disk.makeBallast("ballast")
        #expect(try scene.disk.freeBytes() < 64 << 10)
        // Large steps: each frees some thousand pages.
        for _ in 0..<4 {
            let answer = try scene.drain(400)
            #expect(answer == "advanced", "\(answer)")
        }
        try await eventually("events are accepted again") { try scene.append() }
        for _ in 0..<20 {
            #expect(try scene.append())
            #expect(try scene.drain(10) == "advanced")
        }
        try await scene.checkContent()
    }

    /// What ClickHouse has taken leaves room in pieces, none of them large enough for what comes next.
    @Test func piecesOfRoomAreUsed() async throws {
        let scene = try Scene(Setting())
        var ends: [UInt64] = [1, 1]
        fill: while true {
            for (number, table) in Workload.tables[..<2].enumerated() {
                guard case .success(let sequences) = try scene.writer.append(table, count: 10, bytes: 2_000) else {
                    break fill
                }
                ends[number] = sequences.upperBound
            }
        }
        try scene.disk.makeBallast("ballast")
        let drained = Workload.tables[1]
        #expect(try scene.writer.ask("advance \(drained) \(ends[1])") == "advanced")
        try await eventually("a large group is accepted") {
            guard case .success = try scene.writer.append(drained, count: 100, bytes: 2_000) else { return false }
            return true
        }
        #expect(try scene.disk.freeBytes() < 64 << 10)
    }

    /// The same for what waits in the commit log: more than was stored at a time before it, and after a restart.
    @Test(arguments: [20, 22, 25])
    func piecesOfRoomAreUsedForWhatIsLogged(_ logged: Int) async throws {
        let scene = try Scene(Setting(commitDelayMilliseconds: 3_600_000))
        for number in 1...200 {
            #expect(try scene.append())
            // Moves nothing, and stores what was answered before it.
            if number % 9 == 0 || number == 200 { #expect(try scene.drain(0) == "advanced") }
        }
        for _ in 0..<logged { #expect(try scene.append()) }
        try scene.disk.makeBallast("ballast")
        try scene.restart()
        #expect(!(try scene.append()))
        #expect(try scene.drain(400) == "advanced")
        try await eventually("what was answered is stored") { try scene.next() == scene.end }
        try await scene.checkContent()
    }

    /// A crash on a full disk must not end in a service that can't start.
    @Test(arguments: settings)
    func journalOpensOnAFullDisk(_ setting: Setting) async throws {
        let scene = try Scene(setting)
        _ = try scene.fill()
        try scene.disk.makeBallast("ballast")
        try scene.restart()
        #expect(!(try scene.append()))
        #expect(try scene.drain(400) == "advanced")
        try await scene.checkContent()
    }

    // MARK: What is in the commit log only

    /// A journal with so many groups in its file and so many more in the commit log, on a disk without a free block.
    private func fullDisk(stored: Int, logged: Int) throws -> Scene {
        let scene = try Scene(Setting(commitDelayMilliseconds: 3_600_000))
        for _ in 0..<stored { #expect(try scene.append()) }
        // Moves nothing, and stores what was answered before it.
        #expect(try scene.drain(0) == "advanced")
        #expect(try scene.next() == scene.end)
        for _ in 0..<logged { #expect(try scene.append()) }
        #expect(try scene.next() == scene.end - UInt64(10 * logged))
        try scene.disk.makeBallast("ballast")
        return scene
    }

    /// It can't be stored, and is not in the way of what makes room.
    @Test func fullDiskDrainsBesideTheCommitLog() async throws {
        let scene = try fullDisk(stored: 100, logged: 20)
        #expect(!(try scene.appendLarge()))
        #expect(try scene.drain(500) == "advanced")
        try await eventually("what was answered is stored") { try scene.next() == scene.end }
        #expect(try scene.drain(.max) == "advanced")
        try await scene.checkContent()
    }

    /// The same after a restart: the journal opens, and stores it when there is room.
    @Test func journalOpensOnAFullDiskBesideTheCommitLog() async throws {
        let scene = try fullDisk(stored: 0, logged: 20)
        for _ in 0..<2 {
            try scene.restart()
            #expect(try scene.next() == 1)
            #expect(!(try scene.append()))
        }
        try scene.disk.remove("ballast")
        try await eventually("what was answered is stored") { try scene.next() == scene.end }
        #expect(try scene.append())
        try await scene.checkContent()
    }

    /// A file system that was mounted read-only: the error says so, and nothing is changed.
    @Test func readOnlyFileSystemIsNamed() throws {
        let scene = try Scene(Setting())
        #expect(try scene.append())
        try scene.writer.close()
        try scene.disk.makeReadOnly()
        #expect {
            try Journal.open(
                JournalConfiguration(path: scene.disk.appending("journal"), tables: Workload.tables),
                logger: Logger(label: "test"))
        } throws: { error in
            "\(error)".contains("Read-only file system")
        }
    }
}
