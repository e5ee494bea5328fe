import IngestCore
import Synchronization
import TestSupport
import Testing

/// Several services share a topic; each has its own journal.
@Suite(.serialized) struct GroupTests {
    private static let partitionCount: Int32 = 4

    /// Keeps every row, so that what arrives twice is seen; retries are still dropped by their token.
    private static let table = """
        CREATE TABLE plain (event_id String, payload String, source String, topic String, partition Int32, \
        offset Int64, key String, received_at DateTime64(3, 'UTC')) \
        ENGINE = MergeTree ORDER BY event_id SETTINGS non_replicated_deduplication_window = 10000
        """

    /// A further service with the scene's settings.
    private func sibling(_ scene: Scene) throws -> ServiceInstance {
        var environment = scene.service.environment
        for name in ["HTTP_PORT", "JOURNAL_PATH"] { environment[name] = nil }
        return try ServiceInstance(environment)
    }

    /// Waits until the services have all partitions, each as many as the others.
    private func settle(_ services: [ServiceInstance]) async throws {
        let share = Int(Self.partitionCount) / services.count
        try await eventually("\(services.count) services share the partitions") {
            for service in services {
                guard try await service.status().kafka.partitions.count == share else { return false }
            }
            return true
        }
    }

    private func awaitRows(_ scene: Scene, _ count: Int) async throws {
        let before = try await scene.clickHouse.number("SELECT count() FROM plain")
        try await eventually("\(count) more rows", within: .seconds(60)) {
            try await scene.clickHouse.number("SELECT count() FROM plain") >= before + count
        }
    }

    private func duplicates(_ scene: Scene) async throws -> Int {
        try await scene.clickHouse.number("SELECT count() - uniqExact(event_id) FROM plain")
    }

    @Test func servicesComeAndGoUnderLoad() async throws {
        let settings = ["CLICKHOUSE_TABLE": "plain", "BATCH_MAX_AGE": "200ms"]
        try await Scene.run(topics: ["events": Self.partitionCount], brokers: 2, environment: settings) { scene in
            try scene.cluster.slowCoordinator(of: Scene.group, topic: "events", partitions: Self.partitionCount)
            try await scene.clickHouse.query(Self.table)
            let load = PartitionLoad(try scene.cluster, Self.partitionCount)
            defer { load.stop() }
            let first = scene.service
            let second = try sibling(scene)
            let third = try sibling(scene)
            try await first.start()
            try await settle([first])
            try await awaitRows(scene, 500)
            try await second.start()
            try await settle([first, second])
            try await awaitRows(scene, 500)
            #expect(try await first.stop() == .code(0))
            try await third.start()
            try await settle([second, third])
            try await awaitRows(scene, 500)
            // Everyone came and went in order.
            #expect(try await duplicates(scene) == 0)

            let owned = Set(try await second.status().kafka.partitions.map(\.partition))
            var committed: [Int32: Int64] = [:]
            for partition in owned { committed[partition] = try scene.committed("events", partition) ?? 0 }
            try await second.kill()
            try await settle([third])
            try await awaitRows(scene, 500)
            load.stop()
            let count = try load.count.get()
            for partition in 0..<Self.partitionCount {
                try await scene.awaitCommit(of: Int64(count) / Int64(Self.partitionCount), "events", partition)
            }
            // What its journal holds is delivered as well.
            second.environment["KAFKA_CONSUMER_ENABLED"] = "false"
            try await second.start()
            try await eventually("the killed service's journal is empty") {
                try await second.status().pendingEvents == 0
            }
            #expect(try await scene.clickHouse.number("SELECT uniqExact(event_id) FROM plain") == count)
            // Twice is only what the killed service had not committed.
            let rows = try await scene.clickHouse.query(
                "SELECT partition, min(offset), count() FROM (SELECT partition, offset, count() AS times FROM plain "
                    + "GROUP BY partition, offset HAVING times > 1) GROUP BY partition")
            for row in rows.split(separator: "\n") {
                let fields = row.split(separator: "\t").compactMap { Int64($0) }
                try #require(fields.count == 3)
                #expect(owned.contains(Int32(fields[0])))
                #expect(fields[1] >= committed[Int32(fields[0])] ?? .max)
            }
            print("\(count) events, \(try await duplicates(scene)) twice after a kill")
            for service in [second, third] { #expect(try await service.stop() == .code(0)) }
        }
    }
}

/// Produces numbered events to all partitions in turn until it is stopped.
private final class PartitionLoad: Sendable {
    private let isStopped = Atomic(false)
    private let result = Mutex<Result<Int, any Error>>(.success(0))
    private let thread = Mutex<DedicatedThread?>(nil)

    init(_ cluster: KafkaMock, _ partitions: Int32) {
        let started = DedicatedThread(name: "load") {
            let outcome = Result { try self.produce(cluster, partitions) }
            self.result.withLock { $0 = outcome }
        }
        thread.withLock { $0 = started }
    }

    private func produce(_ cluster: KafkaMock, _ partitions: Int32) throws -> Int {
        var count = 0
        let deadline = ContinuousClock.now + .seconds(180)
        while !isStopped.load(ordering: .relaxed), ContinuousClock.now < deadline {
            for partition in 0..<partitions {
                try cluster.produce(
                    numbered(count..<(count + 10), "").map { .init($0) }, to: "events", partition: partition)
                count += 10
            }
        }
        return count
    }

    func stop() {
        isStopped.store(true, ordering: .relaxed)
        thread.withLock { $0.take() }?.join()
    }

    /// How many events were produced; to be asked when it is stopped.
    var count: Result<Int, any Error> { result.withLock { $0 } }
}
