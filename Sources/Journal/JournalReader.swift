public import IngestCore

/// A run of events that can go into one INSERT, as found in the journal.
public struct BatchPlan: Sendable, Equatable {
    /// The events.
    public var sequences: Range<UInt64>
    /// Bytes of their records.
    public var byteCount: Int
    /// Whether a limit ended it; otherwise it reaches the stream's end.
    public var isFull: Bool
    /// When its first event was received, milliseconds since 1970 UTC.
    public var receivedAt: Int64
    /// For each Kafka partition with an entry that ends in this run: the sequence behind the last such entry, and the
    /// offset behind it.
    public var partitions: [TopicPartition: (entryEnd: UInt64, offset: Int64)]

    /// Collects the parts.
    public init(
        sequences: Range<UInt64>, byteCount: Int, isFull: Bool, receivedAt: Int64,
        partitions: [TopicPartition: (entryEnd: UInt64, offset: Int64)]
    ) {
        self.sequences = sequences
        self.byteCount = byteCount
        self.isFull = isFull
        self.receivedAt = receivedAt
        self.partitions = partitions
    }

    /// Equal in what they cover.
    public static func == (left: BatchPlan, right: BatchPlan) -> Bool {
        left.sequences == right.sequences && left.byteCount == right.byteCount && left.isFull == right.isFull
    }
}

extension Environment {
    /// The checksum that the entry with this event was written with. It is not verified here: whoever reads the event
    /// does that.
    /// - Throws: `DamagedEntry` if there is no such entry.
    func checksum(_ tables: Tables, stream: StreamID, ofEntryWith sequence: UInt64) throws -> UInt64 {
        try read { transaction in
            let end = try transaction.bounds(of: stream, tables)?.end ?? sequence
            var scan = try EntryScan(transaction, tables, stream, from: sequence, end: end)
            return try scan.header(at: sequence).entry.bytes.loadLittleEndian(0)
        }
    }

    /// Plans the next batch: the events from `start` on, to `end` or until one more entry would exceed a limit. Events
    /// of one entry are parted only where the entry alone exceeds it. Reads entries' headers, not the events.
    /// - Parameter skipsTrimmed: begin behind what was trimmed, if `start` lies before.
    /// - Throws: `DamagedEntry` if no sound entry holds `start`. A batch ends before an entry that is not sound.
    func plan(
        _ tables: Tables, stream: StreamID, from start: UInt64, to end: UInt64?, maxRows: Int, maxBytes: Int,
        skipsTrimmed: Bool = false
    ) throws -> BatchPlan? {
        try read { transaction in
            guard let bounds = try transaction.bounds(of: stream, tables) else { return nil }
            let start = skipsTrimmed ? max(start, bounds.trimmed) : start
            let limit = min(end ?? .max, bounds.end)
            guard start < limit else { return nil }
            var scan = try EntryScan(transaction, tables, stream, from: start, end: bounds.end)
            var plan = BatchPlan(sequences: start..<start, byteCount: 0, isFull: false, receivedAt: 0, partitions: [:])
            do {
                while plan.sequences.upperBound < limit, !plan.isFull {
                    let (slot, entry) = try scan.header(at: plan.sequences.upperBound)
                    if plan.sequences.isEmpty { plan.receivedAt = entry.receivedAt }
                    try plan.add(entry, slot, to: limit, maxRows, maxBytes)
                }
            } catch let damage as DamagedEntry {
                guard !plan.sequences.isEmpty else { throw damage.clamped(to: start..<limit) }
                plan.isFull = true
            }
            return plan
        }
    }
}

extension BatchPlan {
    /// Adds the entry's events up to `limit`, or says that the plan is full.
    fileprivate mutating func add(
        _ entry: EntryView, _ slot: EntrySlot, to limit: UInt64, _ maxRows: Int, _ maxBytes: Int
    ) throws {
        let added = entry.sequences.clamped(to: sequences.upperBound..<limit)
        // Of an entry entered midway the bytes are taken in proportion: the limit is no exact figure.
        let share = (entry.bytes.count - entry.recordsOffset) * added.count / entry.eventCount
        let fits = sequences.count + added.count <= maxRows && byteCount + share <= maxBytes
        if fits {
            sequences = sequences.lowerBound..<added.upperBound
            byteCount += share
            noteEnd(of: entry)
        } else if sequences.isEmpty {
            do {
                try entry.take(into: &self, from: sequences.lowerBound, to: added.upperBound, maxRows, maxBytes)
            } catch {
                throw slot.damaged("\(error.reason)")
            }
        } else {
            isFull = true
        }
    }
}

