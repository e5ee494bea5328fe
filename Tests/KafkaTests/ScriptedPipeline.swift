import IngestCore
import Kafka
import Logging
import Metrics
import Synchronization
import TestSupport

/// An event as the pipeline got it.
struct ReceivedEvent: Equatable {
    let payload: String
    let id: String?
    let offset: Int64
    let timestamp: Int64
    let key: String?
    let headerBytes: [UInt8]
}

/// A submission as the pipeline got it.
struct ReceivedSubmission {
    let partition: TopicPartition
    let offsets: Range<Int64>
    let stream: StreamID
    let events: [ReceivedEvent]
    let deadLetters: [DeadLetter]

    init(_ submission: Submission) throws {
        guard case .kafka(let partition, let offsets) = submission.origin else {
            throw MalformedEntry("not from Kafka")
        }
        self.partition = partition
        self.offsets = offsets
        stream = submission.stream
        deadLetters = submission.deadLetters
        events = try Self.decode(submission)
    }

    /// Reads the records as the journal's readers do.
    private static func decode(_ submission: Submission) throws -> [ReceivedEvent] {
        let records = submission.events.records
        guard submission.events.eventCount > 0 else { return [] }
        let start = EntryView.headerLength + EntryView.sourceLength(of: submission.origin)
        let entry = UnsafeMutableRawBufferPointer.allocate(byteCount: start + records.count, alignment: 16)
        defer { entry.deallocate() }
        _ = EntryView.writeHeader(
            into: entry, origin: submission.origin, eventCount: submission.events.eventCount, firstSequence: 0,
            receivedAt: submission.receivedAt)
        UnsafeMutableRawBufferPointer(rebasing: entry[start...]).copyMemory(from: records)
        var cursor = try EntryView(UnsafeRawBufferPointer(entry)).events
        var events: [ReceivedEvent] = []
        while let event = try cursor.next() {
            events.append(
                ReceivedEvent(
                    payload: String(decoding: event.payload, as: UTF8.self),
                    id: event.explicitID.map { String(decoding: $0, as: UTF8.self) }, offset: event.kafka!.offset,
                    timestamp: event.kafka!.timestamp,
                    key: event.kafka!.key.map { String(decoding: $0, as: UTF8.self) },
                    headerBytes: Array(event.headers)))
        }
        return events
    }
}

/// An intake that accepts, refuses or leaves waiting, as the test says.
final class ScriptedIntake: EventIntake {
    enum Answer {
        case accept
        case refuse(IntakeError)
        /// Keeps the submission until `releaseAll`.
        case wait
    }

    private struct State {
        var answer: @Sendable (TopicPartition) -> Answer = { _ in .accept }
        var accepted: [ReceivedSubmission] = []
        var refusalCount = 0
        var submissionCount = 0
        var waiting: [Submission] = []
        var failure: String?

        mutating func accept(_ submission: Submission) {
            do {
                accepted.append(try ReceivedSubmission(submission))
            } catch {
                failure = "\(error)"
            }
        }
    }

    private let state = Mutex(State())

    func submit(_ submission: Submission) {
        let answer = state.withLock { state in
            state.submissionCount += 1
            guard case .kafka(let partition, _) = submission.origin else { return Answer.accept }
            let answer = state.answer(partition)
            switch answer {
            case .accept: state.accept(submission)
            case .refuse: state.refusalCount += 1
            case .wait: state.waiting.append(submission)
            }
            return answer
        }
        switch answer {
        case .accept: submission.completion(.success(Receipt(sequences: 0..<0)))
        case .refuse(let error): submission.completion(.failure(error))
        case .wait: break
        }
    }

    /// Decides about submissions from now on.
    func answer(_ answer: @escaping @Sendable (TopicPartition) -> Answer) { state.withLock { $0.answer = answer } }

    /// Accepts what waits, and everything from now on.
    func releaseAll() {
        let waiting = state.withLock { state in
            state.answer = { _ in .accept }
            for submission in state.waiting { state.accept(submission) }
            defer { state.waiting = [] }
            return state.waiting
        }
        for submission in waiting { submission.completion(.success(Receipt(sequences: 0..<0))) }
    }

    var submissionCount: Int { state.withLock { $0.submissionCount } }
    var refusalCount: Int { state.withLock { $0.refusalCount } }
    var waitingCount: Int { state.withLock { $0.waiting.count } }
    var failure: String? { state.withLock { $0.failure } }
    var accepted: [ReceivedSubmission] { state.withLock { $0.accepted } }

    /// Accepted events in the order of submission.
    func events(of partition: TopicPartition) -> [ReceivedEvent] {
        accepted.filter { $0.partition == partition }.flatMap(\.events)
    }

    var eventCount: Int { state.withLock { $0.accepted.reduce(0) { $0 + $1.events.count } } }

    /// The range that a partition's accepted submissions cover; `nil` if they don't meet one another.
    func covered(_ partition: TopicPartition) -> Range<Int64>? {
        var range: Range<Int64>?
        for submission in accepted where submission.partition == partition {
            guard let before = range else {
                range = submission.offsets
                continue
            }
            guard before.upperBound == submission.offsets.lowerBound else { return nil }
            range = before.lowerBound..<submission.offsets.upperBound
        }
        return range
    }
}

/// A ledger that answers what the test says and writes down what it is told.
final class ScriptedLedger: PartitionLedger {
    enum Call: Equatable {
        case assigned(TopicPartition, committed: Int64?)
        /// `committable` named this offset for the first time.
        case offered(TopicPartition, Int64)
        case revoked(TopicPartition)
        case committed(TopicPartition, Int64)
    }

