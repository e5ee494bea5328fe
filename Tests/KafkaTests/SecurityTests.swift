import IngestCore
import TestSupport
import Testing

@testable import Kafka

@Suite struct SecurityTests {
    private static let password = "correct horse battery"

    private func problem(
        properties: [(name: String, value: String)] = [], _ change: (inout KafkaSecurity) -> Void
    ) -> KafkaConfigurationError? {
        var configuration = KafkaSourceConfiguration(bootstrapServers: "127.0.0.1:1", topics: ["t"], groupID: "g")
        configuration.properties = properties
        change(&configuration.security)
        var producer = DeadLetterProducerConfiguration(bootstrapServers: "127.0.0.1:1", topic: "t")
        (producer.security, producer.properties) = (configuration.security, properties)
        var administration = TopicAdministrationConfiguration(
            bootstrapServers: "127.0.0.1:1", topics: ["t"], deadLetterTopic: nil)
        (administration.security, administration.properties) = (configuration.security, properties)
        let problems = [configuration.validate, producer.validate, administration.validate].map { validate in
            do throws(KafkaConfigurationError) {
                try validate()
                return KafkaConfigurationError?.none
            } catch {
                return error
            }
        }
        // All three clients see the same.
        #expect(problems[1] == problems[0] && problems[2] == problems[0])
        return problems[0]
    }

