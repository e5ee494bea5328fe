public import Foundation
import FoundationNetworking
import Glibc
import Synchronization

/// A ClickHouse of its own for a test, on a free loopback port, with its data in a temporary folder. It is started
/// through `tools/clickhouse-dev` and dies with the test process, which holds the other end of its standard input.
public final class ClickHouseServer: Sendable {
    /// Which ClickHouse.
    public enum Engine: String, Sendable, CaseIterable {
        /// The installed server (Debian has 18.16).
        case server
        /// Today's engine behind an HTTP front.
        case chdb
    }

    /// Why a server could not be started, or a query failed.
    public struct Failure: Error, CustomStringConvertible {
        /// What happened.
        public let description: String
    }

    private struct Running {
        let process: pid_t
        let standardInput: CInt
        let standardOutput: CInt
    }

    /// Which ClickHouse it is.
    public let engine: Engine
    /// Its HTTP port, also after a restart.
    public let port: UInt16
    /// The version that it told.
    public let version: String
    private let password: String
    private let folder: TemporaryDirectory
    private let running: Mutex<Running?>

    /// The base URL.
    public var url: String { "http://127.0.0.1:\(port)" }

    /// Whether the engine is installed on this machine; tests are skipped where it is not.
    public static func isInstalled(_ engine: Engine) -> Bool {
        switch engine {
        case .server:
            ["/usr/sbin", "/usr/bin", "/usr/local/bin"].contains { folder in
                ["clickhouse-server", "clickhouse"].contains { access("\(folder)/\($0)", X_OK) == 0 }
            }
        case .chdb: access(root.appending(path: ".venv/bin/python").path, X_OK) == 0
        }
    }

    /// The engines that are installed, for parameterized tests.
    public static var installedEngines: [Engine] { Engine.allCases.filter(isInstalled) }

    /// The project's folder.
    private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// Starts a server and waits until it answers.
    /// - Parameter password: of the user `default`.
    /// - Throws: `Failure`, with what the tool printed on the test's standard error.
    public init(_ engine: Engine, password: String = "") throws {
        self.engine = engine
        self.password = password
        folder = try TemporaryDirectory("clickhouse")
        let started = try Self.start(engine, folder: folder, port: 0, password: password)
        port = started.port
        version = started.version
        running = Mutex(started.running)
    }

    /// Kills it and removes its data.
    deinit { kill() }

    /// Kills it as a power cut would, and waits until it is gone. Data stay.
    public func kill() {
        guard let running = running.withLock({ $0.take() }) else { return }
        Glibc.kill(running.process, SIGKILL)
        close(running.standardInput)
        Self.reap(running)
    }

    /// Stops it in order, and waits until it is gone. Data stay.
    public func stop() {
        guard let running = running.withLock({ $0.take() }) else { return }
        close(running.standardInput)
        // It closes its standard output when it ends, at the latest.
        if Self.readLine(running.standardOutput, seconds: 15) == nil { Glibc.kill(running.process, SIGKILL) }
        Self.reap(running)
    }

    /// Starts it again with the same data on the same port, and waits until it answers.
    public func restart() throws {
        let started = try Self.start(engine, folder: folder, port: port, password: password)
        running.withLock { $0 = started.running }
    }

    /// Runs a statement.
    /// - Returns: the answer without the last line feed.
    /// - Throws: `Failure` with the server's words.
    @discardableResult
    public func query(_ sql: String) async throws -> String {
        var text = String(decoding: try await queryBytes(sql), as: UTF8.self)
        if text.hasSuffix("\n") { text.removeLast() }
        return text
    }

    /// Runs a statement.
    /// - Returns: the answer's bytes.
    public func queryBytes(_ sql: String) async throws -> Data {
        var request = URLRequest(url: URL(string: url)!)
        request.httpMethod = "POST"
        request.httpBody = Data(sql.utf8)
        request.setValue("default", forHTTPHeaderField: "X-ClickHouse-User")
        if !password.isEmpty { request.setValue(password, forHTTPHeaderField: "X-ClickHouse-Key") }
        let (data, response) = try await URLSession.shared.data(for: request)
        guard (response as? HTTPURLResponse)?.statusCode == 200 else {
            throw Failure(description: "\(sql): \(String(decoding: data, as: UTF8.self))")
        }
        return data
    }

    // MARK: The process

    private static func start(
        _ engine: Engine, folder: TemporaryDirectory, port: UInt16, password: String
    ) throws -> (running: Running, port: UInt16, version: String) {
        let running = try spawn([
            root.appending(path: "tools/clickhouse-dev").path, "--data", folder.path, "--engine", engine.rawValue,
            "--port", "\(port)", "--password", password, "--exit-with-stdin",
        ])
        // ready http://127.0.0.1:PORT engine=... version=...
        let line = readLine(running.standardOutput, seconds: 60) ?? ""
        let words = line.split(separator: " ")
        guard words.count == 4, words[0] == "ready",
            let port = words[1].split(separator: ":").last.flatMap({ UInt16($0) }),
            let version = words[3].split(separator: "=").last
        else {
            Glibc.kill(running.process, SIGKILL)
            close(running.standardInput)
            reap(running)
            throw Failure(description: "tools/clickhouse-dev --engine \(engine) did not start: '\(line)'")
        }
        return (running, port, String(version))
    }

    private static func spawn(_ arguments: [String]) throws -> Running {
        var input: [CInt] = [-1, -1]
        var output: [CInt] = [-1, -1]
        // Other children must not hold our end of its standard input: sockets can be closed on exec from the start.
        let kind = CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &input) == 0, socketpair(AF_UNIX, kind, 0, &output) == 0 else {
            throw Failure(description: "socketpair: \(String(cString: strerror(errno)))")
        }
        defer {
            close(input[0])
            close(output[1])
        }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, input[0], 0)
        posix_spawn_file_actions_adddup2(&actions, output[1], 1)
        var process: pid_t = 0
        let strings = arguments.map { strdup($0) } + [nil]
        defer { for string in strings { free(string) } }
        let result = posix_spawn(&process, arguments[0], &actions, nil, strings, environ)
        guard result == 0 else {
            close(input[1])
            close(output[0])
            throw Failure(description: "\(arguments[0]): \(String(cString: strerror(result)))")
        }
        return Running(process: process, standardInput: input[1], standardOutput: output[0])
    }

    /// The next line; what came before the end of the file; or `nil` when the time is up.
    private static func readLine(_ file: CInt, seconds: Double) -> String? {
        let deadline = Date(timeIntervalSinceNow: seconds)
        var line: [UInt8] = []
        while true {
            var wait = pollfd(fd: file, events: Int16(POLLIN), revents: 0)
            let left = deadline.timeIntervalSinceNow
            guard left > 0, poll(&wait, 1, CInt(left * 1_000) + 1) >= 0 else { return nil }
            guard wait.revents != 0 else { continue }
            var byte: UInt8 = 0
            guard read(file, &byte, 1) == 1, byte != 0x0A else { return String(decoding: line, as: UTF8.self) }
            line.append(byte)
        }
    }

    private static func reap(_ running: Running) {
        var status: CInt = 0
        while waitpid(running.process, &status, 0) < 0 && errno == EINTR {}
        close(running.standardOutput)
    }
}
