import Testing

@testable import Kafka

@Suite struct ProducerQueueTests {
    /// The expectation macros take no mutating calls.
    private final class Queue<Message> {
        private var queue = ProducerQueue<Message>()
        private(set) var lastNumber: UInt64 = 0

        init(_ messages: [Message]) { for message in messages { queue.append(message) } }

        func append(_ message: Message) { queue.append(message) }
        func suspect(_ message: Message) { queue.suspect(message) }
        func land(_ number: UInt64) -> (message: Message, wasAlone: Bool)? { queue.land(number) }
        func removeInFlight() -> [Message] { queue.removeInFlight() }
        func removeAll() -> [Message] { queue.removeAll() }
        var isEmpty: Bool { queue.isEmpty }
        var oldestSentAt: UInt64? { queue.oldestSentAt }

        func take(at now: UInt64 = 0) -> Message? {
            guard let (number, message) = queue.takeNext(now: now) else { return nil }
            lastNumber = number
            return message
        }
    }

    @Test func messagesLeaveInOrder() {
        let queue = Queue(Array(0..<3_000))
        for message in 0..<3_000 { #expect(queue.take(at: UInt64(message)) == message) }
        #expect(queue.take() == nil)
        #expect(queue.oldestSentAt == 0)
        #expect(queue.land(1)?.message == 0)
        #expect(queue.land(1) == nil)
        #expect(queue.oldestSentAt == 1)
        #expect(queue.removeInFlight() == Array(1..<3_000))
        #expect(queue.isEmpty)
    }

    @Test func suspectsGoAloneAndFirst() throws {
        let queue = Queue(["a", "b", "c", "d"])
        for message in ["a", "b", "c"] { #expect(queue.take() == message) }
        for number: UInt64 in 1...2 {
            let landed = try #require(queue.land(number))
            #expect(!landed.wasAlone)
            queue.suspect(landed.message)
        }
        // The third is still in flight, and no other may join.
        #expect(queue.take() == nil)
        #expect(queue.land(3)?.wasAlone == false)
        for suspect in ["a", "b"] {
            #expect(queue.take() == suspect)
            #expect(queue.take() == nil)
            #expect(queue.land(queue.lastNumber)?.wasAlone == true)
        }
        #expect(queue.take() == "d")
        queue.append("e")
        #expect(queue.removeAll() == ["d", "e"])
        #expect(queue.isEmpty)
    }

    @Test func theEndOfAClientEndsIsolation() throws {
        let queue = Queue(["a", "b"])
        #expect(queue.take() == "a")
        queue.suspect(try #require(queue.land(1)).message)
        #expect(queue.take() == "a")
        #expect(queue.removeInFlight() == ["a"])
        #expect(queue.take() == "b")
    }
}