    @Test func whatIsMissingIsNamedAsTheOperatorKnowsIt() throws {
        #expect(problem { _ in } == nil)
        #expect(problem { $0.securityProtocol = .ssl } == nil)
        #expect(problem { $0.securityProtocol = .saslSSL }?.property == "KAFKA_SASL_MECHANISM")
        func sasl(_ security: inout KafkaSecurity) {
            security.securityProtocol = .saslPlaintext
            security.mechanism = .scramSHA256
            security.username = "user"
            security.password = Self.password
        }
        #expect(problem(sasl) == nil)
        #expect(
            problem {
                sasl(&$0)
                $0.username = ""
            }?.property == "KAFKA_SASL_USERNAME")
        #expect(
            problem {
                sasl(&$0)
                $0.password = nil
            }?.property == "KAFKA_SASL_PASSWORD")
        #expect(
            problem {
                sasl(&$0)
                $0.password = " leading space"
            }?.property == "KAFKA_SASL_PASSWORD")
        // Set, but nobody would use it: an operator who believes in it is worse off than with an error.
        for setting: @Sendable (inout KafkaSecurity) -> Void in [
            { $0.password = "secret" }, { $0.username = "user" }, { $0.mechanism = .plain },
        ] {
            #expect(problem(setting)?.property?.hasPrefix("KAFKA_SASL_") == true)
        }
        #expect(
            problem {
                sasl(&$0)
                $0.caPath = "/ca.pem"
            }?.property == "KAFKA_TLS_CA")
        // Properties count.
        #expect(
            problem(properties: [
                ("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanisms", "PLAIN"), ("sasl.username", "u"),
            ]) {
                $0.password = Self.password
            } == nil)
        #expect(
            problem(properties: [("security.protocol", "sasl_ssl")]) { $0.password = Self.password }?.property
                == "KAFKA_SASL_MECHANISM")
    }

    @Test func filesAreChecked() async throws {
        let certificates = try await TestCertificates()
        func tls(_ change: (inout KafkaSecurity) -> Void) -> KafkaConfigurationError? {
            problem {
                $0.securityProtocol = .ssl
                $0.caPath = certificates.authority
                change(&$0)
            }
        }
        #expect(tls { _ in } == nil)
        let missing = tls { $0.caPath = "/no/such/file" }
        #expect(
            missing?.description
                == "Kafka setting \"KAFKA_TLS_CA\": \"/no/such/file\" can't be read: No such file or directory")
        #expect(tls { $0.certificatePath = certificates.client }?.property == "KAFKA_TLS_KEY")
        #expect(tls { $0.keyPath = certificates.clientKey }?.property == "KAFKA_TLS_CERTIFICATE")
        #expect(tls { $0.keyPassword = "key-password" }?.property == "KAFKA_TLS_KEY")
        // librdkafka's own checks, under our names.
        #expect(tls { $0.caPath = certificates.clientKey }?.property == "KAFKA_TLS_CA")
        func key(_ password: String) -> KafkaConfigurationError? {
            tls {
                $0.certificatePath = certificates.client
                $0.keyPath = certificates.encryptedClientKey
                $0.keyPassword = password
            }
        }
        #expect(key("key-password") == nil)
        let wrong = try #require(key("wrong-password"))
        #expect(wrong.property == "KAFKA_TLS_KEY")
        #expect(!wrong.description.contains("wrong-password"))
    }

    @Test func whatIsSetTwiceIsNamedTwice() throws {
        for (name, change): (String, @Sendable (inout KafkaSecurity) -> Void) in [
            ("security.protocol", { $0.securityProtocol = .ssl }), ("sasl.mechanisms", { $0.mechanism = .plain }),
            ("sasl.username", { $0.username = "u" }), ("ssl.ca.pem", { $0.caPath = "/ca" }),
        ] {
            let error = try #require(problem(properties: [(name, "x")], change))
            #expect(error.description.contains("KAFKA_PROPERTIES has \(name)"))
            #expect(error.property?.hasPrefix("KAFKA_") == true)
        }
    }

    @Test func secretsAreInNoDescription() {
        var security = KafkaSecurity()
        security.password = Self.password
        security.keyPassword = "key-password"
        var configuration = KafkaSourceConfiguration(bootstrapServers: "127.0.0.1:1", topics: ["t"], groupID: "g")
        configuration.security = security
        var dumped = ""
        dump(configuration, to: &dumped)
        for text in ["\(security)", String(reflecting: security), "\(configuration)", dumped] {
            #expect(!text.contains(Self.password) && !text.contains("key-password"))
        }
        let redaction = security.words(with: [("sasl.password", "hunter22"), ("client.id", "me")]).redaction
        #expect(
            redaction.text("hunter22, \(Self.password)\(Self.password), me") == "[redacted], [redacted][redacted], me")
        #expect(redaction.text("hunter2") == "hunter2")
    }

    /// How a client of the front is configured.
    private struct Way: Sendable {
        let name: String
        let options: [String]
        let security: KafkaSecurity
        let line: String?
    }

    private static func ways(_ certificates: TestCertificates) -> [Way] {
        let tls = ["--certificate", certificates.server, "--key", certificates.serverKey]
        var encrypted = KafkaSecurity()
        encrypted.securityProtocol = .ssl
        encrypted.caPath = certificates.authority
        var mutual = encrypted
        mutual.certificatePath = certificates.client
        mutual.keyPath = certificates.encryptedClientKey
        mutual.keyPassword = "key-password"
        func sasl(_ mechanism: KafkaSecurity.Mechanism) -> (options: [String], security: KafkaSecurity) {
            var security = encrypted
            security.securityProtocol = .saslSSL
            security.mechanism = mechanism
            security.username = "alice"
            security.password = password
            return (tls + ["--sasl", mechanism.rawValue.uppercased(), "alice", password], security)
        }
        var inTheClear = sasl(.scramSHA512)
        inTheClear.security.securityProtocol = .saslPlaintext
        inTheClear.security.caPath = nil
        inTheClear.options.removeFirst(tls.count)
        return [
            Way(name: "TLS", options: tls, security: encrypted, line: nil),
            Way(
                name: "mutual TLS", options: tls + ["--client-ca", certificates.authority], security: mutual,
                line: "client client-one"),
            Way(name: "plain", options: sasl(.plain).options, security: sasl(.plain).security, line: "user alice"),
            Way(
                name: "scram-sha-256", options: sasl(.scramSHA256).options, security: sasl(.scramSHA256).security,
                line: "user alice"),
            Way(name: "scram-sha-512", options: inTheClear.options, security: inTheClear.security, line: "user alice"),
        ]
    }

    /// The mock broker behind a front that speaks TLS and SASL.
    @Test func eventsComeAndDeadLettersGoEveryWay() async throws {
        let certificates = try await TestCertificates()
        try await withThrowingTaskGroup { group in
            for way in Self.ways(certificates) {
                group.addTask {
                    let mock = try KafkaMock()
                    try mock.createTopic(Rig.topic, partitions: 1)
                    try mock.createTopic("letters", partitions: 1)
                    let front = try await KafkaTestServer.front(mock.bootstrapServers, way.options)
                    var rig = Rig(mock)
                    rig.configuration.bootstrapServers = front.bootstrapServers
                    rig.configuration.security = way.security
                    // The most that librdkafka can tell.
                    rig.configuration.properties.append(("debug", "all"))
                    try rig.produce(numbered(0..<3))
                    var letters = DeadLetterProducerConfiguration(
                        bootstrapServers: front.bootstrapServers, topic: "letters")
                    letters.security = way.security
                    let producer = try DeadLetterProducer(configuration: letters, logger: rig.lines.logger)
                    producer.start()
                    try await rig.withSource { _ in
                        try await wait(for: "events over \(way.name)", seconds: 15) { rig.intake.eventCount == 3 }
                        try await wait(for: "the producer over \(way.name)", seconds: 15) { producer.health.isHealthy }
                    }
                    await producer.close(within: .seconds(5))
                    if let line = way.line { #expect(front.lines.contains(line), "\(way.name)") }
                    let text = rig.lines.all.joined(separator: "\n")
                    #expect(text.contains("librdkafka"), "\(way.name)")
                    for secret in [Self.password, "key-password"] { #expect(!text.contains(secret), "\(way.name)") }
                    try await front.stop()
                }
            }
            try await group.waitForAll()
        }
    }

    @Test func whatIsWrongIsToldWithoutSecrets() async throws {
        let certificates = try await TestCertificates()
        let others = try await TestCertificates()
        let ways = Self.ways(certificates)
        var wrongAuthority = ways[0]
        var wrongPassword = ways[3]
        wrongAuthority = Way(
            name: "certificate verify failed", options: wrongAuthority.options,
            security: {
                var security = wrongAuthority.security
                security.caPath = others.authority
                return security
            }(), line: nil)
        wrongPassword = Way(
            name: "wrong password", options: wrongPassword.options,
            security: {
                var security = wrongPassword.security
                security.password = "not the password"
                return security
            }(), line: nil)
        for way in [wrongAuthority, wrongPassword] {
            let mock = try KafkaMock()
            let front = try await KafkaTestServer.front(mock.bootstrapServers, way.options)
            var rig = Rig(mock)
            rig.configuration.bootstrapServers = front.bootstrapServers
            rig.configuration.security = way.security
            rig.configuration.properties.append(("debug", "security,broker"))
            try await rig.withSource { source in
                try await wait(for: way.name, seconds: 15) { source.health.detail.contains(way.name) }
                #expect(!source.health.isHealthy)
                #expect(!source.health.detail.contains("not the password"))
            }
            #expect(!rig.lines.all.joined(separator: "\n").contains("not the password"))
            #expect(!front.lines.contains("user alice"))
            try await front.stop()
        }
    }
}
