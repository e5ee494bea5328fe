import Glibc

/// Why a measurement could not be made.
public struct BenchmarkFailure: Error, CustomStringConvertible {
    /// What happened, for the operator.
    public let description: String

    init(_ description: String) { self.description = description }

    /// A failed system call, by `errno`.
    init(call: String) { description = "\(call): \(String(cString: strerror(errno)))" }
}

/// What this process has used.
enum ProcessTime {
    /// Seconds of CPU, of all threads, in user and kernel mode.
    static var cpuSeconds: Double {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
        return seconds(usage.ru_utime) + seconds(usage.ru_stime)
    }
}
