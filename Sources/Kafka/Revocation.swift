internal import CKafka
internal import CoreMetrics
internal import IngestCore
internal import ServiceLog

/// How partitions are given up, and what a rebalance waits for.
extension ConsumerLoop {
    /// Between two looks at the ledger, which does not call.
    private static let settlingInterval: UInt64 = 5_000_000

    /// Gives partitions back in order: nothing new is submitted, what was submitted is flushed and committed, so that
    /// the next owner starts behind it. All of that within `revocationTimeoutMilliseconds` and what a commit takes;
    /// what is not flushed by then stays in the journal, is delivered from there, and by the next owner once more.
    func giveUp(_ partitions: [TopicPartition]) {
        for partition in partitions { self[partition]?.intake.discardUnsubmitted() }
        let started = MonotonicClock.now
        // Lost partitions may have another owner already, whose commits ours would undo; and on closing all that can be
        // committed is.
        if !assignmentIsLost, !isClosing {
            let configuration = environment.configuration
            let times = CallbackTimes(pollInterval: pollInterval)
            let flushEnd = min(deadline(configuration.revocationTimeoutMilliseconds), times.firstEnd)
            if waitForAnswers(of: Set(partitions), until: flushEnd) {
                _ = waitForFlush(of: partitions, until: flushEnd)
            }
            if !assignmentIsLost {
                commitAndWait(until: min(deadline(configuration.requestTimeoutMilliseconds), times.end))
            }
        }
        let isLost = assignmentIsLost
        (isLost ? metrics.lost : metrics.revoked).increment()
        environment.log.write(
            isLost ? .kafkaLost : .kafkaRevoked, isLost ? "lost Kafka partitions" : "gave up Kafka partitions",
            [
                "partitions": "\(PartitionNames(partitions))",
                "took_ms": "\((MonotonicClock.now - started) / 1_000_000)",
            ])
        release(partitions)
    }

    /// Waits until no submission of these partitions is under way.
    /// - Returns: whether all are answered.
    @discardableResult
    func waitForAnswers(of partitions: Set<TopicPartition>, until deadline: UInt64) -> Bool {
        while submissions.isWaiting(for: partitions) {
            if isConsuming, environment.control.stopIsRequested { stopConsuming() }
            guard MonotonicClock.now < deadline else {
                environment.log.write(
                    .kafkaJournalSlow, "the journal has not answered in time; Kafka messages may be delivered twice",
                    ["partitions": "\(PartitionNames(partitions))"])
                return false
            }
            receiveAnswers(until: deadline)
        }
        return true
    }

    /// Waits until everything that was taken from these partitions is flushed. Other partitions' answers are taken
    /// meanwhile.
    /// - Returns: whether it is.
    func waitForFlush(of partitions: [TopicPartition], until deadline: UInt64) -> Bool {
        let ledger = environment.ledger
        var waiting = partitions.filter { !ledger.isSettled($0) }
        guard !waiting.isEmpty else { return true }
        let started = MonotonicClock.now
        ledger.requestFlush()
        while !waiting.isEmpty {
            // On shutdown what is flushed in time is flushed before the source is closed.
            if isConsuming, environment.control.stopIsRequested { stopConsuming() }
            if environment.control.closeIsRequested || assignmentIsLost { return false }
            let now = MonotonicClock.now
            guard now < deadline else {
                environment.log.write(
                    .kafkaRevokedUnflushed,
                    """
                    Kafka partitions are given up before all of their events are in ClickHouse; their next owner \
                    delivers the rest again
                    """,
                    [
                        "partitions": "\(PartitionNames(waiting))", "waited_ms": "\((now - started) / 1_000_000)",
                    ])
                return false
            }
            receiveAnswers(until: min(deadline, now + Self.settlingInterval))
            waiting.removeAll { ledger.isSettled($0) }
        }
        return true
    }

    /// Whether the group has given this member's partitions to others without asking.
    var assignmentIsLost: Bool { rd_kafka_assignment_lost(consumer.client) != 0 }
}

/// How long a rebalance may take within librdkafka's callback: nothing is polled meanwhile, and a member that does not
/// poll for `max.poll.interval.ms` loses all of its partitions. A third of it is for what is waited for first (the
/// journal, the flush), two thirds for all.
struct CallbackTimes {
    /// Time by which the first part must be over.
    let firstEnd: UInt64
    /// Time by which all must be over.
    let end: UInt64

    init(pollInterval: UInt64, now: UInt64 = MonotonicClock.now) {
        firstEnd = now + pollInterval / 3
        end = now + pollInterval / 3 * 2
    }

    var millisecondsLeft: Int {
        let now = MonotonicClock.now
        return now < end ? Int((end - now) / 1_000_000) : 0
    }
}

/// Some of many names, for log lines: a member can have thousands of partitions.
struct PartitionNames: CustomStringConvertible {
    private static let limit = 50
    let description: String

    init(_ names: some Collection<some CustomStringConvertible>) {
        let shown = names.prefix(Self.limit).map(\.description).joined(separator: ", ")
        description = names.count > Self.limit ? "\(shown) and \(names.count - Self.limit) more" : shown
    }
}
