internal import CKafka
internal import IngestCore
public import Logging
internal import ServiceLog

/// What became of a topic that a configuration names.
public struct TopicReport: Sendable, Equatable {
    /// What is otherwise than configured.
    public struct Difference: Sendable, Equatable {
        /// `partitions`, `replication` or `retention.ms`.
        public let setting: String
        /// What the topic has.
        public let found: Int
        /// What the configuration says.
        public let wanted: Int

        /// Collects the parts.
        public init(setting: String, found: Int, wanted: Int) {
            self.setting = setting
            self.found = found
            self.wanted = wanted
        }
    }

    /// What became of it.
    public enum Outcome: Sendable, Equatable {
        /// It was not there, and is now.
        case created(partitions: Int, replication: Int, retentionMilliseconds: Int)
        /// It was there and is left alone.
        case existing(differences: [Difference], unknown: [String])
        /// It is a pattern, which can't be created; these topics match it now.
        case pattern(matches: [String])
        /// It could not be created or looked at.
        case failed(reason: String)
    }

    /// Its name, or the pattern.
    public let topic: String
    /// What became of it.
    public let outcome: Outcome

    /// Collects the parts.
    public init(topic: String, outcome: Outcome) {
        self.topic = topic
        self.outcome = outcome
    }
}

/// No broker could be asked.
public struct TopicAdministrationFailure: Error, Sendable, CustomStringConvertible {
    /// What was tried, how long, and what went wrong.
    public let description: String
}

/// Makes the topics that a configuration names and are not there. What is there is left alone, whatever it is like.
///
/// Can be repeated, and run at several places at once: a topic that another one has made meanwhile is there.
public struct TopicAdministration: Sendable {
    private static let pauseMilliseconds = 250
    /// One request; brokers that lag are asked again.
    private static let requestMilliseconds = 10_000

    private let configuration: TopicAdministrationConfiguration
    private let patterns: [TopicPattern]
    private let log: EventLog

    /// Checks the configuration; connects to nothing.
    /// - Parameter logger: gets librdkafka's log.
    /// - Throws: `KafkaConfigurationError`, which names the setting or librdkafka property at fault.
    public init(configuration: TopicAdministrationConfiguration, logger: Logger) throws(KafkaConfigurationError) {
        try configuration.validate()
        self.configuration = configuration
        var patterns: [TopicPattern] = []
        for text in configuration.patterns { patterns.append(try KafkaSourceConfiguration.pattern(text, of: "topics")) }
        self.patterns = patterns
        log = EventLog(logger)
    }

    /// Does it. Blocks its thread, at most about `timeoutMilliseconds`.
    /// - Parameter progress: gets a line about what is waited for, whenever that changes.
    /// - Returns: a report for each topic, in the order of the configuration, the dead letters' last.
    /// - Throws: `TopicAdministrationFailure` if no broker has answered in time, or at once if one refuses the login.
    public func run(progress: (String) -> Void) throws -> [TopicReport] {
        let callbacks = AdministrationCallbacks(log: log.forLibrdkafka(), wake: {})
        let client = try AdministrationClient(properties: configuration.makeProperties(), callbacks: callbacks)
        let deadline = MonotonicClock.now + UInt64(configuration.timeoutMilliseconds) * 1_000_000
        var round = Round(wanted: configuration.wanted)
        var told: String?
        while true {
            var trouble: String?
            do throws(AdministrationClient.Refusal) {
                try run(&round, client, deadline)
                trouble = round.pendingReason
            } catch {
                trouble = error.reason
                // The same name and password will not be right later.
                if error.code == RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED, !round.hasMetadata {
                    throw TopicAdministrationFailure(
                        description: "Kafka at \(configuration.bootstrapServers) refuses the login: \(error.reason). "
                            + "Check KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD")
                }
                // What can't be sent again is no reason to wait.
                if !error.isTemporary { round.failPending(error.reason) }
            }
            guard !round.pending.isEmpty || !round.hasMetadata else { break }
            let reason = trouble ?? "no answer"
            guard MonotonicClock.now < deadline else {
                guard round.hasMetadata else {
                    throw TopicAdministrationFailure(
                        description: "no Kafka broker at \(configuration.bootstrapServers) has answered within "
                            + "\(configuration.timeoutMilliseconds) ms: \(reason)")
                }
                round.failPending(reason)
                break
            }
            if reason != told { progress("waiting for Kafka at \(configuration.bootstrapServers): \(reason)") }
            told = reason
            client.wait(milliseconds: Self.pauseMilliseconds)
        }
        return reports(round)
    }

