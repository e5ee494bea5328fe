import IngestCore
import Kafka
import Synchronization
import TestSupport
import Testing

@Suite struct DeadLetterProducerBoundsTests {
    // MARK: Messages at fault

    /// The broker refuses a request as a whole; only the message that is refused alone is at fault.
    @Test(arguments: [KafkaMockError.messageTooLarge, .invalidRecord])
    func aMessageAtFaultIsMarkedAndItsNeighboursPass(error: KafkaMockError) async throws {
        let rig = try DeadLetterRig()
        rig.mock.fail(.produce, with: [error, nil, error])
        try rig.mock.bringDown()
        try await rig.withProducer { producer in
            // Collected while brokers are away, so one request.
            rig.send(1...3, to: producer)
            try await eventually("brokers away") { producer.health.detail.contains("no Kafka broker") }
            try rig.mock.bringUp()
            try await eventually("all answers") { rig.answers.count == 3 }
            #expect(producer.health.isHealthy)
        }
        #expect(rig.answers.failure(of: 2)?.isMessageAtFault == true)
        #expect(rig.answers.delivered == [1, 3])
        #expect(try rig.keys() == ["id1", "id3"])
        #expect(try rig.count("error") == 1)
        #expect(try rig.count("ok") == 2)
    }

    @Test func messagesThatAreTooLargeTogetherAllPass() async throws {
        let rig = try DeadLetterRig()
        rig.mock.fail(.produce, with: .messageTooLarge)
        try await rig.withProducer { producer in
            rig.send(1...20, to: producer)
            try await eventually("all answers") { rig.answers.count == 20 }
        }
        #expect(rig.answers.delivered == Set(1...20))
        #expect(try Set(rig.keys()) == Set((1...20).map { "id\($0)" }))
        #expect(try rig.count("error") == 0)
    }

    @Test func aMessageThatThisSideRefusesIsAtFault() async throws {
        var rig = try DeadLetterRig()
        rig.configuration.properties.append(("message.max.bytes", "2000"))
        try await rig.withProducer { producer in
            rig.send(1...1, to: producer)
            rig.send(2, value: [UInt8](repeating: 0x78, count: 3_000), to: producer)
            rig.send(3...3, to: producer)
            try await eventually("all answers") { rig.answers.count == 3 }
        }
        #expect(rig.answers.failure(of: 2)?.isMessageAtFault == true)
        #expect(rig.answers.delivered == [1, 3])
    }

    /// librdkafka's own default would stop at 1 MB.
    @Test func whatTheTopicTakesIsNotRefusedHere() async throws {
        let rig = try DeadLetterRig()
        try await rig.withProducer { producer in
            let value = [UInt8](repeating: 0x78, count: 3_000_000)
            rig.send(1, value: value, to: producer)
            try await eventually("the answer") { rig.answers.count == 1 }
            #expect(try rig.mock.messages(in: DeadLetterRig.topic).map(\.payload) == [value])
        }
        #expect(rig.answers.delivered == [1])
    }

    // MARK: Bounds

    @Test func beyondTheBoundMessagesFailAtOnceAndAreNotLost() async throws {
        var rig = try DeadLetterRig()
        rig.configuration.maximumMessages = 2
        try rig.mock.bringDown()
        try await rig.withProducer { producer in
            rig.send(1...3, to: producer)
            try await eventually("the refusal") { rig.answers.count == 1 }
            #expect(rig.answers.failure(of: 3)?.isMessageAtFault == false)
            try rig.mock.bringUp()
            try await eventually("all answers") { rig.answers.count == 3 }
            // Room again.
            rig.send(4...5, to: producer)
            try await eventually("further answers") { rig.answers.count == 5 }
        }
        #expect(rig.answers.delivered == [1, 2, 4, 5])
        #expect(try rig.count("retry") == 1)
    }

    @Test func bytesUnderWayAreBounded() async throws {
        var rig = try DeadLetterRig()
        rig.configuration.maximumBytes = 1 << 20
        try rig.mock.bringDown()
        try await rig.withProducer { producer in
            // The first may be larger: it would never fit otherwise.
            rig.send(1, value: [UInt8](repeating: 0x78, count: 2 << 20), to: producer)
            rig.send(2...2, to: producer)
            try await eventually("the refusal") { rig.answers.failure(of: 2)?.isMessageAtFault == false }
            try rig.mock.bringUp()
            try await eventually("the answer") { rig.answers.delivered == [1] }
        }
    }

