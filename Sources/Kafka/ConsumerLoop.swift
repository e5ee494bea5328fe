internal import CKafka
internal import CoreMetrics
internal import IngestCore
internal import ServiceLog

/// One client of librdkafka from its creation to its end, on the source's thread.
///
/// Each pass: take what the journal answered, take messages, commit when it is time, submit, pause or resume. With
/// nothing to do the thread sleeps on the source's mailbox, which both the journal's answers and librdkafka's queue
/// (by its event callback) wake, so that neither waits for a polling interval.
final class ConsumerLoop {
    /// A partition that is assigned to this process.
    final class Assignment {
        /// Names the assignment in the journal's answers: the same partition assigned again has another number.
        let number: Int
        let intake: PartitionIntake
        let counters: KafkaMetrics.StreamCounters
        let gauges: KafkaMetrics.PartitionGauges
        var committed: Int64?
        /// The partition's end as last asked for while it was paused.
        var queriedEnd: Int64?
        var isPaused = false

        init(
            number: Int, intake: PartitionIntake, committed: Int64?, counters: KafkaMetrics.StreamCounters,
            gauges: KafkaMetrics.PartitionGauges
        ) {
            self.number = number
            self.intake = intake
            self.committed = committed
            self.counters = counters
            self.gauges = gauges
        }

        var partition: TopicPartition { intake.partition }
    }

    /// librdkafka's name for a message's partition, without a string. Topic handles live as long as an assignment.
    private struct MessageSource: Hashable {
        let topic: OpaquePointer?
        let partition: Int32
    }

    /// Bytes and messages taken in one pass, before answers, commits and submissions get their turn.
    private static let passBytes = 4 << 20
    private static let passMessages = 2_048
    /// How long the journal may lag before partitions are paused. Until then messages simply stay with librdkafka:
    /// pausing throws away what it has fetched ahead.
    private static let pauseDelay: UInt64 = 250_000_000
    /// Longest sleep. Well below `max.poll.interval.ms`, whose minimum is 1 ms but whose default is 5 minutes.
    private static let longestSleep: UInt64 = 500_000_000

    let environment: SourceEnvironment
    let consumer: ConsumerHandle
    let callbacks: ConsumerCallbacks
    let metrics: KafkaMetrics
    let submissions: SubmissionRegister
    private let encoder: MessageEncoder
    /// `max.poll.interval.ms` in nanoseconds: the group throws out a member that polls less often, and waits for so
    /// long for one that has partitions to give up.
    let pollInterval: UInt64
    private var reminder: FetchReminder
    /// Whether lists of partitions are changes, otherwise the whole assignment. From the properties, where librdkafka
    /// 2.0.2 refuses a mixture: asked for it (`rd_kafka_rebalance_protocol`) a client that has left its group meanwhile
    /// never answers.
    let isCooperative: Bool

    /// In order of assignment.
    private(set) var assignments: [Assignment] = []
    private var byPartition: [TopicPartition: Assignment] = [:]
    /// Also those that were given up while a submission was under way, until that is answered.
    private var byNumber: [Int: Assignment] = [:]
    /// What ends this client; set where errors can't be thrown, through C.
    var failure: KafkaFailure?
    var troubles = ConsumerTroubles()
    var nextCommitAt: UInt64 = 0
    var commitSentAt: UInt64?
    /// The client is being closed: what could be waited for was waited for.
    private(set) var isClosing = false
    /// An assignment that came while closing was answered: the client then leaves the group by itself.
    var hasLeft = false
    var statusIsDue = true
    var nextStatusAt: UInt64 = 0
    var nextWatermarkQueryAt: UInt64 = 0
    var nextProbeAt: UInt64 = 0
    private(set) var isConsuming = true
    /// Bytes of all assignments at the end of the last pass.
    private var heldBytes = 0
    /// Since when `maximumInFlightBytes` are held.
    private var saturatedSince: UInt64?
    private var allArePaused = false
    private var signals: [SourceControl.Signal] = []
    private var bySource: [MessageSource: Assignment] = [:]
    /// Messages come in runs of a partition: whose the last one was.
    private var lastSource = MessageSource(topic: nil, partition: -1)
    private var lastIntake: PartitionIntake?

