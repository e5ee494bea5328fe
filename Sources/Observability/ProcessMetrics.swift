internal import Glibc

/// Metrics of the process itself, under the names that the official client libraries use
/// (https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics).
///
/// Read at each scrape: two small files and one directory below `/proc/self`. What cannot be read keeps its value.
final class ProcessMetrics: Sendable {
    let cpuSeconds = CounterSeries()
    let residentMemoryBytes = GaugeSeries()
    let startTimeSeconds = GaugeSeries()
    let openFiles = GaugeSeries()
    let maximumFiles = GaugeSeries()

    static let descriptions = [
        MetricDescription(
            name: "process_cpu_seconds_total", help: "Total user and system CPU time spent in seconds."),
        MetricDescription(name: "process_resident_memory_bytes", help: "Resident memory size in bytes."),
        MetricDescription(
            name: "process_start_time_seconds", help: "Start time of the process since unix epoch in seconds."),
        MetricDescription(name: "process_open_fds", help: "Number of open file descriptors."),
        MetricDescription(name: "process_max_fds", help: "Maximum number of open file descriptors."),
    ]

    init() {
        if let start = Self.startTime() { startTimeSeconds.set(start) }
        update()
    }

    func update() {
        var time = timespec()
        if clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0 {
            cpuSeconds.replace(with: Double(time.tv_sec) + Double(time.tv_nsec) / 1e9)
        }
        // statm: size resident shared text lib data dt, in pages (proc_pid_statm(5)).
        if let fields = Self.contents(of: "/proc/self/statm")?.split(separator: " "), fields.count > 1,
            let pages = Int64(fields[1])
        {
            residentMemoryBytes.set(pages * Int64(sysconf(Int32(_SC_PAGESIZE))))
        }
        if let count = Self.openFileCount() { openFiles.set(count) }
        var limit = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
            maximumFiles.set(limit.rlim_cur == rlim_t.max ? Double.infinity : Double(limit.rlim_cur))
        }
    }

    private static func openFileCount() -> Int64? {
        guard let directory = opendir("/proc/self/fd") else { return nil }
        defer { closedir(directory) }
        var count: Int64 = 0
        while let entry = readdir(directory) {
            if entry.pointee.d_name.0 != UInt8(ascii: ".") { count += 1 }
        }
        // Not the one that this reading opened.
        return count - 1
    }

    /// Seconds since 1970: the boot time plus field 22 of `/proc/self/stat`, in clock ticks (proc_pid_stat(5)).
    private static func startTime() -> Double? {
        guard let stat = contents(of: "/proc/self/stat"), let system = contents(of: "/proc/stat") else { return nil }
        // Field 2 is the program's name in parentheses and may contain anything; field 3 follows the last ")".
        guard let nameEnd = stat.lastIndex(of: ")") else { return nil }
        let fields = stat[stat.index(after: nameEnd)...].split(separator: " ")
        guard fields.count > 19, let ticks = Double(fields[19]) else { return nil }
        guard let line = system.split(separator: "\n").first(where: { $0.hasPrefix("btime ") }),
            let boot = Double(line.dropFirst(6))
        else { return nil }
        return boot + ticks / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    /// The text of a file in `/proc`; `nil` if there is no such file, as in containers that hide it.
    private static func contents(of path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var text: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4_096)
        while true {
            let count = read(descriptor, &chunk, chunk.count)
            if count > 0 {
                text += chunk[..<count]
            } else if count == 0 {
                return String(decoding: text, as: UTF8.self)
            } else if errno != EINTR {
                return nil
            }
        }
    }
}
