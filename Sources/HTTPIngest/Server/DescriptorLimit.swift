internal import Glibc
internal import ServiceLog

/// Sees to it that connections leave descriptors for everything else: the journal, ClickHouse, Kafka, and files that
/// are read again. Else whoever opens many connections stops all of those.
enum DescriptorLimit {
    /// What the rest of the process may need at one time.
    private static let reserve = 256

    /// Raises the process's soft limit (RLIMIT_NOFILE) as far as so many connections need and the hard limit allows.
    /// - Returns: how many connections there may be.
    static func connections(_ wanted: Int, log: EventLog) -> Int {
        let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        var limit = rlimit()
        guard getrlimit(resource, &limit) == 0 else { return wanted }
        let needed = rlim_t(wanted + reserve)
        if limit.rlim_cur < needed {
            var raised = limit
            raised.rlim_cur = min(needed, limit.rlim_max)
            if setrlimit(resource, &raised) == 0 { limit = raised }
        }
        guard limit.rlim_cur < needed else { return wanted }
        let possible = max(1, Int(limit.rlim_cur) - reserve)
        log.write(
            .httpConnectionsLimited, "fewer connections than configured: raise the limit of open files (ulimit -n)",
            ["connections": "\(possible)", "configured": "\(wanted)", "open_files": "\(limit.rlim_cur)"])
        return possible
    }
}