    /// Asks once more about everything that is still open.
    private func run(
        _ round: inout Round, _ client: borrowing AdministrationClient, _ deadline: UInt64
    ) throws(AdministrationClient.Refusal) {
        defer { round.attempts += 1 }
        func timeout() -> Int {
            let now = MonotonicClock.now
            let left = now < deadline ? Int((deadline - now) / 1_000_000) : 0
            return min(max(left, 500), Self.requestMilliseconds)
        }
        // Short at first, so that what is wrong is told soon; longer for clusters that need it to answer.
        let topics = try client.topics(timeoutMilliseconds: min(timeout(), 500 << min(round.attempts, 5)))
        round.hasMetadata = true
        round.topics = Dictionary(topics.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
        let existing = round.pending.filter { round.topics[$0.name] != nil }
        if !existing.isEmpty {
            let retention: [String: Result<String, AdministrationClient.Refusal>]
            do throws(AdministrationClient.Refusal) {
                retention = try client.setting(
                    "retention.ms", of: existing.map(\.name), timeoutMilliseconds: timeout())
            } catch {
                // Without the right to ask, the rest can still be compared.
                if error.isTemporary { throw error }
                retention = Dictionary(existing.map { ($0.name, .failure(error)) }, uniquingKeysWith: { $1 })
            }
            for wanted in existing {
                round.settle(wanted.name, Self.compare(wanted, round.topics[wanted.name]!, retention[wanted.name]))
            }
        }
        let missing = round.pending
        guard !missing.isEmpty else { return }
        for (name, result) in try client.create(missing, timeoutMilliseconds: timeout()) {
            guard let wanted = missing.first(where: { $0.name == name }) else { continue }
            switch result {
            case .success:
                round.settle(
                    name,
                    .created(
                        partitions: wanted.partitions, replication: wanted.replication,
                        retentionMilliseconds: wanted.retentionMilliseconds))
            case .failure(let refusal) where refusal.isTemporary:
                round.reasons[name] = refusal.reason
            case .failure(let refusal):
                round.settle(name, .failed(reason: refusal.reason))
            }
        }
    }

    private static func compare(
        _ wanted: TopicAdministrationConfiguration.Wanted, _ topic: AdministrationClient.Topic,
        _ retention: Result<String, AdministrationClient.Refusal>?
    ) -> TopicReport.Outcome {
        var differences: [TopicReport.Difference] = []
        var unknown: [String] = []
        func compare(_ setting: String, _ found: Int, _ wanted: Int) {
            if found != wanted { differences.append(.init(setting: setting, found: found, wanted: wanted)) }
        }
        compare("partitions", topic.partitions, wanted.partitions)
        compare("replication", topic.replication, wanted.replication)
        switch retention {
        case .success(let text):
            if let milliseconds = Int(text) {
                compare("retention.ms", milliseconds, wanted.retentionMilliseconds)
            } else {
                unknown.append("retention.ms: \(text)")
            }
        case .failure(let refusal): unknown.append("retention.ms: \(refusal.reason)")
        case nil: unknown.append("retention.ms: the broker does not tell")
        }
        return .existing(differences: differences, unknown: unknown)
    }

    private func reports(_ round: Round) -> [TopicReport] {
        let names =
            configuration.topics.filter { $0 != configuration.deadLetterTopic }
            + (configuration.deadLetterTopic.map { [$0] } ?? [])
        var seen: Set<String> = []
        return names.filter { seen.insert($0).inserted }.compactMap { name in
            if let outcome = round.outcomes[name] { return TopicReport(topic: name, outcome: outcome) }
            guard let pattern = patterns.first(where: { $0.text == name }) else { return nil }
            let matches = round.topics.keys.filter { topic in
                pattern.matches(topic) && topic != configuration.deadLetterTopic && !topic.hasPrefix("__")
            }
            return TopicReport(topic: name, outcome: .pattern(matches: matches.sorted()))
        }
    }
}

/// How far it has come.
private struct Round {
    var attempts = 0
    var hasMetadata = false
    var topics: [String: AdministrationClient.Topic] = [:]
    /// Neither made nor found yet.
    private(set) var pending: [TopicAdministrationConfiguration.Wanted]
    private(set) var outcomes: [String: TopicReport.Outcome] = [:]
    /// Why the last attempt to make a topic failed.
    var reasons: [String: String] = [:]

    init(wanted: [TopicAdministrationConfiguration.Wanted]) { pending = wanted }

    mutating func settle(_ name: String, _ outcome: TopicReport.Outcome) {
        outcomes[name] = outcome
        pending.removeAll { $0.name == name }
    }

    /// The first open topic's.
    var pendingReason: String? {
        pending.first.map { "topic \($0.name): \(reasons[$0.name] ?? "not there yet")" }
    }

    mutating func failPending(_ reason: String) {
        for topic in pending { settle(topic.name, .failed(reason: reasons[topic.name] ?? reason)) }
        hasMetadata = true
    }
}
