internal import CKafka
internal import IngestCore

/// What a `DeadLetterProducer` needs to know.
public struct DeadLetterProducerConfiguration: Sendable {
    /// `host:port`, several separated by commas.
    public var bootstrapServers: String
    /// The topic that dead letters go to.
    public var topic: String
    /// How the client and the brokers prove who they are.
    public var security = KafkaSecurity()
    /// librdkafka properties, applied in order after our own defaults, so that they win. Can be the same as the
    /// source's: librdkafka ignores what only a consumer knows. `message.timeout.ms` (5 minutes here) is how long a
    /// message may stay unacknowledged until it is reported as failed.
    public var properties: [(name: String, value: String)] = []
    /// Messages that may wait for an acknowledgement; further ones fail at once. 1 to 100,000.
    public var maximumMessages = 1_000
    /// Bytes of keys and values that may wait for an acknowledgement; 1 MiB to 1 GiB. While nothing waits, one message
    /// of any size is taken. They are in memory twice, here and in librdkafka.
    public var maximumBytes = 64 << 20
    /// Milliseconds before the first restart after a failure; doubles with each further one.
    public var minimumRestartMilliseconds = 1_000
    /// Milliseconds between restarts at most.
    public var maximumRestartMilliseconds = 60_000

    /// Sets what has no default.
    public init(bootstrapServers: String, topic: String) {
        self.bootstrapServers = bootstrapServers
        self.topic = topic
    }
}

extension DeadLetterProducerConfiguration {
    /// These decide what an acknowledgement means, so nobody may change them.
    private static let reserved: [(name: String, value: String)] = [
        ("enable.idempotence", "true"), ("acks", "all"), ("delivery.report.only.error", "false"),
    ]

    /// Names that the user's properties can't have, with the reason.
    private static let refused: [String: String] = {
        // The two with `acks` are librdkafka's names for one property.
        let names = [
            "enable.idempotence", "acks", "request.required.acks", "delivery.report.only.error", "transactional.id",
        ]
        let reason = "can't be changed: a dead letter is delivered once all replicas in sync have it, and not before"
        return PropertiesHandle.settingNames.merging(names.map { ($0, reason) }) { first, _ in first }
    }()

    /// Our choices, where they differ from librdkafka's. Properties of the user replace them.
    private static let defaults: [(name: String, value: String)] = [
        ("client.id", "ingestd"),
        // librdkafka's maximum: the topic decides what is too large.
        ("message.max.bytes", "1000000000"),
        ("message.timeout.ms", "300000"),
        // A misspelt name must not become a topic that nobody reads.
        ("allow.auto.create.topics", "false"),
    ]

    /// Kafka's rule for topic names. [org.apache.kafka.common.internals.Topic]
    static func checkName(_ topic: String, of setting: String) throws(KafkaConfigurationError) {
        let isName = topic.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
                true
            default: false
            }
        }
        guard isName, (1...249).contains(topic.utf8.count), topic != ".", topic != ".." else {
            throw KafkaConfigurationError(
                property: setting,
                reason: "\"\(topic)\" is no topic name: 1 to 249 letters, digits, '.', '_' and '-'")
        }
    }

    /// Checks everything that can be checked without a connection.
    func validate() throws(KafkaConfigurationError) {
        if bootstrapServers.isEmpty { throw KafkaConfigurationError(property: "bootstrap.servers", reason: "is empty") }
        try Self.checkName(topic, of: "topic")
        try KafkaConfigurationError.check("maximumMessages", maximumMessages, 1...100_000)
        try KafkaConfigurationError.check("maximumBytes", maximumBytes, (1 << 20)...(1 << 30))
        try KafkaConfigurationError.check("minimumRestartMilliseconds", minimumRestartMilliseconds, 1...3_600_000)
        try KafkaConfigurationError.check(
            "maximumRestartMilliseconds", maximumRestartMilliseconds, minimumRestartMilliseconds...3_600_000)
        try security.validate(with: properties)
        // librdkafka checks combinations and reads key files only when it makes a client.
        let handle = try makeProperties(connects: false)
        _ = try ProducerHandle(properties: handle, topic: topic, callbacks: nil)
    }

    /// librdkafka's form of the configuration.
    /// - Parameter connects: false leaves out the servers, so that a client made from it talks to no one.
    func makeProperties(connects: Bool = true) throws(KafkaConfigurationError) -> PropertiesHandle {
        let handle = PropertiesHandle(words: security.words(with: properties))
        for (name, value) in Self.defaults { try handle.set(name, value) }
        do throws(KafkaConfigurationError) {
            // Every broker since 0.10 takes it, unlike zstd.
            try handle.set("compression.codec", "lz4")
        } catch {
            // This librdkafka was built without: messages go as they are.
        }
        try handle.set(properties, refusing: Self.refused)
        try security.apply(to: handle)
        if connects { try handle.set("bootstrap.servers", bootstrapServers) }
        for (name, value) in Self.reserved { try handle.set(name, value) }
        return handle
    }
}
