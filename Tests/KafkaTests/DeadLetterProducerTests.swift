import IngestCore
import Kafka
import Logging
import Synchronization
import TestSupport
import Testing

@Suite struct DeadLetterProducerTests {
    @Test func messagesArriveOnceInOrderWithTheirKeys() async throws {
        let rig = try DeadLetterRig()
        try await rig.withProducer { producer in
            rig.send(1...500, to: producer)
            try await eventually("all answers") { rig.answers.count == 500 }
            #expect(producer.health.isHealthy)
            #expect(producer.health.component == "dead_letter_topic")
            #expect(!producer.health.isRequired)
        }
        let messages = try rig.mock.messages(in: DeadLetterRig.topic)
        #expect(messages.map { String(decoding: $0.key!, as: UTF8.self) } == (1...500).map { "id\($0)" })
        #expect(messages.map { String(decoding: $0.payload!, as: UTF8.self) } == (1...500).map { "{\"n\":\($0)}" })
        #expect(rig.answers.order == Array(1...500))
        #expect(rig.answers.delivered.count == 500)
        #expect(try rig.count("ok") == 500)
        #expect(try rig.count("retry") == 0)
        #expect(try rig.count("error") == 0)
    }

    @Test func anAnswerWakesTheThread() async throws {
        let rig = try DeadLetterRig()
        try await rig.withProducer { producer in
            try await rig.connect(producer)
            let start = ContinuousClock.now
            for number: UInt64 in 1...40 {
                rig.send(number...number, to: producer)
                try await eventually("the answer") { rig.answers.count == number }
            }
            // Left to sleep, the thread would look once a second.
            #expect(ContinuousClock.now - start < .seconds(20))
        }
    }

    @Test func retriedRequestsNeitherReorderNorRepeat() async throws {
        var rig = try DeadLetterRig()
        // Many requests, so that several are in flight when one fails.
        rig.configuration.properties += [("batch.num.messages", "5"), ("linger.ms", "0.1")]
        let errors: [KafkaMockError?] = [
            nil, .requestTimedOut, nil, nil, .notEnoughReplicas, nil, nil, .notLeader, nil, .requestTimedOut, nil,
        ]
        rig.mock.fail(.produce, with: errors + errors + errors)
        try await rig.withProducer { producer in
            rig.send(1...400, to: producer)
            try await eventually("all answers") { rig.answers.count == 400 }
        }
        #expect(rig.answers.delivered.count == 400)
        #expect(try rig.keys() == (1...400).map { "id\($0)" })
    }

    /// The broker wrote the messages, but its answer was lost.
    @Test func whatTheBrokerHasAlreadyCountsAsDelivered() async throws {
        let rig = try DeadLetterRig()
        try await rig.withProducer { producer in
            try await rig.connect(producer)
            rig.mock.fail(.produce, with: .duplicateSequenceNumber)
            rig.send(1...1, to: producer)
            try await eventually("the answer") { rig.answers.count == 1 }
        }
        #expect(rig.answers.delivered == [1])
    }

    @Test func successComesAfterTheBrokersAnswer() async throws {
        let rig = try DeadLetterRig()
        try await rig.withProducer { producer in
            try await rig.connect(producer)
            rig.send(1...1, to: producer)
            try await eventually("a first answer") { rig.answers.count == 1 }
            try rig.mock.delayAnswers(milliseconds: 700)
            let start = ContinuousClock.now
            rig.send(2...2, to: producer)
            try await eventually("the late answer") { rig.answers.count == 2 }
            #expect(ContinuousClock.now - start >= .milliseconds(700))
        }
    }

    @Test func nothingIsAnsweredWhileBrokersAreAway() async throws {
        let rig = try DeadLetterRig()
        try await rig.withProducer { producer in
            try await rig.connect(producer)
            try rig.mock.bringDown()
            rig.send(1...50, to: producer)
            try await eventually("bad health") { !producer.health.isHealthy }
            #expect(producer.health.detail.contains("no Kafka broker can be reached"))
            #expect(rig.answers.count == 0)
            try rig.mock.bringUp()
            try await eventually("all answers") { rig.answers.count == 50 }
            try await eventually("good health") { producer.health.isHealthy }
        }
        #expect(rig.answers.delivered.count == 50)
        #expect(try rig.keys() == (1...50).map { "id\($0)" })
    }

    @Test func brokersThatAreBackAreNoticedWithoutADeadLetter() async throws {
        let rig = try DeadLetterRig()
        try rig.mock.bringDown()
        try await rig.withProducer { producer in
            try await eventually("the reason") { producer.health.detail.contains("no Kafka broker can be reached") }
            #expect(!producer.health.isHealthy)
            try rig.mock.bringUp()
            try await rig.connect(producer)
            try rig.mock.bringDown()
            try await eventually("bad health") { !producer.health.isHealthy }
            try rig.mock.bringUp()
            try await rig.connect(producer)
        }
    }

