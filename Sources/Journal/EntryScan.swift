import CLMDB
import CXXHash
import IngestCore

// How entries are found. LMDB's keys say where an entry begins, and where the next one does; the entry's own header
// says the same once more. Where they contradict each other, or the header makes no sense, the entry is damaged, and
// its bounds are those that the keys give: whatever bit of an entry flips, that entry is all that is lost.

/// A stored entry, with its bounds by the keys.
struct EntrySlot {
    let stream: StreamID
    /// From its key to the key of the stream's next entry; of the last one to the stream's next sequence.
    let sequences: Range<UInt64>
    let bytes: UnsafeRawBufferPointer

    /// Decodes the header and compares it with the keys. The checksum is only computed where they differ.
    func header() throws(DamagedEntry) -> EntryView {
        let entry: EntryView
        do {
            entry = try EntryView(bytes)
        } catch {
            throw damaged("\(error.reason)")
        }
        guard entry.firstSequence == sequences.lowerBound else {
            throw damaged("its header has another sequence than its key")
        }
        guard entry.sequences.upperBound <= sequences.upperBound else {
            throw damaged("its header counts more events than there are before the next entry")
        }
        // Either the count is wrong, or the entry that should follow is missing: then this one is as it was written.
        if entry.sequences.upperBound < sequences.upperBound { try verify() }
        return entry
    }

    /// The entry, if its header agrees with the keys and all of it matches the checksum.
    func verified() throws(DamagedEntry) -> EntryView {
        let entry = try header()
        try verify()
        return entry
    }

    private func verify() throws(DamagedEntry) {
        guard Checksum.compute(bytes, stream: stream) == bytes.loadLittleEndian(0, as: UInt64.self) else {
            throw damaged("it does not match its checksum")
        }
    }

    func damaged(_ reason: String) -> DamagedEntry { DamagedEntry(sequences: sequences, reason: reason) }
}

extension DamagedEntry {
    /// No entry holds these events.
    static func missing(_ sequences: Range<UInt64>) -> DamagedEntry {
        DamagedEntry(sequences: sequences, reason: "it is missing")
    }

    /// The part of it that lies within `sequences`.
    func clamped(to sequences: Range<UInt64>) -> DamagedEntry {
        DamagedEntry(sequences: self.sequences.clamped(to: sequences), reason: reason)
    }
}

/// Walks a stream's entries in order. What it returns is valid until its transaction ends, or writes.
struct EntryScan: ~Copyable {
    private let cursor: Cursor
    private let stream: StreamID
    /// The stream's next sequence.
    private let end: UInt64
    private var ahead: Found?

    /// Begins with the entry that `sequence` is in; where there is none, with the first one behind.
    /// - Parameter end: the stream's next sequence.
    init<T: Transaction & ~Copyable>(
        _ transaction: borrowing T, _ tables: Tables, _ stream: StreamID, from sequence: UInt64, end: UInt64
    ) throws {
        let cursor = try transaction.cursor(tables.entries)
        ahead = try Self.first(cursor, stream, from: sequence, end: end)
        self.cursor = cursor
        self.stream = stream
        self.end = end
    }

    private typealias Found = (sequence: UInt64, bytes: UnsafeRawBufferPointer)

    private static func first(
        _ cursor: borrowing Cursor, _ stream: StreamID, from sequence: UInt64, end: UInt64
    ) throws -> Found? {
        let start = SequenceKey(stream, sequence)
        let record = try cursor.seek(start)
        if let found = try own(record, stream, end), found.sequence == sequence { return found }
        if let found = try own(record == nil ? cursor.last() : cursor.previous(), stream, end) { return found }
        return try own(cursor.seek(start), stream, end)
    }

    private static func own(_ record: Cursor.Record?, _ stream: StreamID, _ end: UInt64) throws -> Found? {
        guard let record else { return nil }
        let key = try SequenceKey(record.key)
        return key.stream == stream && key.sequence < end ? (key.sequence, record.value) : nil
    }

    /// The next entry; `nil` behind the last.
    mutating func next() throws -> EntrySlot? {
        guard let current = ahead else { return nil }
        ahead = try Self.own(cursor.next(), stream, end)
        return EntrySlot(
            stream: stream, sequences: current.sequence..<(ahead?.sequence ?? end), bytes: current.bytes)
    }

