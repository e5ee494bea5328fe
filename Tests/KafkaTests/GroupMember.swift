import IngestCore
import Kafka
import MetricsTestKit
import Synchronization
import TestSupport

/// Where the members of a group deliver to: counts how often each event arrives.
final class Warehouse: Sendable {
    private let arrivals = Mutex<[String: Int]>([:])

    func deliver(_ ids: [String]) {
        arrivals.withLock { arrivals in
            for id in ids { arrivals[id, default: 0] += 1 }
        }
    }

    var eventCount: Int { arrivals.withLock { $0.count } }
    /// Arrivals beyond each event's first.
    var duplicateCount: Int { arrivals.withLock { $0.values.reduce(0) { $0 + $1 - 1 } } }
}

/// The rest of a member's service in little: a journal that answers after a moment, a flusher that delivers batches by
/// age or when asked to, and the ledger between them, which skips what is held when a partition comes back.
final class MemoryPipeline: EventIntake, PartitionLedger {
    private enum News: Sendable {
        case submitted(Submission)
        case flushNow
    }

    private struct Checkpoint {
        var committed: Int64?
        /// As in the journal's ledger one commit is announced at a time.
        var attempted: Int64?
        var flushed: Int64?
        var end: Int64?
        /// What was flushed when `committable` was last asked, and how many commits the coordinator had refused when that
        /// was so for the first time.
        var offered: (flushed: Int64, refusals: Int64)?
    }

    private struct State {
        var checkpoints: [TopicPartition: Checkpoint] = [:]
        var assigned: Set<TopicPartition> = []
        var uncommitted: Int64 = 0
        var refused: Int64 = 0
        var failure: String?
    }

    /// Longer than the commits of a partition that is given up take: only a flush that is asked for is in time for them.
    private static let batchAge: UInt64 = 1_000_000_000
    private let warehouse: Warehouse
    /// How many of the source's commits were answered with "rebalance in progress".
    private let refusals: @Sendable () -> Int64
    private let mailbox = Mailbox<News>()
    private let state = Mutex(State())
    private let thread = Mutex<DedicatedThread?>(nil)

    init(_ warehouse: Warehouse, refusals: @escaping @Sendable () -> Int64) {
        self.warehouse = warehouse
        self.refusals = refusals
        let started = DedicatedThread(name: "memory-pipeline") { self.run() }
        thread.withLock { $0 = started }
    }

    /// Delivers what it holds and ends.
    func close() {
        mailbox.close()
        thread.withLock { $0.take() }?.join()
    }

    /// Offsets that were taken and not committed when their partitions were given up, without the coordinator's doing.
    /// These come again elsewhere.
    var uncommitted: Int64 { state.withLock { $0.uncommitted } }
    /// The same where the source had done its part: all that was taken was in the warehouse, the source then sent a
    /// commit, and the coordinator refused it because the group was joined anew.
    var refused: Int64 { state.withLock { $0.refused } }
    var failure: String? { state.withLock { $0.failure } }

    private func run() {
        var batch: [ReceivedSubmission] = []
        var batchDueAt: UInt64?
        var news: [News] = []
        var isOpen = true
        while isOpen {
            isOpen = mailbox.receive(into: &news, until: batchDueAt)
            for each in news {
                switch each {
                case .flushNow: batchDueAt = 0
                case .submitted(let submission):
                    do {
                        let received = try ReceivedSubmission(submission)
                        state.withLock {
                            $0.checkpoints[received.partition, default: .init()].end = received.offsets.upperBound
                        }
                        batch.append(received)
                        if batchDueAt == nil { batchDueAt = MonotonicClock.now + Self.batchAge }
                        submission.completion(.success(Receipt(sequences: 0..<UInt64(received.events.count))))
                    } catch {
                        state.withLock { $0.failure = "\(error)" }
                    }
                }
            }
            guard let due = batchDueAt, MonotonicClock.now >= due || !isOpen else { continue }
            warehouse.deliver(batch.flatMap { $0.events.compactMap(\.id) })
            state.withLock { state in
                for submission in batch {
                    state.checkpoints[submission.partition]!.flushed = submission.offsets.upperBound
                }
            }
            batch = []
            batchDueAt = nil
        }
    }

    // MARK: EventIntake

    func submit(_ submission: Submission) { mailbox.send(.submitted(submission)) }

    // MARK: PartitionLedger

    func assigned(_ partition: TopicPartition, committed: Int64?) -> Int64? {
        state.withLock { state in
            state.assigned.insert(partition)
            var checkpoint = state.checkpoints[partition, default: .init()]
            defer { state.checkpoints[partition] = checkpoint }
            let isOurs = committed == checkpoint.committed || committed == checkpoint.attempted
            let isHeld = committed.map { $0 >= checkpoint.flushed ?? .max && $0 <= checkpoint.end ?? -1 } ?? false
            if checkpoint.end == nil || !(isOurs || isHeld) {
                checkpoint = Checkpoint(flushed: committed, end: committed)
            }
            checkpoint.committed = committed
            checkpoint.attempted = committed
            return checkpoint.end
        }
    }

