import NIOCore
import NIOHTTP1
import NIOPosix

/// What HTTP ingest is measured against: a server on the same NIO that reads each body, looks at nothing, keeps
/// nothing, and answers 202.
public enum HTTPReference {
    /// Serves until the process ends. Blocks.
    /// - Parameters:
    ///   - port: 0 takes a free one.
    ///   - ready: gets the port.
    public static func run(host: String, port: Int, ready: (Int) -> Void) throws {
        let server = try ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.backlog, value: 1_024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline(withErrorHandling: true)
                    try channel.pipeline.syncOperations.addHandler(BodyReader())
                }
            }
            .bind(host: host, port: port).wait()
        ready(server.localAddress?.port ?? port)
        try server.closeFuture.wait()
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
                context.write(
                    wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: #"{"accepted":0}"# + "\n")))), promise: nil)
                context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
            }
        }
    }
}
