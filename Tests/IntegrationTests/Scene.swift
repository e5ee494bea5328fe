import TestSupport
import Testing

/// Everything around one service: a ClickHouse, perhaps a Kafka, a journal.
struct Scene {
    static let group = "group"
    let clickHouse: ClickHouseServer
    let kafka: KafkaMock?
    let service: ServiceInstance

    /// Runs `body` with a scene of its own, when no other whole-process test runs, and ends all processes after it.
    /// - Parameters:
    ///   - topics: Kafka topics by name, with their partitions; none means no Kafka.
    ///   - brokers: how many brokers that Kafka has.
    ///   - destination: what the service takes for ClickHouse, if not ClickHouse itself.
    static func run(
        _ engine: ClickHouseServer.Engine = .chdb, topics: [String: Int32] = [:], brokers: Int32 = 1,
        environment: [String: String] = [:], through proxy: ((UInt16) -> FaultProxy)? = nil,
        _ body: (Scene, FaultProxy?) async throws -> Void
    ) async throws {
        try await ServiceTurn.take {
            let clickHouse = try ClickHouseServer(engine)
            try await clickHouse.applySchema()
            let proxy = proxy?(clickHouse.port)
            var settings = ["CLICKHOUSE_URL": proxy?.url ?? clickHouse.url]
            var kafka: KafkaMock?
            if !topics.isEmpty {
                let mock = try KafkaMock(brokerCount: brokers)
                for (name, partitions) in topics { try mock.createTopic(name, partitions: partitions) }
                settings.merge(kafkaSettings(mock, topics.keys.sorted())) { $1 }
                kafka = mock
            }
            let service = try ServiceInstance(settings.merging(environment) { $1 })
            do {
                try await body(Scene(clickHouse: clickHouse, kafka: kafka, service: service), proxy)
            } catch {
                if let process = try? service.process {
                    print("the service's log ends with:\n" + process.lines.suffix(25).joined(separator: "\n"))
                }
                throw error
            }
            if let process = try? service.process { try await process.kill() }
        }
    }

    /// As above, without a proxy.
    static func run(
        _ engine: ClickHouseServer.Engine = .chdb, topics: [String: Int32] = [:], brokers: Int32 = 1,
        environment: [String: String] = [:], _ body: (Scene) async throws -> Void
    ) async throws {
        try await run(engine, topics: topics, brokers: brokers, environment: environment, through: nil) { scene, _ in
            try await body(scene)
        }
    }

    private static func kafkaSettings(_ mock: KafkaMock, _ topics: [String]) -> [String: String] {
        [
            "KAFKA_CONSUMER_ENABLED": "true", "KAFKA_BOOTSTRAP_SERVERS": mock.bootstrapServers,
            "KAFKA_TOPICS": topics.joined(separator: ","), "KAFKA_GROUP_ID": group, "KAFKA_COMMIT_INTERVAL": "20ms",
            // The group forgets a killed member when its session is over; the mock lets a first member wait 3 s, and
            // throws it out meanwhile if its session is shorter.
            "KAFKA_PROPERTIES": "session.timeout.ms=4000,heartbeat.interval.ms=100,fetch.wait.max.ms=20,"
                + "reconnect.backoff.max.ms=200",
        ]
    }

    /// The mock cluster of a scene with topics.
    var cluster: KafkaMock { get throws { try #require(kafka) } }

    /// The group's committed offset.
    func committed(_ topic: String, _ partition: Int32 = 0) throws -> Int64? {
        try cluster.committedOffset(group: Self.group, topic: topic, partition: partition)
    }

    /// Waits until the group has committed an offset.
    func awaitCommit(of offset: Int64, _ topic: String, _ partition: Int32 = 0) async throws {
        try await eventually("\(topic)/\(partition) is committed up to \(offset)") {
            try committed(topic, partition) == offset
        }
    }

    /// Waits until a partition's messages before `offset` are in the journal.
    func awaitIntake(to offset: Int64, _ topic: String, _ partition: Int32 = 0) async throws {
        try await eventually("\(topic)/\(partition) is consumed up to \(offset)") {
            try await service.status().kafka.partitions.contains {
                $0.topic == topic && $0.partition == partition && $0.position == offset
            }
        }
        // A position counts what was taken; the journal has it once nothing else is under way.
        try await eventually("the journal has \(topic)/\(partition) up to \(offset)") {
            await service.journalStatistics().contains("\(topic)/\(partition): taken up to \(offset),")
        }
    }

    /// Waits until a topic's first partitions have so many messages.
    func awaitMessages(_ count: Int, on topic: String, partitions: Int32 = 1) async throws {
        try await eventually("\(topic) has \(count) messages") {
            try (0..<partitions).reduce(0) { try $0 + cluster.messages(in: topic, partition: $1).count } == count
        }
    }

    /// Waits until nothing is left to be flushed.
    func awaitFlush(within limit: Duration = .seconds(30)) async throws {
        try await eventually("everything is flushed", within: limit) { try await service.status().pendingEvents == 0 }
    }

    /// Posts events and expects that they are taken.
    func post(_ events: [String], to target: String = "/v1/events") async throws {
        let response = try await service.post(events.joined(separator: "\n"), to: target)
        try #require(response.status == 202, "\(response.text)")
    }
}

/// Events `{"event_id":"<prefix><number>","n":<number>}`.
func numbered(_ range: Range<Int>, _ prefix: String) -> [String] {
    range.map { #"{"event_id":"\#(prefix)\#($0)","n":\#($0)}"# }
}

/// Upper-case hexadecimal digits, as ClickHouse's `hex()` has them.
func hex(_ text: String) -> String {
    let digits = Array("0123456789ABCDEF")
    return String(text.utf8.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
}
