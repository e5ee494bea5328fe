import IngestCore
import Kafka
import Logging
import MetricsTestKit
import Synchronization
import TestSupport

/// What completions said, by the message's number.
final class Answers: Sendable {
    private struct State {
        var results: [UInt64: [Result<Void, DeadLetterFailure>]] = [:]
        var order: [UInt64] = []
    }

    private let state = Mutex(State())

    func add(_ number: UInt64, _ result: Result<Void, DeadLetterFailure>) {
        state.withLock { state in
            state.results[number, default: []].append(result)
            state.order.append(number)
        }
    }

    var count: Int { state.withLock { $0.order.count } }
    /// Numbers in the order of their answers.
    var order: [UInt64] { state.withLock { $0.order } }
    /// Numbers that were answered more than once.
    var repeated: [UInt64] { state.withLock { $0.results.filter { $0.value.count > 1 }.map(\.key) } }

    /// Numbers of the delivered messages.
    var delivered: Set<UInt64> {
        state.withLock { state in
            Set(state.results.filter { $0.value.contains { if case .success = $0 { true } else { false } } }.map(\.key))
        }
    }

    func failure(of number: UInt64) -> DeadLetterFailure? {
        state.withLock { state in
            guard case .failure(let failure)? = state.results[number]?.first else { return nil }
            return failure
        }
    }
}

/// Log lines with their metadata; also a canary: it lives as long as anything that logs, so as long as a thread that has not ended or a
/// client that was not destroyed.
final class LogLines: Sendable {
    private let lines = Mutex<[(level: Logger.Level, text: String)]>([])

    func lines(at level: Logger.Level) -> [String] {
        lines.withLock { $0.filter { $0.level == level }.map(\.text) }
    }

    /// Lines of all levels in order.
    var all: [String] { lines.withLock { $0.map(\.text) } }

    /// A logger that writes here.
    var logger: Logger {
        var logger = Logger(label: "kafka-tests") { _ in Handler(lines: self) }
        logger.logLevel = .debug
        return logger
    }

    private struct Handler: LogHandler {
        let lines: LogLines
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.debug

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            lines.lines.withLock { $0.append((event.level, "\(event.message) \(event.metadata ?? [:])")) }
        }
    }
}

/// A mock cluster with a topic of one partition and what a producer to it needs.
struct DeadLetterRig {
    static let topic = "events.dlq"
    let mock: KafkaMock
    let answers = Answers()
    let metrics = TestMetrics()
    var configuration: DeadLetterProducerConfiguration

    init(makesTopic: Bool = true) throws {
        mock = try KafkaMock()
        try mock.allowClientsToRefuseTopicCreation()
        if makesTopic { try mock.createTopic(Self.topic, partitions: 1) }
        configuration = DeadLetterProducerConfiguration(bootstrapServers: mock.bootstrapServers, topic: Self.topic)
        configuration.minimumRestartMilliseconds = 50
        configuration.maximumRestartMilliseconds = 200
        configuration.properties = [
            ("reconnect.backoff.ms", "20"), ("reconnect.backoff.max.ms", "100"), ("retry.backoff.ms", "10"),
            ("topic.metadata.propagation.max.ms", "100"),
        ]
    }

    func makeProducer(_ lines: LogLines = LogLines()) throws -> DeadLetterProducer {
        try DeadLetterProducer(configuration: configuration, logger: lines.logger, metricsFactory: metrics)
    }

    /// Runs `body` with a started producer and closes it, also when `body` throws.
    func withProducer(
        logging lines: LogLines = LogLines(), _ body: (DeadLetterProducer) async throws -> Void
    ) async throws {
        let producer = try makeProducer(lines)
        producer.start()
        do {
            try await body(producer)
        } catch {
            await producer.close(within: .zero)
            throw error
        }
        // What a test wants answered it has waited for.
        await producer.close(within: .zero)
    }

    /// Sends messages with these numbers: key `id<number>`, value `{"n":<number>}`.
    func send(_ numbers: ClosedRange<UInt64>, to producer: DeadLetterProducer) {
        for number in numbers { send(number, value: Array("{\"n\":\(number)}".utf8), to: producer) }
    }

    /// Sends messages one by one, as a sender who does not give up, until one is delivered.
    func sendUntilDelivered(_ first: UInt64, to producer: DeadLetterProducer) async throws {
        var number = first
        try await eventually("a delivery") {
            send(number...number, to: producer)
            let sent = number
            number += 1
            try await eventually("the answer") { answers.failure(of: sent) != nil || answers.delivered.contains(sent) }
            return answers.delivered.contains(sent)
        }
    }

    func send(_ number: UInt64, value: [UInt8], to producer: DeadLetterProducer) {
        let answers = answers
        producer.send(DeadLetterMessage(number: number, key: Array("id\(number)".utf8), value: value)) {
            answers.add(number, $0)
        }
    }

    /// Returns when the producer knows the topic: from then on a message goes out at once.
    func connect(_ producer: DeadLetterProducer) async throws {
        try await eventually("good health") { producer.health.isHealthy }
    }

    /// Keys of the topic's messages in order.
    func keys() throws -> [String] {
        try mock.messages(in: Self.topic).map { String(decoding: $0.key ?? [], as: UTF8.self) }
    }

    func count(_ result: String) throws -> Int64 {
        try metrics.expectCounter("ingest_dlq_produced_total", [("result", result)]).totalValue
    }
}
