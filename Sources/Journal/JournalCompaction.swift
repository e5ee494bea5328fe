import Glibc
import ServiceLog

/// What compacting a journal's file did.
public struct JournalCompaction: Sendable, Equatable {
    /// Size of the file before.
    public let bytesBefore: Int
    /// Size of the file now.
    public let bytesAfter: Int
}

extension Journal {
    /// Gives back to the file system what the journal's file does not use: LMDB's file never shrinks by itself. The
    /// journal must not be in use. At every moment one whole journal is in the folder: a crash costs the copy only.
    /// - Throws: `JournalError`; nothing was changed then.
    public static func compact(path: String) throws(JournalError) -> JournalCompaction {
        guard JournalDirectory.hasData(path) else { throw .missing(path: path) }
        return try withJournalErrors(path) {
            let directory = try JournalDirectory(exclusive: path)
            try directory.removeLeftovers()
            return try Compactor(directory).run()
        }
    }
}

/// Copies what the file holds to a new one, compares, and replaces the file.
struct Compactor {
    /// Where a crash may come between. For tests.
    enum Step: CaseIterable { case begun, copied, synced, compared, replaced }

    private let directory: JournalDirectory
    private let path: String
    private let copyPath: String
    private let afterStep: (Step) throws -> Void

    init(_ directory: JournalDirectory, afterStep: @escaping (Step) throws -> Void = { _ in }) {
        self.directory = directory
        path = directory.path
        copyPath = directory.path + "/" + JournalFile.copyName
        self.afterStep = afterStep
    }

    /// - Parameter minFreeDiskBytes: what must stay free on the disk beside the copy.
    func run(minFreeDiskBytes: Int = 16 << 20) throws -> JournalCompaction {
        guard let file = try JournalFile.examine(path) else { throw JournalError.missing(path: path) }
        guard let lock = JournalReadLock(exclusive: directory) else {
            throw JournalError.inUse(path: path, holder: "another process that reads it")
        }
        return try withExtendedLifetime(lock) {
            do {
                try copyAndCompare(minFreeDiskBytes)
            } catch {
                // What is left of the copy would only take room; the error that led here is what counts.
                unlink(copyPath)
                throw error
            }
            try directory.replaceData(by: JournalFile.copyName)
            try afterStep(.replaced)
            guard let copy = try JournalFile.examine(path) else { throw JournalError.missing(path: path) }
            return JournalCompaction(bytesBefore: file.length, bytesAfter: copy.length)
        }
    }

    /// Both files are closed when this returns.
    private func copyAndCompare(_ minFreeDiskBytes: Int) throws {
        let environment = try Environment(
            directory: path, mapSize: nil, tableCount: JournalFormat.tableCount, readOnly: true)
        let tables = try JournalOpening.existingTables(environment, path)
        let (contents, bytes) = try environment.read { transaction in
            try checkPages(tables, environment.pages.size, in: transaction)
            return (
                try Contents(tables, in: transaction),
                try transaction.heldPageCount(tables) * environment.pages.size
            )
        }
        if let free = JournalDirectory.freeDiskBytes(path), free < UInt64(bytes + minFreeDiskBytes) {
            throw JournalError.io(
                "compacting \(path) needs \(bytes + minFreeDiskBytes) bytes on its disk for a while, and \(free) are free: "
                    + "make room there, then compact again")
        }
        let descriptor = open(copyPath, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o640)
        guard descriptor >= 0 else {
            throw JournalError.io("can't make \(copyPath): \(String(cString: strerror(errno)))")
        }
        defer { close(descriptor) }
        try afterStep(.begun)
        try environment.copyCompacted(to: descriptor)
        try afterStep(.copied)
        guard fsync(descriptor) == 0 else {
            throw JournalError.io("can't sync \(copyPath): \(String(cString: strerror(errno)))")
        }
        try afterStep(.synced)
        let copy = try Environment(
            privateFile: copyPath, mapSize: nil, tableCount: JournalFormat.tableCount)
        let copiedTables = try JournalOpening.existingTables(copy, path)
        let copied = try copy.read { try Contents(copiedTables, in: $0) }
        guard copied == contents else {
            throw JournalError.io("the compacted copy of \(path) differs from the journal; the journal is as it was")
        }
        try afterStep(.compared)
    }

    /// LMDB copies values with pages of their own as their headers say, wherever that leads.
    private func checkPages(_ tables: Tables, _ pageSize: Int, in transaction: borrowing ReadTransaction) throws {
        for table in [tables.entries, tables.deadLetters] {
            let cursor = try transaction.cursor(table)
            var found = try cursor.first()
            while let record = found {
                guard OverflowHeader.isSound(key: record.key, value: record.value, pageSize: pageSize) else {
                    throw JournalError.damaged(
                        "\(path): a page header is damaged, so it can't be compacted. Events can still be delivered; "
                            + "then start with a new journal")
                }
                found = try cursor.next()
            }
        }
    }

    /// What must be the same in the copy.
    private struct Contents: Equatable {
        var records: [[UInt8]] = []
        var counts: [Int] = []

        init(_ tables: Tables, in transaction: borrowing ReadTransaction) throws {
            for table in [tables.meta, tables.streams, tables.partitions] {
                let cursor = try transaction.cursor(table)
                var found = try cursor.first()
                while let record = found {
                    records.append(Array(record.key))
                    records.append(Array(record.value))
                    found = try cursor.next()
                }
            }
            for table in tables.all { counts.append(try transaction.count(table)) }
        }
    }
}

extension Compactor {
    /// Compacts when the journal opens, if the file is far larger than what it holds, and that is little: so it takes
    /// well under a second. A failure is no reason not to open the journal.
    static func runIfWorthwhile(
        _ directory: JournalDirectory, _ file: JournalFile, _ configuration: JournalConfiguration, _ log: EventLog
    ) throws {
        guard configuration.compactAboveBytes > 0, file.length > configuration.compactAboveBytes else { return }
        do {
            guard try heldBytes(directory.path) < min(file.length / 8, configuration.compactAboveBytes / 4) else {
                return
            }
            let result = try Compactor(directory).run(minFreeDiskBytes: configuration.minFreeDiskBytes)
            log.write(
                .journalCompacted, "the journal's file was compacted",
                ["bytes_before": "\(result.bytesBefore)", "bytes_after": "\(result.bytesAfter)"])
        } catch {
            log.write(
                .journalCompactionFailed, "the journal's file could not be compacted", ["error": "\(error)"])
        }
    }

    private static func heldBytes(_ path: String) throws -> Int {
        let environment = try Environment(
            directory: path, mapSize: nil, tableCount: JournalFormat.tableCount, readOnly: true)
        let tables = try JournalOpening.existingTables(environment, path)
        return try environment.read { try $0.heldPageCount(tables) * environment.pages.size }
    }
}

extension Tables {
    fileprivate var all: [Table] {
        [meta, streams, entries, seals, partitions, deadLetters, forwarding] + (requests?.all ?? [])
    }
}

extension Transaction where Self: ~Copyable {
    /// Pages that a copy without free ones has.
    func heldPageCount(_ tables: Tables) throws -> Int {
        var count = 2 + (try rootPageCount())
        for table in tables.all { count += try pageCount(table) }
        return count
    }
}