    /// Runs a client until the source is closed.
    /// - Throws: what makes a new client necessary. This one is gone by then.
    static func run(
        _ environment: SourceEnvironment, _ metrics: KafkaMetrics, _ submissions: SubmissionRegister
    ) throws {
        environment.control.setHealth(isHealthy: false, "connecting to \(environment.configuration.bootstrapServers)")
        let loop = try ConsumerLoop(environment, metrics, submissions)
        do {
            try loop.run()
            loop.shutDown(commits: true)
        } catch {
            loop.shutDown(commits: !loop.troubles.isFatal)
            throw error
        }
    }

    private init(
        _ environment: SourceEnvironment, _ metrics: KafkaMetrics, _ submissions: SubmissionRegister
    ) throws(KafkaConfigurationError) {
        self.environment = environment
        self.metrics = metrics
        self.submissions = submissions
        encoder = try MessageEncoder(environment.configuration)
        let control = environment.control
        callbacks = ConsumerCallbacks(
            log: environment.log.forLibrdkafka(), wake: { control.queueBecameReady() })
        let properties = try environment.configuration.makeProperties()
        pollInterval = (UInt64(properties.value(of: "max.poll.interval.ms") ?? "") ?? 300_000) * 1_000_000
        reminder = FetchReminder(properties)
        isCooperative = properties.value(of: "partition.assignment.strategy")?.contains("cooperative") ?? false
        consumer = try ConsumerHandle(properties: properties, callbacks: callbacks)
        callbacks.handler = self
    }

    private func run() throws(KafkaFailure) {
        try consumer.subscribe(environment.configuration.topics)
        var hasMore = true
        while true {
            receiveAnswers(until: hasMore ? 0 : nextWakeup())
            if environment.control.closeIsRequested { return }
            if isConsuming, environment.control.stopIsRequested { stopConsuming() }
            hasMore = takeMessages()
            if let failure { throw failure }
            let now = MonotonicClock.now
            commitIfDue(now)
            submit(now)
            pauseAndResume(now)
            probe(now)
            publishStatus(now)
        }
    }

    private func nextWakeup() -> UInt64 {
        var time = min(MonotonicClock.now + Self.longestSleep, nextCommitAt)
        if let saturatedSince, !allArePaused { time = min(time, saturatedSince + Self.pauseDelay) }
        for assignment in assignments {
            if let retryAt = assignment.intake.retryAt { time = min(time, retryAt) }
        }
        return time
    }

    /// Ends the client: last commit, leave the group, give up what is left. Bounded in time.
    private func shutDown(commits: Bool) {
        let configuration = environment.configuration
        for assignment in assignments { assignment.intake.discardUnsubmitted() }
        waitForAnswers(
            of: Set(assignments.map(\.partition)), until: deadline(configuration.revocationTimeoutMilliseconds))
        isClosing = true
        let deadline = deadline(configuration.requestTimeoutMilliseconds)
        let timeToLeave = UInt64(configuration.requestTimeoutMilliseconds / 4) * 1_000_000
        // Some time is kept for leaving.
        if commits { commitAndWait(until: deadline - timeToLeave, outlastsRebalance: true) }
        if !consumer.close(until: deadline), commits {
            environment.log.write(
                .kafkaLeftWithoutConsent, "left the Kafka group without its consent: no answer in time")
        }
        release(assignments.map(\.partition))
        environment.control.setPartitions([])
    }

    // MARK: Messages

