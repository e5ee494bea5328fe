import NIOCore
import NIOHTTP1
import NIOPosix

/// What HTTP ingest is measured against: servers that read each body, look at nothing, keep nothing, and answer 202.
public enum HTTPReference: Sendable {
    /// The least that Swift can do: one handler in a channel of NIO, which answers within the event loop.
    case nio
    /// What one would write: an application of Hummingbird with its router, and a handler that awaits the body.
    case hummingbird

    /// The answer, as the service would say it.
    static let answer = ByteBuffer(string: #"{"accepted":0}"# + "\n")

    /// Serves until the process ends.
    /// - Parameters:
    ///   - port: 0 takes a free one.
    ///   - ready: gets the port.
    public func run(host: String, port: Int, ready: @escaping @Sendable (Int) -> Void) async throws {
        switch self {
        case .nio: try await BareServer.run(host: host, port: port, ready: ready)
        case .hummingbird: try await HummingbirdServer.run(host: host, port: port, ready: ready)
        }
    }
}

private enum BareServer {
    static func run(host: String, port: Int, ready: (Int) -> Void) async throws {
        let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.backlog, value: 1_024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline(withErrorHandling: true)
                    try channel.pipeline.syncOperations.addHandler(BodyReader())
                }
            }
            .bind(host: host, port: port).get()
        ready(server.localAddress?.port ?? port)
        try await server.closeFuture.get()
    }

    private final class BodyReader: ChannelInboundHandler {
        typealias InboundIn = HTTPServerRequestPart
        typealias OutboundOut = HTTPServerResponsePart

        private static let head = HTTPResponseHead(
            version: .http1_1, status: .accepted,
            headers: ["Content-Type": "application/json", "Content-Length": "15"])

        private var byteCount = 0

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            switch unwrapInboundIn(data) {
            case .head: byteCount = 0
            case .body(let bytes): byteCount += bytes.readableBytes
            case .end:
                context.write(wrapOutboundOut(.head(Self.head)), promise: nil)
                context.write(wrapOutboundOut(.body(.byteBuffer(HTTPReference.answer))), promise: nil)
                context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
            }
        }
    }
}
