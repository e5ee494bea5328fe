internal import CKafka
internal import CoreMetrics
internal import IngestCore
internal import ServiceLog

/// The messages under way, over all clients of a producer, and the one place where they are answered. Used by the
/// producer's thread.
final class ProducerOutbox {
    var queue = ProducerQueue<OutgoingMessage>()
    private let control: ProducerControl
    private let metrics: DeadLetterMetrics
    private var signals: [ProducerControl.Signal] = []

    init(_ control: ProducerControl, _ metrics: DeadLetterMetrics) {
        self.control = control
        self.metrics = metrics
    }

    /// Takes what was sent; sleeps until there is something, at most until `deadline`.
    /// - Returns: false when nothing can come any more.
    @discardableResult
    func receive(until deadline: UInt64) -> Bool {
        let isOpen = control.mailbox.receive(into: &signals, until: deadline)
        for signal in signals {
            switch signal {
            case .wake: break
            case .send(let outgoing): queue.append(outgoing)
            case .refuse(let outgoing):
                metrics.retry.increment()
                outgoing.completion(.failure(.noRoom))
            }
        }
        signals.removeAll(keepingCapacity: true)
        return isOpen
    }

    /// Answers a message that has left the queue.
    func answer(_ outgoing: OutgoingMessage, _ failure: DeadLetterFailure?) {
        switch failure?.isMessageAtFault {
        case nil: metrics.ok.increment()
        case false?: metrics.retry.increment()
        case true?: metrics.error.increment()
        }
        // First, so that the completion can send the next message.
        control.release(outgoing)
        outgoing.completion(failure.map { .failure($0) } ?? .success(()))
    }
}

/// One client of librdkafka from its creation to its end, on the producer's thread.
///
/// With nothing to do the thread sleeps on the producer's mailbox, which both senders and librdkafka's queue (by its
/// event callback) wake, so that neither waits for a polling interval.
final class ProducerLoop: ProducerHandler {
    private static let statusInterval: UInt64 = 1_000_000_000
    private static let questionInterval: UInt64 = 2_000_000_000
    /// Blocks the thread while there is little else to do; adds to the time that closing takes.
    private static let questionMilliseconds: Int32 = 500
    /// A message that is in flight for longer is worth an operator's attention.
    private static let patience: UInt64 = 30_000_000_000

    private let environment: ProducerEnvironment
    private let outbox: ProducerOutbox
    private let callbacks: ProducerCallbacks
    private let producer: ProducerHandle
    private var troubles = ProducerTroubles()
    /// What ends this client; set where errors can't be thrown, through C.
    private var failure: KafkaFailure?
    private var statusIsDue = true
    private var nextStatusAt: UInt64 = 0
    private var nextQuestionAt: UInt64 = 0

    /// Runs a client until the producer is closed.
    /// - Throws: what makes a new client necessary. This one is gone by then, and nothing is in flight.
    static func run(_ environment: ProducerEnvironment, _ outbox: ProducerOutbox) throws {
        environment.control.setHealth(isHealthy: false, "connecting to \(environment.configuration.bootstrapServers)")
        let loop = try ProducerLoop(environment, outbox)
        do {
            try loop.run()
        } catch {
            // They may or may not have reached the topic.
            loop.failInFlight("\(error)")
            throw error
        }
        loop.failInFlight(DeadLetterFailure.closed.description)
    }

    private init(_ environment: ProducerEnvironment, _ outbox: ProducerOutbox) throws(KafkaConfigurationError) {
        self.environment = environment
        self.outbox = outbox
        let control = environment.control
        callbacks = ProducerCallbacks(
            log: environment.log.forLibrdkafka(), wake: { control.mailbox.send(.wake) })
        producer = try ProducerHandle(
            properties: environment.configuration.makeProperties(), topic: environment.configuration.topic,
            callbacks: callbacks)
        callbacks.handler = self
    }

    private func run() throws(KafkaFailure) {
        while true {
            // Read before the messages are: what was sent before the request to close is among them.
            let closeDeadline = environment.control.closeDeadline
            outbox.receive(until: nextWakeup())
            producer.serve()
            if let failure { throw failure }
            sendWaiting()
            let now = MonotonicClock.now
            if let closeDeadline, outbox.queue.isEmpty || now >= closeDeadline { return }
            askForTopic(now)
            publishStatus(now)
        }
    }

    private func nextWakeup() -> UInt64 {
        var time = nextStatusAt
        if asksForTopic { time = min(time, nextQuestionAt) }
        if let deadline = environment.control.closeDeadline { time = min(time, deadline) }
        return time
    }

    private func failInFlight(_ reason: String) {
        for outgoing in outbox.queue.removeInFlight() {
            outbox.answer(outgoing, DeadLetterFailure(reason, isMessageAtFault: false))
        }
    }

