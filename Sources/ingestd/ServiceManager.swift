import Glibc
import ServiceLog

/// The service manager that started this process and wants to hear from it: systemd, for a unit of `Type=notify`.
///
/// It is told by datagrams of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names, as sd_notify(3) describes;
/// libsystemd is not needed for that. A message that can't be delivered is logged and changes nothing here: it is the
/// manager's part to act on silence.
struct ServiceManager: Sendable {
    /// Half the time after which the manager takes a silent service for hung (`WatchdogSec` of the unit), as
    /// sd_watchdog_enabled(3) recommends; nil if it does not watch.
    let heartbeatInterval: Duration?
    /// What `sun_path` holds: a path with a zero behind it, or a zero and the name of an abstract socket.
    private let address: [UInt8]
    private let log: EventLog

    /// - Returns: nil if nobody wants to hear from this process, or at an address that can't be used, which is logged.
    init?(environment: [String: String], processID: pid_t = getpid(), log: EventLog) {
        guard let name = environment["NOTIFY_SOCKET"], !name.isEmpty else { return nil }
        guard let address = Self.address(name) else {
            log.write(
                .serviceManagerUnreachable,
                "can't tell the service manager anything: NOTIFY_SOCKET must be an absolute path, or @ and a name",
                ["address": "\(name)"])
            return nil
        }
        self.address = address
        self.log = log
        // The variables are inherited: without the process id they may be meant for a parent.
        if let watched = environment["WATCHDOG_PID"], watched != "\(processID)" {
            heartbeatInterval = nil
        } else {
            let timeout = environment["WATCHDOG_USEC"].flatMap { Int64($0) } ?? 0
            heartbeatInterval = timeout > 0 ? .microseconds(timeout) / 2 : nil
        }
    }

    private static func address(_ name: String) -> [UInt8]? {
        let bytes = Array(name.utf8)
        let address: [UInt8]
        switch bytes[0] {
        case UInt8(ascii: "/"): address = bytes + [0]
        case UInt8(ascii: "@"): address = [0] + bytes.dropFirst()
        default: return nil
        }
        return address.count <= MemoryLayout.size(ofValue: sockaddr_un().sun_path) ? address : nil
    }

    /// The service has started.
    /// - Parameter status: a line for people, shown by `systemctl status`.
    func ready(_ status: String) { send("READY=1\nSTATUS=\(status)") }

    /// The service stops, and may take so long for it, also if the unit's `TimeoutStopSec` is shorter.
    func stopping(within time: Duration, _ status: String) {
        let microseconds = Int64((time / .microseconds(1)).rounded(.up))
        send("STOPPING=1\nEXTEND_TIMEOUT_USEC=\(microseconds)\nSTATUS=\(status)")
    }

    /// Tells the manager at each interval that the service is alive, until the task is canceled.
    ///
    /// What makes it a proof is `pulse`: it returns only while the service does its work, so a service that hangs sends
    /// no heartbeat and is started anew.
    /// - Parameter pulse: asks the service; returns the line for people, or nil if only a new process helps.
    func sendHeartbeats(_ pulse: () async throws -> String?) async {
        guard let heartbeatInterval else { return }
        do {
            while true {
                if let status = try await pulse() {
                    // Between the question and here a shutdown may have begun, which has a line of its own.
                    try Task.checkCancellation()
                    send("WATCHDOG=1\nSTATUS=\(status)")
                }
                try await Task.sleep(for: heartbeatInterval)
            }
        } catch {
            // Canceled: the service stops, and from then on the manager's time for stopping counts.
        }
    }

    private func send(_ message: String) {
        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return logFailure() }
        defer { close(descriptor) }
        // A manager that reads nothing must not hold the service up for longer than this.
        var limit = timeval(tv_sec: 1, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var socketAddress = sockaddr_un()
        socketAddress.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &socketAddress.sun_path) { $0.copyBytes(from: address) }
        // The name of an abstract socket ends where the address does, and not at a zero.
        let length = socklen_t(MemoryLayout.offset(of: \sockaddr_un.sun_path)! + address.count)
        let bytes = Array(message.utf8)
        let sent = withUnsafePointer(to: &socketAddress) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                retried { sendto(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL), pointer, length) }
            }
        }
        if sent < 0 { logFailure() }
    }

    private func retried(_ call: () -> Int) -> Int {
        while true {
            let result = call()
            if result >= 0 || errno != EINTR { return result }
        }
    }

    private func logFailure() {
        let reason = String(cString: strerror(errno))
        log.write(
            .serviceManagerUnreachable, "can't tell the service manager (NOTIFY_SOCKET)", ["error": "\(reason)"])
    }
}
