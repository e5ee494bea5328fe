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
        /// With a commit log events are smaller, so that they go there first.
        var usesCommitLog = false
        var testDescription: String { "\(minFreeDiskBytes) bytes kept free\(usesCommitLog ? ", commit log" : "")" }
    }

    private static let settings = [
        Setting(), Setting(minFreeDiskBytes: 8 << 20), Setting(usesCommitLog: true),
        Setting(minFreeDiskBytes: 8 << 20, usesCommitLog: true),
    ]

    /// A journal on a file system of 64 MiB.
    private final class Scene {
        let disk: LoopDisk
        let setting: Setting
        private(set) var writer: DiskProcess
        private(set) var end: UInt64 = 1
        private(set) var position: UInt64 = 1

        private var eventBytes: Int { setting.usesCommitLog ? 4_000 : 20_000 }

        init(_ setting: Setting) throws {
            self.setting = setting
            disk = try LoopDisk(bytes: 64 << 20)
            writer = try Self.writer(disk, setting)
        }

        private static func writer(_ disk: LoopDisk, _ setting: Setting) throws -> DiskProcess {
            try DiskProcess(
                journal: disk.appending("journal"), maxBytes: 1 << 30, minFreeDiskBytes: setting.minFreeDiskBytes,
                commitDelayMilliseconds: setting.usesCommitLog ? 10 : 0)
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

        /// Moves the position over so many events.
        /// - Returns: the journal's answer.
        func drain(_ events: UInt64) throws -> String {
            let target = min(position + events, end)
            let answer = try writer.ask("advance \(FullDiskTests.table) \(target)")
            if answer == "advanced" { position = target }
            return answer
        }

        func restart() throws {
            try writer.close()
            writer = try Self.writer(disk, setting)
        }

        /// Closes the journal, opens it again in this process and reads everything that must be in it.
        func checkContent() throws {
            try writer.close()
            let journal = try Journal.open(
                JournalConfiguration(
                    path: disk.appending("journal"), maxBytes: 1 << 30, minFreeDiskBytes: 0, tables: Workload.tables),
                logger: Logger(label: "test"))
            let stream = try #require(journal.stream(table: FullDiskTests.table))
            let state = try #require(journal.snapshot.streams[stream.id])
            #expect(state.position == position && state.nextSequence == end)
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
        try scene.checkContent()
    }

    /// The reserve stays free whatever the size of the events.
    @Test(arguments: [100, 300, 3_000])
    func reserveStaysFree(_ eventBytes: Int) throws {
        let scene = try Scene(Setting(minFreeDiskBytes: 20 << 20))
        try scene.disk.makeBallast("ballast", bytes: 34 << 20)
        let reason = try scene.fill(bytes: eventBytes)
        #expect(reason.contains("JOURNAL_MIN_FREE_DISK_BYTES"), "\(reason)")
        let free = try scene.disk.freeBytes()
        #expect(free > 19 << 20, "\(free) bytes are free")
        try scene.checkContent()
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
        try scene.checkContent()
    }

    /// A crash on a full disk must not end in a service that can't start.
    @Test(arguments: settings)
    func journalOpensOnAFullDisk(_ setting: Setting) throws {
        let scene = try Scene(setting)
        _ = try scene.fill()
        try scene.disk.makeBallast("ballast")
        try scene.restart()
        #expect(!(try scene.append()))
        #expect(try scene.drain(400) == "advanced")
        try scene.checkContent()
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
