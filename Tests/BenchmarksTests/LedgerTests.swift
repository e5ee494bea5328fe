import Foundation
import Testing

@testable import Benchmarks

@Suite struct LedgerTests {
    private func withPath(_ body: (String) throws -> Void) rethrows {
        let path = NSTemporaryDirectory() + "ledger-\(UUID().uuidString)"
        defer { unlink(path) }
        try body(path)
    }

    private func read(_ path: String) throws -> [String: [Range<UInt64>]] {
        try Ledger.read(path: path).mapValues(\.ranges)
    }

    @Test func rangesMergeWhereTheyMeet() {
        var random = Random(state: 11)
        for _ in 0..<200 {
            var set = NumberRanges()
            var numbers: Set<UInt64> = []
            for _ in 0..<30 {
                let start = UInt64(random.index(200))
                let range = start..<(start + UInt64(random.index(12)))
                set.insert(range)
                numbers.formUnion(range)
            }
            #expect(Set(set.ranges.flatMap { Array($0) }) == numbers)
            #expect(set.count == numbers.count)
            for (first, second) in zip(set.ranges, set.ranges.dropFirst()) {
                #expect(first.upperBound < second.lowerBound)
            }
        }
    }

    @Test func whatWasAcknowledgedIsRead() throws {
        try withPath { path in
            var page = LedgerPage(try Ledger(path: path, prefix: "a-"))
            let lane = EventNumber.laneSize
            page.acknowledge(0..<10)
            page.acknowledge(3 * lane..<3 * lane + 5)
            page.acknowledge(10..<20)
            page.acknowledge(30..<40)
            page.acknowledge(30..<40)
            try page.write()
            var other = LedgerPage(try Ledger(path: path, prefix: "b-"))
            other.acknowledge(7..<8)
            try other.write()
            #expect(try read(path) == ["a-": [0..<20, 30..<40, 3 * lane..<3 * lane + 5], "b-": [7..<8]])
        }
    }

    @Test func linesAreDueAfterAnInterval() throws {
        try withPath { path in
            var page = LedgerPage(try Ledger(path: path, prefix: "a-"))
            try page.write(at: Ledger.interval)
            page.acknowledge(0..<1)
            try page.write(at: 2 * Ledger.interval - 1)
            #expect(try read(path).isEmpty)
            try page.write(at: 2 * Ledger.interval)
            #expect(try read(path) == ["a-": [0..<1]])
        }
    }

    /// Wherever the program is killed within a write, the file claims less, never something else.
    @Test func everyPrefixOfALedgerClaimsLess() throws {
        try withPath { path in
            var page = LedgerPage(try Ledger(path: path, prefix: "a-"))
            for number in stride(from: UInt64(0), to: 3_000, by: 300) { page.acknowledge(number..<(number + 123)) }
            try page.write()
            let whole = try Ledger.read(path: path)["a-"]!
            let bytes = try Data(contentsOf: URL(filePath: path))
            let claimed = Set(whole.ranges.flatMap { Array($0) })
            for length in bytes.indices.dropFirst(1) {
                try bytes.prefix(length).write(to: URL(filePath: path))
                let part = try Ledger.read(path: path)["a-"] ?? NumberRanges()
                #expect(claimed.isSuperset(of: part.ranges.flatMap { Array($0) }))
                // The next run cuts off what is torn, and goes on.
                var next = LedgerPage(try Ledger(path: path, prefix: "b-"))
                next.acknowledge(5..<6)
                try next.write()
                #expect(try Ledger.read(path: path)["a-"] ?? NumberRanges() == part)
                #expect(try Ledger.read(path: path)["b-"]?.ranges == [5..<6])
            }
        }
    }

    @Test(arguments: [
        "ids a-\n12 13\n", "0000000000000001 0000000000000002\n", "ids a-\n0000000000000002 0000000000000001\n", "",
    ])
    func whatIsNoLedgerIsRefused(text: String) throws {
        try withPath { path in
            try Data(text.utf8).write(to: URL(filePath: path))
            #expect(throws: BenchmarkFailure.self) { try Ledger.read(path: path) }
        }
    }

    @Test(arguments: ["", "it's", "a b", "a\\", String(repeating: "a", count: 65)])
    func prefixesThatNeedEscapingAreRefused(prefix: String) throws {
        withPath { path in
            #expect(throws: BenchmarkFailure.self) { try Ledger(path: path, prefix: prefix) }
        }
    }
}
