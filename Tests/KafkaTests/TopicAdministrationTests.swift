import IngestCore
import Logging
import Synchronization
import TestSupport
import Testing

@testable import Kafka

/// Against a scripted broker: librdkafka's mock makes no topics on request.
@Suite struct TopicAdministrationTests {
    private static func configuration(
        _ bootstrapServers: String, topics: [String] = ["orders", "clicks"], deadLetters: String? = "letters"
    ) -> TopicAdministrationConfiguration {
        var configuration = TopicAdministrationConfiguration(
            bootstrapServers: bootstrapServers, topics: topics, deadLetterTopic: deadLetters)
        configuration.timeoutMilliseconds = 15_000
        return configuration
    }

    /// What was told while it ran.
    private final class Progress: Sendable {
        private let told = Mutex<[String]>([])
        var lines: [String] { told.withLock { $0 } }
        func tell(_ line: String) { told.withLock { $0.append(line) } }
    }

    /// Runs off the tests' threads: it blocks.
    private static func run(
        _ configuration: TopicAdministrationConfiguration, _ progress: Progress = Progress()
    ) async throws -> (reports: [TopicReport], progress: [String]) {
        try await withCheckedThrowingContinuation { continuation in
            _ = DedicatedThread(name: "administration") {
                continuation.resume(
                    with: Result {
                        let administration = try TopicAdministration(
                            configuration: configuration, logger: LogLines().logger)
                        return (try administration.run(progress: progress.tell), progress.lines)
                    })
            }
        }
    }

    private static let day = 86_400_000