extension BatchPlan {
    fileprivate mutating func noteEnd(of entry: EntryView) {
        // Events that were sent again cover no offsets: their messages were counted when they first came.
        guard let kafka = entry.kafka, !kafka.offsets.isEmpty, sequences.upperBound == entry.sequences.upperBound
        else { return }
        let partition = TopicPartition(
            topic: String(decoding: kafka.topic, as: UTF8.self), partition: kafka.partition)
        partitions[partition] = (sequences.upperBound, kafka.offsets.upperBound)
    }
}

extension EntryView {
    /// Takes as many of the entry's events as the limits allow, at least one.
    fileprivate func take(
        into plan: inout BatchPlan, from start: UInt64, to end: UInt64, _ maxRows: Int, _ maxBytes: Int
    ) throws(MalformedEntry) {
        var cursor = events
        try cursor.skip(to: start)
        let firstByte = cursor.position.byteOffset
        while cursor.nextSequence < end, plan.sequences.count < maxRows {
            _ = try cursor.next()
            let bytes = cursor.position.byteOffset - firstByte
            if !plan.sequences.isEmpty && bytes > maxBytes { break }
            plan.sequences = start..<cursor.nextSequence
            plan.byteCount = bytes
        }
        plan.isFull = plan.sequences.upperBound < end
        plan.noteEnd(of: self)
    }
}

/// Reads the events of one batch straight from the map. Every entry is verified once before its events are handed out.
///
/// Holds no view of the journal between calls, so that a slow server never keeps freed pages from being reused.
final class BatchReader: EventReader {
    private let environment: Environment
    private let tables: Tables
    private let stream: StreamID
    private let sequences: Range<UInt64>
    private let transaction: ReadTransaction
    private var position: EntryPosition?
    private var nextSequence: UInt64
    /// Events of the entry that `position` is in; it was verified.
    private var verified: Range<UInt64> = 0..<0

    init(environment: Environment, tables: Tables, stream: StreamID, sequences: Range<UInt64>) throws {
        self.environment = environment
        self.tables = tables
        self.stream = stream
        self.sequences = sequences
        nextSequence = sequences.lowerBound
        transaction = try ReadTransaction(environment)
        transaction.reset()
    }

    func read(_ body: (inout EventRun) throws -> Void) throws -> Bool {
        guard nextSequence < sequences.upperBound else { return false }
        try transaction.renew()
        defer { transaction.reset() }
        let entry: EntryView
        do {
            entry = try currentEntry()
        } catch let damage as DamagedEntry {
            throw damage.clamped(to: sequences)
        }
        do {
            try pass(entry, to: body)
        } catch let error as MalformedEntry {
            // Its checksum is right, so this is how it was written.
            throw DamagedEntry(sequences: entry.sequences, reason: "\(error.reason)").clamped(to: sequences)
        }
        return true
    }

    private func pass(_ entry: EntryView, to body: (inout EventRun) throws -> Void) throws {
        var cursor = entry.events
        if let position {
            cursor = EventCursor(entry, at: position)
        } else {
            try cursor.skip(to: nextSequence)
        }
        let end = min(sequences.upperBound, entry.sequences.upperBound)
        var run = EventRun(entry: entry, cursor: cursor, endSequence: end)
        try body(&run)
        nextSequence = run.nextSequence
        position = nextSequence < entry.sequences.upperBound ? run.position : nil
    }

    private func currentEntry() throws -> EntryView {
        if let position, let bytes = try transaction.get(tables.entries, SequenceKey(stream, verified.lowerBound)) {
            let slot = EntrySlot(stream: stream, sequences: verified, bytes: bytes)
            let entry = try slot.header()
            guard entry.sequences.contains(position.sequence) else {
                throw slot.damaged("it reads differently from a moment ago")
            }
            return entry
        }
        position = nil
        guard let bounds = try transaction.bounds(of: stream, tables) else {
            throw DamagedEntry.missing(nextSequence..<sequences.upperBound)
        }
        guard nextSequence >= bounds.trimmed else {
            throw JournalError.trimmed(
                "\(stream): events from \(nextSequence) to \(bounds.trimmed - 1) are kept no more")
        }
        var scan = try EntryScan(transaction, tables, stream, from: nextSequence, end: bounds.end)
        let slot = try scan.slot(at: nextSequence)
        let entry = try slot.verified()
        guard nextSequence < entry.sequences.upperBound else {
            throw DamagedEntry.missing(nextSequence..<slot.sequences.upperBound)
        }
        verified = entry.sequences
        return entry
    }
}
