import Testing

@testable import Benchmarks

@Suite struct HistogramTests {
    /// Quantiles by sorting, to compare with.
    private func exact(_ values: [UInt64], _ quantile: Double) -> UInt64 {
        values.sorted()[max(1, Int((quantile * Double(values.count)).rounded(.up))) - 1]
    }

    @Test(arguments: [1, 2, 3, 4, 5])
    func quantilesAreTooLargeByAThousandthAtMost(seed: UInt64) {
        var random = Random(state: seed)
        var histogram = Histogram()
        var values: [UInt64] = []
        for _ in 0..<20_000 {
            // From nanoseconds to minutes, as many of each order of magnitude.
            let value = random.next() >> UInt64(24 + random.index(40))
            values.append(value)
            histogram.add(value)
        }
        for quantile in [0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1] {
            let wanted = exact(values, quantile)
            let found = histogram.value(at: quantile)
            #expect(found >= wanted && found - wanted <= wanted / 1_024, "\(quantile): \(found), not \(wanted)")
        }
        #expect(histogram.max == values.max())
        #expect(histogram.value(at: 1) == values.max())
    }

    @Test func smallValuesAreExact() {
        var histogram = Histogram()
        for value in (0..<2_048).reversed() { histogram.add(UInt64(value)) }
        #expect(histogram.value(at: 0.5) == 1_023)
        #expect(histogram.value(at: 0) == 0)
        #expect(histogram.mean == 1_023.5)
    }

    @Test func takesEveryNumber() {
        var histogram = Histogram()
        for bit in 0..<64 {
            histogram.add(1 << UInt64(bit))
            histogram.add((1 << UInt64(bit)) &- 1)
        }
        histogram.add(.max)
        #expect(histogram.value(at: 1) == .max)
        #expect(histogram.value(at: 0) == 0)
    }

    @Test func mergingIsAddingAll() {
        var all = Histogram()
        var parts = [Histogram(), Histogram()]
        for value in 1...9_999 {
            all.add(UInt64(value * value))
            parts[value % 2].add(UInt64(value * value))
        }
        parts[0].merge(parts[1])
        for quantile in [0, 0.25, 0.5, 0.99, 1] { #expect(parts[0].value(at: quantile) == all.value(at: quantile)) }
        #expect(parts[0].count == all.count && parts[0].mean == all.mean)
    }

    @Test func emptyIsZero() {
        #expect(Histogram().value(at: 0.5) == 0)
        #expect(Histogram().mean == 0)
    }
}
