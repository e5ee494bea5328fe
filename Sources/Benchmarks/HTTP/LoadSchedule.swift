/// When requests are to be sent in an open loop: at a fixed rate, whatever becomes of them. A request that has to wait
/// for a free connection is late, and its latency counts from the time at which it should have been sent. A closed loop
/// would send fewer requests while the service is slow, and so leave out the worst ("coordinated omission").
struct LoadSchedule {
    private let start: UInt64
    private let interval: Double
    private let stride: Int
    private let count: Int
    private var next: Int

    /// One worker's share: every `workers`-th request.
    /// - Parameters:
    ///   - start: time of the first request, nanoseconds.
    ///   - rate: requests a second, of all workers.
    init(start: UInt64, rate: Double, seconds: Double, worker: Int, of workers: Int) {
        self.start = start
        interval = 1e9 / rate
        stride = workers
        count = Int((rate * seconds).rounded())
        next = worker
    }

    /// When the next request is to be sent; `nil` behind the last.
    var nextTime: UInt64? { next < count ? start + UInt64(Double(next) * interval) : nil }

    /// Takes the next request if its time has come.
    /// - Returns: the time at which it was to be sent.
    mutating func take(at now: UInt64) -> UInt64? {
        guard let time = nextTime, time <= now else { return nil }
        next += stride
        return time
    }
}
