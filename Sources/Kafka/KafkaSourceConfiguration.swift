internal import CKafka
internal import IngestCore

/// What a `KafkaSource` needs to know.
public struct KafkaSourceConfiguration: Sendable {
    /// `host:port`, several separated by commas.
    public var bootstrapServers: String
    /// Topics to consume: names, and patterns that begin with `^` (see `TopicPattern`). Topics that are made later and
    /// match a pattern are found within `topic.metadata.refresh.interval.ms`, 30 seconds here. Patterns never match
    /// `deadLetterTopic` and Kafka's own topics, whose names begin with two underscores.
    public var topics: [String]
    /// The topic that dead letters go to, if they do: it is never consumed.
    public var deadLetterTopic: String?
    /// The consumer group that this process is a member of.
    public var groupID: String
    /// Makes this process a static member of the group (`group.instance.id`): while it restarts, for up to
    /// `session.timeout.ms`, its partitions stay its own and nobody else's are moved. Unique in the group.
    public var groupInstanceID: String?
    /// How the client and the brokers prove who they are.
    public var security = KafkaSecurity()
    /// librdkafka properties, applied in order after our own defaults, so that they win. See librdkafka's
    /// CONFIGURATION.md for names and values.
    public var properties: [(name: String, value: String)] = []
    /// Top-level payload field that holds the event id.
    public var eventIDField = "event_id"
    /// Where the events of some topics have their ids; the first rule that matches a topic decides. Where the id is not
    /// there, it is looked for as in other topics.
    public var eventIDRules: [EventIDRule] = []
    /// Milliseconds between two offset commits; 10 ms to 1 hour.
    public var commitIntervalMilliseconds = 1_000
    /// Bytes of messages taken from Kafka and not yet in the journal, over all partitions; beyond it partitions are
    /// paused. 4 MiB to 1 GiB. It can be exceeded by one message. librdkafka's own prefetching is bounded by
    /// `queued.max.messages.kbytes`.
    public var maximumInFlightBytes = 32 << 20
    /// Milliseconds that giving up a partition waits until what was taken from it is in ClickHouse, so that it can be
    /// committed and its next owner delivers nothing again; up to 5 minutes, and never more than a third of
    /// `max.poll.interval.ms`. What is not flushed by then is delivered from the journal all the same.
    public var revocationTimeoutMilliseconds = 10_000
    /// Milliseconds that one request to the group coordinator may take where the poll thread waits for it: reading
    /// committed offsets on assignment, the last commit on revocation and on `close()`.
    public var requestTimeoutMilliseconds = 10_000
    /// Milliseconds before the first restart after a failure; doubles with each further one.
    public var minimumRestartMilliseconds = 1_000
    /// Milliseconds between restarts at most.
    public var maximumRestartMilliseconds = 60_000

    /// Sets what has no default.
    public init(bootstrapServers: String, topics: [String], groupID: String) {
        self.bootstrapServers = bootstrapServers
        self.topics = topics
        self.groupID = groupID
    }
}

/// Where the events of some topics have their ids.
public struct EventIDRule: Sendable, Equatable {
    /// The place of an id.
    public enum Source: Sendable, Equatable {
        /// A top-level field of the payload.
        case field(String)
        /// A header of the message; its value is the id, UTF-8. The first one counts if there are several.
        case header(String)
    }

    /// A topic's name, or a pattern that begins with `^` (see `TopicPattern`).
    public let topic: String
    /// Where their ids are.
    public let source: Source

    /// Pairs the two.
    public init(topic: String, source: Source) {
        self.topic = topic
        self.source = source
    }
}

/// A setting that can't work. The message names it and says what is wrong.
public struct KafkaConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The librdkafka property or the setting at fault; `nil` where librdkafka complains about a combination.
    public let property: String?
    /// What is wrong with it.
    public let reason: String

    /// What is wrong, with the name of what is at fault.
    public var description: String {
        property.map { "Kafka setting \"\($0)\": \(reason)" } ?? "Kafka settings: \(reason)"
    }

    static func check(_ name: String, _ value: Int, _ range: ClosedRange<Int>) throws(KafkaConfigurationError) {
        guard !range.contains(value) else { return }
        throw KafkaConfigurationError(
            property: name, reason: "\(value) is not within \(range.lowerBound) to \(range.upperBound)")
    }
}

extension KafkaSourceConfiguration {
    /// These decide whether an offset can be committed before its events are in ClickHouse, so nobody may change them.
    private static let reserved: [(name: String, value: String)] = [
        ("enable.auto.commit", "false"), ("enable.auto.offset.store", "false"),
    ]

    /// Names that the user's properties can't have, with the reason.
    private static let refused: [String: String] = {
        // The first two are librdkafka's names for one property.
        let names = ["enable.auto.commit", "auto.commit.enable", "enable.auto.offset.store"]
        let reason = "can't be changed: offsets are committed by this program, after the events are in ClickHouse"
        return PropertiesHandle.settingNames.merging(names.map { ($0, reason) }) { first, _ in first }
            .merging(["group.id": "is set by the group id setting, not here"]) { first, _ in first }
    }()

    /// Our choices, where they differ from librdkafka's. Properties of the user replace them.
    private static let defaults: [(name: String, value: String)] = [
        ("client.id", "ingestd"),
        ("partition.assignment.strategy", "cooperative-sticky"),
        // A group without offsets starts with what the topic holds: nothing may be missed.
        ("auto.offset.reset", "earliest"),
        // Messages of transactions that were aborted are none. librdkafka's default as well, but not to be left to it.
        ("isolation.level", "read_committed"),
        // What librdkafka has fetched ahead is memory that is touched, read from beyond the cache and given back: with
        // 128 MiB of it fetching cost twice the CPU. `FetchReminder` keeps such a small queue from running dry.
        ("queued.max.messages.kbytes", "16384"),
        ("queued.min.messages", "100000"),
        ("fetch.max.bytes", "16777216"),
    ]

