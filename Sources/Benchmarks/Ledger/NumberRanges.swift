/// A set of numbers as ranges in ascending order, merged where they meet.
public struct NumberRanges: Sendable, Equatable {
    /// The ranges; no two meet.
    public private(set) var ranges: [Range<UInt64>] = []

    /// The empty set.
    public init() {}

    /// How many numbers there are.
    public var count: Int { ranges.reduce(0) { $0 + $1.count } }

    /// Adds a range; numbers that are there already change nothing.
    public mutating func insert(_ range: Range<UInt64>) {
        guard !range.isEmpty else { return }
        // The first that ends at or behind the new one's start, and the first that begins behind its end.
        let first = position { $0.upperBound < range.lowerBound }
        let end = position { $0.lowerBound <= range.upperBound }
        guard first < end else {
            ranges.insert(range, at: first)
            return
        }
        let merged =
            min(range.lowerBound, ranges[first].lowerBound)..<max(range.upperBound, ranges[end - 1].upperBound)
        ranges.replaceSubrange(first..<end, with: CollectionOfOne(merged))
    }

    /// The first range for which `isBefore` does not hold.
    private func position(_ isBefore: (Range<UInt64>) -> Bool) -> Int {
        var low = 0
        var high = ranges.count
        while low < high {
            let middle = (low + high) / 2
            if isBefore(ranges[middle]) { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
