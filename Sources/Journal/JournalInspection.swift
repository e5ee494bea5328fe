public import IngestCore

/// Looks into a journal that a service may be using at the same time; changes nothing.
///
/// Reading takes views of the journal that are kept short, because the service can't use pages again that were freed
/// since the oldest view: about 10 MiB or 50 ms of entries each. What the service delivers and deletes meanwhile is
/// passed over. Callable from any thread; at most one for a journal in a process that does not have it open otherwise.
public final class JournalInspection: Sendable {
    /// How far a long walk is. Passed to callbacks between two views, when none is held.
    public struct Progress: Sendable, Equatable {
        /// The stream's table; `nil` when it is not entries that are walked over.
        public let table: String?
        /// Sequence reached in the stream.
        public let sequence: UInt64
        /// Sequence to be reached.
        public let end: UInt64
        /// Bytes of entries that were looked at, over all streams.
        public let byteCount: Int
    }

    /// Bytes of entries that one view is used for.
    static let viewBytes = 10 << 20
    /// The time that one view is used for, nanoseconds.
    static let viewNanoseconds: UInt64 = 50_000_000

    /// The folder.
    public let path: String
    /// The journal's identity, 32 hex digits, as in deduplication tokens.
    public let identity: String
    let environment: Environment
    let tables: Tables
    private let lock: JournalReadLock?

    /// Opens the journal for reading. Waits while its file is being compacted.
    /// - Throws: `JournalError`.
    public convenience init(path: String) throws(JournalError) {
        guard JournalDirectory.hasData(path) else { throw .missing(path: path) }
        let lock = try JournalReadLock(shared: path)
        let (environment, tables, identity) = try Journal.withJournalErrors(path) {
            try JournalFile.examineWhileWritten(path)
            let environment = try Environment(
                directory: path, mapSize: nil, tableCount: JournalFormat.tableCount, readOnly: true)
            let tables = try JournalOpening.existingTables(environment, path)
            let identity = try environment.read { try JournalOpening.readIdentity(tables, in: $0) }
            return (environment, tables, identity)
        }
        self.init(path: path, identity: identity, environment: environment, tables: tables, lock: lock)
    }

    /// Looks into a journal that this process has open.
    convenience init(_ journal: Journal) {
        self.init(
            path: journal.path, identity: journal.identity, environment: journal.environment, tables: journal.tables,
            lock: nil)
    }

    private init(path: String, identity: String, environment: Environment, tables: Tables, lock: JournalReadLock?) {
        self.path = path
        self.identity = identity
        self.environment = environment
        self.tables = tables
        self.lock = lock
    }

    /// What the journal holds.
    /// - Throws: `JournalError`.
    public func snapshot() throws(JournalError) -> Journal.Snapshot {
        try Journal.withJournalErrors(path) {
            let state = try environment.read {
                try JournalOpening.readState(tables, pageSize: environment.pages.size, in: $0)
            }
            return Journal.Snapshot(state, nil, environment)
        }
    }

    // MARK: Replay

    /// Plans a batch of kept events, as `Journal.plan` does, but begins behind what was deleted meanwhile.
    /// - Returns: `nil` if the stream has no event from `start` on, before `end`.
    /// - Throws: `DamagedEntry`; another error if the journal can't be read at all.
    public func plan(
        _ stream: StreamID, from start: UInt64, to end: UInt64? = nil, maxRows: Int, maxBytes: Int
    ) throws -> BatchPlan? {
        try environment.plan(
            tables, stream: stream, from: start, to: end, maxRows: maxRows, maxBytes: maxBytes, skipsTrimmed: true)
    }

    /// The deduplication token of a batch.
    /// - Throws: `DamagedEntry` if the entry with its last event is damaged or missing.
    public func token(_ stream: StreamID, _ sequences: Range<UInt64>) throws -> String {
        DeduplicationToken.text(
            journal: identity, stream: stream, sequences: sequences,
            lastEntry: try environment.checksum(tables, stream: stream, ofEntryWith: sequences.upperBound - 1))
    }

    /// A reader of kept events.
    /// - Throws: as do its reads: `DamagedEntry`, or `JournalError.trimmed` if they were deleted meanwhile.
    public func reader(_ stream: StreamID, _ sequences: Range<UInt64>) throws -> any EventReader {
        try BatchReader(environment: environment, tables: tables, stream: stream, sequences: sequences)
    }

    // MARK: Walking

    /// Calls `body` with each stored entry that holds some of `sequences`, by the keys, within short views; the bounds
    /// are those of the view. `pause` comes between two views with the sequence reached, and after the last.
    /// - Parameter body: returns the bytes that it has read.
    func forEachEntry(
        of stream: StreamID, in sequences: Range<UInt64>,
        body: (EntrySlot, (trimmed: UInt64, end: UInt64)) throws -> Int, pause: (UInt64) throws -> Void
    ) throws {
        let transaction = try ReadTransaction(environment)
        transaction.reset()
        var next = sequences.lowerBound
        while next < sequences.upperBound {
            try transaction.renew()
            do {
                defer { transaction.reset() }
                guard let bounds = try transaction.bounds(of: stream, tables) else { return }
                next = max(next, bounds.trimmed)
                let end = min(sequences.upperBound, bounds.end)
                let deadline = MonotonicClock.now + Self.viewNanoseconds
                var bytes = 0
                var scan = try EntryScan(transaction, tables, stream, from: next, end: bounds.end)
                while next < end {
                    guard let slot = try scan.next(), slot.sequences.lowerBound < end else {
                        next = sequences.upperBound
                        break
                    }
                    bytes += try body(slot, bounds)
                    next = slot.sequences.upperBound
                    if bytes >= Self.viewBytes || MonotonicClock.now >= deadline { break }
                }
                if next >= end { next = sequences.upperBound }
            }
            try pause(min(next, sequences.upperBound))
        }
    }
}

extension JournalFile {
    /// Looks at the file although another process may be writing it: what is found wrong may be a moment's matter.
    fileprivate static func examineWhileWritten(_ path: String) throws(JournalError) {
        for _ in 0..<3 {
            do {
                _ = try examine(path)
                return
            } catch {
                guard case .unusable = error else { throw error }
            }
        }
        _ = try examine(path)
    }
}
