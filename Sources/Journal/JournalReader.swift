import CXXHash
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
    /// Plans the next batch: the events from `start` on, to `end` or until one more entry would exceed a limit. Events
    /// of one entry are parted only where the entry alone exceeds it. Reads entries' headers, not the events.
    func plan(
        _ tables: Tables, stream: StreamID, from start: UInt64, to end: UInt64?, maxRows: Int, maxBytes: Int
    ) throws -> BatchPlan? {
        try read { transaction in
            let cursor = try transaction.cursor(tables.entries)
            guard var entry = try cursor.entry(containing: start, in: stream) else { return nil }
            var plan = BatchPlan(
                sequences: start..<start, byteCount: 0, isFull: false, receivedAt: entry.receivedAt, partitions: [:])
            while true {
                let sequences = entry.sequences.clamped(to: start..<(end ?? .max))
                let bytes = entry.bytes.count - entry.recordsOffset
                // Of an entry entered midway the bytes are taken in proportion: the limit is no exact figure.
                let share = bytes * sequences.count / entry.eventCount
                let fits =
                    plan.sequences.count + sequences.count <= maxRows && plan.byteCount + share <= maxBytes
                if !fits && !plan.sequences.isEmpty {
                    plan.isFull = true
                    break
                }
                if !fits {
                    try entry.take(into: &plan, from: start, to: sequences.upperBound, maxRows, maxBytes)
                    break
                }
                plan.sequences = start..<sequences.upperBound
                plan.byteCount += share
                plan.noteEnd(of: entry)
                if let end, sequences.upperBound >= end { break }
                guard let next = try cursor.next(), try SequenceKey(next.key).stream == stream else { break }
                entry = try EntryView(next.value)
                guard entry.firstSequence == plan.sequences.upperBound else {
                    throw JournalError.damaged(
                        "\(stream) has no entry with sequence \(plan.sequences.upperBound) although later ones exist")
                }
            }
            return plan.sequences.isEmpty ? nil : plan
        }
    }
}

extension BatchPlan {
    fileprivate mutating func noteEnd(of entry: EntryView) {
        guard let kafka = entry.kafka, sequences.upperBound == entry.sequences.upperBound else { return }
        let partition = TopicPartition(
            topic: String(decoding: kafka.topic, as: UTF8.self), partition: kafka.partition)
        partitions[partition] = (sequences.upperBound, kafka.offsets.upperBound)
    }
}

extension EntryView {
    /// Takes as many of the entry's events as the limits allow, at least one.
    fileprivate func take(
        into plan: inout BatchPlan, from start: UInt64, to end: UInt64, _ maxRows: Int, _ maxBytes: Int
    ) throws {
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

extension Cursor {
    /// The entry that holds the event `sequence`; the cursor stands on it.
    func entry(containing sequence: UInt64, in stream: StreamID) throws -> EntryView? {
        let found = try seek(SequenceKey(stream, sequence))
        var candidate = found
        if let found {
            let key = try SequenceKey(found.key)
            if key.stream != stream || key.sequence != sequence { candidate = try previous() }
        } else {
            candidate = try last()
        }
        guard let candidate else { return nil }
        let key = try SequenceKey(candidate.key)
        guard key.stream == stream else { return nil }
        let entry = try EntryView(candidate.value)
        guard entry.firstSequence == key.sequence else {
            throw JournalError.damaged("\(stream): the entry at sequence \(key.sequence) belongs elsewhere")
        }
        return entry.sequences.contains(sequence) ? entry : nil
    }
}

/// The checksum of entries.
enum Checksum {
    /// XXH3-64 of everything behind the checksum field. The stream is the seed, so that an entry under another
    /// stream's key does not pass.
    static func compute(_ entry: UnsafeRawBufferPointer, stream: StreamID) -> UInt64 {
        XXH3_64bits_withSeed(entry.baseAddress! + 8, entry.count - 8, UInt64(stream.rawValue))
    }

    static func verify(_ entry: EntryView, stream: StreamID) throws(JournalError) {
        guard compute(entry.bytes, stream: stream) == entry.bytes.loadLittleEndian(0, as: UInt64.self) else {
            throw .damaged(
                "\(stream): the entry with sequences \(entry.sequences.lowerBound) to "
                    + "\(entry.sequences.upperBound - 1) does not match its checksum")
        }
    }
}

/// Reads the events of one batch straight from the map. Every entry is verified once before its events are handed out.
///
/// Holds no view of the journal between calls, so that a slow server never keeps freed pages from being reused.
final class BatchReader: EventReader {
    private let environment: Environment
    private let tables: Tables
    private let stream: StreamID
    private let end: UInt64
    private let transaction: ReadTransaction
    private var position: EntryPosition?
    private var nextSequence: UInt64
    /// First sequence of the entry that `position` is in; it was verified.
    private var verifiedEntry: UInt64?

    init(environment: Environment, tables: Tables, stream: StreamID, sequences: Range<UInt64>) throws {
        self.environment = environment
        self.tables = tables
        self.stream = stream
        end = sequences.upperBound
        nextSequence = sequences.lowerBound
        transaction = try ReadTransaction(environment)
        transaction.reset()
    }

    func read(_ body: (inout EventRun) throws -> Void) throws -> Bool {
        guard nextSequence < end else { return false }
        try transaction.renew()
        defer { transaction.reset() }
        let entry = try currentEntry()
        var cursor = entry.events
        if let position, position.sequence == nextSequence {
            cursor = EventCursor(entry, at: position)
        } else {
            try cursor.skip(to: nextSequence)
        }
        var run = EventRun(entry: entry, cursor: cursor, endSequence: min(end, entry.sequences.upperBound))
        try body(&run)
        nextSequence = run.nextSequence
        position = nextSequence < entry.sequences.upperBound ? run.position : nil
        return true
    }

    private func currentEntry() throws -> EntryView {
        if position != nil, let verifiedEntry,
            let bytes = try transaction.get(tables.entries, SequenceKey(stream, verifiedEntry))
        {
            return try EntryView(bytes)
        }
        let cursor = try transaction.cursor(tables.entries)
        guard let entry = try cursor.entry(containing: nextSequence, in: stream) else {
            throw JournalError.damaged("\(stream): no entry holds sequence \(nextSequence)")
        }
        try Checksum.verify(entry, stream: stream)
        verifiedEntry = entry.firstSequence
        return entry
    }
}
