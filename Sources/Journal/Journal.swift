public import IngestCore
public import Logging
internal import ServiceLog
import Synchronization

/// The durable queue between sources and flusher: one LMDB environment, written by one thread.
///
/// `open`, then `start`, then any number of calls from any thread, then `close`. Nothing is acknowledged before it is
/// on stable storage. `docs/journal-format.md` describes the file.
public final class Journal: EventIntake, Sendable {
    /// What the journal holds, as of its last commit.
    public struct Snapshot: Sendable {
        /// By number.
        public var streams: [StreamID: StreamState]
        /// Kafka partitions ever consumed.
        public var partitions: [TopicPartition: PartitionCheckpoint]
        /// Bytes of the file that entries take.
        public var storedBytes: Int
        /// Size of the file, in use or not.
        public var fileBytes: Int
        /// Dead letters in the store.
        public var deadLetterCount: Int
        /// Bytes of the file that they take.
        public var deadLetterBytes: Int
        /// Dead letters that the DLQ topic has not got; 0 where forwarding is off.
        public var unforwardedCount: Int
        /// Whether there is no room for the dead letters that were to be stored last: their stream is held, or their
        /// source waits with them. Never true after opening, before that has happened again.
        public var deadLettersFull: Bool
        /// Requests whose keys are kept, so that they are recognized when they come again.
        public var requestKeyCount: Int
        /// Why events are refused at present.
        public var refusal: IntakeError?
        /// Why the journal can't go on: the process must be restarted. Nothing acknowledged is lost.
        public var failure: JournalError?
    }

    /// The journal's own random identity, 32 hex digits: part of every deduplication token, so that two journals that
    /// feed one table never collide.
    public let identity: String

    private let configuration: JournalConfiguration
    let environment: Environment
    let tables: Tables
    private let commitLog: CommitLog?
    /// For the writer.
    private let waiting: Mutex<[Submission]>
    private let mailbox = Mailbox<WriterMessage>()
    private let queuedBytes = Atomic<Int>(0)
    private let current: Mutex<(state: JournalState, refusal: IntakeError?)>
    let assignedPartitions = Mutex<Set<TopicPartition>>([])
    private let openedHolds: Mutex<CommitHolds>
    private let thread = Mutex<DedicatedThread?>(nil)
    private let directory: JournalDirectory
    private let log: EventLog

    /// Opens the journal, or makes one. Reads no events, so it takes the same time whatever the backlog.
    /// - Throws: `JournalError`.
    public static func open(_ configuration: JournalConfiguration, logger: Logger) throws(JournalError) -> Journal {
        try withJournalErrors(configuration.path) { try openUnchecked(configuration, EventLog(logger)) }
    }

    static func withJournalErrors<Result>(
        _ path: String, _ body: () throws -> Result
    ) throws(JournalError) -> Result {
        do {
            return try body()
        } catch let error as JournalError {
            throw error
        } catch let error as MalformedEntry {
            throw .damaged("\(path): \(error.reason)")
        } catch let error as LMDBError where error.isForeign {
            throw .foreign(path: path, reason: error.description)
        } catch {
            throw .io("\(path): \(error)")
        }
    }

    private static func openUnchecked(_ configuration: JournalConfiguration, _ log: EventLog) throws -> Journal {
        let directory = try JournalDirectory(exclusive: configuration.path)
        let logged = try LoggedGroups(configuration.path)
        let environment = try JournalOpening.environment(directory, configuration, log)
        try environment.clearDeadReaders()
        var waiting: [Submission] = []
        let prepared: JournalOpening.Prepared
        do {
            prepared = try JournalOpening.prepare(environment, configuration, logged)
        } catch let error as LMDBError where !logged.isEmpty {
            // On a full disk the events stay in the commit log, and the writer stores them as soon as there is room.
            prepared = try JournalOpening.prepare(environment, configuration, LoggedGroups())
            guard let missing = try logged.missing(in: prepared) else { throw error }
            waiting = missing
        }
        if prepared.takenIn > 0 {
            log.write(
                .journalTookInLog, "events from \(CommitLog.name) were taken into the journal",
                ["events": "\(prepared.takenIn)"])
        }
        // What is in the file is void from here on.
        let commitLog = try waiting.isEmpty ? commitLog(directory, configuration, logged, prepared.identity, log) : nil
        return Journal(configuration, directory, environment, prepared, commitLog, waiting, log)
    }

