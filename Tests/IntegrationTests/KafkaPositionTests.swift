import TestSupport
import Testing

/// Where consuming starts, what is committed, and what is not touched.
@Suite(.serialized) struct KafkaPositionTests {
    /// Keeps every row, so that what arrives twice is seen; retries are still dropped by their token.
    private static let table = """
        CREATE TABLE plain (event_id String, payload String, source String, topic String, partition Int32, \
        offset Int64, key String, received_at DateTime64(3, 'UTC')) \
        ENGINE = MergeTree ORDER BY event_id SETTINGS non_replicated_deduplication_window = 1000
        """

    private func run(_ body: (Scene) async throws -> Void) async throws {
        try await Scene.run(topics: ["events": 2], environment: ["CLICKHOUSE_TABLE": "plain"]) { scene in
            try await scene.clickHouse.query(Self.table)
            for partition in Int32(0)...1 {
                try scene.cluster.produce(
                    numbered(0..<1_000, "\(partition)-").map { .init($0) }, to: "events", partition: partition)
            }
            try await body(scene)
        }
    }

    @Test func anOperatorsResetIsObeyed() async throws {
        try await run { scene in
            try await scene.service.start()
            for partition in Int32(0)...1 { try await scene.awaitCommit(of: 1_000, "events", partition) }
            #expect(try await scene.clickHouse.number("SELECT count() FROM plain") == 2_000)
            #expect(try await scene.service.stop() == .code(0))
            // Back in one partition, forward in the other, both of which the journal would have known better.
            try scene.cluster.produce(numbered(1_000..<1_200, "1-").map { .init($0) }, to: "events", partition: 1)
            try await scene.cluster.reset([0: 400, 1: 1_100], group: Scene.group, topic: "events")
            try await scene.service.start()
            try await scene.awaitCommit(of: 1_000, "events", 0)
            try await scene.awaitCommit(of: 1_200, "events", 1)
            try await scene.awaitFlush()
            let rows = try await scene.clickHouse.query(
                "SELECT partition, count(), countIf(offset >= 400 AND offset < 1000), countIf(offset >= 1000), "
                    + "min(if(offset >= 1000, offset, 9999)) FROM plain GROUP BY partition ORDER BY partition")
            #expect(rows == "0\t1600\t1200\t0\t9999\n1\t1100\t600\t100\t1100")
        }
    }

    @Test(arguments: [true, false])
    func whatTheJournalHoldsIsNotReadAgain(isKilled: Bool) async throws {
        try await run { scene in
            scene.clickHouse.kill()
            try await scene.service.start()
            for partition in Int32(0)...1 { try await scene.awaitIntake(to: 1_000, "events", partition) }
            if isKilled {
                try await scene.service.kill()
            } else {
                #expect(try await scene.service.stop() == .code(0))
            }
            for partition in Int32(0)...1 { #expect(try scene.committed("events", partition) ?? 0 == 0) }
            try scene.cluster.produce(numbered(1_000..<1_100, "0-").map { .init($0) }, to: "events", partition: 0)
            try await scene.clickHouse.restartInBackground()
            try await scene.service.start()
            try await scene.awaitCommit(of: 1_100, "events", 0)
            try await scene.awaitCommit(of: 1_000, "events", 1)
            #expect(try await scene.clickHouse.number("SELECT count() FROM plain") == 2_100)
            #expect(try await scene.clickHouse.number("SELECT uniqExact(event_id) FROM plain") == 2_100)
        }
    }

    @Test func withoutAConsumerKafkaIsNotTouched() async throws {
        try await run { scene in
            let kafkaPort = try #require(UInt16(scene.cluster.bootstrapServers.split(separator: ":").last ?? ""))
            let proxy = FaultProxy(to: kafkaPort)
            scene.service.environment["KAFKA_CONSUMER_ENABLED"] = "false"
            scene.service.environment["KAFKA_BOOTSTRAP_SERVERS"] = "127.0.0.1:\(proxy.port)"
            try await scene.service.start()
            let response = try await scene.service.post(#"{"event_id":"a"}"#, to: "/v1/events?ack=inserted")
            #expect(response.status == 200, "\(response.text)")
            #expect(try await scene.service.status().kafka.enabled == false)
            #expect(try await scene.service.stop() == .code(0))
            #expect(proxy.acceptedConnections == 0)
            #expect(try scene.committed("events") == nil)
            #expect(try await scene.clickHouse.query("SELECT event_id FROM plain") == "a")
        }
    }

    @Test func invalidMessagesBecomeDeadLettersAndHoldNothingUp() async throws {
        try await run { scene in
            let bad = ["{bad", "[]", #"{"a":1}{"b":2}"#, ""]
            try scene.cluster.produce(bad.map { .init($0) }, to: "events", partition: 0)
            try scene.cluster.produce(numbered(1_000..<1_100, "0-").map { .init($0) }, to: "events", partition: 0)
            try await scene.service.start()
            try await scene.awaitCommit(of: Int64(1_100 + bad.count), "events", 0)
            try await scene.awaitCommit(of: 1_000, "events", 1)
            #expect(try await scene.service.status().journal.deadLetters == bad.count)
            #expect(try await scene.clickHouse.number("SELECT count() FROM plain") == 2_100)
        }
    }
}
