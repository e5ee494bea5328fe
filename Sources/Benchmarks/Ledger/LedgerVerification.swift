/// Looks for every acknowledged id in ClickHouse.
///
/// Ids of a ledger are ranges of strings, so a query counts the rows and the distinct ids of some ranges, and only where
/// a number is wrong are ids fetched, few at a time: memory does not depend on how many there are.
public struct LedgerVerification {
    /// What came of it.
    public struct Result: Sendable, Encodable {
        /// Ids that were acknowledged.
        public var acknowledged = 0
        /// Of these, ids that the table has.
        public var found = 0
        /// Ids that it does not have.
        public var missing = 0
        /// The first of them.
        public var missingIds: [String] = []
        /// Rows beyond the first of each id.
        public var copies = 0
        /// The first ids that have more than one.
        public var copiedIds: [String] = []
    }

    /// Ids of one query that counts.
    private static let countedIDs = 500_000
    /// Ids of one query that fetches them.
    private static let fetchedIDs = 20_000
    /// Ranges of one query: a statement has a limited length.
    private static let ranges = 100

    private let session: ClickHouseSession
    private let table: String
    private let limit: Int
    private var result = Result()

    /// - Parameters:
    ///   - table: with a column `event_id`; a view will do.
    ///   - limit: of ids that are named.
    public init(_ address: ClickHouseAddress, table: String, limit: Int) throws(BenchmarkFailure) {
        session = try ClickHouseSession(address)
        self.table = quotedTable(table)
        self.limit = limit
    }

    /// Checks everything; can be called again.
    public mutating func run(_ ledger: [String: NumberRanges]) throws(BenchmarkFailure) -> Result {
        result = Result()
        for (prefix, numbers) in ledger.sorted(by: { $0.key < $1.key }) {
            result.acknowledged += numbers.count
            var batch: [Range<UInt64>] = []
            var count = 0
            for var rest in numbers.ranges {
                while !rest.isEmpty {
                    let end = rest.lowerBound + UInt64(min(rest.count, Self.countedIDs - count))
                    batch.append(rest.lowerBound..<end)
                    count += batch.last!.count
                    rest = end..<rest.upperBound
                    if count == Self.countedIDs || batch.count == Self.ranges {
                        try check(prefix, batch)
                        batch = []
                        count = 0
                    }
                }
            }
            if !batch.isEmpty { try check(prefix, batch) }
        }
        return result
    }

    private mutating func check(_ prefix: String, _ ranges: [Range<UInt64>]) throws(BenchmarkFailure) {
        let expected = ranges.reduce(0) { $0 + $1.count }
        let condition = condition(prefix, ranges)
        let answer = try session.lines(
            "SELECT count(), uniqExact(event_id) FROM \(table) WHERE \(condition) FORMAT TabSeparated")
        let numbers = answer.first?.split(separator: "\t").compactMap { Int($0) } ?? []
        guard numbers.count == 2 else { throw BenchmarkFailure("ClickHouse did not answer with two numbers") }
        let (rows, found) = (numbers[0], numbers[1])
        guard found <= expected else {
            throw BenchmarkFailure("\(table) has ids that begin with \(prefix) and are not of the load generator")
        }
        if found == expected || found == 0 {
            result.found += found
            try noteCopies(rows - found, condition)
            if found == 0 { note(missing: ranges, prefix) }
        } else if expected > Self.fetchedIDs {
            let halves = Self.halves(ranges, expected)
            try check(prefix, halves.0)
            try check(prefix, halves.1)
        } else {
            let ids = try session.lines(
                "SELECT DISTINCT event_id FROM \(table) WHERE \(condition) ORDER BY event_id FORMAT TabSeparated")
            // More than before, if the table is being filled.
            result.found += ids.count
            try noteCopies(rows - found, condition)
            var numbers = ids.map { UInt64($0.suffix(EventNumber.length)) }[...]
            for range in ranges {
                for number in range {
                    if numbers.first == number {
                        numbers.removeFirst()
                    } else {
                        note(missing: [number..<(number + 1)], prefix)
                    }
                }
            }
        }
    }

    private func condition(_ prefix: String, _ ranges: [Range<UInt64>]) -> String {
        let parts = ranges.map {
            "(event_id >= '\(prefix)\(EventNumber.text($0.lowerBound))' AND event_id <= "
                + "'\(prefix)\(EventNumber.text($0.upperBound - 1))')"
        }
        return "length(event_id) = \(prefix.utf8.count + EventNumber.length) AND (\(parts.joined(separator: " OR ")))"
    }

    private mutating func noteCopies(_ count: Int, _ condition: String) throws(BenchmarkFailure) {
        guard count > 0 else { return }
        result.copies += count
        guard result.copiedIds.count < limit else { return }
        let ids = try session.lines(
            "SELECT event_id FROM \(table) WHERE \(condition) GROUP BY event_id HAVING count() > 1 ORDER BY event_id "
                + "LIMIT \(limit - result.copiedIds.count) FORMAT TabSeparated")
        result.copiedIds += ids.map(String.init)
    }

    private mutating func note(missing ranges: [Range<UInt64>], _ prefix: String) {
        for range in ranges {
            result.missing += range.count
            for number in range {
                guard result.missingIds.count < limit else { break }
                result.missingIds.append(prefix + EventNumber.text(number))
            }
        }
    }

    /// The ranges cut in two parts with about as many ids.
    private static func halves(
        _ ranges: [Range<UInt64>], _ count: Int
    ) -> ([Range<UInt64>], [Range<UInt64>]) {
        var first: [Range<UInt64>] = []
        var second: [Range<UInt64>] = []
        var left = count / 2
        for range in ranges {
            let cut = range.lowerBound + UInt64(min(left, range.count))
            left -= Int(cut - range.lowerBound)
            if cut > range.lowerBound { first.append(range.lowerBound..<cut) }
            if cut < range.upperBound { second.append(cut..<range.upperBound) }
        }
        return (first, second)
    }
}

extension LedgerVerification.Result {
    /// On lines, for people.
    public var text: String {
        var text =
            "verify  \(grouped(Double(acknowledged))) acknowledged  \(grouped(Double(found))) found  "
            + "\(grouped(Double(missing))) missing  \(grouped(Double(copies))) copies"
        for id in missingIds { text += "\n  missing: \(id)" }
        if missing > missingIds.count { text += "\n  and \(missing - missingIds.count) more are missing" }
        for id in copiedIds { text += "\n  more than once: \(id)" }
        return text
    }
}
