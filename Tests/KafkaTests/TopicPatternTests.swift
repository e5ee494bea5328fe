import IngestCore
import TestSupport
import Testing

@testable import Kafka

@Suite struct TopicPatternTests {
    @Test func patternsAreExtendedRegularExpressions() throws {
        let names = try TopicPattern("orders.a")
        #expect(names.matches("orders.a") && !names.matches("orders_a") && !names.isPattern)
        let patterns = try TopicPattern(#"^orders\.(a|b)$"#)
        #expect(patterns.matches("orders.a") && patterns.matches("orders.b") && patterns.isPattern)
        #expect(!patterns.matches("orders.ab") && !patterns.matches("my.orders.a"))
        #expect(throws: TopicPattern.Invalid.self) { try TopicPattern("^(") }
    }

    @Test func routesOfTopicsCanBePatternsAndPathsCant() throws {
        func stream(_ number: UInt32) -> Stream { Stream(id: StreamID(rawValue: number), table: "t\(number)") }
        let routes = StreamRoutes(
            byName: ["orders.a": stream(1)],
            patterns: [(try TopicPattern(#"^orders\."#), stream(2)), (try TopicPattern("^orders"), stream(3))],
            fallback: stream(0))
        #expect(routes.stream(forTopic: "orders.a") == stream(1))
        #expect(routes.stream(forTopic: "orders.b") == stream(2))
        #expect(routes.stream(forTopic: "orders-b") == stream(3))
        #expect(routes.stream(forTopic: "clicks") == stream(0))
        #expect(routes.stream(for: "orders.b") == stream(0))
        #expect(routes.all == [stream(0), stream(1), stream(2), stream(3)])
    }

    @Test func topicsThatMatchAreFoundAndDeadLettersAreNot() async throws {
        let mock = try KafkaMock()
        for topic in ["orders.a", "orders.dlq", "__orders", "clicks"] {
            try mock.createTopic(topic, partitions: 1)
            try mock.produce([KafkaMock.Message("{\"event_id\":\"\(topic)\"}")], to: topic)
        }
        var rig = Rig(mock)
        rig.configuration.topics = ["^.*orders.*"]
        rig.configuration.deadLetterTopic = "orders.dlq"
        rig.configuration.properties += [
            ("topic.metadata.refresh.interval.ms", "100"), ("session.timeout.ms", "4000"),
            ("topic.blacklist", "^orders[.]secret$"),
        ]
        let orders = Stream(id: StreamID(rawValue: 9), table: "orders")
        let source = try KafkaSource(
            configuration: rig.configuration,
            routes: StreamRoutes(
                byName: [:], patterns: [(try TopicPattern(#"^orders\."#), orders)], fallback: Rig.stream),
            intake: rig.intake, ledger: rig.ledger, logger: rig.lines.logger)
        source.start()
        do {
            try await wait(for: "the first topic") { rig.intake.eventCount >= 1 }
            // Made while the source runs; the last one shows that the others would have been found by then.
            for topic in ["orders.secret", "my.orders"] {
                try mock.createTopic(topic, partitions: 1)
                try mock.produce([KafkaMock.Message("{\"event_id\":\"\(topic)\"}")], to: topic)
            }
            try await wait(for: "the new topic") { rig.intake.eventCount >= 2 }
        } catch {
            await source.close()
            throw error
        }
        await source.close()
        let submissions = rig.intake.accepted.map { [$0.partition.topic, "\($0.stream.rawValue)"] }
        #expect(submissions == [["orders.a", "9"], ["my.orders", "7"]])
    }

    @Test func topicsThatCantWorkAreNamed() {
        func problem(_ topics: [String], deadLetters: String? = "events.dlq") -> KafkaConfigurationError? {
            var configuration = KafkaSourceConfiguration(
                bootstrapServers: "127.0.0.1:1", topics: topics, groupID: "g")
            configuration.deadLetterTopic = deadLetters
            do throws(KafkaConfigurationError) {
                try configuration.validate()
                return nil
            } catch {
                return error
            }
        }
        #expect(problem(["^.*", "events"]) == nil)
        #expect(problem(["^events("])?.description.contains("^events(") == true)
        #expect(problem(["events", "events.dlq"])?.description.contains("events.dlq") == true)
        #expect(problem(["events.dlq"], deadLetters: nil) == nil)
    }

    /// The mock knows no aborted transactions; librdkafka's part is to be told not to deliver them.
    @Test func messagesOfAbortedTransactionsAreNotAskedFor() throws {
        let configuration = KafkaSourceConfiguration(bootstrapServers: "127.0.0.1:1", topics: ["t"], groupID: "g")
        let properties = try configuration.makeProperties()
        #expect(properties.value(of: "isolation.level") == "read_committed")
    }
}
