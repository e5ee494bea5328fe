public import IngestCore
public import Journal
public import Logging
internal import ServiceLog

/// The way of an event from the journal to its table. Sources hand events to the journal (`EventIntake`); the flusher
/// takes them from there to the destination; what it has flushed is trimmed, and may then be committed to Kafka.
///
///     sources -> Journal.submit -> [commit] -> committed() -> Flusher -> destination -> Journal.advance -> [commit]
///                                                                                          |
///                                            InsertionWaiters (ack=inserted) <-------------+--> PartitionLedger
///                                       DeadLetterForwarder -> DLQ topic     <-------------+
public final class Pipeline: Sendable {
    let journal: Journal
    let flusher: Flusher
    private let forwarder: DeadLetterForwarder?
    private let waiters = InsertionWaiters()
    private let metrics: PipelineMetrics

    /// What a stream looks like from outside.
    public struct StreamStatus: Sendable {
        /// Destination table and name of the stream.
        public let table: String
        /// Sequence that the next event gets.
        public let nextSequence: UInt64
        /// Everything before it is in ClickHouse or is a dead letter.
        public let flushedPosition: UInt64
        /// Bytes of the file that its entries take.
        public let storedBytes: UInt64
        /// `running`, `retrying`, `held` or `stopped`.
        public let mode: String
        /// Why it is not running.
        public let reason: String?
        /// Inserts on their way.
        public let insertsInFlight: Int
    }

    /// Connects a journal that is open but not started with a destination.
    /// - Parameters:
    ///   - deadLetters: where dead letters are forwarded to; `nil` keeps them here. Must agree with the journal's
    ///     `forwardsDeadLetters`.
    public init(
        journal: Journal, destination: any InsertDestination, deadLetters: (any DeadLetterDestination)? = nil,
        configuration: FlushConfiguration, logger: Logger
    ) {
        self.journal = journal
        metrics = PipelineMetrics(maxBytes: journal.maxBytes, deadLettersMaxBytes: journal.deadLettersMaxBytes)
        let log = EventLog(logger)
        flusher = Flusher(
            journal: journal, destination: destination, configuration: configuration, metrics: metrics,
            log: log)
        forwarder = deadLetters.map {
            DeadLetterForwarder(journal: journal, destination: $0, pauses: configuration, log: log)
        }
    }

    /// Starts writer and flusher. What the journal holds from before is flushed first.
    /// - Parameter onFailure: told once when the journal can't go on, on its writer's thread; must not block.
    public func start(onFailure: @escaping @Sendable (JournalError) -> Void = { _ in }) throws {
        for (id, state) in journal.snapshot.streams { waiters.advanced(id, to: state.position) }
        journal.start(onFailure: onFailure) { [flusher, forwarder, waiters, metrics] news in
            metrics.committed(news)
            flusher.committed(news)
            if !news.deadLetters.isEmpty { forwarder?.stored() }
            for letter in news.deadLetters {
                if let lost = letter.sequences { waiters.lost(lost, eventID: letter.eventID, in: letter.stream) }
            }
            for (stream, position) in news.advanced { waiters.advanced(stream, to: position) }
        }
        try flusher.start()
        forwarder?.start()
    }

    /// Flushes what is there, until all is flushed, or ClickHouse refuses, or `timeout` has passed.
    /// - Returns: whether everything is flushed.
    public func drain(timeout: Duration) async -> Bool {
        let deadline = ContinuousClock.now + timeout
        await journal.settle()
        flusher.drain()
        while !flusher.isDrained, ContinuousClock.now < deadline {
            // Cancellation means that the caller is in a hurry: what is left stays in the journal.
            do { try await Task.sleep(for: .milliseconds(10)) } catch { break }
        }
        return journal.snapshot.streams.values.allSatisfy { $0.pendingEvents == 0 }
    }

    /// Answers all who wait for insertions that no more will come. To be called when draining is over: they would keep
    /// their HTTP requests, and so the server, waiting for as long as they have asked for.
    public func endWaits() { waiters.close() }

    /// Ends flusher and forwarder. Must come before their destinations and the journal are closed.
    public func stop() {
        waiters.close()
        flusher.stop()
        forwarder?.stop()
    }

    /// Tries the stream again now if it is held or in a pause; `nil` means all streams, and dead letters that could
    /// not be forwarded.
    public func retryNow(_ stream: StreamID? = nil) {
        flusher.retryNow(stream)
        if stream == nil { forwarder?.retryNow() }
    }

    /// Waits until the events are in ClickHouse or dead letters; `nil` when `timeout` passed first, or on shutdown.
    public func insertion(of sequences: Range<UInt64>, in stream: StreamID, timeout: Duration) async -> InsertionReport?
    {
        guard let losses = await waiters.wait(for: sequences, in: stream, timeout: timeout) else { return nil }
        return InsertionReport(
            inserted: sequences.count - losses.count, deadLettered: losses.count, deadLetterIDs: losses.eventIDs)
    }

    /// The streams, by table name.
    public var status: [StreamStatus] {
        let views = flusher.views
        return journal.snapshot.streams.values.sorted { $0.stream.id < $1.stream.id }.map { state in
            let view = views[state.stream.id]
            return StreamStatus(
                table: state.stream.table, nextSequence: state.acknowledgedEnd, flushedPosition: state.position,
                storedBytes: state.storedBytes, mode: view?.mode ?? "stopped", reason: view?.reason,
                insertsInFlight: view?.sending ?? 0)
        }
    }

    /// Seconds since the oldest event that is not delivered was taken, by table; without streams that have none. Reads
    /// one entry's header for each stream.
    public var oldestEventAges: [String: Double] {
        let snapshot = journal.snapshot
        return oldestAges(snapshot).reduce(into: [:]) { ages, age in
            ages[snapshot.streams[age.key]!.stream.table] = age.value
        }
    }

    /// Sets the gauges; to be called before metrics are rendered. Reads one entry's header for each stream, and asks the
    /// file system what is free.
    public func updateGauges() {
        let snapshot = journal.snapshot
        metrics.scrape(
            snapshot, freeDiskBytes: journal.freeDiskBytes, oldestAge: oldestAges(snapshot), views: flusher.views)
    }

    private func oldestAges(_ snapshot: Journal.Snapshot) -> [StreamID: Double] {
        let now = WallClock.milliseconds
        var oldestAge: [StreamID: Double] = [:]
        for (id, state) in snapshot.streams where state.pendingEvents > 0 {
            // A damaged entry shows as a held stream; its age is not known.
            guard
                case .success(let plan?) = Result(catching: {
                    try journal.plan(id, from: state.position, maxRows: 1, maxBytes: .max)
                })
            else { continue }
            oldestAge[id] = max(0, Double(now - plan.receivedAt) / 1_000)
        }
        return oldestAge
    }
}