    @Test func topicsAreMadeAsConfiguredAndLeftAloneAfterwards() async throws {
        let broker = try await KafkaTestServer.administration(
            #"{"brokers": 3, "topics": {"events.a": {"partitions": 1, "replication": 1}, "__events.b": {"partitions": 1, "replication": 1}}}"#
        )
        var configuration = Self.configuration(broker.bootstrapServers, topics: ["orders", "^.*events", "clicks"])
        configuration.partitions = 12
        configuration.replication = 3
        configuration.retentionMilliseconds = 2 * Self.day
        let first = try await Self.run(configuration)
        let made = TopicReport.Outcome.created(
            partitions: 12, replication: 3, retentionMilliseconds: 2 * Self.day)
        let pattern = TopicReport(topic: "^.*events", outcome: .pattern(matches: ["events.a"]))
        #expect(
            first.reports == [
                TopicReport(topic: "orders", outcome: made), pattern, TopicReport(topic: "clicks", outcome: made),
                TopicReport(
                    topic: "letters",
                    outcome: .created(partitions: 1, replication: 3, retentionMilliseconds: 30 * Self.day)),
            ])
        func line(_ name: String, _ partitions: Int, _ days: Int) -> String {
            #"create {"name": "\#(name)", "partitions": \#(partitions), "replication": 3, "retention.ms": "\#(days * Self.day)"}"#
        }
        #expect(broker.lines == [line("orders", 12, 2), line("clicks", 12, 2), line("letters", 1, 30)])
        let second = try await Self.run(configuration)
        let same = TopicReport.Outcome.existing(differences: [], unknown: [])
        #expect(
            second.reports == [
                TopicReport(topic: "orders", outcome: same), pattern, TopicReport(topic: "clicks", outcome: same),
                TopicReport(topic: "letters", outcome: same),
            ])
        #expect(broker.lines.count == 3)
        #expect(first.progress == [] && second.progress == [])
    }

    @Test func differencesAreToldAndNothingIsChanged() async throws {
        let broker = try await KafkaTestServer.administration(
            """
            {"topics": {"orders": {"partitions": 3, "replication": 2, "retention.ms": "1000"},
                        "clicks": {"partitions": 6, "replication": 1}, "letters": {"partitions": 1, "replication": 1}},
             "describe_errors": {"letters": 29}}
            """)
        let reports = try await Self.run(Self.configuration(broker.bootstrapServers)).reports
        #expect(
            reports.first
                == TopicReport(
                    topic: "orders",
                    outcome: .existing(
                        differences: [
                            .init(setting: "partitions", found: 3, wanted: 6),
                            .init(setting: "replication", found: 2, wanted: 1),
                            .init(setting: "retention.ms", found: 1_000, wanted: 7 * Self.day),
                        ], unknown: [])))
        guard case .existing([], let untold)? = reports.dropFirst().first?.outcome,
            case .existing([], let forbidden)? = reports.last?.outcome
        else {
            Issue.record("\(reports)")
            return
        }
        #expect(untold == ["retention.ms: the broker does not tell"])
        #expect(forbidden == ["retention.ms: scripted error 29"])
        #expect(broker.lines == [])
    }

    @Test func whatPassesIsTriedAgainAndWhatDoesNotIsReported() async throws {
        // 38: too few brokers yet. 36: another process was faster. 41: not the controller. 29: not allowed.
        let broker = try await KafkaTestServer.administration(
            #"{"create_errors": {"orders": [38, 41], "clicks": [36], "letters": [29]}}"#)
        let result = try await Self.run(Self.configuration(broker.bootstrapServers))
        #expect(
            result.reports == [
                TopicReport(
                    topic: "orders",
                    outcome: .created(partitions: 6, replication: 1, retentionMilliseconds: 7 * Self.day)),
                TopicReport(topic: "clicks", outcome: .existing(differences: [], unknown: [])),
                TopicReport(topic: "letters", outcome: .failed(reason: "scripted error 29")),
            ])
        #expect(result.progress.first?.hasSuffix("topic orders: scripted error 38") == true)
        // One that never works out is reported when the time is up.
        var hopeless = Self.configuration(broker.bootstrapServers, topics: ["copies"], deadLetters: nil)
        hopeless.replication = 2
        hopeless.timeoutMilliseconds = 500
        #expect(
            try await Self.run(hopeless).reports == [
                TopicReport(
                    topic: "copies",
                    outcome: .failed(reason: "Replication factor: 2 larger than available brokers: 1."))
            ])
    }

    @Test func aBrokerThatIsStillStartingIsWaitedFor() async throws {
        // A port that was free a moment ago.
        let probe = try await KafkaTestServer.administration()
        try await probe.stop()
        let port = probe.port
        let configuration = Self.configuration("127.0.0.1:\(port)")
        var impatient = configuration
        impatient.timeoutMilliseconds = 300
        do {
            _ = try await Self.run(impatient)
            Issue.record("nobody is there")
        } catch let failure as TopicAdministrationFailure {
            #expect(failure.description.hasPrefix("no Kafka broker at 127.0.0.1:\(port) has answered within 300 ms: "))
            #expect(failure.description.contains("Connection refused"), "\(failure)")
        }
        let told = Progress()
        async let result = Self.run(configuration, told)
        try await wait(for: "word that it waits") { !told.lines.isEmpty }
        let broker = try await KafkaTestServer.administration(#"{"port": \#(port)}"#)
        let (reports, progress) = try await result
        #expect(reports.count == 3 && broker.lines.count == 3)
        #expect(progress.count == 1 && progress.first?.contains("Connection refused") == true, "\(progress)")
    }

    @Test func severalAtTheSameTimeDoNoHarm() async throws {
        let broker = try await KafkaTestServer.administration()
        let configuration = Self.configuration(broker.bootstrapServers)
        let outcomes = try await withThrowingTaskGroup { group in
            for _ in 0..<4 { group.addTask { try await Self.run(configuration).reports } }
            return try await group.reduce(into: [TopicReport]()) { $0 += $1 }
        }
        for topic in ["orders", "clicks", "letters"] {
            let own = outcomes.filter { $0.topic == topic }.map(\.outcome)
            #expect(own.count == 4)
            #expect(own.count { if case .created = $0 { true } else { false } } == 1)
            #expect(own.count { $0 == .existing(differences: [], unknown: []) } == 3)
        }
        #expect(broker.lines.count == 3)
    }

    @Test func topicsAreMadeOverTLSWithAPassword() async throws {
        let certificates = try await TestCertificates()
        let broker = try await KafkaTestServer.administration()
        let front = try await KafkaTestServer.front(
            broker.bootstrapServers,
            [
                "--certificate", certificates.server, "--key", certificates.serverKey, "--sasl", "SCRAM-SHA-256",
                "alice",
                "correct horse",
            ])
        var configuration = Self.configuration(front.bootstrapServers, topics: ["orders"], deadLetters: nil)
        configuration.security.securityProtocol = .saslSSL
        configuration.security.caPath = certificates.authority
        configuration.security.mechanism = .scramSHA256
        configuration.security.username = "alice"
        configuration.security.password = "correct horse"
        let made = TopicReport.Outcome.created(partitions: 6, replication: 1, retentionMilliseconds: 7 * Self.day)
        #expect(try await Self.run(configuration).reports == [TopicReport(topic: "orders", outcome: made)])
        #expect(broker.lines.count == 1)
    }

    @Test func aRefusedLoginEndsIt() async throws {
        let broker = try await KafkaTestServer.administration()
        func refusal(
            _ mechanism: KafkaSecurity.Mechanism, of offered: String, password: String
        ) async throws -> String {
            let front = try await KafkaTestServer.front(
                broker.bootstrapServers, ["--sasl", offered, "alice", "correct horse"])
            var configuration = Self.configuration(front.bootstrapServers)
            configuration.timeoutMilliseconds = 60_000
            configuration.security.securityProtocol = .saslPlaintext
            configuration.security.mechanism = mechanism
            configuration.security.username = "alice"
            configuration.security.password = password
            let start = ContinuousClock.now
            let failure = await #expect(throws: TopicAdministrationFailure.self) { try await Self.run(configuration) }
            #expect(start.duration(to: .now) < .seconds(20))
            return failure?.description ?? ""
        }
        for (mechanism, offered) in [(KafkaSecurity.Mechanism.plain, "PLAIN"), (.scramSHA512, "SCRAM-SHA-512")] {
            let text = try await refusal(mechanism, of: offered, password: "another horse")
            #expect(text.contains("refuses the login: ") && text.contains("Authentication failed"), "\(text)")
            #expect(text.contains("KAFKA_SASL_PASSWORD") && !text.contains("horse"), "\(text)")
        }
        let text = try await refusal(.plain, of: "SCRAM-SHA-256", password: "correct horse")
        #expect(text.contains("broker's supported mechanisms: SCRAM-SHA-256. Check KAFKA_SASL_MECHANISM"), "\(text)")
        #expect(broker.lines.isEmpty)
    }

    @Test func aLoginThatIsLostIsTriedAgain() async throws {
        let broker = try await KafkaTestServer.administration()
        let front = try await KafkaTestServer.front(
            broker.bootstrapServers, ["--sasl", "PLAIN", "alice", "correct horse", "--lose-logins", "2"])
        var configuration = Self.configuration(front.bootstrapServers, topics: ["orders"], deadLetters: nil)
        configuration.security.securityProtocol = .saslPlaintext
        configuration.security.mechanism = .plain
        configuration.security.username = "alice"
        configuration.security.password = "correct horse"
        let (reports, _) = try await Self.run(configuration)
        let made = TopicReport.Outcome.created(partitions: 6, replication: 1, retentionMilliseconds: 7 * Self.day)
        #expect(reports == [TopicReport(topic: "orders", outcome: made)])
        #expect(front.lines.count { $0 == "lost a login" } == 2)
    }

    @Test func badSettingsAreNamed() {
        func problem(_ change: (inout TopicAdministrationConfiguration) -> Void) -> String? {
            var configuration = Self.configuration("127.0.0.1:1")
            change(&configuration)
            do throws(KafkaConfigurationError) {
                try configuration.validate()
                return nil
            } catch {
                return error.property
            }
        }
        #expect(problem { _ in } == nil)
        #expect(problem { $0.topics = ["two words"] } == "topics")
        #expect(problem { $0.topics = ["^("] } == "topics")
        #expect(problem { $0.partitions = 0 } == "partitions")
        #expect(problem { $0.replication = 0 } == "replication")
        #expect(problem { $0.retentionMilliseconds = -2 } == "retentionMilliseconds")
        #expect(problem { $0.properties = [("no.such.property", "1")] } == "no.such.property")
        #expect(problem { $0.properties = [("bootstrap.servers", "elsewhere:1")] } == "bootstrap.servers")
    }
}