    // MARK: Messages

    private func sendWaiting() {
        while let (number, outgoing) = outbox.queue.takeNext(now: MonotonicClock.now) {
            let code = producer.produce(key: outgoing.message.key, value: outgoing.message.value, number: number)
            guard code != RD_KAFKA_RESP_ERR_NO_ERROR else { continue }
            _ = outbox.queue.land(number)
            // Nothing else was in the request: there was none.
            failed(outgoing, code, isCertain: true)
        }
    }

    func delivered(_ number: UInt64, _ code: rd_kafka_resp_err_t) {
        guard let (outgoing, wasAlone) = outbox.queue.land(number) else { return }
        guard code != RD_KAFKA_RESP_ERR_NO_ERROR else {
            if troubles.description != nil || !troubles.isConnected { statusIsDue = true }
            troubles.delivered()
            return outbox.answer(outgoing, nil)
        }
        failed(outgoing, code, isCertain: wasAlone)
    }

    private func failed(_ outgoing: OutgoingMessage, _ code: rd_kafka_resp_err_t, isCertain: Bool) {
        let meaning = DeliveryFailure(code)
        let explanation = meaning.explanation(code, topic: environment.configuration.topic)
        var isMessageAtFault = false
        switch meaning {
        case .suspicious:
            guard isCertain else { return outbox.queue.suspect(outgoing) }
            isMessageAtFault = true
        case .topicIsMissing:
            troubles.topicFails(explanation)
        case .passing:
            // A queue that is full with nothing in it will never have room for the message.
            if code == RD_KAFKA_RESP_ERR__QUEUE_FULL, outbox.queue.inFlightCount == 0 {
                isMessageAtFault = true
            } else if code != RD_KAFKA_RESP_ERR__QUEUE_FULL {
                troubles.deliveryFailed(explanation)
            }
        }
        statusIsDue = true
        environment.log.write(
            .deadLetterNotDelivered,
            isMessageAtFault
                ? "a dead letter can't be forwarded" : "a dead letter was not forwarded; it is kept and sent again",
            ["reason": "\(explanation)", "dead_letter": "\(outgoing.message.number)"])
        outbox.answer(outgoing, DeadLetterFailure(explanation, isMessageAtFault: isMessageAtFault))
    }

    // MARK: Errors and health

    func clientError(_ code: rd_kafka_resp_err_t, _ text: String) {
        statusIsDue = true
        switch code {
        case RD_KAFKA_RESP_ERR__FATAL:
            failure = KafkaFailure("fatal Kafka client error", producer.fatalReason, .fatal)
            return
        case RD_KAFKA_RESP_ERR__AUTHENTICATION, RD_KAFKA_RESP_ERR__SSL:
            troubles.brokersRefuse(text)
        case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
            troubles.brokersAreAway(text)
        default:
            break
        }
        environment.log.write(
            .kafkaProducerError, "Kafka client error: \(text)",
            ["code": "\(String(cString: rd_kafka_err2name(code)))"])
    }

    private var asksForTopic: Bool { !troubles.isConnected || troubles.description != nil }

    /// Asks about the topic until messages pass: before the first dead letter nothing else would tell, and librdkafka
    /// does not say when brokers or a topic are back.
    private func askForTopic(_ now: UInt64) {
        guard asksForTopic, now >= nextQuestionAt, environment.control.closeDeadline == nil else { return }
        let answer = producer.askForTopic(timeoutMilliseconds: Self.questionMilliseconds)
        nextQuestionAt = MonotonicClock.now + Self.questionInterval
        statusIsDue = true
        switch answer {
        case .none:
            break
        case .some(RD_KAFKA_RESP_ERR_NO_ERROR):
            troubles.topicIsThere()
        case .some(let code):
            let meaning = DeliveryFailure(code)
            let topic = environment.configuration.topic
            troubles.topicFails(
                meaning == .topicIsMissing
                    ? meaning.explanation(code, topic: topic) : "the topic \"\(topic)\": \(words(for: code))")
        }
    }

    /// Tells the rest of the process how things are, when something changed and once a second.
    private func publishStatus(_ now: UInt64) {
        guard statusIsDue || now >= nextStatusAt else { return }
        statusIsDue = false
        nextStatusAt = now + Self.statusInterval
        let topic = environment.configuration.topic
        if let problem = troubles.description {
            environment.control.setHealth(isHealthy: false, problem)
        } else if let oldest = outbox.queue.oldestSentAt, now > oldest + Self.patience {
            environment.control.setHealth(
                isHealthy: false,
                "the topic \"\(topic)\" has acknowledged nothing for \((now - oldest) / 1_000_000_000) s")
        } else if troubles.isConnected {
            environment.control.setHealth(isHealthy: true, "the topic \"\(topic)\" takes dead letters")
        }
    }
}