    /// - Returns: `nil` if there is to be none, or it can't be written.
    private static func commitLog(
        _ directory: JournalDirectory, _ configuration: JournalConfiguration, _ logged: LoggedGroups,
        _ identity: String, _ log: EventLog
    ) throws(JournalError) -> CommitLog? {
        guard configuration.commitDelayMilliseconds > 0 else { return nil }
        if let other = logged.identity, other != identity {
            let name = "\(CommitLog.name).\(other)"
            try directory.rename(CommitLog.name, to: name)
            log.write(
                .journalLogSetAside, "\(CommitLog.name) belongs to another journal: kept under another name",
                ["file": "\(name)"])
        }
        do throws(JournalError) {
            return try CommitLog(directory, identity: identity, log)
        } catch {
            log.write(.journalLogFailed, "there is no \(CommitLog.name)", ["error": "\(error)"])
            return nil
        }
    }

    private init(
        _ configuration: JournalConfiguration, _ directory: JournalDirectory, _ environment: Environment,
        _ prepared: JournalOpening.Prepared, _ commitLog: CommitLog?, _ waiting: [Submission],
        _ log: EventLog
    ) {
        self.configuration = configuration
        self.directory = directory
        self.environment = environment
        tables = prepared.tables
        identity = prepared.identity
        self.commitLog = commitLog
        self.waiting = Mutex(waiting)
        self.log = log
        openedHolds = Mutex(prepared.holds)
        current = Mutex((prepared.state, nil))
    }

    /// Starts the writer's thread. Before it nothing can be submitted.
    /// - Parameters:
    ///   - onFailure: told once when the journal can't go on (`Snapshot.failure`), on the writer's thread.
    ///   - observer: told of each commit, on the writer's thread. Neither may block.
    public func start(
        onFailure: @escaping @Sendable (JournalError) -> Void = { _ in },
        observer: @escaping @Sendable (CommitNews) -> Void
    ) {
        let started = DedicatedThread(name: "journal-writer") { [self] in
            JournalWriter(
                environment: environment, tables: tables, commitLog: commitLog,
                waiting: waiting.withLock { waiting in
                    defer { waiting = [] }
                    return waiting
                },
                configuration: configuration,
                state: current.withLock { $0.state },
                holds: openedHolds.withLock { holds in
                    // Moved, so that the writer's changes never copy it.
                    defer { holds = CommitHolds() }
                    return holds
                },
                mailbox: mailbox,
                publish: { state, refusal in
                    if let failure = self.publish(state, refusal) { onFailure(failure) }
                },
                observer: observer,
                wasTaken: { bytes in self.queuedBytes.subtract(bytes, ordering: .relaxed) }
            ).run()
        }
        thread.withLock { $0 = started }
    }

    /// Writes what was submitted, then ends the writer's thread. Later submissions are refused.
    public func close() {
        mailbox.close()
        thread.withLock { $0.take() }?.join()
    }

    // MARK: Writing

    /// Puts the submission into the writer's queue, or refuses it at once if too much waits there already.
    public func submit(_ submission: Submission) {
        let bytes = submission.byteCount
        let queued = queuedBytes.add(bytes, ordering: .relaxed).newValue
        // One submission is always taken, however large.
        guard queued <= Limits.queuedBytes || queued == bytes else {
            queuedBytes.subtract(bytes, ordering: .relaxed)
            return submission.completion(.failure(.overloaded))
        }
        do {
            let letters = try submission.deadLetters.map {
                try NewDeadLetter($0, stream: submission.stream, receivedAt: submission.receivedAt)
            }
            guard !mailbox.send(.submission(submission, deadLetters: letters)) else { return }
            queuedBytes.subtract(bytes, ordering: .relaxed)
            submission.completion(.failure(.shuttingDown))
        } catch {
            queuedBytes.subtract(bytes, ordering: .relaxed)
            submission.completion(.failure(.storage("a dead letter could not be encoded: \(error)")))
        }
    }