    /// Takes messages until there are none, or enough for one pass.
    /// - Returns: whether there may be more.
    private func takeMessages() -> Bool {
        // Everything that librdkafka has to say stands in one queue, so holding back messages holds back rebalances
        // as well. That is for a moment only; then partitions are paused and the queue holds nothing else.
        guard saturatedSince == nil || allArePaused else { return false }
        environment.control.beginPolling()
        let receivedAt = WallClock.milliseconds
        let room = min(Self.passBytes, environment.configuration.maximumInFlightBytes - heldBytes)
        var bytes = 0
        var count = 0
        defer { remindToFetch(bytes, count) }
        for _ in 0..<Self.passMessages {
            guard let message = consumer.poll() else { return false }
            defer { rd_kafka_message_destroy(message) }
            if failure != nil { return false }
            guard message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR else {
                messageError(message)
                continue
            }
            // A message of a partition that was revoked a moment ago belongs to its next owner.
            guard isConsuming, let intake = intake(of: message) else { continue }
            take(message, intake, receivedAt)
            bytes += message.pointee.len + message.pointee.key_len
            count += 1
            if bytes >= room { break }
        }
        return true
    }

    /// What was taken leaves room in librdkafka's queue.
    private func remindToFetch(_ bytes: Int, _ count: Int) {
        guard reminder.taken(bytes: bytes, messages: count), isConsuming, troubles.brokers == nil else { return }
        consumer.remindToFetch(assignments.filter { !$0.isPaused }.map(\.partition))
    }

    @inline(__always)
    private func take(
        _ message: UnsafeMutablePointer<rd_kafka_message_t>, _ intake: PartitionIntake, _ receivedAt: Int64
    ) {
        let timestamp = rd_kafka_message_timestamp(message, nil)
        switch intake.admit(offset: message.pointee.offset, timestamp: timestamp) {
        case .next:
            break
        case .duplicate:
            return
        case .moved(let position):
            environment.log.write(
                .kafkaOffsetMoved, "a Kafka partition continues at an earlier offset: it was truncated or made anew",
                [
                    "partition": "\(intake.partition)", "expected": "\(position)",
                    "offset": "\(message.pointee.offset)",
                ])
        }
        encoder.add(message, timestamp: timestamp, to: intake, receivedAt: receivedAt)
    }

    @inline(__always)
    private func intake(of message: UnsafeMutablePointer<rd_kafka_message_t>) -> PartitionIntake? {
        let source = MessageSource(topic: message.pointee.rkt, partition: message.pointee.partition)
        return source == lastSource ? lastIntake : turn(to: source)
    }

    /// The first message behind those of another partition.
    @inline(never)
    private func turn(to source: MessageSource) -> PartitionIntake? {
        if bySource[source] == nil {
            let topic = String(cString: rd_kafka_topic_name(source.topic))
            bySource[source] = self[TopicPartition(topic: topic, partition: source.partition)]
        }
        guard let assignment = bySource[source] else { return nil }
        lastSource = source
        lastIntake = assignment.intake
        return assignment.intake
    }

    /// The assignment of a partition, if it is assigned.
    subscript(partition: TopicPartition) -> Assignment? { byPartition[partition] }

    /// Replaces the assignments.
    func assign(_ assignments: [Assignment]) {
        self.assignments = assignments
        byPartition = Dictionary(uniqueKeysWithValues: assignments.map { ($0.partition, $0) })
        byNumber = byNumber.filter { $0.value.intake.isSubmitted }
        for assignment in assignments { byNumber[assignment.number] = assignment }
        bySource = [:]
        lastSource = MessageSource(topic: nil, partition: -1)
        lastIntake = nil
        statusIsDue = true
    }

    // MARK: Submissions and answers

    private func submit(_ now: UInt64) {
        guard isConsuming else { return }
        for assignment in assignments {
            guard let run = assignment.intake.takeSubmission(now: now) else { continue }
            let number = assignment.number
            let mailbox = environment.control.mailbox
            submissions.submitted(number, assignment.partition)
            environment.intake.submit(
                Submission(
                    stream: assignment.intake.stream.id,
                    origin: .kafka(assignment.partition, offsets: run.offsets), receivedAt: run.receivedAt,
                    events: run.events, deadLetters: run.deadLetters
                ) { result in mailbox.send(.answered(assignment: number, result)) })
        }
    }

