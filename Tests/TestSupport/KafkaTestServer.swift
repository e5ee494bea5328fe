import Foundation
import Glibc
import Synchronization

/// A Python program from `Tests/KafkaServers` that listens on a loopback port. It dies with the test process, which
/// holds the other end of its standard input.
public final class KafkaTestServer: Sendable {
    /// Why a program could not be started.
    public struct Failure: Error, CustomStringConvertible {
        /// What happened.
        public let description: String
    }

    /// What a thread reads from a pipe. `@unchecked Sendable`: the descriptor is used by that thread only.
    private final class Output: @unchecked Sendable {
        private let pipe = Pipe()
        private let state = Mutex<(lines: [String], hasEnded: Bool)>(([], false))

        /// For the process.
        var end: Any { pipe }
        var lines: [String] { state.withLock { $0.lines } }
        var hasEnded: Bool { state.withLock { $0.hasEnded } }

        /// Reads until the other end is closed.
        func read() {
            var rest: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 4_096)
            while true {
                let count = Glibc.read(pipe.fileHandleForReading.fileDescriptor, &buffer, buffer.count)
                guard count > 0 else { break }
                rest += buffer[..<count]
                while let end = rest.firstIndex(of: 0x0a) {
                    let line = String(decoding: rest[..<end], as: UTF8.self)
                    state.withLock { $0.lines.append(line) }
                    rest.removeSubrange(...end)
                }
            }
            state.withLock { $0.hasEnded = true }
        }
    }

    /// `@unchecked Sendable`: used by the thread that makes the object and the one that ends it.
    private struct Running: @unchecked Sendable {
        let process: Process
        let input: Pipe
    }

    private let running: Running
    private let output = Output()

    /// The port that it listens on.
    public let port: UInt16

    /// Its address for `bootstrap.servers`.
    public var bootstrapServers: String { "127.0.0.1:\(port)" }

    /// What it printed after its port.
    public var lines: [String] { Array(output.lines.dropFirst()) }

    /// TLS and SASL in front of a broker that knows neither; see `Tests/KafkaServers/front.py`.
    public static func front(_ upstream: String, _ options: [String]) throws -> KafkaTestServer {
        let port = upstream.split(separator: ":").last.map(String.init) ?? ""
        return try KafkaTestServer("front.py", ["--upstream", port] + options)
    }

    /// A broker that knows topics and nothing else; see `Tests/KafkaServers/admin_broker.py`.
    /// - Parameter script: JSON.
    public static func administration(_ script: String = "{}") throws -> KafkaTestServer {
        try KafkaTestServer("admin_broker.py", [script])
    }

    /// Starts a program and waits until it listens.
    private init(_ name: String, _ arguments: [String]) throws {
        let script = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "KafkaServers/\(name)")
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["python3", script.path] + arguments
        let input = Pipe()
        process.standardInput = input
        process.standardOutput = output.end
        try process.run()
        running = Running(process: process, input: input)
        let thread = Thread { [output] in output.read() }
        thread.start()
        let deadline = Date(timeIntervalSinceNow: 20)
        while output.lines.isEmpty, !output.hasEnded, Date() < deadline { usleep(2_000) }
        guard let port = output.lines.first.flatMap({ UInt16($0) }) else {
            process.terminate()
            throw Failure(description: "\(name) has not told its port: \(output.lines)")
        }
        self.port = port
    }

    deinit { stop() }

    /// Ends it and waits until it is gone. More than once does no harm.
    public func stop() {
        guard running.process.isRunning else { return }
        running.process.terminate()
        running.process.waitUntilExit()
    }
}

/// Certificates that a test makes for itself with the `openssl` command: an authority, a server's for 127.0.0.1 and
/// `localhost`, and a client's with the name `client-one`.
public struct TestCertificates: Sendable {
    private let folder: TemporaryDirectory

    /// Makes them.
    public init() throws {
        folder = try TemporaryDirectory("certificates")
        try Data("subjectAltName=DNS:localhost,IP:127.0.0.1".utf8).write(to: URL(filePath: path("names")))
        try openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"
        )
        for (name, subject) in [("server", "localhost"), ("client", "client-one")] {
            try openssl(
                "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout \(name).key -out \(name).csr -subj /CN=\(subject)"
            )
            try openssl(
                "x509 -req -in \(name).csr -CA ca.pem -CAkey ca.key -CAcreateserial -out \(name).pem -days 2 "
                    + "-extfile names")
        }
        try openssl("pkey -aes128 -in client.key -out encrypted.key -passout pass:key-password")
    }

    /// The authority's certificate.
    public var authority: String { path("ca.pem") }
    /// The server's certificate.
    public var server: String { path("server.pem") }
    /// Its key.
    public var serverKey: String { path("server.key") }
    /// The client's certificate.
    public var client: String { path("client.pem") }
    /// Its key.
    public var clientKey: String { path("client.key") }
    /// Its key, encrypted with `key-password`.
    public var encryptedClientKey: String { path("encrypted.key") }

    private func path(_ name: String) -> String { folder.appending(name) }

    private func openssl(_ arguments: String) throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["openssl"] + arguments.split(separator: " ").map(String.init)
        process.currentDirectoryURL = URL(filePath: folder.path)
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw KafkaTestServer.Failure(description: "openssl \(arguments) failed")
        }
    }
}
