import Foundation
import Glibc
import IngestCore
import Journal
import Logging
import TestSupport

@testable import DiskWriter

/// A writer's work as the fault shim recorded it, to be replayed up to any operation.
final class PowerLoss: Sendable {
    /// One moment at which the power may go, and one of the states that the disk may then have.
    struct Cut: CustomStringConvertible {
        /// Operations that were over.
        let operations: Int
        let seed: UInt64

        var description: String { "INGESTD_POWER_CUT=\(operations):\(seed)" }
    }

    private let folder: TemporaryDirectory
    let logPath: String
    private let log: OperationLog
    private let lines: [Int: [LedgerLine]]

    var operationCount: Int { log.records.count }
    var failedOperations: Int { log.records.reduce(0) { $0 + ($1.error == 0 ? 0 : 1) } }

    /// Runs a writer under the shim.
    /// - Parameters:
    ///   - commitDelayMilliseconds: 0 for a journal without a commit log.
    ///   - faults: lines of the shim's control file.
    static func record(
        seed: UInt64, steps: Int, commitDelayMilliseconds: Int = 50, faults: [String] = []
    ) throws -> PowerLoss {
        let folder = try TemporaryDirectory("power")
        let disk = try FaultyFolder(in: folder)
        try disk.order(faults)
        let writer = try DiskProcess(
            journal: disk.appending("journal"), commitDelayMilliseconds: commitDelayMilliseconds,
            ledger: disk.appending("ledger"), on: disk)
        let answer = try writer.ask("workload \(seed) \(steps)")
        guard answer == "done" else { throw Problem(answer) }
        try writer.close()
        return try PowerLoss(folder: folder, logPath: disk.log)
    }

    /// Takes a log that an earlier run has kept.
    convenience init(logPath: String) throws {
        try self.init(folder: TemporaryDirectory("power"), logPath: logPath)
    }

    private init(folder: TemporaryDirectory, logPath: String) throws {
        self.folder = folder
        self.logPath = logPath
        let log = try OperationLog(path: logPath)
        self.log = log
        var ledgers: Set<UInt32> = []
        var lines: [Int: [LedgerLine]] = [:]
        for (index, record) in log.records.enumerated() {
            if record.kind == .open, log.text(record) == "ledger" { ledgers.insert(record.file) }
            guard record.kind == .write, ledgers.contains(record.file) else { continue }
            lines[index] = try log.text(record).split(separator: "\n").map { text in
                guard let line = LedgerLine(String(text)) else { throw Problem("no ledger line: \(text)") }
                return line
            }
        }
        self.lines = lines
    }

    /// Cuts at random places; one of eight within the first operations, while the journal is made, and one of four soon
    /// after a commit that failed, if there are such.
    func cuts(_ count: Int, seed: UInt64) -> [Cut] {
        var random = SeededGenerator(seed: seed)
        let failures = log.records.indices.filter { log.records[$0].isFailedCommit }
        return (0..<count).map { number in
            var places = 0...operationCount
            if number % 8 == 0 {
                places = 0...min(40, operationCount)
            } else if number % 4 == 1, let failure = failures.randomElement(using: &random) {
                places = failure...min(failure + 60, operationCount)
            }
            return Cut(operations: Int.random(in: places, using: &random), seed: random.next())
        }
    }

    /// Cuts the power at each of these moments and checks the journal that is left.
    /// - Parameter ignoring: syncs that do nothing, to see that the checks notice.
    /// - Returns: what was wrong, by cut; ends after `maxProblems`.
    func check(
        _ cuts: [Cut], ignoring: SimulatedDisk.Ignoring = .nothing, maxProblems: Int = 5
    ) throws -> [(cut: Cut, problem: String)] {
        let workplace = try MemoryFolder()
        var disk = SimulatedDisk(ignoring: ignoring)
        var expectation = Expectation()
        var applied = 0
        var problems: [(Cut, String)] = []
        for (index, cut) in cuts.sorted(by: { $0.operations < $1.operations }).enumerated() {
            while applied < cut.operations {
                let record = log.records[applied]
                disk.apply(record, of: log)
                for line in lines[applied] ?? [] { try expectation.apply(line) }
                if record.isFailedCommit { expectation.noteFailedCommit() }
                applied += 1
            }
            var random = SeededGenerator(seed: cut.seed)
            do {
                try workplace.empty()
                // LMDB makes its lock file anew when nobody has it open.
                try disk.cutPower(
                    writing: "journal/", to: workplace.path + "/", skipping: ["lock.mdb", "ingestd.lock"], of: log,
                    using: &random)
                try check(expectation, workplace.path, goingOn: index % 16 == 0)
            } catch {
                problems.append((cut, "\(error)"))
                if problems.count == maxProblems { break }
            }
        }
        return problems
    }

    private func check(_ expectation: Expectation, _ path: String, goingOn: Bool) throws {
        var configuration = JournalConfiguration(
            path: path, maxBytes: 64 << 20, minFreeDiskBytes: 0, tables: Workload.tables)
        do {
            let journal = try Journal.open(configuration, logger: Logger(label: "test"))
            defer { journal.close() }
            try expectation.check(journal)
        }
        guard goingOn else { return }
        configuration.commitDelayMilliseconds = 50
        // A journal that was left so can be written and flushed, and holds the same afterwards.
        let session = try JournalSession(configuration, ledger: Ledger(path: nil))
        for (number, table) in Workload.tables.enumerated() {
            let submission = 1_000_000 + number
            let before = session.current.snapshot.streams[session.stream(table)]!
            guard case .success(let receipt) = try session.append(submission, to: table, sizes: [10, 5_000]),
                receipt.sequences.lowerBound == before.nextSequence
            else { throw Problem("\(table): what is left takes no events") }
            let position = before.position + (before.nextSequence - before.position) / 2
            guard case .success = try session.advance(table, to: position) else {
                throw Problem("\(table): what is left can't be flushed")
            }
            let events = try session.current.reader(session.stream(table), position..<receipt.sequences.upperBound)
            while try events.read({ run in
                while let event = try run.next() {
                    guard DiskEvent(payload: event.payload) != nil else {
                        throw Problem("\(table): event \(event.sequence) was damaged by what was written after it")
                    }
                }
            }) {}
        }
        try session.close()
    }
}

/// A folder in memory, where the system has one: nothing that is written there needs a disk.
final class MemoryFolder {
    let path: String

    init() throws {
        let parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : NSTemporaryDirectory()
        var template = Array("\(parent)/ingestd-power-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Problem("can't make a folder in \(parent): errno \(errno)") }
        path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func empty() throws {
        for name in try FileManager.default.contentsOfDirectory(atPath: path) {
            try FileManager.default.removeItem(atPath: path + "/" + name)
        }
    }
}
