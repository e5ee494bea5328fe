// The storage behind metric handles. Every handle of one name and one set of labels shares one of these objects;
// recording is one or a few atomic operations, without lock and without allocation, from any thread.
//
// Ordering is relaxed throughout: a scrape wants each number, not an order between them.

internal import CoreMetrics
internal import Synchronization

/// A `Double` that threads add to. The standard library has no atomic floating-point addition, hence the loop.
struct AtomicDouble: ~Copyable, Sendable {
    private let bits = Atomic<UInt64>(0)

    var value: Double { Double(bitPattern: bits.load(ordering: .relaxed)) }

    func store(_ value: Double) { bits.store(value.bitPattern, ordering: .relaxed) }

    func add(_ amount: Double) {
        var current = bits.load(ordering: .relaxed)
        while true {
            let sum = (Double(bitPattern: current) + amount).bitPattern
            let (exchanged, original) = bits.weakCompareExchange(
                expected: current, desired: sum, ordering: .relaxed)
            if exchanged { return }
            current = original
        }
    }
}

/// A counter. Whole increments and fractional ones have a cell each, so that the common case is one addition and
/// stays exact beyond 2^53.
final class CounterSeries: CounterHandler, FloatingPointCounterHandler {
    private let whole = Atomic<Int64>(0)
    private let fractional = AtomicDouble()

    /// The count. Exact up to 2^53 while no fractional increments came.
    var value: Double { Double(whole.load(ordering: .relaxed)) + fractional.value }

    /// The count if it is a whole number.
    var wholeValue: Int64? { fractional.value == 0 ? whole.load(ordering: .relaxed) : nil }

    /// Counters never fall: a negative amount is dropped.
    func increment(by amount: Int64) {
        guard amount > 0 else { return }
        whole.wrappingAdd(amount, ordering: .relaxed)
    }

    /// Counters never fall and stay numbers: negative, infinite and undefined amounts are dropped.
    func increment(by amount: Double) {
        guard amount > 0, amount.isFinite else { return }
        fractional.add(amount)
    }

    func reset() {
        whole.store(0, ordering: .relaxed)
        fractional.store(0)
    }

    /// For counts that someone else keeps, such as the kernel.
    func replace(with value: Double) { fractional.store(value) }
}

/// A gauge: `Meter`, and `Recorder` without aggregation, which is what `Gauge` is.
final class GaugeSeries: MeterHandler, RecorderHandler {
    private let cell = AtomicDouble()

    var value: Double { cell.value }

    func set(_ value: Int64) { cell.store(Double(value)) }

    func set(_ value: Double) { cell.store(value) }

    func increment(by amount: Double) {
        guard amount > 0, amount.isFinite else { return }
        cell.add(amount)
    }

    func decrement(by amount: Double) {
        guard amount > 0, amount.isFinite else { return }
        cell.add(-amount)
    }

    func record(_ value: Int64) { set(value) }

    func record(_ value: Double) { set(value) }
}

/// A histogram: `Timer`, and `Recorder` with aggregation.
///
/// `@unchecked Sendable` because of the pointer: the cells behind it are atomic, it is written in `init` and freed in
/// `deinit` only.
final class HistogramSeries: RecorderHandler, TimerHandler, @unchecked Sendable {
    /// Upper bounds, rising; the last bucket (`+Inf`) has none.
    let bounds: [Double]
    private let cells: UnsafeMutablePointer<Atomic<UInt64>>
    private let total = AtomicDouble()

    init(bounds: [Double]) {
        self.bounds = bounds
        cells = .allocate(capacity: bounds.count + 1)
        for index in 0...bounds.count { (cells + index).initialize(to: Atomic(0)) }
    }

    deinit {
        cells.deinitialize(count: bounds.count + 1)
        cells.deallocate()
    }

    /// Counts by bucket, each without those below it, `+Inf` last. A scrape that runs beside recordings may see one
    /// in the counts that the sum has not yet; the counts agree with each other, because the total is their sum.
    var counts: [UInt64] { (0...bounds.count).map { cells[$0].load(ordering: .relaxed) } }

    /// Sum of the recorded values, in base units.
    var sum: Double { total.value }

    /// Undefined values (NaN) are dropped: they would make the sum undefined for ever.
    func record(_ value: Double) {
        guard !value.isNaN else { return }
        var index = 0
        while index < bounds.count && value > bounds[index] { index += 1 }
        cells[index].wrappingAdd(1, ordering: .relaxed)
        total.add(value)
    }

    func record(_ value: Int64) { record(Double(value)) }

    /// Prometheus counts durations in seconds. A negative duration (a clock that was set back) counts as zero.
    func recordNanoseconds(_ duration: Int64) { record(Double(max(duration, 0)) / 1e9) }
}
