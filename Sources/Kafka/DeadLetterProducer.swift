public import CoreMetrics
public import IngestCore
public import Logging
internal import ServiceLog
internal import Synchronization

/// Sends dead letters to a Kafka topic: one long-lived idempotent producer, which is made anew when it fails for good.
///
/// A message counts as sent when all replicas in sync have it. It is written once and in order as long as one client
/// lives; when a client fails, or a message times out, its sender sends it again, and the topic may have it twice, with
/// the same key.
///
/// One thread does everything: it hands messages to librdkafka and calls completions. The methods here can be called
/// from any thread and never block it.
public final class DeadLetterProducer: DeadLetterDestination {
    private let environment: ProducerEnvironment
    private let thread = Mutex<DedicatedThread?>(nil)

    /// Checks the configuration; connects to nothing.
    /// - Parameters:
    ///   - configuration: where to send and how.
    ///   - logger: also gets librdkafka's log, rate-limited.
    ///   - metricsFactory: where metric handles are made.
    /// - Throws: `KafkaConfigurationError`, which names the setting or librdkafka property at fault.
    public init(
        configuration: DeadLetterProducerConfiguration, logger: Logger,
        metricsFactory: any MetricsFactory = MetricsSystem.factory
    ) throws(KafkaConfigurationError) {
        try configuration.validate()
        environment = ProducerEnvironment(
            configuration: configuration, log: EventLog(logger), metricsFactory: metricsFactory,
            control: ProducerControl(configuration))
    }

    deinit {
        // Nobody can wait any more, but what was sent is answered and the thread ends.
        // In this order: a thread that has nothing to do does not connect.
        environment.control.requestClose(by: MonotonicClock.now)
        start()
    }

    /// Connects; later calls do nothing. What was sent before goes out now.
    public func start() {
        thread.withLock { thread in
            guard thread == nil else { return }
            let environment = environment
            thread = DedicatedThread(name: "kafka-dlq") { ProducerSupervisor(environment).run() }
        }
    }

    /// Sends a message and returns at once. The topic's partition follows from the message's key.
    /// - Parameter completion: called exactly once, on the producer's thread (after `close`, on another): with success
    ///   when all replicas in sync have the message; with a failure at fault when the topic never takes it; else with
    ///   a failure after which it is to be sent again, at once when more is under way than `maximumMessages` or
    ///   `maximumBytes`. Must not block. May call `send`.
    public func send(
        _ message: DeadLetterMessage, completion: @escaping @Sendable (Result<Void, DeadLetterFailure>) -> Void
    ) {
        environment.control.send(OutgoingMessage(message: message, completion: completion))
    }

    /// Waits for acknowledgements of what is under way, answers the rest as failed, and ends the thread. Later calls
    /// wait for the first, but no longer than their own limit allows.
    /// - Parameter limit: how long acknowledgements are waited for, at most a day. All in all it takes up to 2 seconds
    ///   more, whatever Kafka does.
    public func close(within limit: Duration) async {
        let (seconds, attoseconds) = min(max(limit, .zero), .seconds(86_400)).components
        let nanoseconds = UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
        environment.control.requestClose(by: MonotonicClock.now + nanoseconds)
        start()
        await environment.control.waitForClose()
        // The thread has confirmed as its last act, so this does not wait.
        thread.withLock { $0 }?.join()
    }

    /// How the producer is doing: component `dead_letter_topic`. Never required for readiness: dead letters are kept
    /// here until the topic takes them.
    public var health: ComponentHealth { environment.control.health }
}

/// Everything a producer works with.
struct ProducerEnvironment: Sendable {
    let configuration: DeadLetterProducerConfiguration
    let log: EventLog
    let metricsFactory: any MetricsFactory
    let control: ProducerControl
}
