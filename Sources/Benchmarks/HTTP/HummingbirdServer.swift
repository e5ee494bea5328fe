import HTTPTypes
import Hummingbird
import Logging
import NIOCore

/// The reference of `HTTPReference.hummingbird`, with Hummingbird's defaults.
enum HummingbirdServer {
    static func run(host: String, port: Int, ready: @escaping @Sendable (Int) -> Void) async throws {
        let router = Router()
        router.post("v1/events") { request, _ in
            var byteCount = 0
            for try await bytes in request.body { byteCount += bytes.readableBytes }
            return Response(
                status: .accepted, headers: [.contentType: "application/json"],
                body: ResponseBody(byteBuffer: HTTPReference.answer))
        }
        var logger = Logger(label: "http-reference")
        logger.logLevel = .error
        let application = Application(
            router: router, configuration: ApplicationConfiguration(address: .hostname(host, port: port)),
            onServerRunning: { channel in ready(channel.localAddress?.port ?? port) }, logger: logger)
        try await application.run()
    }
}
