import IngestCore

/// Bounds and habits of a journal.
public struct JournalConfiguration: Sendable {
    /// The folder.
    public var path: String
    /// Bytes of entries that may be stored before new events are refused (the checklist's `maxBuffer`).
    public var maxBytes: Int
    /// Bytes that must stay free on the file system. Below it the file is not extended.
    public var minFreeDiskBytes: Int
    /// How long flushed entries are kept for replay, milliseconds; 0 trims them at once.
    public var retainMilliseconds: Int64
    /// Destination tables, one stream each. Streams of tables that are no longer named here are kept and drained.
    public var tables: [String]

    /// Collects the parts.
    public init(
        path: String, maxBytes: Int = 8 << 30, minFreeDiskBytes: Int = 256 << 20, retainMilliseconds: Int64 = 0,
        tables: [String]
    ) {
        self.path = path
        self.maxBytes = maxBytes
        self.minFreeDiskBytes = minFreeDiskBytes
        self.retainMilliseconds = retainMilliseconds
        self.tables = tables
    }

    /// Room in the map beyond `maxBytes` that new events never get: LMDB copies pages when it deletes, so draining a
    /// full journal needs pages, and entries of varying size leave gaps.
    var reserveBytes: Int { 64 << 20 + maxBytes / 16 }

    /// Ceiling of the file. A second reserve stands between what new events may fill and the ceiling.
    var mapSize: Int { (maxBytes + maxBytes / 8 + 2 * reserveBytes + 0xFFFF) & ~0xFFFF }
}
