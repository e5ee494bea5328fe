internal import HummingbirdCore
internal import Logging
internal import NIOCore
internal import NIOHTTP1
internal import NIOHTTPTypes
internal import NIOHTTPTypesHTTP1
internal import NIOSSL

/// Sets up each connection: TLS where it is configured, HTTP's decoder with its bounds, and the connection's guard.
/// Hummingbird's own channel lacks the latter two.
struct IngestChannel: HTTPChannelHandler {
    typealias Value = NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>

    let requests: RequestHandler
    let limits: ConnectionLimits
    /// `nil` serves plain HTTP.
    let certificates: CertificateStore?

    var responder: HTTPChannelHandler.Responder { { [requests] in try await requests.serve($0, $1, $2) } }

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        channel.eventLoop.makeCompletedFuture {
            let pipeline = channel.pipeline.syncOperations
            if let certificates {
                try pipeline.addHandler(NIOSSLServerHandler(context: certificates.context))
            }
            var bounds = NIOHTTPDecoderLimitConfiguration()
            bounds.maxHeaderFieldSize = ConnectionLimits.headBytes
            bounds.maxHeaderListSize = ConnectionLimits.headBytes
            bounds.maxHeaderFieldCount = ConnectionLimits.headFields
            let encoder = HTTPResponseEncoder()
            try pipeline.addHandler(encoder)
            // What the decoder holds back is a part of a head, or what follows an Upgrade.
            try pipeline.addHandler(
                ByteToMessageHandler(
                    HTTPRequestDecoder(limitConfiguration: bounds), maximumBufferSize: 4 * ConnectionLimits.headBytes))
            let connectionGuard = ConnectionGuard(limits: limits, encoder: try pipeline.context(handler: encoder))
            try pipeline.addHandler(connectionGuard)
            try pipeline.addHandler(HTTP1ToHTTPServerCodec(secure: certificates != nil))
            try pipeline.addHandler(DirectIngest(requests, connectionGuard))
            return try NIOAsyncChannel(
                wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true))
        }
    }

    func handle(value: Value, logger: Logger) async { await handleHTTP(asyncChannel: value, logger: logger) }
}