    @Test func aFullLocalQueueIsNoFaultOfTheMessage() async throws {
        var rig = try DeadLetterRig()
        rig.configuration.properties.append(("queue.buffering.max.messages", "1"))
        try rig.mock.bringDown()
        try await rig.withProducer { producer in
            rig.send(1...2, to: producer)
            try await eventually("the refusal") { rig.answers.failure(of: 2)?.isMessageAtFault == false }
            try rig.mock.bringUp()
            try await eventually("the answer") { rig.answers.delivered == [1] }
        }
    }

    @Test func aCompletionCanSendTheNextMessage() async throws {
        var rig = try DeadLetterRig()
        rig.configuration.maximumMessages = 1
        let answers = rig.answers
        try await rig.withProducer { producer in
            @Sendable func send(_ number: UInt64) {
                producer.send(DeadLetterMessage(number: number, key: [1], value: [2])) { result in
                    answers.add(number, result)
                    if number < 10 { send(number + 1) }
                }
            }
            send(1)
            try await eventually("the chain") { answers.count == 10 }
        }
        #expect(answers.delivered == Set(1...10))
    }

    // MARK: Close

    @Test func closingWaitsForAcknowledgements() async throws {
        let rig = try DeadLetterRig()
        let producer = try rig.makeProducer()
        // Also when the thread has not begun yet.
        rig.send(1...25, to: producer)
        producer.start()
        rig.send(26...50, to: producer)
        await producer.close(within: .seconds(20))
        #expect(rig.answers.delivered == Set(1...50))
        #expect(rig.answers.repeated.isEmpty)
        #expect(try rig.keys() == (1...50).map { "id\($0)" })
    }

    @Test func closingAnswersEverythingInTime() async throws {
        let rig = try DeadLetterRig()
        let producer = try rig.makeProducer()
        producer.start()
        try await rig.connect(producer)
        try rig.mock.bringDown()
        rig.send(1...50, to: producer)
        let start = ContinuousClock.now
        async let first: Void = producer.close(within: .milliseconds(200))
        async let second: Void = producer.close(within: .seconds(100))
        _ = await (first, second)
        #expect(ContinuousClock.now - start < .seconds(20))
        #expect(rig.answers.count == 50)
        #expect(rig.answers.delivered.isEmpty)
        #expect(producer.health.detail == "closed")
        #expect(!producer.health.isHealthy)
        // Whoever is late is answered as well.
        rig.send(51...51, to: producer)
        try await eventually("the late answer") { rig.answers.count == 51 }
        #expect(rig.answers.failure(of: 51)?.isMessageAtFault == false)
        #expect(rig.answers.repeated.isEmpty)
        try rig.mock.bringUp()
    }

    @Test func closingEndsAWaitForTheNextClient() async throws {
        var rig = try DeadLetterRig()
        rig.configuration.minimumRestartMilliseconds = 3_600_000
        rig.configuration.maximumRestartMilliseconds = 3_600_000
        let producer = try rig.makeProducer()
        producer.start()
        try await rig.connect(producer)
        rig.mock.fail(.produce, with: .outOfOrderSequenceNumber)
        rig.send(1...1, to: producer)
        try await eventually("the reason in health") {
            producer.health.detail.contains("fatal") && producer.health.detail.contains("restarted in")
        }
        #expect(!producer.health.isHealthy)
        rig.send(2...3, to: producer)
        await producer.close(within: .milliseconds(200))
        #expect(rig.answers.count == 3)
        #expect(rig.answers.delivered.isEmpty)
        #expect(rig.answers.repeated.isEmpty)
    }

    @Test func nothingIsLeftBehind() async throws {
        weak var canary: LogLines?
        let rig = try DeadLetterRig()
        do {
            let lines = LogLines()
            canary = lines
            let producer = try rig.makeProducer(lines)
            producer.start()
            try await rig.connect(producer)
            // Three clients in all.
            for number: UInt64 in 1...2 {
                rig.mock.fail(.produce, with: .outOfOrderSequenceNumber)
                rig.send(number...number, to: producer)
                try await eventually("the failure") { rig.answers.count == number }
            }
            rig.send(3...3, to: producer)
            try await eventually("the answer") { rig.answers.delivered == [3] }
            await producer.close(within: .seconds(5))
        }
        // The thread holds the log's handler until it ends, and every client until it is destroyed.
        try await eventually("no thread and no client") { canary == nil }
    }

    @Test func aProducerThatWasNeverClosedAnswersAndEnds() async throws {
        weak var canary: LogLines?
        let rig = try DeadLetterRig()
        do {
            let lines = LogLines()
            canary = lines
            rig.send(1...2, to: try rig.makeProducer(lines))
        }
        try await eventually("the answers") { rig.answers.count == 2 }
        try await eventually("no thread and no client") { canary == nil }
        #expect(rig.answers.repeated.isEmpty)
    }
}