    /// From 2.2.0 on librdkafka waits for so long by itself before it looks at a queue that was full, 1 s by default;
    /// a reminder does not change that. Earlier versions do not know the name.
    private static let newerDefaults: [(name: String, value: String)] =
        rd_kafka_version() >= 0x0202_00ff ? [("fetch.queue.backoff.ms", "10")] : []

    /// What a client that consumes gets before the user's properties, for measurements: a consumer that is compared with
    /// the source has the same.
    public static var consumerProperties: [(name: String, value: String)] { reserved + defaults + newerDefaults }

    /// Checks everything that can be checked without a connection.
    func validate() throws(KafkaConfigurationError) {
        if bootstrapServers.isEmpty { throw KafkaConfigurationError(property: "bootstrap.servers", reason: "is empty") }
        if groupID.isEmpty { throw KafkaConfigurationError(property: "group.id", reason: "is empty") }
        try checkTopics()
        if eventIDField.isEmpty { throw KafkaConfigurationError(property: "eventIDField", reason: "is empty") }
        try KafkaConfigurationError.check("commitIntervalMilliseconds", commitIntervalMilliseconds, 10...3_600_000)
        try KafkaConfigurationError.check(
            "maximumInFlightBytes", maximumInFlightBytes, (4 * Limits.entryBytes)...(1 << 30))
        try KafkaConfigurationError.check("revocationTimeoutMilliseconds", revocationTimeoutMilliseconds, 0...300_000)
        try KafkaConfigurationError.check("requestTimeoutMilliseconds", requestTimeoutMilliseconds, 100...300_000)
        try KafkaConfigurationError.check("minimumRestartMilliseconds", minimumRestartMilliseconds, 1...3_600_000)
        try KafkaConfigurationError.check(
            "maximumRestartMilliseconds", maximumRestartMilliseconds, minimumRestartMilliseconds...3_600_000)
        try security.validate(with: properties)
        // librdkafka checks combinations and reads key files only when it makes a client.
        let handle = try makeProperties(connects: false)
        _ = try ConsumerHandle(properties: handle, callbacks: nil)
    }

    private func checkTopics() throws(KafkaConfigurationError) {
        if topics.isEmpty || topics.contains("") {
            throw KafkaConfigurationError(
                property: "topics", reason: "at least one is needed, and none without a name")
        }
        for topic in topics { _ = try Self.pattern(topic, of: "topics") }
        if let deadLetterTopic, topics.contains(deadLetterTopic) {
            throw KafkaConfigurationError(
                property: "topics",
                reason: "\"\(deadLetterTopic)\" is where dead letters go: they would be consumed again, without end")
        }
        for rule in eventIDRules {
            _ = try Self.pattern(rule.topic, of: "eventIDRules")
            let name =
                switch rule.source {
                case .field(let name), .header(let name): name
                }
            guard rule.topic.isEmpty || name.isEmpty else { continue }
            throw KafkaConfigurationError(
                property: "eventIDRules", reason: "a topic, a field or a header without a name")
        }
    }

    /// Compiles a name or pattern.
    static func pattern(_ text: String, of setting: String) throws(KafkaConfigurationError) -> TopicPattern {
        do throws(TopicPattern.Invalid) {
            return try TopicPattern(text)
        } catch {
            throw KafkaConfigurationError(
                property: setting, reason: "\"\(text)\" is no regular expression: \(error)")
        }
    }

    /// Topics that no pattern matches, as librdkafka takes them: those of the user's properties, and ours.
    private var ignoredTopics: String {
        var own = topics.contains { $0.hasPrefix("__") } ? [] : ["^__"]
        if let deadLetterTopic {
            own.append(
                "^\(deadLetterTopic.split(separator: ".", omittingEmptySubsequences: false).joined(separator: "[.]"))$")
        }
        return (properties.filter { $0.name == "topic.blacklist" }.suffix(1).map(\.value) + own).joined(separator: ",")
    }

    /// librdkafka's form of the configuration.
    /// - Parameter connects: false leaves out the servers, so that a client made from it talks to no one.
    func makeProperties(connects: Bool = true) throws(KafkaConfigurationError) -> PropertiesHandle {
        let handle = PropertiesHandle(words: security.words(with: properties))
        for (name, value) in Self.defaults + Self.newerDefaults { try handle.set(name, value) }
        // librdkafka's five minutes are long for a topic that somebody has just made.
        if topics.contains(where: TopicPattern.isPattern) {
            try handle.set("topic.metadata.refresh.interval.ms", "30000")
        }
        try handle.set(properties, refusing: Self.refused)
        try security.apply(to: handle)
        if topics.contains(where: TopicPattern.isPattern) { try handle.set("topic.blacklist", ignoredTopics) }
        if connects { try handle.set("bootstrap.servers", bootstrapServers) }
        try handle.set("group.id", groupID)
        if let groupInstanceID {
            if properties.contains(where: { $0.name == "group.instance.id" }) {
                throw KafkaConfigurationError(
                    property: "group.instance.id", reason: "is set by the group instance id setting, not here as well")
            }
            if groupInstanceID.isEmpty {
                throw KafkaConfigurationError(property: "group.instance.id", reason: "is empty")
            }
            try handle.set("group.instance.id", groupInstanceID)
        }
        for (name, value) in Self.reserved { try handle.set(name, value) }
        return handle
    }
}
