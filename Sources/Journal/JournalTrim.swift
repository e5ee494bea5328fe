import IngestCore

/// Decides which flushed entries go, and deletes them. Bounded: what is left comes with the next transaction.
///
/// Flushed entries are kept for replay as long as the configuration says, by age, by bytes, or both; what either bound
/// ends goes. They never cost admission: where there is no room for new events, the oldest go first.
struct JournalTrim {
    /// Flushed entries before `end`, and the bytes that they take in the file.
    private struct Kept {
        var end: UInt64
        var bytes: UInt64
    }

    /// A time so far ahead of the clock is no time of receipt but damage, or the clock was set back: it must not keep
    /// an entry, and those behind it, for years.
    private static let clockTolerance: Int64 = 3_600_000
    /// Entries of one stream that a transaction deletes at most.
    private static let deletedCount = 4_096
    /// The same when events would be refused otherwise.
    private static let deletedCountForRoom = 16_384
    /// Entries that a transaction counts at most.
    private static let countedCount = 16_384

    private let tables: Tables
    private let configuration: JournalConfiguration
    private let pageSize: Int
    /// By stream; filled step by step, and only if there is a bound by bytes.
    private var kept: [StreamID: Kept] = [:]
    /// Whether a bound ended the last run.
    private(set) var hasMore = true
    /// Entries of one stream that the next transaction deletes at most: LMDB needs pages to delete before it gives any
    /// back, so on a full disk it goes in small steps.
    private var limit = Self.deletedCount

    init(tables: Tables, configuration: JournalConfiguration, pageSize: Int) {
        self.tables = tables
        self.configuration = configuration
        self.pageSize = pageSize
    }

    private var keepsEntries: Bool { configuration.retainMilliseconds > 0 || configuration.retainBytes > 0 }

    /// Whether time alone makes entries go.
    var dependsOnTime: Bool { configuration.retainMilliseconds > 0 }

    /// The last transaction failed: the next one deletes nothing, so that it needs as little room as possible.
    mutating func backOff() {
        limit = 0
        hasMore = true
    }

    /// A transaction was committed: the next one may delete more.
    mutating func speedUp() { limit = min(max(1, limit * 2), Self.deletedCount) }

    /// Whether the next transaction deletes anything.
    var isBackingOff: Bool { limit == 0 }

    /// Deletes what need not be kept.
    /// - Parameter keepsNothing: delete all that is flushed, whatever the configuration says.
    /// - Returns: streams whose state changed.
    mutating func run(
        on streams: inout [StreamID: StreamState], keepsNothing: Bool = false,
        in transaction: borrowing WriteTransaction
    ) throws -> Set<StreamID> {
        hasMore = false
        var changed: Set<StreamID> = []
        let all = keepsNothing || !keepsEntries
        let now = WallClock.milliseconds
        let expired = now - configuration.retainMilliseconds
        for id in streams.keys where all || configuration.retainMilliseconds > 0 {
            try delete(from: id, of: &streams, limit, &changed, in: transaction) { _, receivedAt in
                all || receivedAt.map { $0 <= expired || $0 > now + Self.clockTolerance } ?? true
            }
        }
        if configuration.retainBytes > 0, !all {
            for (id, stream) in streams { try count(id, stream, in: transaction) }
            let bytes = kept.values.reduce(0) { $0 + $1.bytes }
            if bytes > UInt64(configuration.retainBytes) {
                let excess = bytes - UInt64(configuration.retainBytes)
                try deleteOldest(excess, of: &streams, limit, &changed, in: transaction)
            }
        }
        return changed
    }

    /// Deletes at least `bytes` of flushed entries, if there are so many and the bound on one transaction allows it,
    /// whatever the configuration says. The oldest go first, over all streams.
    /// - Returns: streams whose state changed; empty if nothing could go.
    mutating func makeRoom(
        _ bytes: Int, on streams: inout [StreamID: StreamState], in transaction: borrowing WriteTransaction
    ) throws -> Set<StreamID> {
        var changed: Set<StreamID> = []
        let maximum = limit < Self.deletedCount ? limit : Self.deletedCountForRoom
        try deleteOldest(UInt64(bytes), of: &streams, maximum, &changed, in: transaction)
        return changed
    }

    // MARK: Deleting

    private mutating func deleteOldest(
        _ bytes: UInt64, of streams: inout [StreamID: StreamState], _ maximum: Int, _ changed: inout Set<StreamID>,
        in transaction: borrowing WriteTransaction
    ) throws {
        var heads: [(stream: StreamID, receivedAt: Int64)] = []
        for (id, stream) in streams {
            if let receivedAt = try firstReceivedAt(id, stream, in: transaction) { heads.append((id, receivedAt)) }
        }
        var left = bytes
        var deleted = 0
        while left > 0, deleted < maximum,
            let oldest = heads.indices.min(by: { heads[$0].receivedAt < heads[$1].receivedAt })
        {
            let id = heads[oldest].stream
            // As long as it has the oldest: then the others' turn may come.
            let others = heads.filter { $0.stream != id }.map(\.receivedAt).min() ?? .max
            var freed: UInt64 = 0
            let count = try delete(from: id, of: &streams, maximum - deleted, &changed, in: transaction) {
                stored, receivedAt in
                guard freed < left, freed == 0 || receivedAt ?? .min <= others else { return false }
                freed += stored
                return true
            }
            deleted += count
            left -= min(left, freed)
            if count > 0, let next = try firstReceivedAt(id, streams[id]!, in: transaction) {
                heads[oldest].receivedAt = next
            } else {
                heads.remove(at: oldest)
            }
        }
        if left > 0, deleted >= maximum { hasMore = true }
    }

