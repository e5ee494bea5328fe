internal import CoreMetrics
internal import IngestCore
internal import ServiceLog

/// Runs one client after another until the source is closed: after a failure everything is torn down, and made anew
/// after a delay that doubles from failure to failure.
final class ConsumerSupervisor {
    private let environment: SourceEnvironment
    private let metrics: KafkaMetrics
    private let submissions = SubmissionRegister()
    private var backoff: RestartBackoff

    init(_ environment: SourceEnvironment) {
        self.environment = environment
        metrics = KafkaMetrics(factory: environment.metricsFactory)
        backoff = RestartBackoff(
            minimumMilliseconds: environment.configuration.minimumRestartMilliseconds,
            maximumMilliseconds: environment.configuration.maximumRestartMilliseconds)
    }

    /// The source's thread.
    func run() {
        let control = environment.control
        while !control.closeIsRequested {
            let started = MonotonicClock.now
            do {
                try ConsumerLoop.run(environment, metrics, submissions)
            } catch {
                let ranMilliseconds = Int((MonotonicClock.now - started) / 1_000_000)
                let delay = backoff.next(afterRunningMilliseconds: ranMilliseconds, jitter: .random(in: 0..<1))
                // Anything else that is thrown is a `KafkaConfigurationError`.
                metrics.countRestart((error as? KafkaFailure)?.cause ?? .configuration)
                control.setHealth(isHealthy: false, "\(error); the consumer is restarted in \(delay) ms")
                environment.log.write(
                    .kafkaConsumerFailed, "Kafka consumer failed and is restarted",
                    ["reason": "\(error)", "restart_in_ms": "\(delay)"])
                wait(milliseconds: delay)
            }
        }
        metrics.backpressure.record(0)
        control.confirmClose()
    }

    /// Sleeps, but not through a request to close.
    private func wait(milliseconds: Int) {
        let deadline = MonotonicClock.now + UInt64(milliseconds) * 1_000_000
        var signals: [SourceControl.Signal] = []
        while MonotonicClock.now < deadline, !environment.control.closeIsRequested {
            if environment.control.stopIsRequested { environment.control.confirmStop() }
            _ = environment.control.mailbox.receive(into: &signals, until: deadline)
            for case .answered(let assignment, _) in signals { submissions.answered(assignment) }
        }
    }
}

/// Delays between restarts: doubling, and shortened at random by up to a half, so that many processes that lost the
/// same broker don't return at the same moment.
struct RestartBackoff {
    private let minimumMilliseconds: Int
    private let maximumMilliseconds: Int
    private var nextMilliseconds: Int

    init(minimumMilliseconds: Int, maximumMilliseconds: Int) {
        self.minimumMilliseconds = minimumMilliseconds
        self.maximumMilliseconds = maximumMilliseconds
        nextMilliseconds = minimumMilliseconds
    }

    /// The delay after a client failed. One that ran for longer than the longest delay counts as recovered.
    /// - Parameter jitter: a random number from 0 to 1.
    mutating func next(afterRunningMilliseconds: Int, jitter: Double) -> Int {
        if afterRunningMilliseconds > maximumMilliseconds { nextMilliseconds = minimumMilliseconds }
        defer { nextMilliseconds = min(nextMilliseconds * 2, maximumMilliseconds) }
        return nextMilliseconds - Int(Double(nextMilliseconds) / 2 * jitter)
    }
}

/// Submissions that the journal has not answered, over all clients of a source. While one of a partition is under way
/// the ledger can't say yet where the partition's next assignment starts.
final class SubmissionRegister {
    private var partitions: [Int: TopicPartition] = [:]
    private var lastAssignment = 0

    /// A number for an assignment of a partition that no other assignment of this source has.
    func makeAssignmentNumber() -> Int {
        lastAssignment += 1
        return lastAssignment
    }

    func submitted(_ assignment: Int, _ partition: TopicPartition) { partitions[assignment] = partition }

    func answered(_ assignment: Int) { partitions[assignment] = nil }

    /// Whether a submission of one of these partitions is not answered.
    func isWaiting(for affected: Set<TopicPartition>) -> Bool { partitions.values.contains { affected.contains($0) } }
}