    /// The next entry, which is to hold `sequence`; by its header only.
    /// - Throws: `DamagedEntry` if it does not, with the bounds of what is lost from `sequence` on.
    mutating func header(at sequence: UInt64) throws -> (slot: EntrySlot, entry: EntryView) {
        let slot = try slot(at: sequence)
        let entry = try slot.header()
        guard sequence < entry.sequences.upperBound else {
            throw DamagedEntry.missing(sequence..<slot.sequences.upperBound)
        }
        return (slot, entry)
    }

    /// The next entry by its key, which is to hold `sequence`.
    /// - Throws: `DamagedEntry` if it begins behind it, or there is none.
    mutating func slot(at sequence: UInt64) throws -> EntrySlot {
        guard let slot = try next() else { throw DamagedEntry.missing(sequence..<end) }
        guard slot.sequences.lowerBound <= sequence else {
            throw DamagedEntry.missing(sequence..<slot.sequences.lowerBound)
        }
        return slot
    }
}

/// A stream's number as key of table `streams`.
struct StreamKey: Key {
    let stream: StreamID

    init(_ stream: StreamID) { self.stream = stream }

    func withValue<Result>(_ body: (MDB_val) throws(LMDBError) -> Result) throws(LMDBError) -> Result {
        var bigEndian = stream.rawValue.bigEndian
        return try withUnsafeMutablePointer(to: &bigEndian) { pointer throws(LMDBError) in
            try body(MDB_val(mv_size: 4, mv_data: pointer))
        }
    }
}

extension Transaction where Self: ~Copyable {
    /// Where a stream's stored entries begin, and the sequence behind the last; `nil` if there is no such stream.
    func bounds(of stream: StreamID, _ tables: Tables) throws -> (trimmed: UInt64, end: UInt64)? {
        guard let record = try get(tables.streams, StreamKey(stream)) else { return nil }
        guard record.count > 32 else { throw MalformedEntry("stream record is too short") }
        return (record.loadLittleEndian(16), record.loadLittleEndian(0))
    }
}

/// The checksum of entries.
enum Checksum {
    /// XXH3-64 of everything behind the checksum field. The stream is the seed, so that an entry under another
    /// stream's key does not pass.
    static func compute(_ entry: UnsafeRawBufferPointer, stream: StreamID) -> UInt64 {
        XXH3_64bits_withSeed(entry.baseAddress! + 8, entry.count - 8, UInt64(stream.rawValue))
    }
}

extension Checksum {
    static func verify(_ entry: EntryView, stream: StreamID) throws(JournalError) {
        guard compute(entry.bytes, stream: stream) == entry.bytes.loadLittleEndian(0, as: UInt64.self) else {
            throw .damaged(
                "\(stream): the entry with sequences \(entry.sequences.lowerBound) to "
                    + "\(entry.sequences.upperBound - 1) does not match its checksum")
        }
    }
}

extension Cursor {
    /// The entry that holds the event `sequence`, by its header; the cursor stands on it.
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
            throw MalformedEntry("entry belongs elsewhere")
        }
        return entry.sequences.contains(sequence) ? entry : nil
    }
}

/// LMDB's 16 bytes in front of a value that has pages of its own. LMDB does not protect them, and believes them when
/// it frees or copies the value.
enum OverflowHeader {
    /// Its bytes.
    static let length = 16

    /// Number of the first page of a value that has pages of its own.
    static func firstPage(of value: UnsafeRawBufferPointer) -> Int {
        let header = UnsafeRawBufferPointer(start: value.baseAddress! - length, count: length)
        return Int(header.loadLittleEndian(0, as: UInt64.self))
    }

    /// Whether they are as LMDB wrote them, so that the record can be deleted or copied. True for values that share
    /// their page with others.
    /// - Parameter value: as a cursor returned it, in a transaction that has not written to it.
    static func isSound(key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer, pageSize: Int) -> Bool {
        // A node of a page: 8 bytes, key, value. Above half a page, less two 2-byte pointers, the value moves out
        // [mdb.c: me_nodemax, LEAFSIZE].
        let largestNode = (((pageSize - length) / 2) & ~1) - 2
        guard 8 + key.count + value.count > largestNode, let base = value.baseAddress else { return true }
        let header = UnsafeRawBufferPointer(start: base - length, count: length)
        let isOverflow = header.loadLittleEndian(10, as: UInt16.self) & 0x04 != 0
        let pages = header.loadLittleEndian(12, as: UInt32.self)
        return isOverflow && Int(pages) == (value.count + length + pageSize - 1) / pageSize
    }
}
