import Foundation
import HTTPIngest
import NIOSSL
import TestSupport
import Testing

/// HTTPS: certificates, their reload, client certificates, and clients that stall.
@Suite(.timeLimit(.minutes(1))) struct TLSTests {
    let certificates: Certificates

    init() throws {
        certificates = try Certificates()
        try certificates.issue("server")
    }

    private func tls(clientCA: String? = nil) -> HTTPIngestConfiguration.TLS {
        .init(
            certificatePath: certificates.path("server.pem"), keyPath: certificates.path("server.key"),
            clientCAPath: clientCA)
    }

    private func post(_ server: Server, _ client: NIOSSLContext) async throws -> Int {
        let connection = try await RawConnection.open(port: server.port, tls: client)
        try await connection.post("/v1/events", "{}")
        return try await connection.response().status
    }

    @Test func requestsAreServed() async throws {
        try await withServer({ $0.tls = tls() }) { server in
            for version in [TLSVersion.tlsv12, .tlsv13] {
                #expect(try await post(server, certificates.client(maximum: version)) == 202)
            }
            let old = try certificates.client(maximum: .tlsv11)
            await #expect(throws: (any Error).self) { _ = try await post(server, old) }
            // Large bodies, several requests, a refusal that ends the connection, and a client that does not trust us.
            let connection = try await RawConnection.open(port: server.port, tls: certificates.client())
            let event = #"{"a":""# + String(repeating: "x", count: 1 << 20) + #""}"#
            for _ in 0..<3 {
                try await connection.post("/v1/events", event)
                #expect(try await connection.response().status == 202)
            }
            try await connection.send("what?\r\n\r\n")
            expectProblem(try await connection.response(), 400, "malformed_request")
            #expect(await connection.closed() == "")
            let stranger = try NIOSSLContext(configuration: .makeClientConfiguration())
            await #expect(throws: (any Error).self) { _ = try await post(server, stranger) }
            #expect(server.intake.records.count == 5)
        }
    }

    @Test func whatIsNoTLSIsCutOff() async throws {
        try await withServer({ $0.tls = tls() }) { server in
            let connection = try await server.connect()
            try await connection.post("/v1/events", "{}")
            #expect(await connection.closed().contains("HTTP") == false)
            #expect(try await post(server, certificates.client()) == 202)
            #expect(server.intake.records.count == 1)
        }
    }

    @Test func aStalledHandshakeIsCutOff() async throws {
        try await withServer({
            $0.tls = tls()
            $0.headerTimeout = .milliseconds(50)
        }) { server in
            let silent = try await server.connect()
            let partial = try await server.connect()
            try await partial.send("\u{16}\u{3}\u{1}")
            _ = await silent.closed()
            _ = await partial.closed()
            #expect(try await post(server, certificates.client()) == 202)
        }
    }

    @Test func theCertificateIsReadAgain() async throws {
        try certificates.issue("second")
        try certificates.issue("third")
        try await withServer({
            $0.tls = tls()
            $0.reloadInterval = .milliseconds(5)
        }) { server in
            let client = try certificates.client()
            let old = try await RawConnection.open(port: server.port, tls: client)
            try await old.get("/livez")
            #expect(try await old.response().status == 200)
            let first = try await server.certificate()
            try certificates.replace("server", by: "second")
            try await eventually("new connections get the new certificate") { try await server.certificate() != first }
            let second = try await server.certificate()
            try await old.post("/v1/events", "{}")
            #expect(try await old.response().status == 202)
            // A certificate without its key: the old pair stays, and works.
            try certificates.replace("server", by: "third", [".pem"])
            func ready() async throws -> String {
                let connection = try await RawConnection.open(port: server.port, tls: client)
                try await connection.get("/readyz")
                return try await connection.response().body
            }
            try await eventually("the trouble is shown") {
                try await ready().contains(#""component":"http_tls","healthy":false,"required":false"#)
            }
            #expect(try await server.certificate() == second)
            #expect(try await post(server, client) == 202)
            try certificates.replace("server", by: "third", [".key"])
            try await eventually("the third certificate is used") { try await server.certificate() != second }
            #expect(try await !ready().contains("http_tls"))
        }
    }

    @Test func clientsShowTheirCertificate() async throws {
        try certificates.issue("client")
        let strangers = try Certificates()
        try strangers.issue("client")
        try await withServer({ $0.tls = tls(clientCA: certificates.path("ca.pem")) }) { server in
            #expect(try await post(server, certificates.client("client")) == 202)
            for version in [TLSVersion.tlsv12, .tlsv13] {
                let without = try certificates.client(maximum: version)
                await #expect(throws: (any Error).self) { _ = try await post(server, without) }
            }
            var other = TLSConfiguration.makeClientConfiguration()
            other.trustRoots = .file(certificates.path("ca.pem"))
            other.certificateChain = try NIOSSLCertificate.fromPEMFile(strangers.path("client.pem")).map {
                .certificate($0)
            }
            other.privateKey = .privateKey(try NIOSSLPrivateKey(file: strangers.path("client.key"), format: .pem))
            let context = try NIOSSLContext(configuration: other)
            await #expect(throws: (any Error).self) { _ = try await post(server, context) }
            #expect(server.intake.records.count == 1)
        }
    }

    @Test func whatDoesNotWorkIsReportedAtStart() throws {
        try certificates.issue("second")
        let encrypted = certificates.path("encrypted.key"), traditional = certificates.path("traditional.key")
        let key = certificates.path("server.key"), empty = certificates.path("empty")
        try Certificates.openssl(["pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", encrypted])
        try Certificates.openssl(["ec", "-in", key, "-aes256", "-passout", "pass:x", "-out", traditional])
        try "".write(toFile: empty, atomically: true, encoding: .utf8)
        let pem = certificates.path("server.pem")
        let cases: [(certificate: String, key: String, clientCA: String?, reason: String)] = [
            ("/nowhere/a.pem", key, nil, "/nowhere/a.pem can't be read: No such file or directory"),
            (pem, "/nowhere/a.key", nil, "/nowhere/a.key can't be read: No such file or directory"),
            (pem, certificates.folder.path, nil, "can't be read: Is a directory"),
            (pem, certificates.path("second.key"), nil, "must be the key of the first certificate in \(pem)"),
            (pem, encrypted, nil, "\(encrypted) is encrypted"), (pem, traditional, nil, "\(traditional) is encrypted"),
            (key, key, nil, "\(key) holds no certificates"), (empty, key, nil, "\(empty) holds no certificates"),
            (pem, pem, nil, "\(pem) holds no private key"), (pem, empty, nil, "\(empty) holds no private key"),
            (pem, key, key, "\(key) holds no certificates"),
        ]
        for (certificate, key, clientCA, reason) in cases {
            let error = startError {
                $0.tls = .init(certificatePath: certificate, keyPath: key, clientCAPath: clientCA)
            }
            #expect(error?.description.contains(reason) == true, "\(reason): \(error?.description ?? "")")
        }
    }
}

extension Server {
    /// What a new connection is shown, as openssl prints it.
    fileprivate func certificate() async throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
        process.arguments = ["s_client", "-connect", "127.0.0.1:\(port)", "-brief"]
        let output = Pipe()
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return text.split(separator: "\n").first { $0.hasPrefix("Peer certificate") }.map { String($0) } ?? text
    }
}