    /// Takes what the journal has answered; sleeps until there is something, at most until `deadline`.
    func receiveAnswers(until deadline: UInt64) {
        _ = environment.control.mailbox.receive(into: &signals, until: deadline)
        guard !signals.isEmpty else { return }
        let now = MonotonicClock.now
        for case .answered(let number, let result) in signals {
            submissions.answered(number)
            guard let assignment = byNumber[number] else { continue }
            switch result {
            case .success:
                let run = assignment.intake.accepted()
                assignment.counters.accepted.increment(by: run.events.eventCount)
                if !run.deadLetters.isEmpty { assignment.counters.deadLetters.increment(by: run.deadLetters.count) }
                if run.skippedCount > 0 { assignment.counters.skipped.increment(by: run.skippedCount) }
            case .failure(let error):
                assignment.intake.refused(error, now: now)
                if error != .overloaded {
                    environment.log.write(
                        .kafkaEventsRefused, "the journal refused Kafka events; they are kept and sent again",
                        ["partition": "\(assignment.partition)", "reason": "\(error)"])
                }
                if !isConsuming { assignment.intake.discardUnsubmitted() }
            }
            if byPartition[assignment.partition] !== assignment { byNumber[number] = nil }
        }
    }

    /// The time this many milliseconds from now.
    func deadline(_ milliseconds: Int) -> UInt64 { MonotonicClock.now + UInt64(milliseconds) * 1_000_000 }

    // MARK: Backpressure and stop

    func stopConsuming() {
        isConsuming = false
        for assignment in assignments { assignment.intake.discardUnsubmitted() }
        environment.control.confirmStop()
        statusIsDue = true
    }

    /// Pauses what the journal has no room for, and resumes what it has room for again. Polling goes on, so that the
    /// group does not evict this member.
    func pauseAndResume(_ now: UInt64) {
        heldBytes = assignments.reduce(0) { $0 + $1.intake.heldBytes }
        let limit = environment.configuration.maximumInFlightBytes
        if heldBytes >= limit {
            if saturatedSince == nil { saturatedSince = now }
        } else if heldBytes <= limit / 2 {
            saturatedSince = nil
        }
        let pausesAll = !isConsuming || saturatedSince.map { now >= $0 + Self.pauseDelay } ?? false
        setPaused(true, assignments.filter { !$0.isPaused && (pausesAll || $0.intake.isBlocked) })
        setPaused(false, assignments.filter { $0.isPaused && !pausesAll && !$0.intake.isBlocked })
        allArePaused = pausesAll
    }

    func setPaused(_ isPaused: Bool, _ affected: [Assignment]) {
        guard !affected.isEmpty else { return }
        let list = PartitionList()
        for assignment in affected { list.add(assignment.partition, offset: nil) }
        // Returns when fetching has stopped or may start. No message that `poll` returned is affected, and resuming
        // starts behind the last of them.
        let code =
            isPaused
            ? rd_kafka_pause_partitions(consumer.client, list.pointer)
            : rd_kafka_resume_partitions(consumer.client, list.pointer)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
            failure = KafkaFailure(isPaused ? "can't pause partitions" : "can't resume partitions", code)
            return
        }
        for assignment in affected { assignment.isPaused = isPaused }
        statusIsDue = true
        let isBackpressure = isConsuming && assignments.contains { $0.isPaused }
        metrics.backpressure.record(isBackpressure ? 1 : 0)
        environment.log.write(
            isPaused ? .kafkaPaused : .kafkaResumed, isPaused ? "paused Kafka partitions" : "resumed Kafka partitions",
            ["partitions": "\(PartitionNames(affected.map(\.partition)))"])
    }
}
