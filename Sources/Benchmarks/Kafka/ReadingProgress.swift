import IngestCore

/// How far reading a topic is: when how many messages had come, and what CPU this process had used by then.
struct ReadingProgress {
    private var firstTime: UInt64 = 0
    private var firstCPU = 0.0
    private var firstCount = 0
    private var lastTime: UInt64 = 0
    private var lastCPU = 0.0
    /// Messages until now.
    private(set) var count = 0
    /// How often messages were counted.
    private(set) var steps = 0

    /// Counts more, which have come now.
    mutating func add(_ more: Int) {
        lastTime = MonotonicClock.now
        lastCPU = ProcessTime.cpuSeconds
        if count == 0 { (firstTime, firstCPU, firstCount) = (lastTime, lastCPU, more) }
        count += more
        steps += 1
    }

    // Joining a group and finding the brokers is not what is measured: both count behind the first messages.

    /// Messages a second.
    var rate: Double { Double(count - firstCount) / (Double(max(1, lastTime - firstTime)) / 1e9) }

    /// CPU of this process for one message, microseconds.
    var cpuMicroseconds: Double { (lastCPU - firstCPU) / Double(max(1, count - firstCount)) * 1e6 }
}
