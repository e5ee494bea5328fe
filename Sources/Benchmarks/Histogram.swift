/// Counts durations in buckets whose width grows with the value, as HdrHistogram does: memory is fixed, whatever the
/// number of values, and a quantile is too large by at most 1/1,024 of it, and never too small.
///
/// Values below 2,048 have a bucket each. Beyond that each power of two is divided into 1,024.
public struct Histogram: Sendable {
    private static let stepBits = 10
    private static let steps = 1 << stepBits

    private var counts = [UInt64](repeating: 0, count: (64 - stepBits + 1) * steps)
    /// Values added.
    public private(set) var count: UInt64 = 0
    /// The largest.
    public private(set) var max: UInt64 = 0
    private var sum = 0.0

    /// An empty one.
    public init() {}

    /// Adds a value.
    public mutating func add(_ value: UInt64) {
        counts[Self.index(of: value)] += 1
        count += 1
        sum += Double(value)
        if value > max { max = value }
    }

    /// Adds the values of another.
    public mutating func merge(_ other: Histogram) {
        for index in counts.indices { counts[index] += other.counts[index] }
        count += other.count
        sum += other.sum
        max = Swift.max(max, other.max)
    }

    /// The mean, exact; 0 if empty.
    public var mean: Double { count == 0 ? 0 : sum / Double(count) }

    /// The smallest value that is not less than this share of all values; 0 if empty.
    public func value(at quantile: Double) -> UInt64 {
        let rank = Swift.max(1, UInt64((quantile * Double(count)).rounded(.up)))
        var seen: UInt64 = 0
        for index in counts.indices {
            seen += counts[index]
            if seen >= rank { return Swift.min(max, Self.largest(in: index)) }
        }
        return max
    }

    private static func index(of value: UInt64) -> Int {
        let shift = Swift.max(0, 64 - value.leadingZeroBitCount - stepBits - 1)
        return shift << stepBits + Int(value >> UInt64(shift))
    }

    private static func largest(in index: Int) -> UInt64 {
        guard index >= 2 * steps else { return UInt64(index) }
        let shift = index >> stepBits - 1
        // Of the last bucket this wraps around to the largest number, as it should.
        return UInt64(index - shift << stepBits + 1) << UInt64(shift) &- 1
    }
}

/// Latencies of a run in milliseconds, for people and scripts.
public struct LatencySummary: Sendable, Encodable {
    /// Half of all were faster.
    public let p50: Double
    /// 9 of 10 were faster.
    public let p90: Double
    /// 99 of 100 were faster.
    public let p99: Double
    /// 999 of 1,000 were faster.
    public let p999: Double
    /// The slowest.
    public let max: Double
    /// The mean.
    public let mean: Double

    /// - Parameter histogram: of nanoseconds.
    init(_ histogram: Histogram) {
        func milliseconds(_ quantile: Double) -> Double { Double(histogram.value(at: quantile)) / 1e6 }
        p50 = milliseconds(0.5)
        p90 = milliseconds(0.9)
        p99 = milliseconds(0.99)
        p999 = milliseconds(0.999)
        max = Double(histogram.max) / 1e6
        mean = histogram.mean / 1e6
    }

    /// On one line.
    public var text: String {
        "ms median \(rounded(p50)) p90 \(rounded(p90)) p99 \(rounded(p99)) p99.9 \(rounded(p999)) max \(rounded(max))"
    }
}

/// With two digits behind the point.
func rounded(_ value: Double) -> String { "\((value * 100).rounded() / 100)" }

/// A number with thousands separated.
func grouped(_ number: Double) -> String {
    let digits = Array(String(Int(number.rounded())))
    var text = ""
    for (index, digit) in digits.enumerated() {
        if index > 0 && (digits.count - index).isMultiple(of: 3) { text.append(",") }
        text.append(digit)
    }
    return text
}
