import Glibc
import NIOCore
import NIOPosix
import NIOSSL

/// A TCP connection that sends what the test says, byte for byte, and reads HTTP/1.1 responses.
final class RawConnection {
    struct Response {
        let status: Int
        let headers: [String: String]
        let body: String
    }

    struct Closed: Error {}

    private let channel: any Channel
    private var incoming: AsyncThrowingStream<ByteBuffer, any Error>.AsyncIterator
    private var pending = ByteBuffer()

    /// - Parameter tls: speaks TLS; the server's certificate must then be one for 127.0.0.1.
    static func open(port: Int, tls: NIOSSLContext? = nil, reads: Bool = true) async throws -> RawConnection {
        let (stream, continuation) = AsyncThrowingStream<ByteBuffer, any Error>.makeStream()
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.allowRemoteHalfClosure, value: true)
            .channelOption(.autoRead, value: reads)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let tls {
                        try channel.pipeline.syncOperations.addHandler(
                            NIOSSLClientHandler(context: tls, serverHostname: nil))
                    }
                    try channel.pipeline.syncOperations.addHandler(Receiver(continuation))
                }
            }
            .connect(host: "127.0.0.1", port: port).get()
        return RawConnection(channel, stream.makeAsyncIterator())
    }

    private init(_ channel: any Channel, _ incoming: AsyncThrowingStream<ByteBuffer, any Error>.AsyncIterator) {
        self.channel = channel
        self.incoming = incoming
    }

    deinit { channel.close(promise: nil) }

    func send(_ text: String) async throws { try await send(ByteBuffer(string: text)) }

    func send(_ bytes: ByteBuffer) async throws { try await channel.writeAndFlush(bytes) }

    /// Sends a request with a known length.
    func post(_ target: String, _ body: String, headers: [String] = []) async throws {
        let lines = ["POST \(target) HTTP/1.1", "Host: test", "Content-Length: \(body.utf8.count)"] + headers
        try await send(lines.joined(separator: "\r\n") + "\r\n\r\n" + body)
    }

    func get(_ target: String, method: String = "GET", headers: [String] = []) async throws {
        let lines = ["\(method) \(target) HTTP/1.1", "Host: test"] + headers
        try await send(lines.joined(separator: "\r\n") + "\r\n\r\n")
    }

    /// Sends a text again and again, slowly, until the task is canceled or the connection is closed.
    func trickle(_ text: String) -> Task<Void, any Error> {
        let channel = channel
        return Task {
            while true {
                try await channel.writeAndFlush(ByteBuffer(string: text))
                try await Task.sleep(for: .milliseconds(10))
            }
        }
    }

    /// Ends the sending direction.
    func finishSending() async throws { try await channel.close(mode: .output).get() }

    /// Makes the peer see a reset connection.
    func reset() async throws {
        guard let socket = channel as? any SocketOptionProvider else { throw Closed() }
        try await socket.setSoLinger(linger(l_onoff: 1, l_linger: 0)).get()
        try await channel.close().get()
    }

    /// The next response; `hasBody` is false for answers to HEAD.
    func response(hasBody: Bool = true) async throws -> Response {
        while true {
            let view = pending.readableBytesView
            if let end = view.firstRange(of: Array("\r\n\r\n".utf8)) {
                let lines = String(decoding: view[..<end.lowerBound], as: UTF8.self).split(separator: "\r\n")
                var headers: [String: String] = [:]
                for line in lines.dropFirst() {
                    let colon = line.firstIndex(of: ":")!
                    headers[line[..<colon].lowercased()] = line[colon...].dropFirst().drop { $0 == " " }.description
                }
                let length = hasBody ? headers["content-length"].flatMap { Int($0) } ?? 0 : 0
                if view.distance(from: end.upperBound, to: view.endIndex) >= length {
                    pending.moveReaderIndex(forwardBy: view.distance(from: view.startIndex, to: end.upperBound))
                    let body = pending.readString(length: length)!
                    return Response(
                        status: Int(lines[0].split(separator: " ")[1])!, headers: headers, body: body)
                }
            }
            guard var more = try await incoming.next() else { throw Closed() }
            pending.writeBuffer(&more)
        }
    }

    /// Waits until the peer has closed its direction, or the connection; returns what came before.
    func closed() async -> String {
        do {
            while var more = try await incoming.next() { pending.writeBuffer(&more) }
        } catch {
            // A reset is a closed connection too.
        }
        return String(buffer: pending)
    }

    private final class Receiver: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let continuation: AsyncThrowingStream<ByteBuffer, any Error>.Continuation

        init(_ continuation: AsyncThrowingStream<ByteBuffer, any Error>.Continuation) {
            self.continuation = continuation
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) { continuation.yield(unwrapInboundIn(data)) }
        func channelInactive(context: ChannelHandlerContext) { continuation.finish() }
        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            continuation.finish(throwing: error)
            context.close(promise: nil)
        }
        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            if case ChannelEvent.inputClosed? = event as? ChannelEvent { continuation.finish() }
        }
    }
}