    /// Makes a batch's boundaries durable, before its first send.
    public func seal(
        _ sequences: Range<UInt64>, in stream: StreamID,
        completion: @escaping @Sendable (Result<Void, JournalError>) -> Void
    ) {
        send(.seal(stream, sequences)) { completion($0.map { _ in }) }
    }

    /// Replaces a sealed batch by parts of it, which are batches with boundaries of their own from then on.
    /// - Parameters:
    ///   - sequences: the batch; it must be sealed, and not flushed.
    ///   - parts: in order, none of them empty, without gaps, from the batch's first event to its last.
    public func reseal(
        _ sequences: Range<UInt64>, as parts: [Range<UInt64>], in stream: StreamID,
        completion: @escaping @Sendable (Result<Void, JournalError>) -> Void
    ) {
        var end = sequences.lowerBound
        for part in parts {
            precondition(part.lowerBound == end && !part.isEmpty, "parts of a batch do not meet")
            end = part.upperBound
        }
        precondition(end == sequences.upperBound, "parts do not cover their batch")
        send(.reseal(stream, sequences, parts: parts)) { completion($0.map { _ in }) }
    }

    /// Moves a stream's flushed position: everything before it is in ClickHouse or is a dead letter. What is not in
    /// ClickHouse becomes one in the same transaction.
    /// - Parameters:
    ///   - partitions: from the plans of the batches that were flushed.
    ///   - rejected: events before `position` that ClickHouse does not take.
    ///   - damaged: entries before `position` that can't be sent; each becomes a dead letter as a whole, also where only
    ///     a part of it is advanced over.
    ///   - completion: gets `JournalError.deadLettersFull` if there is no room for the letters; then nothing was
    ///     changed, and the same advance is to be tried again later.
    public func advance(
        _ stream: StreamID, to position: UInt64,
        partitions: [TopicPartition: (entryEnd: UInt64, offset: Int64)],
        rejected: [RejectedEvent] = [], damaged: [DamagedEntry] = [],
        completion: @escaping @Sendable (Result<Void, JournalError>) -> Void
    ) {
        let advance = Command.Advance(
            stream: stream, position: position, partitions: partitions, rejected: rejected, damaged: damaged)
        send(.advance(advance)) { completion($0.map { _ in }) }
    }

    /// Returns when all that was acknowledged before this call can be read, or the disk has refused to store it.
    public func settle() async {
        await withCheckedContinuation { continuation in send(.settle) { _ in continuation.resume() } }
    }

    func send(_ command: Command, _ completion: @escaping CommandCompletion) {
        if !mailbox.send(.command(command, completion: completion)) {
            completion(.failure(.closed("the service is shutting down")))
        }
    }

    /// - Returns: why the journal can't go on, if it could until now.
    private func publish(_ state: JournalState, _ refusal: IntakeError?) -> JournalError? {
        let before = current.withLock { current in
            defer { current = (state, refusal) }
            return current
        }
        if let failure = state.failure, before.state.failure == nil {
            log.write(
                .journalFailed, "the journal can't go on", ["error": "\(failure)"])
            return failure
        } else if let refusal, before.refusal == nil {
            // A full journal that drains changes between the two many times a second; the log lets few lines through.
            log.write(
                .journalRefusing, "the journal refuses events", ["reason": "\(refusal)"])
        }
        return nil
    }

    // MARK: Reading

    /// The state as of the last commit.
    public var snapshot: Snapshot {
        let (state, refusal) = current.withLock { $0 }
        return Snapshot(state, refusal, environment)
    }

    /// Bytes of entries that it may hold.
    public var maxBytes: Int { configuration.maxBytes }

    /// Bytes that are free on its disk for this process; `nil` if the file system won't say. Asks each time.
    public var freeDiskBytes: UInt64? { JournalDirectory.freeDiskBytes(configuration.path) }

