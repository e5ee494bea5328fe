public import CoreMetrics
internal import HTTPTypes
internal import HummingbirdCore
public import IngestCore
public import Logging
internal import NIOCore
internal import NIOPosix
public import ServiceLifecycle
internal import Synchronization

/// The HTTP server: ingest routes and operations routes.
///
/// Stopping takes two steps, so that load balancers can see the first: `beginDraining()` refuses new events while
/// health, status and metrics still answer; `stop()` closes the port, lets requests in progress end, and makes
/// `run()` return. A graceful shutdown of the task that runs `run()` does both at once.
///
/// Hummingbird's server is used without its `Application` and router: per request they would make a logger with
/// metadata and walk a tree of routes, and they take the connection out of our hands, which a polite refusal needs.
public final class HTTPIngestService: Service {
    private let configuration: HTTPIngestConfiguration
    private let handler: RequestHandler
    private let server: Server<IngestChannel>
    private let authorizer: Authorizer
    private let certificates: CertificateStore?
    private let port: PortAnnouncement

    /// Nothing happens before `run()`.
    /// - Parameters:
    ///   - configuration: what the operator decides.
    ///   - routes: which stream a request's events go to.
    ///   - intake: takes the events; answers when they are on stable storage.
    ///   - operations: answers health, status, metrics and `ack=inserted`, and works on dead letters.
    ///   - logger: for what happens to the server; requests are not logged.
    ///   - metricsFactory: where metric handles are made.
    /// - Throws: `HTTPConfigurationError` if tokens, certificates or origins can't be used.
    public init(
        configuration: HTTPIngestConfiguration, routes: StreamRoutes, intake: any EventIntake,
        operations: any ServiceOperations, logger: Logger, metricsFactory: any MetricsFactory = MetricsSystem.factory
    ) throws {
        precondition(
            configuration.maxBodyBytes > 0 && configuration.maxBodyBytes <= HTTPIngestConfiguration.largestBodyBytes,
            "maxBodyBytes out of range")
        precondition(
            configuration.maxBufferedBytes >= configuration.maxBodyBytes, "maxBufferedBytes below maxBodyBytes")
        let authorizer: Authorizer
        let certificates: CertificateStore?
        let crossOrigin: CrossOrigin?
        do {
            authorizer = try Authorizer(configuration, logger: logger)
            certificates = try configuration.tls.map { try CertificateStore($0, logger: logger) }
            crossOrigin = try CrossOrigin(configuration.corsOrigins)
        } catch {
            throw HTTPConfigurationError(description: "\(error)")
        }
        let ingest = IngestRoute(
            configuration: configuration, authorizer: authorizer, routes: routes, intake: intake,
            operations: operations, metrics: IngestMetrics(routes.all, factory: metricsFactory))
        let handler = RequestHandler(
            ingest: ingest,
            observation: ObservationRoutes(
                authorizer: authorizer, certificates: certificates, operations: operations,
                description: OpenAPIDescription(version: configuration.serviceVersion)),
            management: ManagementRoutes(authorizer: authorizer, operations: operations),
            clickHouse: ClickHouseRoute(
                configuration: configuration, authorizer: authorizer, routes: routes, ingest: ingest),
            crossOrigin: crossOrigin)
        let port = PortAnnouncement()
        self.configuration = configuration
        self.handler = handler
        self.port = port
        self.authorizer = authorizer
        self.certificates = certificates
        server = Server(
            childChannelSetup: IngestChannel(
                requests: handler, limits: ConnectionLimits(configuration), certificates: certificates),
            configuration: ServerConfiguration(
                address: .hostname(configuration.host, port: configuration.port),
                backlog: 1_024,
                availableConnectionsDelegate: MaximumAvailableConnections(
                    DescriptorLimit.connections(configuration.maxConnections, logger: logger))),
            onServerRunning: { channel in port.announce(channel.localAddress?.port ?? configuration.port) },
            eventLoopGroup: MultiThreadedEventLoopGroup.singleton,
            logger: logger)
    }

    /// Listens and serves until `stop()` or a graceful shutdown, and all requests have ended. Once only.
    /// - Throws: the system's error if the address can't be bound.
    public func run() async throws {
        async let _ = reloadFiles()  // Leaving the scope cancels it.
        do {
            try await withGracefulShutdownHandler {
                try await server.run()
            } onGracefulShutdown: {
                self.beginDraining()
            }
        } catch {
            port.fail(error)
            throw error
        }
    }

    /// Reads tokens and certificates again when their files change, until the task is canceled.
    private func reloadFiles() async {
        guard configuration.tokensPath != nil || configuration.tls != nil else { return }
        do {
            while true {
                try await Task.sleep(for: configuration.reloadInterval)
                authorizer.reload()
                certificates?.reload()
            }
        } catch {
            // Canceled: the server has ended.
        }
    }

    /// The port that the server listens on; waits until it does.
    /// - Throws: what `run()` threw if the port could not be bound.
    public func boundPort() async throws -> Int { try await port.wait() }

    /// From now on ingest requests are answered with 503 and their connections closed, and `/readyz` says not ready.
    /// Requests accepted before end as usual. Callable from any thread, more than once.
    public func beginDraining() { handler.beginDraining() }

    /// Closes the port and idle connections; returns when the requests in progress have ended.
    public func stop() async throws {
        beginDraining()
        try await server.shutdownGracefully()
    }
}

/// Hands the bound port to those who wait for it.
private final class PortAnnouncement: Sendable {
    private enum State {
        case waiting([CheckedContinuation<Int, any Error>])
        case known(Result<Int, any Error>)
    }

    private let state = Mutex(State.waiting([]))

    func announce(_ port: Int) { settle(.success(port)) }

    func fail(_ error: any Error) { settle(.failure(error)) }

    private func settle(_ result: Result<Int, any Error>) {
        let waiters = state.withLock { state in
            guard case .waiting(let waiters) = state else { return [CheckedContinuation<Int, any Error>]() }
            state = .known(result)
            return waiters
        }
        for waiter in waiters { waiter.resume(with: result) }
    }

    func wait() async throws -> Int {
        try await withCheckedThrowingContinuation { continuation in
            let result: Result<Int, any Error>? = state.withLock { state in
                switch state {
                case .known(let result): return result
                case .waiting(let waiters):
                    state = .waiting(waiters + [continuation])
                    return nil
                }
            }
            if let result { continuation.resume(with: result) }
        }
    }
}
