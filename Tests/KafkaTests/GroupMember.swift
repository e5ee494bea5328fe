import IngestCore
import Kafka
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
        var flushed: Int64?
        var end: Int64?
    }

    private struct State {
        var checkpoints: [TopicPartition: Checkpoint] = [:]
        var assigned: Set<TopicPartition> = []
        var revokedBeforeCommit: Int64 = 0
        var failure: String?
    }

    private static let batchAge: UInt64 = 200_000_000
    private let warehouse: Warehouse
    private let mailbox = Mailbox<News>()
    private let state = Mutex(State())
    private let thread = Mutex<DedicatedThread?>(nil)

    init(_ warehouse: Warehouse) {
        self.warehouse = warehouse
        let started = DedicatedThread(name: "memory-pipeline") { self.run() }
        thread.withLock { $0 = started }
    }

    /// Delivers what it holds and ends.
    func close() {
        mailbox.close()
        thread.withLock { $0.take() }?.join()
    }

    /// Offsets that were taken but not committed when their partitions were given up: these come again elsewhere.
    var revokedBeforeCommit: Int64 { state.withLock { $0.revokedBeforeCommit } }
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
            if let end = checkpoint.end, committed == checkpoint.committed { return end }
            if let end = checkpoint.end, let flushed = checkpoint.flushed, let committed, (flushed...end) ~= committed {
                checkpoint.committed = committed
                return end
            }
            checkpoint = Checkpoint(committed: committed)
            return committed
        }
    }

    func revoked(_ partition: TopicPartition) {
        state.withLock { state in
            state.assigned.remove(partition)
            guard let checkpoint = state.checkpoints[partition], let end = checkpoint.end else { return }
            state.revokedBeforeCommit += end - (checkpoint.committed ?? 0)
        }
    }

    func committable() -> [TopicPartition: Int64] {
        state.withLock { state in
            var offsets: [TopicPartition: Int64] = [:]
            for partition in state.assigned {
                guard let checkpoint = state.checkpoints[partition], checkpoint.flushed != checkpoint.committed else {
                    continue
                }
                offsets[partition] = checkpoint.flushed
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
            for (partition, offset) in offsets { state.checkpoints[partition]?.committed = offset }
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
        configuration.properties += [
            ("partition.assignment.strategy", strategy),
            // The mock takes a second less for each rebalance; the first takes three, which a member must survive.
            ("session.timeout.ms", "3600"), ("heartbeat.interval.ms", "100"),
        ]
        pipeline = MemoryPipeline(warehouse)
        source = try KafkaSource(
            configuration: configuration, routes: StreamRoutes(byName: [:], fallback: Rig.stream), intake: pipeline,
            ledger: pipeline, logger: lines.logger)
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