    func revoked(_ partition: TopicPartition) {
        state.withLock { state in
            state.assigned.remove(partition)
            guard let checkpoint = state.checkpoints[partition], let end = checkpoint.end else { return }
            let rest = end - (checkpoint.committed ?? 0)
            if let offered = checkpoint.offered, offered.flushed == end, refusals() > offered.refusals {
                state.refused += rest
            } else {
                state.uncommitted += rest
            }
        }
    }

    func committable() -> [TopicPartition: Int64] {
        let refusals = refusals()
        return state.withLock { state in
            var offsets: [TopicPartition: Int64] = [:]
            for partition in state.assigned {
                guard var checkpoint = state.checkpoints[partition], let flushed = checkpoint.flushed else { continue }
                if checkpoint.attempted == checkpoint.committed { checkpoint.attempted = flushed }
                if checkpoint.offered?.flushed != flushed { checkpoint.offered = (flushed, refusals) }
                state.checkpoints[partition] = checkpoint
                if checkpoint.attempted != checkpoint.committed { offsets[partition] = checkpoint.attempted }
            }
            return offsets
        }
    }

    func isSettled(_ partition: TopicPartition) -> Bool {
        state.withLock { state in state.checkpoints[partition].map { $0.end == nil || $0.flushed == $0.end } ?? true }
    }

    func requestFlush() { mailbox.send(.flushNow) }

    func committed(_ offsets: [TopicPartition: Int64]) {
        state.withLock { state in
            for (partition, offset) in offsets where state.checkpoints[partition]?.attempted == offset {
                state.checkpoints[partition]!.committed = offset
            }
        }
    }
}

/// One service instance of several in a group: a source over a pipeline of its own.
final class GroupMember: Sendable {
    let source: KafkaSource
    let pipeline: MemoryPipeline
    let lines = LogLines()

    init(_ mock: KafkaMock, _ strategy: String, _ warehouse: Warehouse) throws {
        var configuration = Rig(mock).configuration
        // A member that ends waits for a rebalance, which takes 2.6 s here (see below).
        configuration.requestTimeoutMilliseconds = 20_000
        configuration.properties += [
            ("partition.assignment.strategy", strategy),
            // The mock takes a second less for each rebalance; the first takes three, which a member must survive.
            ("session.timeout.ms", "3600"), ("heartbeat.interval.ms", "100"),
        ]
        let metrics = TestMetrics()
        pipeline = MemoryPipeline(warehouse) {
            // There is no such counter before the first one.
            (try? metrics.expectCounter("ingest_kafka_errors_total", [("error", "REBALANCE_IN_PROGRESS")]).totalValue)
                ?? 0
        }
        source = try KafkaSource(
            configuration: configuration, routes: StreamRoutes(byName: [:], fallback: Rig.stream), intake: pipeline,
            ledger: pipeline, logger: lines.logger, metricsFactory: metrics)
        source.start()
    }

    var partitions: Set<Int32> { Set(source.partitions.map(\.partition.partition)) }

    /// Ends it as the service does: no more messages, flush, commit, leave.
    func close() async throws {
        await source.stopConsuming()
        pipeline.requestFlush()
        let owned = source.partitions.map(\.partition)
        try await eventually("everything is flushed") { owned.allSatisfy(pipeline.isSettled) }
        await source.close()
        pipeline.close()
    }
}

/// Produces numbered events to all partitions in turn until it is stopped.
final class Load: Sendable {
    private let isStopped = Atomic(false)
    private let result = Mutex<Result<Int, any Error>?>(nil)
    private let thread = Mutex<DedicatedThread?>(nil)

    init(_ mock: KafkaMock, partitions: Int32) {
        let started = DedicatedThread(name: "load") {
            let outcome = Result { try self.produce(mock, partitions) }
            self.result.withLock { $0 = outcome }
        }
        thread.withLock { $0 = started }
    }

    private func produce(_ mock: KafkaMock, _ partitions: Int32) throws -> Int {
        var count = 0
        let deadline = ContinuousClock.now + .seconds(60)
        while !isStopped.load(ordering: .relaxed), ContinuousClock.now < deadline {
            for partition in 0..<partitions {
                try mock.produce(
                    numbered(count..<(count + 20)).map { .init($0) }, to: Rig.topic, partition: partition)
                count += 20
            }
        }
        return count
    }

    /// - Returns: how many events were produced.
    func stop() throws -> Int {
        isStopped.store(true, ordering: .relaxed)
        thread.withLock { $0.take() }?.join()
        return try result.withLock { $0 }!.get()
    }
}
