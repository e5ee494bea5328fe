import Foundation
import Glibc

/// A process that is spoken to line by line over its standard input and output. It sees the end of its input when this
/// object goes, or the test process does.
final class ChildProcess {
    private let process: pid_t
    private let channel: CInt
    private var received: [UInt8] = []
    private var status: CInt?

    /// - Parameter environment: added to `PATH` and `HOME`.
    init(_ command: [String], environment: [String: String] = [:]) throws {
        var ends: [CInt] = [-1, -1]
        // Closed on exec: no other child of this process keeps this one alive.
        guard socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
            throw Problem("socketpair: errno \(errno)")
        }
        defer { close(ends[1]) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends[1], 0)
        posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
        let inherited = ProcessInfo.processInfo.environment.filter { $0.key == "PATH" || $0.key == "HOME" }
        let arguments = command.map { strdup($0) } + [nil]
        let variables = inherited.merging(environment) { $1 }.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for string in arguments + variables { free(string) } }
        var process: pid_t = 0
        let result = posix_spawn(&process, command[0], &actions, nil, arguments, variables)
        guard result == 0 else {
            close(ends[0])
            throw Problem("can't start \(command[0]): errno \(result)")
        }
        self.process = process
        channel = ends[0]
        // A child that hangs fails the test.
        var limit = timeval(tv_sec: 120, tv_usec: 0)
        setsockopt(channel, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { end() }

    /// Sends a line.
    func send(_ line: String) throws {
        let bytes = Array((line + "\n").utf8)
        guard Glibc.send(channel, bytes, bytes.count, CInt(MSG_NOSIGNAL)) == bytes.count else {
            throw Problem("process \(process) is gone (\(line))")
        }
    }

    /// The next line of its output.
    func receive() throws -> String {
        while true {
            if let end = received.firstIndex(of: 0x0A) {
                defer { received.removeSubrange(...end) }
                return String(decoding: received[..<end], as: UTF8.self)
            }
            var buffer = [UInt8](repeating: 0, count: 4_096)
            let count = recv(channel, &buffer, buffer.count, 0)
            guard count > 0 else { throw Problem("process \(process) does not answer") }
            received += buffer[..<count]
        }
    }

    /// Ends its input and waits for its end.
    /// - Returns: as of `waitpid`; 0 is a good end.
    @discardableResult
    func end() -> CInt {
        if let status { return status }
        close(channel)
        var status: CInt = 0
        while waitpid(process, &status, 0) < 0 && errno == EINTR {}
        self.status = status
        return status
    }
}
