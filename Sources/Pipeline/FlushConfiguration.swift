/// When batches are cut, how many are sent at once, and how failures are paced. Times are nanoseconds.
public struct FlushConfiguration: Sendable {
    /// Events of one batch at most.
    public var batchMaxRows: Int
    /// Bytes of one batch at most, as received; a single larger event is a batch of its own.
    public var batchMaxBytes: Int
    /// How long an event waits for others at most, before its batch is cut.
    public var batchMaxAge: UInt64
    /// Batches of one stream that are sent at the same time.
    public var parallelism: Int
    /// First pause after a failure; doubles with each further one.
    public var backoffMin: UInt64
    /// Longest pause after a failure.
    public var backoffMax: UInt64
    /// Pause between attempts at a held stream.
    public var holdRetryInterval: UInt64
    /// Events of a stream that may be rejected in a row, without one that is inserted, before the stream is held: then
    /// it is probably the table that is wrong. 0 sets no limit.
    public var maxRejectedInARow: Int

    /// Collects the parts.
    public init(
        batchMaxRows: Int = 50_000, batchMaxBytes: Int = 16 << 20, batchMaxAge: UInt64 = 1_000_000_000,
        parallelism: Int = 2, backoffMin: UInt64 = 100_000_000, backoffMax: UInt64 = 30_000_000_000,
        holdRetryInterval: UInt64 = 15_000_000_000, maxRejectedInARow: Int = 10_000
    ) {
        self.batchMaxRows = batchMaxRows
        self.batchMaxBytes = batchMaxBytes
        self.batchMaxAge = batchMaxAge
        self.parallelism = parallelism
        self.backoffMin = backoffMin
        self.backoffMax = backoffMax
        self.holdRetryInterval = holdRetryInterval
        self.maxRejectedInARow = maxRejectedInARow
    }
}

/// Exponential backoff with jitter: the pause is drawn from the upper half of the doubled step, so that services that
/// failed together do not come back together.
struct Backoff {
    private let minimum: UInt64
    private let maximum: UInt64
    private var random: SplitMix64
    private(set) var failures = 0

    init(minimum: UInt64, maximum: UInt64, seed: UInt64) {
        self.minimum = minimum
        self.maximum = maximum
        random = SplitMix64(state: seed)
    }

    /// The pause after one more failure, nanoseconds.
    mutating func next() -> UInt64 {
        let doubled = minimum.multipliedReportingOverflow(by: 1 << UInt64(min(failures, 40)))
        let step = doubled.overflow ? maximum : min(doubled.partialValue, maximum)
        failures += 1
        return step - UInt64.random(in: 0...(step / 2), using: &random)
    }

    mutating func reset() { failures = 0 }
}

/// A small seeded generator, so that a schedule can be replayed (Steele, Lea and Flood, 2014).
struct SplitMix64: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
