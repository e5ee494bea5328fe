import IngestCore
import TestSupport
import Testing

@testable import Kafka

@Suite struct FetchReminderTests {
    @Test func aReminderFollowsEachHalfOfAFullQueue() {
        func reminders(_ maximumBytes: Int, _ minimumMessages: Int, _ taken: [(bytes: Int, messages: Int)]) -> [Bool] {
            var reminder = FetchReminder(maximumBytes: maximumBytes, minimumMessages: minimumMessages)
            return taken.map { reminder.taken(bytes: $0.bytes, messages: $0.messages) }
        }
        #expect(reminders(1_000, 100, [(499, 1), (1, 1), (499, 1), (1, 1)]) == [false, true, false, true])
        #expect(reminders(1_000, 100, [(10, 49), (10, 1), (10, 49)]) == [false, true, false])
        // A queue that holds less than one message.
        #expect(reminders(0, 1, [(1, 1), (0, 0)]) == [true, false])
    }

    /// Left alone, librdkafka 2.0.2 finds its queue with room again only after a second or more, each time: more than a
    /// minute here.
    @Test func aQueueThatWasFullIsFilledAgainAtOnce() async throws {
        var rig = try Rig()
        rig.configuration.properties += [("queued.max.messages.kbytes", "128")]
        let filler = String(repeating: "x", count: 100_000)
        for number in 0..<30 {
            try rig.produce(["{\"event_id\":\"e\(number)\",\"filler\":\"\(filler)\"}"])
        }
        try await rig.withSource { _ in
            try await wait(for: "the first event") { rig.intake.eventCount > 0 }
            let start = ContinuousClock.now
            try await wait(for: "all events") { rig.intake.eventCount == 30 }
            #expect(ContinuousClock.now - start < .seconds(6))
        }
        #expect(rig.intake.events(of: Rig.partition()).map(\.offset) == Array(0..<30))
    }

    @Test func aTopicThatIsNotKnownKeepsNoOtherFromBeingRemindedOf() async throws {
        let rig = try Rig(partitions: 2)
        let consumer = try ConsumerHandle(properties: rig.configuration.makeProperties(), callbacks: nil)
        let known = [Rig.partition(0), Rig.partition(1)]
        // The first ones make librdkafka ask for the topic.
        try await wait(for: "the topic") { consumer.remindToFetch(known) == 2 }
        for number: Int32 in 0..<3 {
            let unknown = TopicPartition(topic: "nobody knows \(number)", partition: 0)
            #expect(consumer.remindToFetch([unknown] + known) == 2)
        }
    }
}
