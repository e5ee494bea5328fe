import ClickHouse
import HTTPIngest
import IngestCore
import Journal
import Kafka
import Logging
import NIOCore
import NIOPosix
import Observability
import Pipeline
import ServiceLog
import Synchronization

/// The service: its parts, in the order of the flow, and the order in which they start and stop.
///
///     Kafka --+                         +--> ClickHouse
///             +--> journal --> pipeline +
///     HTTP ---+                         +--> DLQ topic
final class Service: Sendable {
    private let configuration: ServiceConfiguration
    private let log: EventLog
    private let serviceManager: ServiceManager?
    private let journal: Journal
    private let clickHouse: ClickHouseClient
    private let pipeline: Pipeline
    private let kafka: KafkaSource?
    private let deadLetterTopic: DeadLetterProducer?
    private let http: HTTPIngestService
    private let operations: Operations
    private let shutdownRequest = ShutdownRequest()

    /// Opens the journal and makes the parts; nothing runs yet.
    /// - Throws: what is wrong with the configuration or the journal, in words for the operator.
    init(
        _ configuration: ServiceConfiguration, registry: PrometheusRegistry, serviceManager: ServiceManager?,
        logger: Logger
    ) throws {
        self.configuration = configuration
        self.serviceManager = serviceManager
        log = EventLog(logger)
        journal = try Journal.open(configuration.journalConfiguration, logger: logger)
        clickHouse = try ClickHouseClient(configuration: configuration.clickHouseConfiguration, logger: logger)
        deadLetterTopic = try configuration.deadLetterProducerConfiguration.map {
            try DeadLetterProducer(configuration: $0, logger: logger)
        }
        pipeline = Pipeline(
            journal: journal, destination: clickHouse, deadLetters: deadLetterTopic,
            configuration: configuration.flushConfiguration, logger: logger)
        let routes = configuration.streamRoutes { [journal] in journal.stream(table: $0) }
        if configuration.kafka.isConsumerEnabled {
            kafka = try KafkaSource(
                configuration: configuration.kafkaConfiguration, routes: routes, intake: journal, ledger: pipeline,
                logger: logger)
        } else {
            kafka = nil
        }
        operations = Operations(
            journal: journal, pipeline: pipeline, kafka: kafka, deadLetterTopic: deadLetterTopic,
            clickHouse: clickHouse, registry: registry)
        http = try HTTPIngestService(
            configuration: configuration.httpConfiguration, routes: routes, intake: journal, operations: operations,
            logger: logger)
    }

    /// Runs until `beginShutdown`, then stops in order and returns.
    /// - Throws: when the HTTP port can't be bound, or the journal can't be read, or can't go on. Then only a new process
    ///   helps, and whoever supervises this one starts it.
    func run() async throws {
        try pipeline.start { [shutdownRequest] _ in shutdownRequest.begin() }
        deadLetterTopic?.start()
        let server = Task { try await http.run() }
        do {
            let port = try await boundPort()
            kafka?.start()
            log.write(
                .serviceReady, "ready",
                [
                    "version": "\(Version.current)", "http": "\(configuration.http.host):\(port)",
                    "kafka": "\(kafka == nil ? "disabled" : configuration.kafka.topics.joined(separator: ","))",
                    "journal": "\(configuration.journal.path)", "waiting_events": "\(waitingEvents)",
                ])
            let address = "\(configuration.http.host):\(port)"
            serviceManager?.ready(status(address))
            let heartbeats = Task { await serviceManager?.sendHeartbeats { try await self.pulse(address) } }
            await shutdownRequest.wait()
            heartbeats.cancel()
            try await stop(server)
        } catch {
            await release()
            throw error
        }
        if let failure = journal.snapshot.failure { throw failure }
    }

    private func boundPort() async throws -> Int {
        do {
            return try await http.boundPort()
        } catch {
            throw ListenFailure(address: "\(configuration.http.host):\(configuration.http.port)", reason: "\(error)")
        }
    }

    /// Asks everything that could hang: each of HTTP's threads by a task of its own, each component by its state, as
    /// `/readyz` shows it. Whether they are well does not matter here, but that they answer.
    /// - Returns: a line for people; nil if `/livez` would say no.
    private func pulse(_ address: String) async throws -> String? {
        for loop in MultiThreadedEventLoopGroup.singleton.makeIterator() { try await loop.submit {}.get() }
        _ = operations.readiness()
        guard operations.liveness().allSatisfy(\.isHealthy) else { return nil }
        return status(address)
    }

    private func status(_ address: String) -> String {
        "Listening on \(address); \(waitingEvents) events wait for ClickHouse"
    }

    /// Starts the shutdown. Callable from any thread, more than once.
    func beginShutdown() { shutdownRequest.begin() }

    /// Readiness off, sources stop, flush what fits in the time, commit, unbind, close. What is not flushed stays in
    /// the journal.
    private func stop(_ server: Task<Void, any Error>) async throws {
        let deadline = ContinuousClock.now + configuration.shutdown.timeout
        // Closing what is open comes after that time.
        serviceManager?.stopping(
            within: configuration.shutdown.timeout + .seconds(30),
            "Stopping; \(waitingEvents) events wait for ClickHouse")
        operations.beginShutdown()
        http.beginDraining()
        await kafka?.stopConsuming()
        // A journal that can't go on can't note what is flushed either.
        let hasFailed = journal.snapshot.failure != nil
        let isFlushed = await pipeline.drain(timeout: hasFailed ? .zero : configuration.shutdown.timeout)
        pipeline.endWaits()
        await kafka?.close()
        try await stop(server, at: deadline)
        await release()
        log.write(
            .serviceStopped, "stopped", ["flushed": "\(isFlushed)", "waiting_events": "\(waitingEvents)"])
    }

    /// Lets requests in progress end. Those that are not over in time are cut off: a client that stalls must not keep
    /// the process, and nothing of such a request was acknowledged.
    private func stop(_ server: Task<Void, any Error>, at deadline: ContinuousClock.Instant) async throws {
        let cutOff = Task {
            // Answers that are ready get a moment even if flushing has used up the time.
            try await Task.sleep(until: max(deadline, .now + .seconds(1)), clock: .continuous)
            server.cancel()
        }
        defer { cutOff.cancel() }
        try await http.stop()
        try await server.value
    }

    /// Ends the threads, from the far end of the flow to its middle: each may still call the next.
    private func release() async {
        await kafka?.close()
        pipeline.stop()
        // What it has not acknowledged is sent again after the next start.
        await deadLetterTopic?.close(within: .zero)
        clickHouse.shutdown()
        journal.close()
    }

    private var waitingEvents: UInt64 { journal.snapshot.streams.values.reduce(0) { $0 + $1.pendingEvents } }
}

/// The HTTP port can't be bound.
private struct ListenFailure: Error, CustomStringConvertible {
    let address: String
    let reason: String

    var description: String {
        "can't listen on \(address) (HTTP_HOST, HTTP_PORT): \(reason)"
    }
}

/// Lets one task wait for the shutdown to begin.
private final class ShutdownRequest: Sendable {
    private let state = Mutex<(isBegun: Bool, waiter: CheckedContinuation<Void, Never>?)>((false, nil))

    func begin() {
        let waiter = state.withLock { state in
            state.isBegun = true
            return state.waiter.take()
        }
        waiter?.resume()
    }

    func wait() async {
        await withCheckedContinuation { continuation in
            let isBegun = state.withLock { state in
                if !state.isBegun { state.waiter = continuation }
                return state.isBegun
            }
            if isBegun { continuation.resume() }
        }
    }
}
