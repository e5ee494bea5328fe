internal import Dispatch
internal import Foundation
internal import Glibc
internal import IngestCore
internal import Synchronization

/// A program of the project as its users run it: a process of its own, with its output in memory.
///
/// It never outlives the test process: the thread that starts it waits for its end, and if that thread ends first, the
/// kernel kills the child (`setpriv --pdeathsig`, as nothing of ours can run between fork and exec).
public final class ServiceProcess: Sendable {
    /// How a process ended.
    public enum Exit: Sendable, Equatable {
        /// By itself, with this exit code.
        case code(CInt)
        /// By this signal.
        case signal(CInt)
    }

    /// A process could not be started, or did not do what it should in time.
    public struct Failure: Error, CustomStringConvertible {
        /// What, with the end of the process's output.
        public let description: String
    }

    fileprivate struct State {
        var process: pid_t = 0
        var exit: Exit?
        var lines: [String] = []
        var partialLine: [UInt8] = []
    }

    /// What thread and owner share.
    private final class Shared: Sendable {
        let state = Mutex(State())
    }

    private let shared = Shared()
    private let name: String

    /// The path of a file of the project.
    public static func projectPath(_ name: String) -> String {
        URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: name).path
    }

    /// `ingestd`: the file that the variable `INGESTD_BINARY` names, else the one that was built with the tests.
    public static let binary: String = {
        if let path = ProcessInfo.processInfo.environment["INGESTD_BINARY"] { return path }
        // `swift test` runs the test bundle, which stands beside the package's executables.
        let bundle = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
        return bundle.deletingLastPathComponent().appending(path: "ingestd").path
    }()

    /// Starts a process with nothing on standard input.
    /// - Parameters:
    ///   - executable: its path.
    ///   - arguments: after the executable's path.
    ///   - environment: all of it, apart from `PATH` and `HOME`.
    /// - Throws: `Failure`.
    public init(executable: String = binary, _ arguments: [String], environment: [String: String]) throws {
        name = ([URL(filePath: executable).lastPathComponent] + arguments).joined(separator: " ")
        let inherited = ProcessInfo.processInfo.environment.filter { $0.key == "PATH" || $0.key == "HOME" }
        let variables = inherited.merging(environment) { $1 }.map { "\($0.key)=\($0.value)" }
        let started = DispatchSemaphore(value: 0)
        let failure = Mutex<String?>(nil)
        let shared = shared
        // Not joined: it ends with the process.
        _ = DedicatedThread(name: "service-process") {
            do {
                let command = ["setpriv", "--pdeathsig", "KILL", executable] + arguments
                let (process, output) = try Self.spawn(command, variables)
                shared.state.withLock { $0.process = process }
                started.signal()
                Self.follow(process, output, shared)
            } catch {
                failure.withLock { $0 = "\(error)" }
                started.signal()
            }
        }
        started.wait()
        if let text = failure.withLock({ $0 }) { throw Failure(description: "\(name): \(text)") }
    }

    /// Kills it if it still runs.
    deinit { signal(SIGKILL) }

    /// Runs a program to its end.
    /// - Returns: how it ended, and what it wrote to standard output and standard error.
    public static func run(
        executable: String = binary, _ arguments: [String], environment: [String: String] = [:]
    ) async throws -> (exit: Exit, output: String) {
        let process = try ServiceProcess(executable: executable, arguments, environment: environment)
        let exit = try await process.ended(within: .seconds(60))
        return (exit, process.output)
    }

    /// How it ended; `nil` while it runs.
    public var exit: Exit? { shared.state.withLock { $0.exit } }

    /// The lines of standard output and standard error so far.
    public var lines: [String] { shared.state.withLock { $0.lines } }

    /// All that it has written, as text.
    public var output: String { lines.joined(separator: "\n") }

    /// Sends a signal; none if it has ended.
    public func signal(_ number: CInt) {
        // Under the lock: once `exit` is set the process is reaped, and its id may be another's.
        shared.state.withLock { state in
            if state.exit == nil && state.process > 0 { Glibc.kill(state.process, number) }
        }
    }

    /// Waits for its end.
    /// - Throws: `Failure`.
    @discardableResult
    public func ended(within limit: Duration) async throws -> Exit {
        try await wait("end", within: limit) { self.exit }
    }

    /// Kills it as a power cut would, and waits until it is gone.
    public func kill() async throws {
        signal(SIGKILL)
        try await ended(within: .seconds(30))
    }

    /// Waits until a log line (JSON) has this message.
    /// - Returns: its fields.
    /// - Throws: `Failure` when the time is up or the process ends without it.
    @discardableResult
    public func logged(_ message: String, within limit: Duration = .seconds(30)) async throws -> [String: String] {
        var seen = 0
        return try await wait("log \"\(message)\"", within: limit) {
            let hasEnded = exit != nil
            let lines = lines
            defer { seen = lines.count }
            for line in lines[seen...] where line.contains("\"\(message)\"") {
                guard let fields = try? JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any],
                    fields["msg"] as? String == message
                else { continue }
                return fields.mapValues { "\($0)" }
            }
            if hasEnded { throw failure("ended (\(exit!)) without the log line \"\(message)\"") }
            return nil
        }
    }

    private func wait<Value>(
        _ what: String, within limit: Duration, _ look: () throws -> Value?
    ) async throws -> Value {
        let deadline = ContinuousClock.now + limit
        while true {
            if let value = try look() { return value }
            guard ContinuousClock.now < deadline else { throw failure("did not \(what) within \(limit)") }
            try await Task.sleep(for: .milliseconds(2))
        }
    }

    private func failure(_ text: String) -> Failure {
        Failure(description: "\(name): \(text); its output ends with\n\(lines.suffix(30).joined(separator: "\n"))")
    }

    // MARK: The thread

    private static func spawn(
        _ arguments: [String], _ variables: [String]
    ) throws -> (process: pid_t, output: CInt) {
        var output: [CInt] = [-1, -1]
        // Closed on exec from the start, so that no other child holds an end.
        guard socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &output) == 0 else {
            throw Failure(description: "socketpair: \(String(cString: strerror(errno)))")
        }
        defer { close(output[1]) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, output[1], 1)
        posix_spawn_file_actions_adddup2(&actions, output[1], 2)
        let strings = arguments.map { strdup($0) } + [nil]
        let environment = variables.map { strdup($0) } + [nil]
        defer { for string in strings + environment { free(string) } }
        var process: pid_t = 0
        let result = posix_spawnp(&process, arguments[0], &actions, nil, strings, environment)
        guard result == 0 else {
            close(output[0])
            throw Failure(description: "can't start \(arguments[0]): \(String(cString: strerror(result)))")
        }
        return (process, output[0])
    }

    /// Collects the output, then the exit.
    private static func follow(_ process: pid_t, _ output: CInt, _ shared: Shared) {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = read(output, &buffer, buffer.count)
            guard count > 0 else {
                if count < 0 && errno == EINTR { continue }
                break
            }
            shared.state.withLock { $0.take(buffer[..<count]) }
        }
        close(output)
        var information = siginfo_t()
        while waitid(P_PID, id_t(process), &information, WEXITED | WNOWAIT) != 0 && errno == EINTR {}
        shared.state.withLock { state in
            var status: CInt = 0
            waitpid(process, &status, 0)
            state.take([UInt8(ascii: "\n")])
            state.exit = status & 0x7F == 0 ? .code((status >> 8) & 0xFF) : .signal(status & 0x7F)
        }
    }
}

extension ServiceProcess.State {
    fileprivate mutating func take(_ bytes: ArraySlice<UInt8>) {
        var parts = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        let rest = parts.removeLast()
        for part in parts {
            let line = String(decoding: partialLine + part, as: UTF8.self)
            partialLine = []
            if !line.isEmpty { lines.append(line) }
        }
        partialLine += rest
    }
}