    /// Looks into a journal that another process may have open; changes nothing.
    /// - Throws: `JournalError`.
    public static func inspect(path: String) throws(JournalError) -> Snapshot {
        try JournalInspection(path: path).snapshot()
    }

    /// What is known of one Kafka partition.
    func checkpoint(of partition: TopicPartition) -> PartitionCheckpoint? {
        current.withLock { $0.state.partitions[partition] }
    }

    /// The stream of a table that was named in the configuration, or that the journal still has.
    public func stream(table: String) -> Stream? {
        current.withLock { $0.state.streams.values.first { $0.stream.table == table }?.stream }
    }

    /// Boundaries of batches that were sealed but not flushed, in order.
    public func seals(of stream: StreamID) throws -> [Range<UInt64>] {
        try environment.read { transaction in
            let cursor = try transaction.cursor(tables.seals)
            var seals: [Range<UInt64>] = []
            var found = try cursor.seek(SequenceKey(stream, 0))
            while let record = found {
                let key = try SequenceKey(record.key)
                guard key.stream == stream else { break }
                let end: UInt64 = record.value.loadLittleEndian(0)
                guard record.value.count == 8, end > key.sequence, key.sequence >= seals.last?.upperBound ?? 0 else {
                    throw JournalError.damaged("\(stream): the seal at sequence \(key.sequence) is malformed")
                }
                seals.append(key.sequence..<end)
                found = try cursor.next()
            }
            return seals
        }
    }

    /// Plans a batch from `start` on, of at most `maxRows` events and about `maxBytes` bytes (a single larger event
    /// is a batch of its own). Reads headers only. `end`, if given, is where it must end at the latest. It ends before
    /// a damaged or missing entry, and then is full.
    /// - Returns: `nil` if the stream has no event from `start` on.
    /// - Throws: `DamagedEntry` if the entry at `start` is damaged or missing, with what is lost from there on; another
    ///   error if the journal can't be read at all.
    public func plan(
        _ stream: StreamID, from start: UInt64, to end: UInt64? = nil, maxRows: Int, maxBytes: Int
    ) throws -> BatchPlan? {
        try environment.plan(tables, stream: stream, from: start, to: end, maxRows: maxRows, maxBytes: maxBytes)
    }

    /// The deduplication token of a batch.
    /// - Throws: `DamagedEntry` if the entry with its last event is damaged or missing.
    public func token(_ stream: StreamID, _ sequences: Range<UInt64>) throws -> String {
        DeduplicationToken.text(
            journal: identity, stream: stream, sequences: sequences,
            lastEntry: try environment.checksum(tables, stream: stream, ofEntryWith: sequences.upperBound - 1))
    }

    /// A reader of a batch's events.
    public func reader(_ stream: StreamID, _ sequences: Range<UInt64>) throws -> any EventReader {
        try BatchReader(environment: environment, tables: tables, stream: stream, sequences: sequences)
    }

    /// Runs `body` on a view of the last commit. Short work only: see `Environment.read`.
    func withTables<Result>(_ body: (borrowing ReadTransaction, Tables) throws -> Result) throws -> Result {
        try environment.read { try body($0, tables) }
    }

    /// Bytes of the file that dead letters may take.
    public var deadLettersMaxBytes: Int { configuration.deadLettersMaxBytes }

    /// Whether commits to Kafka wait for the DLQ topic.
    var forwardsDeadLetters: Bool { configuration.forwardsDeadLetters }

    /// The folder.
    var path: String { configuration.path }

    /// LMDB's flags of the open environment.
    var durabilityFlags: UInt32 { environment.flags }
}

extension Journal.Snapshot {
    init(_ state: JournalState, _ refusal: IntakeError?, _ environment: Environment) {
        let pages = environment.pages
        self.init(
            streams: state.streams, partitions: state.partitions, storedBytes: state.storedBytes,
            fileBytes: pages.size * pages.count, deadLetterCount: state.deadLetterCount,
            deadLetterBytes: state.deadLetterBytes, unforwardedCount: state.unforwardedCount,
            deadLettersFull: state.missingDeadLetterBytes > 0, requestKeyCount: state.requests.count, refusal: refusal,
            failure: state.failure)
    }
}
