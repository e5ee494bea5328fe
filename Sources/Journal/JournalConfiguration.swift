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
    /// Bytes of flushed entries that are kept for replay at most; 0 is no bound by bytes.
    public var retainBytes: Int
    /// Events are refused from this share of `maxBytes` on, until less than `lowWatermark` is taken.
    public var highWatermark: Double
    /// At most `highWatermark`.
    public var lowWatermark: Double
    /// Bytes of the file that dead letters may take. At the bound a stream that has another one is held.
    public var deadLettersMaxBytes: Int
    /// Whether dead letters are to be forwarded: commits to Kafka then wait until that is done.
    public var forwardsDeadLetters: Bool
    /// Size of the file from which on it is compacted when the journal opens, if it holds less than 1/8 of its size, and
    /// less than 1/4 of this; 0 never does.
    public var compactAboveBytes = 256 << 20
    /// How long a request is recognized by its key when it comes again, milliseconds; 0 ignores keys.
    public var requestKeyWindowMilliseconds: Int64 = 3_600_000
    /// Keys of requests that are kept at most; the oldest go first. Fewer if they would take more than 1/8 of
    /// `maxBytes`.
    public var maxRequestKeys = 1_000_000
    /// How long small groups of events may be in the commit log only, milliseconds: they are answered from there, and can
    /// be read when the journal's file has them (`docs/architecture.md`, *The commit log*). 0: there is no commit log, and
    /// all can be read as soon as it is answered.
    public var commitDelayMilliseconds = 0
    /// Destination tables, one stream each. Streams of tables that are no longer named here are kept and drained.
    public var tables: [String]

    /// Collects the parts.
    public init(
        path: String, maxBytes: Int = 8 << 30, minFreeDiskBytes: Int = 256 << 20, retainMilliseconds: Int64 = 0,
        retainBytes: Int = 0, highWatermark: Double = 1, lowWatermark: Double = 0.9,
        deadLettersMaxBytes: Int = 1 << 30, forwardsDeadLetters: Bool = false, tables: [String]
    ) {
        precondition(0 < lowWatermark && lowWatermark <= highWatermark && highWatermark <= 1, "watermarks out of order")
        self.path = path
        self.maxBytes = maxBytes
        self.minFreeDiskBytes = minFreeDiskBytes
        self.retainMilliseconds = retainMilliseconds
        self.retainBytes = retainBytes
        self.highWatermark = highWatermark
        self.lowWatermark = lowWatermark
        self.deadLettersMaxBytes = deadLettersMaxBytes
        self.forwardsDeadLetters = forwardsDeadLetters
        self.tables = tables
    }

    /// Room in the map beyond `maxBytes` that new events never get: LMDB copies pages when it deletes, so draining a
    /// full journal needs pages, and entries of varying size leave gaps.
    var reserveBytes: Int { 64 << 20 + maxBytes / 16 }

    /// Keys of requests that are kept at most: in a small journal they must not take the place of events.
    var requestKeyLimit: Int { min(maxRequestKeys, maxBytes / 8 / RequestRecord.storedLength) }

    /// Ceiling of the file. A second reserve stands between what new events may fill and the ceiling; dead letters with
    /// the table of those to be forwarded, and the keys of requests, have room of their own.
    var mapSize: Int {
        let besides = deadLettersMaxBytes + requestKeyLimit * RequestRecord.storedLength
        return (maxBytes + maxBytes / 8 + besides + besides / 4 + 2 * reserveBytes + 0xFFFF) & ~0xFFFF
    }

    /// Bytes of entries from which on new events are refused.
    var highWatermarkBytes: Int { Int(Double(maxBytes) * highWatermark) }
    /// Bytes of entries below which they are taken again.
    var lowWatermarkBytes: Int { Int(Double(maxBytes) * lowWatermark) }
}