    /// When the stream's first entry was received, if it is flushed as a whole.
    private func firstReceivedAt(
        _ id: StreamID, _ stream: StreamState, in transaction: borrowing WriteTransaction
    ) throws -> Int64? {
        guard stream.trimmed < stream.position else { return nil }
        var scan = try EntryScan(transaction, tables, id, from: stream.trimmed, end: stream.nextSequence)
        guard let slot = try scan.next(), slot.sequences.upperBound <= stream.position else { return nil }
        return slot.receivedAt ?? .min
    }

    /// Deletes entries from the front of the stream, as long as they are flushed and `condition` holds. It gets the
    /// bytes that the entry takes in the file, and when it was received unless its header is damaged.
    @discardableResult
    private mutating func delete(
        from id: StreamID, of streams: inout [StreamID: StreamState], _ maximum: Int,
        _ changed: inout Set<StreamID>, in transaction: borrowing WriteTransaction,
        while condition: (UInt64, Int64?) -> Bool
    ) throws -> Int {
        guard var stream = streams[id], stream.trimmed < stream.position else { return 0 }
        let start = stream.trimmed
        var count = 0
        var bytes: UInt64 = 0
        var countedBytes: UInt64 = 0
        var scan = try EntryScan(transaction, tables, id, from: start, end: stream.nextSequence)
        while let slot = try scan.next(), slot.sequences.upperBound <= stream.position {
            guard count < maximum else {
                hasMore = true
                break
            }
            let stored = slot.storedBytes(pageSize)
            guard condition(stored, slot.receivedAt) else { break }
            stream.trimmed = slot.sequences.upperBound
            bytes += stored
            if let kept = kept[id], slot.sequences.upperBound <= kept.end { countedBytes += stored }
            count += 1
        }
        guard count > 0 else { return 0 }
        bytes -= try delete(id, start..<stream.trimmed, in: transaction)
        stream.storedBytes -= min(stream.storedBytes, bytes)
        if var kept = kept[id] {
            kept.end = max(kept.end, stream.trimmed)
            kept.bytes -= countedBytes
            self.kept[id] = kept
        }
        streams[id] = stream
        changed.insert(id)
        return count
    }

    /// - Returns: bytes of entries that can't be deleted: LMDB would free the wrong pages with them. They stay in the
    ///   file, before the stream's first entry, and still count.
    private func delete(
        _ id: StreamID, _ sequences: Range<UInt64>, in transaction: borrowing WriteTransaction
    ) throws -> UInt64 {
        var left: UInt64 = 0
        let cursor = try transaction.cursor(tables.entries)
        var found = try cursor.seek(SequenceKey(id, sequences.lowerBound))
        while let record = found {
            let key = try SequenceKey(record.key)
            guard key.stream == id, key.sequence < sequences.upperBound else { break }
            if OverflowHeader.isSound(key: record.key, value: record.value, pageSize: pageSize) {
                try cursor.delete()
            } else {
                left += UInt64(JournalFormat.storedLength(record.value.count, pageSize: pageSize))
            }
            found = try cursor.next()
        }
        return left
    }

    // MARK: Counting

    /// Goes on counting the flushed entries of a stream, by their lengths only.
    private mutating func count(
        _ id: StreamID, _ stream: StreamState, in transaction: borrowing WriteTransaction
    ) throws {
        var counted = kept[id] ?? Kept(end: stream.trimmed, bytes: 0)
        guard counted.end < stream.position else { return }
        var scan = try EntryScan(transaction, tables, id, from: counted.end, end: stream.nextSequence)
        var count = 0
        while let slot = try scan.next(), slot.sequences.upperBound <= stream.position {
            guard count < Self.countedCount else {
                hasMore = true
                break
            }
            counted.end = slot.sequences.upperBound
            counted.bytes += slot.storedBytes(pageSize)
            count += 1
        }
        kept[id] = counted
    }
}

extension EntrySlot {
    fileprivate func storedBytes(_ pageSize: Int) -> UInt64 {
        UInt64(JournalFormat.storedLength(bytes.count, pageSize: pageSize))
    }

    /// As its header says; `nil` if that is damaged.
    fileprivate var receivedAt: Int64? {
        guard case .success(let entry) = Result(catching: { () throws(MalformedEntry) in try EntryView(bytes) }) else {
            return nil
        }
        return entry.receivedAt
    }
}
