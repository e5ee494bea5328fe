import Logging
import Metrics
import TestSupport
import Testing

@testable import Kafka

@Suite struct ProducerConfigurationTests {
    private func problem(_ change: (inout DeadLetterProducerConfiguration) -> Void) -> KafkaConfigurationError? {
        var configuration = DeadLetterProducerConfiguration(bootstrapServers: "127.0.0.1:1", topic: "t")
        change(&configuration)
        do throws(KafkaConfigurationError) {
            try configuration.validate()
            return nil
        } catch {
            return error
        }
    }

    @Test func anAcknowledgementMeansAllReplicasAndIdempotence() throws {
        #expect(problem { _ in } == nil)
        var configuration = DeadLetterProducerConfiguration(bootstrapServers: "127.0.0.1:1", topic: "t")
        let properties = try configuration.makeProperties()
        #expect(properties.value(of: "enable.idempotence") == "true")
        #expect(properties.value(of: "acks") == "-1")
        #expect(properties.value(of: "message.max.bytes") == "1000000000")
        #expect(properties.value(of: "message.timeout.ms") == "300000")
        #expect(properties.value(of: "compression.codec") == "lz4")
        #expect(properties.value(of: "allow.auto.create.topics") == "false")
        configuration.properties = [("compression.type", "none"), ("message.timeout.ms", "0")]
        let changed = try configuration.makeProperties()
        #expect(changed.value(of: "compression.codec") == "none")
        #expect(changed.value(of: "message.timeout.ms") == "0")
    }

    @Test(arguments: [
        ("acks", "1"), ("request.required.acks", "0"), ("enable.idempotence", "false"), ("transactional.id", "x"),
        ("delivery.report.only.error", "true"), ("bootstrap.servers", "elsewhere:1"), ("no.such.property", "1"),
        ("message.timeout.ms", "soon"),
    ])
    func aBadPropertyIsNamed(name: String, value: String) throws {
        let error = try #require(problem { $0.properties = [(name, value)] })
        #expect(error.property == name)
    }

    @Test func settingsOutOfRangeAreNamed() {
        #expect(problem { $0.bootstrapServers = "" }?.property == "bootstrap.servers")
        #expect(problem { $0.topic = "" }?.property == "topic")
        #expect(problem { $0.topic = "two words" }?.property == "topic")
        #expect(problem { $0.maximumMessages = 0 }?.property == "maximumMessages")
        #expect(problem { $0.maximumBytes = 1 }?.property == "maximumBytes")
        #expect(problem { $0.maximumRestartMilliseconds = 1 }?.property == "maximumRestartMilliseconds")
        #expect(problem { $0.properties = [("max.in.flight", "6")] }?.description.contains("max.in.flight") == true)
    }

    /// Both get the same properties, and each must do without those of the other.
    @Test func consumerAndProducerTakeEachOthersProperties() async throws {
        let shared: [(name: String, value: String)] = [
            ("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "200"), ("auto.offset.reset", "earliest"),
            ("partition.assignment.strategy", "range"), ("group.instance.id", "one"), ("max.poll.interval.ms", "7000"),
            ("linger.ms", "1"), ("compression.type", "zstd"), ("retries", "5"), ("batch.size", "5000"),
        ]
        var rig = try DeadLetterRig()
        rig.configuration.properties += shared
        let lines = LogLines()
        let producer = try rig.makeProducer(lines)
        producer.start()
        rig.send(1...1, to: producer)
        try await eventually("the answer") { rig.answers.delivered == [1] }
        await producer.close(within: .seconds(5))
        // librdkafka warns of each; it is as it should be.
        let ignored = lines.lines(at: .debug).filter { $0.contains("is a consumer property and will be ignored") }
        #expect(ignored.count == 6)
        #expect(lines.lines(at: .warning) == [])
        var source = KafkaSourceConfiguration(bootstrapServers: "127.0.0.1:1", topics: ["t"], groupID: "g")
        source.properties = shared + [("acks", "all"), ("message.timeout.ms", "1000")]
        try source.validate()
    }
}
