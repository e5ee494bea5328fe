import CLMDB
public import IngestCore

// The journal's tables. `docs/journal-format.md` is the same for readers without this source; keep them together.
//
//     meta         "format" -> "ingestd-journal", 0, u32 version      "id" -> 16 random bytes
//                  "next-dead-letter" -> u64 LE number of the next dead letter; missing before the first
//                  "space" -> zeros; there between two commits only (SpaceAhead.swift)
//     streams      u32 BE stream                    -> StreamRecord
//     entries      u32 BE stream, u64 BE sequence   -> entry (IngestCore/EntryFormat.swift)
//     seals        u32 BE stream, u64 BE sequence   -> u64 LE end of the batch that starts there (exclusive)
//     partitions   topic, 0, i32 BE partition       -> PartitionCheckpoint
//     dead_letters u64 BE number                    -> DeadLetterRecord
//     forwarding   u64 BE number                    -> i32 LE partition, i64 LE offset, topic (UTF-8); -1, -1 and no topic
//                                                      where no commit waits: dead letters that the DLQ topic lacks
//     requests, request_order                          RequestRecord.swift
//
// Keys are big-endian so that LMDB's byte order is numeric order; values are little-endian.
//
// Invariants, at every commit:
//   - A stream's entries follow each other without gaps: each starts where the one before it ends; the last ends at
//     the stream's next sequence.
//   - trimmed <= position <= next sequence. Everything before `position` is in ClickHouse or is a dead letter.
//   - Seals of a stream are disjoint, start at or behind its position, and lie within its entries.
//   - Every number in `forwarding` is in `dead_letters`; those there are below `meta`'s next one.

enum JournalFormat {
    /// 2: what `commit.log` holds belongs to the journal.
    static let version: UInt32 = 2
    static let marker: [UInt8] = Array("ingestd-journal".utf8) + [0]
    static let tableNames = ["meta", "streams", "entries", "seals", "partitions", "dead_letters", "forwarding"]
    /// All tables that a journal can have; those of requests are missing in one of an older version.
    static let tableCount = tableNames.count + RequestTables.names.count
    static let formatKey = BytesKey("format".utf8)
    static let identityKey = BytesKey("id".utf8)
    static let spaceKey = BytesKey("space".utf8)
    static let nextDeadLetterKey = BytesKey("next-dead-letter".utf8)
    /// Sequence of a stream's first event ever.
    static let firstSequence: UInt64 = 1

    /// Bytes of the file that a stored entry takes: LMDB keeps values above about half a page on pages of their own,
    /// behind a 16-byte header, and smaller ones packed.
    static func storedLength(_ entryLength: Int, pageSize: Int) -> Int {
        guard entryLength > pageSize / 2 - 64 else { return entryLength + 32 }
        return (entryLength + 16 + pageSize - 1) / pageSize * pageSize
    }
}

/// The open tables.
struct Tables {
    let meta: Table
    let streams: Table
    let entries: Table
    let seals: Table
    let partitions: Table
    let deadLetters: Table
    let forwarding: Table
    /// Never `nil` in a journal that is open for writing.
    let requests: RequestTables?
}

extension StreamID {
    /// The stream's key in table `streams`.
    var key: BytesKey { BytesKey(withUnsafeBytes(of: rawValue.bigEndian) { Array($0) }) }
}

/// A place in a stream, as key of the tables `entries` and `seals`.
struct SequenceKey: Key, Equatable {
    let stream: StreamID
    let sequence: UInt64

    init(_ stream: StreamID, _ sequence: UInt64) {
        self.stream = stream
        self.sequence = sequence
    }

    /// - Throws: `MalformedEntry` if `bytes` are no such key.
    init(_ bytes: UnsafeRawBufferPointer) throws(MalformedEntry) {
        guard bytes.count == 12 else { throw MalformedEntry("key is not 12 bytes long") }
        stream = StreamID(rawValue: UInt32(bigEndian: bytes.loadUnaligned(as: UInt32.self)))
        sequence = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt64.self))
    }

    func withValue<Result>(_ body: (MDB_val) throws(LMDBError) -> Result) throws(LMDBError) -> Result {
        var words = (
            stream.rawValue.bigEndian, UInt32(truncatingIfNeeded: sequence >> 32).bigEndian,
            UInt32(truncatingIfNeeded: sequence).bigEndian
        )
        return try withUnsafeMutablePointer(to: &words) { pointer throws(LMDBError) in
            try body(MDB_val(mv_size: 12, mv_data: pointer))
        }
    }
}

/// The state of a stream, stored in table `streams`.
///
///     0 u64 next sequence   8 u64 position   16 u64 trimmed   24 u64 stored bytes   32 table name (UTF-8)
public struct StreamState: Sendable, Equatable {
    /// The stream and its table.
    public let stream: Stream
    /// Sequence behind the last event that can be read.
    public internal(set) var nextSequence: UInt64
    /// The flushed position: everything before it is in ClickHouse or is a dead letter.
    public internal(set) var position: UInt64
    /// Sequence of the first event that is still in the file; at most `position`.
    public internal(set) var trimmed: UInt64
    /// Bytes that the stream's entries take in the file.
    public internal(set) var storedBytes: UInt64

    /// Events behind `nextSequence` that were acknowledged, and are in the commit log only: they can't be read yet.
    public internal(set) var loggedEvents: UInt64 = 0

    /// Sequence behind the last event that was acknowledged.
    public var acknowledgedEnd: UInt64 { nextSequence + loggedEvents }

    /// Events that wait for ClickHouse.
    public var pendingEvents: UInt64 { acknowledgedEnd - position }

    init(stream: Stream) {
        self.stream = stream
        nextSequence = JournalFormat.firstSequence
        position = JournalFormat.firstSequence
        trimmed = JournalFormat.firstSequence
        storedBytes = 0
    }

    init(id: StreamID, record: UnsafeRawBufferPointer) throws(MalformedEntry) {
        guard record.count > 32 else { throw MalformedEntry("stream record is too short") }
        nextSequence = record.loadLittleEndian(0)
        position = record.loadLittleEndian(8)
        trimmed = record.loadLittleEndian(16)
        storedBytes = record.loadLittleEndian(24)
        stream = Stream(id: id, table: String(decoding: record[32...], as: UTF8.self))
        guard trimmed <= position, position <= nextSequence else {
            throw MalformedEntry("positions of a stream record are out of order")
        }
    }

    var record: [UInt8] {
        var record: [UInt8] = []
        for number in [nextSequence, position, trimmed, storedBytes] { record.appendLittleEndian(number) }
        record += stream.table.utf8
        return record
    }
}

extension [UInt8] {
    mutating func appendLittleEndian(_ number: some FixedWidthInteger) {
        Swift.withUnsafeBytes(of: number.littleEndian) { append(contentsOf: $0) }
    }
}
