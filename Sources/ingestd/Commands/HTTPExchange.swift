import Glibc
import IngestCore
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL

/// One HTTP/1.1 request on a connection of its own.
enum HTTPExchange {
    /// Why there is no answer.
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// The files that the service itself has. Its certificate is accepted whatever name it is for and whoever signed
    /// it, but only this one is; should the service want a certificate of its clients, it gets its own.
    struct TLS: Sendable {
        let certificatePath: String
        let keyPath: String

        /// - Throws: NIO's errors if the files can't be read.
        func makeHandler() throws -> NIOSSLClientHandler {
            let chain = try NIOSSLCertificate.fromPEMFile(certificatePath)
            var configuration = TLSConfiguration.makeClientConfiguration()
            configuration.certificateVerification = .noHostnameVerification
            configuration.certificateChain = chain.map { .certificate($0) }
            configuration.privateKey = .privateKey(try NIOSSLPrivateKey(file: keyPath, format: .pem))
            return try NIOSSLClientHandler(
                context: NIOSSLContext(configuration: configuration), serverHostname: nil
            ) { shown, promise in
                promise.succeed(shown.first == chain.first ? .certificateVerified : .failed)
            }
        }
    }

    /// Answers are small documents.
    private static let largestAnswer = 4 << 20

    /// Why nobody could be reached, in fewer words than NIO's. All addresses of a name mostly fail for the same reason.
    private static func words(for error: NIOConnectionError) -> String {
        guard let first = error.connectionErrors.first?.error else {
            return "the host has no address: \(error.dnsAError ?? error.dnsAAAAError ?? error)"
        }
        guard let system = first as? IOError else { return "\(first)" }
        return String(cString: strerror(system.errnoCode))
    }

    /// Sends a request without a body, and reads the answer.
    /// - Parameters:
    ///   - host: name or address; an IPv6 address without brackets.
    ///   - tls: for HTTPS.
    ///   - timeout: from connecting to the end of the answer.
    /// - Throws: `Failure`, or NIO's errors.
    static func request(
        host: String, port: Int, tls: TLS?, method: String, target: String, headers: [(String, String)],
        timeout: Duration
    ) async throws -> (status: Int, body: [UInt8]) {
        let head = HTTPRequestHead(
            version: .http1_1, method: HTTPMethod(rawValue: method), uri: target,
            headers: HTTPHeaders(headers + [("Content-Length", "0"), ("Connection", "close")]))
        let channel: NIOAsyncChannel<HTTPClientResponsePart, HTTPClientRequestPart>
        do {
            channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connectTimeout(.seconds(5))
                .connect(host: host, port: port) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        if let tls { try channel.pipeline.syncOperations.addHandler(tls.makeHandler()) }
                        try channel.pipeline.syncOperations.addHTTPClientHandlers()
                        return try NIOAsyncChannel(wrappingChannelSynchronously: channel)
                    }
                }
        } catch let error as NIOConnectionError {
            throw Failure(description: words(for: error))
        }
        let raw = channel.channel
        let expiry = raw.eventLoop.scheduleTask(in: TimeAmount(timeout)) { raw.close(promise: nil) }
        defer { expiry.cancel() }
        return try await channel.executeThenClose { inbound, outbound in
            try await outbound.write(.head(head))
            try await outbound.write(.end(nil))
            var status: Int?
            var body: [UInt8] = []
            for try await part in inbound {
                switch part {
                case .head(let head): status = Int(head.status.code)
                case .body(let bytes):
                    body += bytes.readableBytesView
                    guard body.count <= largestAnswer else {
                        throw Failure(description: "the answer is larger than \(largestAnswer) bytes")
                    }
                case .end:
                    guard let status else { break }
                    return (status, body)
                }
            }
            throw Failure(
                description:
                    "no complete answer within \(timeout), or the connection was closed; what was asked for may "
                    + "have been done")
        }
    }
}
