internal import CKafka
internal import IngestCore

/// What a `KafkaSource` needs to know.
public struct KafkaSourceConfiguration: Sendable {
    /// `host:port`, several separated by commas.
    public var bootstrapServers: String
    /// Topics to consume; a name that starts with `^` is a regular expression.
    public var topics: [String]
    /// The consumer group that this process is a member of.
    public var groupID: String
    /// Makes this process a static member of the group (`group.instance.id`): while it restarts, for up to
    /// `session.timeout.ms`, its partitions stay its own and nobody else's are moved. Unique in the group.
    public var groupInstanceID: String?
    /// librdkafka properties, applied in order after our own defaults, so that they win. See librdkafka's
    /// CONFIGURATION.md for names and values.
    public var properties: [(name: String, value: String)] = []
    /// Top-level payload field that holds the event id.
    public var eventIDField = "event_id"
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
        // librdkafka 2.0.2 looks at a buffer that was full again only after up to a second, so a small one caps
        // throughput at about its size a second: measured 300,000 messages/s with 16 MiB and the default of 100,000
        // messages, 1,300,000 with these.
        ("queued.max.messages.kbytes", "131072"),
        ("queued.min.messages", "1000000"),
        ("fetch.max.bytes", "16777216"),
    ]

    /// Checks everything that can be checked without a connection.
    func validate() throws(KafkaConfigurationError) {
        if bootstrapServers.isEmpty { throw KafkaConfigurationError(property: "bootstrap.servers", reason: "is empty") }
        if groupID.isEmpty { throw KafkaConfigurationError(property: "group.id", reason: "is empty") }
        if topics.isEmpty || topics.contains("") {
            throw KafkaConfigurationError(
                property: "topics", reason: "at least one is needed, and none without a name")
        }
        if eventIDField.isEmpty { throw KafkaConfigurationError(property: "eventIDField", reason: "is empty") }
        try KafkaConfigurationError.check("commitIntervalMilliseconds", commitIntervalMilliseconds, 10...3_600_000)
        try KafkaConfigurationError.check(
            "maximumInFlightBytes", maximumInFlightBytes, (4 * Limits.entryBytes)...(1 << 30))
        try KafkaConfigurationError.check("revocationTimeoutMilliseconds", revocationTimeoutMilliseconds, 0...300_000)
        try KafkaConfigurationError.check("requestTimeoutMilliseconds", requestTimeoutMilliseconds, 100...300_000)
        try KafkaConfigurationError.check("minimumRestartMilliseconds", minimumRestartMilliseconds, 1...3_600_000)
        try KafkaConfigurationError.check(
            "maximumRestartMilliseconds", maximumRestartMilliseconds, minimumRestartMilliseconds...3_600_000)
        // librdkafka checks combinations and reads key files only when it makes a client.
        let properties = try makeProperties(connects: false)
        try properties.set("log_level", "0")
        _ = try ConsumerHandle(properties: properties, callbacks: nil)
    }

    /// librdkafka's form of the configuration.
    /// - Parameter connects: false leaves out the servers, so that a client made from it talks to no one.
    func makeProperties(connects: Bool = true) throws(KafkaConfigurationError) -> PropertiesHandle {
        let handle = PropertiesHandle()
        for (name, value) in Self.defaults { try handle.set(name, value) }
        try handle.set(properties, refusing: Self.refused)
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
