import Foundation
import Glibc

/// A Python program from `Tests/KafkaServers` that listens on a loopback port. It ends with this object, and dies with
/// the test process.
public final class KafkaTestServer: Sendable {
    private let process: ServiceProcess

    /// The port that it listens on.
    public let port: UInt16

    /// Its address for `bootstrap.servers`.
    public var bootstrapServers: String { "127.0.0.1:\(port)" }

    /// What it printed after its port.
    public var lines: [String] { Array(process.lines.dropFirst()) }

    /// TLS and SASL in front of a broker that knows neither; see `Tests/KafkaServers/front.py`.
    /// - Parameters:
    ///   - upstream: `host:port` of the broker.
    ///   - options: the program's.
    public static func front(_ upstream: String, _ options: [String]) async throws -> KafkaTestServer {
        let port = upstream.split(separator: ":").last.map(String.init) ?? ""
        return try await KafkaTestServer("front.py", ["--upstream", port] + options)
    }

    /// A broker that knows topics and nothing else; see `Tests/KafkaServers/admin_broker.py`.
    /// - Parameter script: JSON.
    public static func administration(_ script: String = "{}") async throws -> KafkaTestServer {
        try await KafkaTestServer("admin_broker.py", [script])
    }

    /// Starts a program and waits until it listens.
    private init(_ name: String, _ arguments: [String]) async throws {
        let process = try ServiceProcess(
            executable: "python3", ["-u", ServiceProcess.projectPath("Tests/KafkaServers/\(name)")] + arguments,
            environment: [:])
        try await eventually("\(name) listens") { process.exit != nil || !process.lines.isEmpty }
        guard let port = process.lines.first.flatMap({ UInt16($0) }) else {
            throw ServiceProcess.Failure(description: "\(name) has not told its port: \(process.output)")
        }
        self.process = process
        self.port = port
    }

    /// Ends it and waits until it is gone. More than once does no harm.
    public func stop() async throws { try await process.kill() }
}

/// Certificates that a test makes for itself with the `openssl` command: an authority, a server's for 127.0.0.1 and
/// `localhost`, and a client's with the name `client-one`.
public struct TestCertificates: Sendable {
    private let folder: TemporaryDirectory

    /// Makes them.
    public init() async throws {
        folder = try TemporaryDirectory("certificates")
        try Data("subjectAltName=DNS:localhost,IP:127.0.0.1".utf8).write(to: URL(filePath: path("names")))
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout"]
        try await openssl(
            ["req", "-x509"] + key + [path("ca.key"), "-out", authority, "-days", "2", "-subj", "/CN=authority"])
        for (name, subject) in [("server", "localhost"), ("client", "client-one")] {
            try await openssl(
                ["req"] + key + [path("\(name).key"), "-out", path("\(name).csr"), "-subj", "/CN=\(subject)"])
            try await openssl([
                "x509", "-req", "-in", path("\(name).csr"), "-CA", authority, "-CAkey", path("ca.key"),
                "-CAcreateserial", "-out", path("\(name).pem"), "-days", "2", "-extfile", path("names"),
            ])
        }
        try await openssl([
            "pkey", "-aes128", "-in", clientKey, "-out", encryptedClientKey, "-passout", "pass:key-password",
        ])
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

    private func openssl(_ arguments: [String]) async throws {
        let (exit, output) = try await ServiceProcess.run(executable: "openssl", arguments)
        guard exit == .code(0) else { throw ServiceProcess.Failure(description: "openssl \(arguments): \(output)") }
    }
}
