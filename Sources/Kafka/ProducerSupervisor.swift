internal import IngestCore
internal import ServiceLog

/// Runs one client after another until the producer is closed: after a failure the client is torn down, and made anew
/// after a delay that doubles from failure to failure. What waits meanwhile goes to the next client.
final class ProducerSupervisor {
    private let environment: ProducerEnvironment
    private let outbox: ProducerOutbox
    private var backoff: RestartBackoff

    init(_ environment: ProducerEnvironment) {
        self.environment = environment
        outbox = ProducerOutbox(environment.control, DeadLetterMetrics(factory: environment.metricsFactory))
        backoff = RestartBackoff(
            minimumMilliseconds: environment.configuration.minimumRestartMilliseconds,
            maximumMilliseconds: environment.configuration.maximumRestartMilliseconds)
    }

    /// The producer's thread.
    func run() {
        let control = environment.control
        while true {
            let closeDeadline = control.closeDeadline
            outbox.receive(until: 0)
            if let closeDeadline, outbox.queue.isEmpty || MonotonicClock.now >= closeDeadline { break }
            let started = MonotonicClock.now
            do {
                try ProducerLoop.run(environment, outbox)
            } catch {
                let ranMilliseconds = Int((MonotonicClock.now - started) / 1_000_000)
                let delay = backoff.next(afterRunningMilliseconds: ranMilliseconds, jitter: .random(in: 0..<1))
                control.setHealth(isHealthy: false, "\(error); the producer is restarted in \(delay) ms")
                environment.log.write(
                    .kafkaProducerFailed, "Kafka producer failed and is restarted",
                    ["reason": "\(error)", "restart_in_ms": "\(delay)"])
                wait(milliseconds: delay)
            }
        }
        // What was sent until here is answered here; what comes later, by `ProducerControl.send`.
        control.mailbox.close()
        while outbox.receive(until: MonotonicClock.now) {}
        for outgoing in outbox.queue.removeAll() { outbox.answer(outgoing, .closed) }
        control.confirmClose()
    }

    /// Sleeps, but no longer than closing may take.
    private func wait(milliseconds: Int) {
        let end = MonotonicClock.now + UInt64(milliseconds) * 1_000_000
        while true {
            let closeDeadline = environment.control.closeDeadline
            let now = MonotonicClock.now
            if now >= end { return }
            if let closeDeadline, outbox.queue.isEmpty || now >= closeDeadline { return }
            outbox.receive(until: min(end, closeDeadline ?? end))
        }
    }
}