    private struct State {
        var starts: [TopicPartition: Int64] = [:]
        var flushed: [TopicPartition: Int64] = [:]
        var committed: [TopicPartition: Int64] = [:]
        var calls: [Call] = []
        var askedAt = ContinuousClock.now
        var askCount = 0
        var unsettled: Set<TopicPartition> = []
        var flushRequestCount = 0
    }

    private let state = Mutex(State())

    func assigned(_ partition: TopicPartition, committed: Int64?) -> Int64? {
        state.withLock { state in
            state.calls.append(.assigned(partition, committed: committed))
            state.committed[partition] = committed
            return state.starts[partition] ?? committed
        }
    }

    func revoked(_ partition: TopicPartition) { state.withLock { $0.calls.append(.revoked(partition)) } }

    func committable() -> [TopicPartition: Int64] {
        state.withLock { state in
            state.askedAt = .now
            state.askCount += 1
            let offsets = state.flushed.filter { state.committed[$0.key] != $0.value }
            for (partition, offset) in offsets where !state.calls.contains(.offered(partition, offset)) {
                state.calls.append(.offered(partition, offset))
            }
            return offsets
        }
    }

    func isSettled(_ partition: TopicPartition) -> Bool { state.withLock { !$0.unsettled.contains(partition) } }

    func requestFlush() { state.withLock { $0.flushRequestCount += 1 } }

    func committed(_ offsets: [TopicPartition: Int64]) {
        state.withLock { state in
            for (partition, offset) in offsets {
                state.committed[partition] = offset
                state.calls.append(.committed(partition, offset))
            }
        }
    }

    /// What `assigned` answers.
    func setStart(_ offset: Int64, of partition: TopicPartition) { state.withLock { $0.starts[partition] = offset } }

    /// What may be committed.
    func setFlushed(_ offset: Int64, of partition: TopicPartition) { state.withLock { $0.flushed[partition] = offset } }

    /// Whether something of the partition is on its way to ClickHouse.
    func setSettled(_ isSettled: Bool, _ partition: TopicPartition) {
        state.withLock { state in
            if isSettled { state.unsettled.remove(partition) } else { state.unsettled.insert(partition) }
        }
    }

    /// How often `requestFlush` was called.
    var flushRequestCount: Int { state.withLock { $0.flushRequestCount } }

    /// How long ago `committable` was called: the source does so all the time, unless its thread waits for something.
    var idleTime: Duration { state.withLock { .now - $0.askedAt } }

    /// How often `committable` was called.
    var askCount: Int { state.withLock { $0.askCount } }

    var calls: [Call] { state.withLock { $0.calls } }
    func count(_ call: Call) -> Int { calls.count { $0 == call } }
}

/// A mock cluster with a topic, a source over it, and the scripted rest of the pipeline.
struct Rig {
    static let topic = "events"
    static let stream = Stream(id: StreamID(rawValue: 7), table: "events_table")
    let mock: KafkaMock
    let intake = ScriptedIntake()
    let ledger = ScriptedLedger()
    var configuration: KafkaSourceConfiguration
    var metrics: any MetricsFactory = NOOPMetricsHandler.instance
    let lines = LogLines()

    /// A cluster with a topic.
    init(partitions: Int32 = 1) throws {
        let mock = try KafkaMock()
        try mock.createTopic(Self.topic, partitions: partitions)
        self.init(mock)
    }

    /// A further member of the group.
    init(_ mock: KafkaMock) {
        self.mock = mock
        configuration = KafkaSourceConfiguration(
            bootstrapServers: mock.bootstrapServers, topics: [Self.topic], groupID: "group")
        configuration.commitIntervalMilliseconds = 50
        configuration.requestTimeoutMilliseconds = 3_000
        configuration.minimumRestartMilliseconds = 50
        configuration.maximumRestartMilliseconds = 200
        configuration.properties = [
            ("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "200"), ("fetch.wait.max.ms", "50"),
            ("reconnect.backoff.max.ms", "200"),
        ]
    }

    static func partition(_ number: Int32 = 0) -> TopicPartition { TopicPartition(topic: topic, partition: number) }

    func makeSource() throws -> KafkaSource {
        try KafkaSource(
            configuration: configuration, routes: StreamRoutes(byName: [:], fallback: Self.stream), intake: intake,
            ledger: ledger, logger: lines.logger, metricsFactory: metrics)
    }

    /// Runs `body` with a started source and closes it, also when `body` throws.
    func withSource(_ body: (KafkaSource) async throws -> Void) async throws {
        let source = try makeSource()
        source.start()
        do {
            try await body(source)
        } catch {
            await source.close()
            throw error
        }
        await source.close()
    }

    func produce(_ payloads: [String], partition: Int32 = 0) throws {
        try mock.produce(payloads.map { KafkaMock.Message($0) }, to: Self.topic, partition: partition)
    }
}

/// Events `{"event_id":"<prefix><number>"}`.
func numbered(_ range: Range<Int>, _ prefix: String = "e") -> [String] {
    range.map { "{\"event_id\":\"\(prefix)\($0)\"}" }
}

/// The condition did not come true in time.
struct DeadlinePassed: Error, CustomStringConvertible {
    let description: String
}

/// Waits until `condition` holds.
func wait(
    for what: String, seconds: Int = 60, until condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + .seconds(seconds)
    while try await !condition() {
        guard ContinuousClock.now < deadline else { throw DeadlinePassed(description: "waited in vain for: \(what)") }
        try await Task.sleep(for: .milliseconds(5))
    }
}