    @Test func aMessageThatTimesOutIsToBeSentAgain() async throws {
        var rig = try DeadLetterRig()
        rig.configuration.properties.append(("message.timeout.ms", "300"))
        try await rig.withProducer { producer in
            try await rig.connect(producer)
            try rig.mock.bringDown()
            rig.send(1...1, to: producer)
            try await eventually("the failure") { rig.answers.count == 1 }
            try rig.mock.bringUp()
            try await rig.sendUntilDelivered(2, to: producer)
            try await rig.connect(producer)
        }
        #expect(rig.answers.failure(of: 1)?.isMessageAtFault == false)
        #expect(try rig.count("ok") == 1)
        #expect(try rig.count("retry") == Int64(rig.answers.count - 1))
        #expect(rig.answers.repeated.isEmpty)
    }

    @Test func aFatalErrorMakesANewClient() async throws {
        let rig = try DeadLetterRig()
        let lines = LogLines()
        try await rig.withProducer(logging: lines) { producer in
            try await rig.connect(producer)
            rig.mock.fail(.produce, with: .outOfOrderSequenceNumber)
            rig.send(1...1, to: producer)
            try await eventually("the failure") { rig.answers.count == 1 }
            // What is sent meanwhile waits for the new client.
            rig.send(2...30, to: producer)
            try await eventually("all answers") { rig.answers.count == 30 }
            try await rig.connect(producer)
        }
        #expect(lines.lines(at: .error).count { $0.contains("failed and is restarted") && $0.contains("fatal") } == 1)
        #expect(rig.answers.failure(of: 1)?.isMessageAtFault == false)
        #expect(rig.answers.delivered == Set(2...30))
        #expect(rig.answers.repeated.isEmpty)
        #expect(try rig.keys() == (2...30).map { "id\($0)" })
    }

    @Test func aTopicThatIsMissingIsNamedAndUsedOnceItIsThere() async throws {
        let rig = try DeadLetterRig(makesTopic: false)
        try await rig.withProducer { producer in
            // Also without a dead letter.
            try await eventually("the reason in health") { producer.health.detail.contains("does not exist") }
            #expect(producer.health.detail.contains("\"events.dlq\""))
            rig.send(1...2, to: producer)
            try await eventually("the failures") { rig.answers.count == 2 }
            let failure = try #require(rig.answers.failure(of: 1))
            #expect(failure.description.contains("\"events.dlq\" does not exist: create it"))
            #expect(!failure.isMessageAtFault)
            try rig.mock.createTopic(DeadLetterRig.topic, partitions: 1)
            try await rig.connect(producer)
            rig.send(3...4, to: producer)
            try await eventually("answers") { rig.answers.delivered == [3, 4] }
        }
        #expect(try rig.count("retry") == 2)
    }

    @Test func aTopicThatMayNotBeWrittenToIsReportedUntilItMay() async throws {
        let rig = try DeadLetterRig()
        try await rig.withProducer { producer in
            try await rig.connect(producer)
            rig.mock.fail(.produce, with: .topicAuthorizationFailed)
            rig.send(1...1, to: producer)
            try await eventually("the failure") { rig.answers.failure(of: 1)?.isMessageAtFault == false }
            try await eventually("bad health") { producer.health.detail.contains("authorization failed") }
            try await rig.sendUntilDelivered(2, to: producer)
            try await rig.connect(producer)
        }
    }

    @Test func refusedCredentialsAreReported() async throws {
        var rig = try DeadLetterRig()
        // The mock has no authentication, so it cuts the handshake.
        rig.configuration.properties += [
            ("security.protocol", "sasl_plaintext"), ("sasl.mechanism", "PLAIN"), ("sasl.username", "u"),
            ("sasl.password", "p"), ("reconnect.backoff.max.ms", "5000"), ("reconnect.backoff.ms", "5000"),
        ]
        let lines = LogLines()
        try await rig.withProducer(logging: lines) { producer in
            rig.send(1...1, to: producer)
            // It says less, comes later, and must not hide the reason.
            try await eventually("librdkafka's summary") {
                lines.lines(at: .warning).contains { $0.contains("brokers are down") }
            }
            try await eventually("a reason in health") { !producer.health.detail.contains("connecting") }
            #expect(producer.health.detail.contains("Kafka refuses the connection"))
            #expect(!producer.health.isHealthy)
            #expect(rig.answers.count == 0)
        }
        #expect(rig.answers.failure(of: 1) != nil)
    }
}
