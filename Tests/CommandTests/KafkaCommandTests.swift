import TestSupport
import Testing

/// `ingestd kafka init` as its users run it.
@Suite struct KafkaCommandTests {
    private struct Topic: Decodable, Equatable {
        struct Difference: Decodable, Equatable {
            let setting: String
            let found: Int
            let wanted: Int
        }

        let topic: String
        let result: String
        let retentionMs: Int?
        let differences: [Difference]?
    }

    @Test func topicsAreMadeOnceAndDifferencesTold() async throws {
        let broker = try await KafkaTestServer.administration(
            #"{"topics": {"old": {"partitions": 2, "replication": 1, "retention.ms": "3600000"}}}"#)
        let settings = [
            "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrapServers, "KAFKA_TOPICS": "orders,old,^clicks\\..*",
            "KAFKA_TOPIC_PARTITIONS": "4", "KAFKA_INIT_TIMEOUT": "20s",
        ]
        let first = try await Command.run(["kafka", "init"], settings)
        #expect(first.code == 0)
        #expect(
            first.lines == [
                "orders: created with 4 partitions, replication 1, retention 7d",
                "old: exists and is left alone: partitions 2, not 4; retention 1h, not 7d",
                "^clicks\\..*: a pattern, for which nothing can be created; now it matches no topic",
                "events.dlq: created with 1 partition, replication 1, retention 30d",
            ])
        let second = try await Command.run(["kafka", "init", "--json"], settings)
        let documents = try second.json([Topic].self)
        #expect(second.code == 0)
        #expect(documents.map(\.result) == ["exists", "differs", "pattern", "exists"])
        #expect(documents[1].differences?.first == .init(setting: "partitions", found: 2, wanted: 4))
        #expect(broker.lines.count == 2)
        try await broker.stop()
    }

    @Test func failuresEndWithOneAndWrongUsageWithSixtyFour() async throws {
        let broker = try await KafkaTestServer.administration(#"{"create_errors": {"orders": [29]}}"#)
        var settings = [
            "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrapServers, "KAFKA_TOPICS": "orders", "KAFKA_INIT_TIMEOUT": "1s",
        ]
        let refused = try await Command.run(["kafka", "init"], settings)
        #expect(refused.code == 1)
        #expect(refused.output.contains("orders: failed: scripted error 29"))
        #expect(refused.output.contains("events.dlq: created"))
        try await broker.stop()
        let alone = try await Command.run(["kafka", "init"], settings)
        #expect(alone.code == 1)
        #expect(alone.output.contains("waiting for Kafka at \(broker.bootstrapServers): "))
        #expect(alone.output.contains("no Kafka broker at \(broker.bootstrapServers) has answered within 1000 ms"))
        #expect(try await Command.run(["kafka", "init", "--no-such-option"], settings).code == 64)
        settings["KAFKA_SECURITY_PROTOCOL"] = "sasl_plaintext"
        settings["KAFKA_SASL_MECHANISM"] = "plain"
        settings["KAFKA_SASL_USERNAME"] = "alice"
        let unprotected = try await Command.run(["kafka", "init"], settings)
        #expect(unprotected.code == 1)
        #expect(unprotected.output.contains("KAFKA_SASL_PASSWORD"))
        settings["KAFKA_SASL_PASSWORD"] = "tell nobody"
        settings["KAFKA_PROPERTIES"] = "sasl.password=somebody else"
        let twice = try await Command.run(["kafka", "init"], settings)
        #expect(twice.code == 1)
        #expect(twice.output.contains("KAFKA_PROPERTIES has sasl.password"))
        #expect(!twice.output.contains("tell nobody") && !twice.output.contains("somebody else"))
    }
}
