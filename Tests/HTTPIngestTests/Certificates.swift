import Foundation
import NIOSSL
import TestSupport

/// Certificates of an authority that exists for one test, made by the openssl command.
final class Certificates {
    let folder: TemporaryDirectory

    struct Failure: Error { let output: String }

    init() throws {
        folder = try TemporaryDirectory("certificates")
        try Self.openssl(
            ["req", "-x509", "-subj", "/CN=authority", "-keyout", path("ca.key"), "-out", path("ca.pem")] + Self.newKey)
    }

    private static let newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]

    func path(_ name: String) -> String { folder.appending(name) }

    /// Makes `name.pem` and `name.key`: a certificate for 127.0.0.1 that the authority has signed.
    func issue(_ name: String) throws {
        let request = path(name + ".csr")
        try Self.openssl(
            ["req", "-new", "-subj", "/CN=\(name)", "-keyout", path(name + ".key"), "-out", request]
                + Self.newKey.dropLast(2))
        let extensions = path(name + ".ext")
        try "subjectAltName=IP:127.0.0.1\n".write(toFile: extensions, atomically: true, encoding: .utf8)
        try Self.openssl([
            "x509", "-req", "-in", request, "-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-CAcreateserial", "-days",
            "2", "-extfile", extensions, "-out", path(name + ".pem"),
        ])
    }

    /// Puts the files of one name in the place of another's, certificate first or key only.
    func replace(_ name: String, by other: String, _ suffixes: [String] = [".pem", ".key"]) throws {
        for suffix in suffixes {
            try Data(contentsOf: URL(fileURLWithPath: path(other + suffix))).write(
                to: URL(fileURLWithPath: path(name + suffix)), options: .atomic)
        }
    }

    /// A client that trusts the authority.
    /// - Parameter name: of the certificate that it shows.
    func client(_ name: String? = nil, maximum: TLSVersion? = nil) throws -> NIOSSLContext {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.trustRoots = .file(path("ca.pem"))
        configuration.maximumTLSVersion = maximum
        if let name {
            configuration.certificateChain = try NIOSSLCertificate.fromPEMFile(path(name + ".pem")).map {
                .certificate($0)
            }
            configuration.privateKey = .privateKey(try NIOSSLPrivateKey(file: path(name + ".key"), format: .pem))
        }
        return try NIOSSLContext(configuration: configuration)
    }

    static func openssl(_ arguments: [String]) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
        process.arguments = arguments
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let text = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw Failure(output: String(decoding: text, as: UTF8.self)) }
    }
}
