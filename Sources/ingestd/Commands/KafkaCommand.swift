import ArgumentParser
import FoundationEssentials
import Kafka
import Logging

/// `ingestd kafka`: works on the cluster.
struct KafkaCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kafka", abstract: "Prepares the Kafka cluster.", subcommands: [Init.self])

    /// `ingestd kafka init`
    struct Init: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Creates the topics of KAFKA_TOPICS and KAFKA_DLQ_TOPIC that are not there.",
            discussion: """
                Topics that are there are left alone; what is otherwise than configured is reported. Can be repeated, \
                and run at several places at once. Waits for brokers that are still starting, up to \
                KAFKA_INIT_TIMEOUT. Ends with 1 if a topic could not be created.

                \(ConfigurationReference.discussion(of: CommandSettings.kafka))
                """)

        @Flag(help: "Print JSON, for scripts.")
        var json = false

        @OptionGroup var options: ConfigurationOptions

        func run() throws {
            let configuration = try options.loadOrExit(CommandSettings.kafka).configuration
            // librdkafka tells the same things again and again; what matters comes as progress.
            var logger = Logger(label: "kafka-init") { StreamLogHandler.standardError(label: $0) }
            logger.logLevel = configuration.kafka.properties.contains { $0.name == "debug" } ? .debug : .error
            let reports = try TerminalError.from {
                let administration = try TopicAdministration(
                    configuration: configuration.topicAdministrationConfiguration, logger: logger)
                return try administration.run { Terminal.report(Terminal.printable($0)) }
            }
            if json {
                print(try Terminal.json(reports.map(TopicDocument.init)))
            } else {
                for report in reports { print(Terminal.printable(report.line)) }
            }
            guard !reports.contains(where: \.isFailure) else { throw ExitCode.failure }
        }
    }
}

extension TopicReport {
    fileprivate var isFailure: Bool {
        if case .failed = outcome { true } else { false }
    }

    /// What `kafka init` prints.
    fileprivate var line: String {
        switch outcome {
        case .created(let partitions, let replication, let retention):
            return "\(topic): created with \(Terminal.count(partitions, "partition")), replication \(replication), "
                + "retention \(Self.duration(retention))"
        case .existing(let differences, let unknown):
            guard !differences.isEmpty || !unknown.isEmpty else { return "\(topic): exists as configured" }
            let found = differences.map { difference in
                difference.setting == "retention.ms"
                    ? "retention \(Self.duration(difference.found)), not \(Self.duration(difference.wanted))"
                    : "\(difference.setting) \(difference.found), not \(difference.wanted)"
            }
            return "\(topic): exists and is left alone: "
                + (found + unknown.map { "can't tell \($0)" }).joined(separator: "; ")
        case .pattern(let matches):
            let names = matches.isEmpty ? "no topic" : matches.joined(separator: ", ")
            return "\(topic): a pattern, for which nothing can be created; now it matches \(names)"
        case .failed(let reason):
            return "\(topic): failed: \(reason)"
        }
    }

    private static func duration(_ milliseconds: Int) -> String {
        milliseconds < 0 ? "unlimited" : Units.duration(.milliseconds(milliseconds))
    }
}

/// What `kafka init --json` prints for a topic.
private struct TopicDocument: Encodable {
    struct Difference: Encodable {
        let setting: String
        let found: Int
        let wanted: Int
    }

    let topic: String
    /// `created`, `exists`, `differs`, `pattern` or `failed`.
    let result: String
    var partitions: Int?
    var replication: Int?
    var retention_ms: Int?
    var differences: [Difference]?
    var unknown: [String]?
    var matches: [String]?
    var reason: String?

    init(_ report: TopicReport) {
        topic = report.topic
        switch report.outcome {
        case .created(let partitions, let replication, let retention):
            result = "created"
            self.partitions = partitions
            self.replication = replication
            retention_ms = retention
        case .existing(let differences, let unknown):
            result = differences.isEmpty ? "exists" : "differs"
            self.differences = differences.map {
                Difference(setting: $0.setting, found: $0.found, wanted: $0.wanted)
            }
            self.unknown = unknown
        case .pattern(let matches):
            result = "pattern"
            self.matches = matches
        case .failed(let reason):
            result = "failed"
            self.reason = reason
        }
    }
}
