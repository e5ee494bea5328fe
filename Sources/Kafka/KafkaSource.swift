public import CoreMetrics
public import IngestCore
public import Logging
internal import ServiceLog
internal import Synchronization

/// Consumes Kafka topics into the pipeline: at least once, in order within each partition, offsets committed only
/// as far as the `PartitionLedger` says.
///
/// One thread does everything: it polls librdkafka, hands messages to the `EventIntake` (one submission of a
/// partition at a time), asks the ledger what to commit, and starts over with a new client after a failure. The
/// methods here can be called from any thread; the asynchronous ones never block theirs.
public final class KafkaSource: Sendable {
    private let environment: SourceEnvironment
    private let thread = Mutex<DedicatedThread?>(nil)

    /// Checks the configuration; connects to nothing.
    /// - Parameters:
    ///   - configuration: what to consume and how.
    ///   - routes: which stream a topic's events belong to.
    ///   - intake: gets the events. Its completions may come on any thread.
    ///   - ledger: decides where to start and what to commit; asked from the source's thread.
    ///   - logger: also gets librdkafka's log, rate-limited.
    ///   - metricsFactory: where metric handles are made.
    /// - Throws: `KafkaConfigurationError`, which names the setting or librdkafka property at fault.
    public init(
        configuration: KafkaSourceConfiguration, routes: StreamRoutes, intake: any EventIntake,
        ledger: any PartitionLedger, logger: Logger, metricsFactory: any MetricsFactory = MetricsSystem.factory
    ) throws(KafkaConfigurationError) {
        try configuration.validate()
        environment = SourceEnvironment(
            configuration: configuration, routes: routes, intake: intake, ledger: ledger, log: EventLog(logger),
            metricsFactory: metricsFactory, control: SourceControl())
    }

    /// Starts consuming; later calls do nothing. A started source runs until `close()`.
    public func start() {
        thread.withLock { thread in
            guard thread == nil else { return }
            let environment = environment
            thread = DedicatedThread(name: "kafka-source") { ConsumerSupervisor(environment).run() }
        }
    }

    /// Takes no more messages, and returns when no further submission will be made. Submissions that were made before
    /// still complete. The process stays a member of its group and goes on committing until `close()`.
    public func stopConsuming() async {
        guard thread.withLock({ $0 != nil }) else { return }
        await environment.control.requestStop()
    }

    /// Commits what the ledger allows, leaves the group and ends the thread. Takes no longer than
    /// `revocationTimeoutMilliseconds` and `requestTimeoutMilliseconds` together and a second, whatever Kafka and the
    /// journal do. Later calls wait for the first.
    public func close() async {
        guard let thread = thread.withLock({ $0 }) else { return }
        await environment.control.requestClose()
        // The thread has confirmed as its last act, so this does not wait.
        thread.join()
    }

    /// How the source is doing. Never required for readiness: without Kafka HTTP clients can still be served.
    public var health: ComponentHealth { environment.control.health }

    /// The partitions assigned to this process; refreshed once a second and when partitions come or go.
    public var partitions: [KafkaPartitionStatus] { environment.control.partitions }
}

/// Where the group stands in one partition that is assigned to this process.
public struct KafkaPartitionStatus: Sendable, Equatable {
    /// Topic and partition.
    public let partition: TopicPartition
    /// Offset of the next message to take; `nil` before the first if there was no committed offset.
    public let position: Int64?
    /// The group's committed offset as far as known here; `nil` if it has none.
    public let committed: Int64?
    /// The partition's end: offset of the next message that will be written to it; `nil` before the first fetch.
    public let end: Int64?
    /// Offset behind the last message that is in the journal, or was before this process took the partition over.
    public let journaled: Int64?
    /// Messages in the journal and not yet committed, counted in offsets.
    public let uncommitted: Int64
    /// Whether fetching is paused, because the journal has no room or consuming was stopped.
    public let isPaused: Bool

    /// Messages between the committed offset (or where consuming began, where nothing is committed) and the end, as
    /// Kafka's own tools count lag.
    public var lag: Int64? { unjournaled.map { $0 + uncommitted } }

    /// Messages between the journal and the end, on their way or still in Kafka.
    public var unjournaled: Int64? {
        guard let end, let journaled else { return nil }
        return max(0, end - journaled)
    }
}

/// Everything a source works with.
struct SourceEnvironment: Sendable {
    let configuration: KafkaSourceConfiguration
    let routes: StreamRoutes
    let intake: any EventIntake
    let ledger: any PartitionLedger
    let log: EventLog
    let metricsFactory: any MetricsFactory
    let control: SourceControl
}
