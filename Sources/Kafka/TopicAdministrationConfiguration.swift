internal import CKafka
internal import IngestCore

/// Which topics `TopicAdministration` makes, and how.
public struct TopicAdministrationConfiguration: Sendable {
    /// `host:port`, several separated by commas.
    public var bootstrapServers: String
    /// Topics with events. Patterns (`^...`) are reported and nothing else: what they match is made by others.
    public var topics: [String]
    /// The topic that dead letters go to; `nil` if there is none.
    public var deadLetterTopic: String?
    /// How the client and the brokers prove who they are.
    public var security = KafkaSecurity()
    /// librdkafka properties, applied in order. Can be the same as the source's.
    public var properties: [(name: String, value: String)] = []
    /// Partitions of a topic with events; 1 to 100,000.
    public var partitions = 6
    /// Copies of each partition, on as many brokers; 1 to 32,767. For all topics.
    public var replication = 1
    /// Milliseconds that events stay in their topics; -1 is for ever.
    public var retentionMilliseconds = 7 * 86_400_000
    /// Partitions of the topic with dead letters.
    public var deadLetterPartitions = 1
    /// Milliseconds that dead letters stay in their topic; -1 is for ever.
    public var deadLetterRetentionMilliseconds = 30 * 86_400_000
    /// Milliseconds that all of it may take, waiting for brokers that are still starting included; up to 1 hour.
    public var timeoutMilliseconds = 60_000

    /// Sets what has no default.
    public init(bootstrapServers: String, topics: [String], deadLetterTopic: String?) {
        self.bootstrapServers = bootstrapServers
        self.topics = topics
        self.deadLetterTopic = deadLetterTopic
    }
}

extension TopicAdministrationConfiguration {
    /// Our choices, where they differ from librdkafka's. Properties of the user replace them.
    private static let defaults: [(name: String, value: String)] = [
        ("client.id", "ingestd"),
        // Asking for a topic must not make it, with whatever the broker has for defaults.
        ("allow.auto.create.topics", "false"),
        // A broker that has just started is to be noticed at once.
        ("reconnect.backoff.max.ms", "1000"),
    ]

    /// A topic as it should be.
    struct Wanted {
        let name: String
        let partitions: Int
        let replication: Int
        let retentionMilliseconds: Int
    }

    /// Each topic once.
    var wanted: [Wanted] {
        var seen: Set<String> = []
        let events = topics.filter { !TopicPattern.isPattern($0) && $0 != deadLetterTopic }.map {
            Wanted(
                name: $0, partitions: partitions, replication: replication,
                retentionMilliseconds: retentionMilliseconds)
        }
        let letters = deadLetterTopic.map {
            Wanted(
                name: $0, partitions: deadLetterPartitions, replication: replication,
                retentionMilliseconds: deadLetterRetentionMilliseconds)
        }
        return (events + (letters.map { [$0] } ?? [])).filter { seen.insert($0.name).inserted }
    }

    /// Patterns among the topics.
    var patterns: [String] { topics.filter(TopicPattern.isPattern) }

    /// Checks everything that can be checked without a connection.
    func validate() throws(KafkaConfigurationError) {
        if bootstrapServers.isEmpty { throw KafkaConfigurationError(property: "bootstrap.servers", reason: "is empty") }
        for pattern in patterns { _ = try KafkaSourceConfiguration.pattern(pattern, of: "topics") }
        for topic in wanted { try DeadLetterProducerConfiguration.checkName(topic.name, of: "topics") }
        try KafkaConfigurationError.check("partitions", partitions, 1...100_000)
        try KafkaConfigurationError.check("deadLetterPartitions", deadLetterPartitions, 1...100_000)
        try KafkaConfigurationError.check("replication", replication, 1...32_767)
        try KafkaConfigurationError.check("retentionMilliseconds", retentionMilliseconds, -1...Int.max)
        try KafkaConfigurationError.check(
            "deadLetterRetentionMilliseconds", deadLetterRetentionMilliseconds, -1...Int.max)
        try KafkaConfigurationError.check("timeoutMilliseconds", timeoutMilliseconds, 0...3_600_000)
        try security.validate(with: properties)
        let handle = try makeProperties(connects: false)
        _ = try ClientHandle(RD_KAFKA_PRODUCER, properties: handle, callbacks: nil)
    }

    /// librdkafka's form of the configuration.
    /// - Parameter connects: false leaves out the servers, so that a client made from it talks to no one.
    func makeProperties(connects: Bool = true) throws(KafkaConfigurationError) -> PropertiesHandle {
        let handle = PropertiesHandle(words: security.words(with: properties))
        for (name, value) in Self.defaults { try handle.set(name, value) }
        try handle.set(properties, refusing: PropertiesHandle.settingNames)
        try security.apply(to: handle)
        if connects { try handle.set("bootstrap.servers", bootstrapServers) }
        return handle
    }
}
