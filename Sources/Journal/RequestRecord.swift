import CLMDB
import IngestCore

// Requests that came with a key, in two tables that lead to each other; docs/journal-format.md is the same:
//
//     requests        16 bytes key, a hash   -> RequestRecord
//     request_order   u64 BE number          -> 16 bytes key
//
// Numbers ascend in the order of acceptance, whatever the clock does, so that the oldest are found and deleted at the
// front of `request_order` without reading the rest. Invariants, at every commit:
//   - The record that a number leads to has that number; each record is led to by its number. There are as many of both.
//   - A record's sequences and letters are below the next ones of its stream and of the journal.

/// What is known of a request that was accepted.
///
///     0 16 bytes fingerprint   16 i64 accepted at (ms)   24 u64 number in `request_order`   32 u32 stream
///     36 u64 first sequence   44 u64 sequence behind the last   52 u64 first dead letter   60 u64 behind the last
struct RequestRecord: Equatable {
    static let length = 68
    /// Bytes of the file that a key takes in both tables, at most: hashes fall anywhere, so pages are about half full.
    static let storedLength = 256
    /// Bytes of pages that storing a key touches: each lies on another one.
    static let touchedBytes = 4_096

    var fingerprint: UInt128
    /// By the clock of then, milliseconds since 1970 UTC.
    var acceptedAt: Int64
    var number: UInt64
    var stream: StreamID
    var sequences: Range<UInt64>
    var deadLetters: Range<UInt64>

    init(
        _ request: RequestKey, acceptedAt: Int64, number: UInt64, stream: StreamID, sequences: Range<UInt64>,
        deadLetters: Range<UInt64>
    ) {
        fingerprint = request.fingerprint
        self.acceptedAt = acceptedAt
        self.number = number
        self.stream = stream
        self.sequences = sequences
        self.deadLetters = deadLetters
    }

    /// `nil` if the bytes are no such record.
    init?(exactly record: UnsafeRawBufferPointer) {
        guard record.count == Self.length else { return nil }
        fingerprint = UInt128(bigEndian: record.loadUnaligned(as: UInt128.self))
        acceptedAt = record.loadLittleEndian(16)
        number = record.loadLittleEndian(24)
        stream = StreamID(rawValue: record.loadLittleEndian(32))
        let sequences = (record.loadLittleEndian(36, as: UInt64.self), record.loadLittleEndian(44, as: UInt64.self))
        let letters = (record.loadLittleEndian(52, as: UInt64.self), record.loadLittleEndian(60, as: UInt64.self))
        guard sequences.0 <= sequences.1, letters.0 <= letters.1 else { return nil }
        self.sequences = sequences.0..<sequences.1
        deadLetters = letters.0..<letters.1
    }

    /// - Parameter target: `length` bytes.
    func write(to target: UnsafeMutableRawBufferPointer) {
        target.storeBytes(of: fingerprint.bigEndian, as: UInt128.self)
        target.storeLittleEndian(acceptedAt, 16)
        target.storeLittleEndian(number, 24)
        target.storeLittleEndian(stream.rawValue, 32)
        target.storeLittleEndian(sequences.lowerBound, 36)
        target.storeLittleEndian(sequences.upperBound, 44)
        target.storeLittleEndian(deadLetters.lowerBound, 52)
        target.storeLittleEndian(deadLetters.upperBound, 60)
    }

    /// Whether it is too old to count at `time`. Where the clock was set back its age is negative: it stays.
    func isExpired(at time: Int64, window: Int64) -> Bool { time &- acceptedAt >= window }
}

/// The two tables. A journal of an older version has none until it is opened for writing.
struct RequestTables {
    static let names = ["requests", "request_order"]

    let requests: Table
    let order: Table

    var all: [Table] { [requests, order] }
}

/// The hash that names a request, as key of table `requests`.
struct RequestName: Key, Equatable {
    static let length = 16
    let hash: UInt128

    init(_ hash: UInt128) { self.hash = hash }

    /// `nil` if the bytes are no such key.
    init?(exactly bytes: UnsafeRawBufferPointer) {
        guard bytes.count == Self.length else { return nil }
        hash = UInt128(bigEndian: bytes.loadUnaligned(as: UInt128.self))
    }

    /// - Parameter target: `length` bytes.
    func write(to target: UnsafeMutableRawBufferPointer) {
        target.storeBytes(of: hash.bigEndian, as: UInt128.self)
    }

    func withValue<Result>(_ body: (MDB_val) throws(LMDBError) -> Result) throws(LMDBError) -> Result {
        var bigEndian = hash.bigEndian
        return try withUnsafeMutablePointer(to: &bigEndian) { pointer throws(LMDBError) in
            try body(MDB_val(mv_size: Self.length, mv_data: pointer))
        }
    }
}
