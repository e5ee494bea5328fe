import Foundation
import IngestCore
import Journal
import Pipeline
import Synchronization
import TestSupport
import Testing

/// A DLQ topic that fails on demand.
final class ScriptedTopic: DeadLetterDestination {
    enum Mode { case acknowledges, fails, isSilent }

    private struct State {
        var mode = Mode.acknowledges
        var refused: Set<UInt64> = []
        var taken: [UInt64] = []
        var unanswered: [@Sendable (Result<Void, DeadLetterFailure>) -> Void] = []
    }

    private let state = Mutex(State())

    var mode: Mode {
        get { state.withLock { $0.mode } }
        set { state.withLock { $0.mode = newValue } }
    }

    /// Messages that are never taken.
    var refused: Set<UInt64> {
        get { state.withLock { $0.refused } }
        set { state.withLock { $0.refused = newValue } }
    }

    /// Numbers of the messages in the topic.
    var taken: [UInt64] { state.withLock { $0.taken } }
    var unansweredCount: Int { state.withLock { $0.unanswered.count } }

    var health: ComponentHealth {
        ComponentHealth(component: "topic", isHealthy: true, isRequired: false, detail: "")
    }

    func send(
        _ message: DeadLetterMessage, completion: @escaping @Sendable (Result<Void, DeadLetterFailure>) -> Void
    ) {
        let result: Result<Void, DeadLetterFailure>? = state.withLock { state in
            if state.refused.contains(message.number) {
                return .failure(DeadLetterFailure("too large", isMessageAtFault: true))
            }
            switch state.mode {
            case .acknowledges:
                state.taken.append(message.number)
                return .success(())
            case .fails:
                return .failure(DeadLetterFailure("no leader", isMessageAtFault: false))
            case .isSilent:
                // The topic has it, and the acknowledgement gets lost.
                state.taken.append(message.number)
                state.unanswered.append(completion)
                return nil
            }
        }
        if let result { completion(result) }
    }
}

/// Dead letters through pipeline and journal.
@Suite struct DeadLetterTests {
    private static let events = (0..<200).map { "{\"n\":\($0)\($0 % 50 == 7 ? ",\"bad\":1" : "")}" }
    private static let bad = [7, 57, 107, 157]

    private func setup(_ directory: TemporaryDirectory, _ topic: ScriptedTopic? = nil) throws -> PipelineTests.Setup {
        let setup = try PipelineTests.Setup(directory: directory, deadLetters: topic)
        setup.destination.badText.withLock { $0 = "bad" }
        return setup
    }

    @Test func badEventsBecomeDeadLettersAndAreReported() async throws {
        let setup = try setup(TemporaryDirectory("letters"))
        let sequences = try await setup.append(Self.events)
        let stream = setup.journal.stream(table: "events")!.id
        let report = try #require(await setup.pipeline.insertion(of: sequences, in: stream, timeout: .seconds(30)))
        #expect(report.inserted == 196 && report.deadLettered == 4)
        let letters = try setup.journal.deadLetters(matching: DeadLetterFilter(), limit: 100)
        #expect(letters.map(\.sequence) == Self.bad.map { sequences.lowerBound + UInt64($0) })
        #expect(letters.map { String(decoding: $0.letter.payload, as: UTF8.self) } == Self.bad.map { Self.events[$0] })
        #expect(letters.map(\.letter.problem.message) == Self.bad.map { "no: \(Self.events[$0])" })
        #expect(report.deadLetterIDs == letters.map(\.letter.eventID))
        // Who asks late gets the same answer.
        #expect(await setup.pipeline.insertion(of: sequences, in: stream, timeout: .seconds(1)) == report)
        let inserted = setup.destination.inserts.withLock { $0.flatMap(\.payloads) }
        #expect(inserted.sorted() == Self.events.filter { !$0.contains("bad") }.sorted())
        setup.stop()
    }

    @Test func retriedEventsArriveAndLeaveTheStore() async throws {
        let setup = try setup(TemporaryDirectory("letters"))
        _ = try await setup.append(Self.events)
        #expect(await setup.pipeline.drain(timeout: .seconds(30)))
        let desk = DeadLetterDesk(journal: setup.journal, forwards: false)
        // Still bad: it is a dead letter again, a new one.
        let first = try #require(try setup.journal.deadLetters(matching: DeadLetterFilter(), limit: 1).first)
        #expect(try await desk.retry(.one(first.number)) == DeadLetterChange(changed: 1))
        let journal = setup.journal
        try await eventually("the event is rejected again") {
            try journal.deadLetters(matching: DeadLetterFilter(), limit: 100).count == 4
        }
        await #expect(throws: OperationFailure.self) { try await desk.retry(.one(first.number)) }

        setup.destination.badText.withLock { $0 = nil }
        let change = try await desk.retry(.matching(DeadLetterFilter(stream: "events")))
        #expect(change == DeadLetterChange(changed: 4))
        try await eventually("all is flushed") {
            journal.snapshot.streams.values.allSatisfy { $0.pendingEvents == 0 }
        }
        #expect(setup.journal.snapshot.deadLetterCount == 0)
        let inserted = setup.destination.inserts.withLock { $0.flatMap(\.payloads) }
        #expect(inserted.sorted() == Self.events.sorted())
        setup.stop()
    }

    /// A letter counts as forwarded only when the topic has acknowledged it; failures are tried again.
    @Test func lettersAreForwardedOnceTheTopicTakesThem() async throws {
        let topic = ScriptedTopic()
        topic.mode = .fails
        let setup = try setup(TemporaryDirectory("letters"), topic)
        _ = try await setup.append(Self.events)
        #expect(await setup.pipeline.drain(timeout: .seconds(30)))
        let journal = setup.journal
        #expect(journal.snapshot.unforwardedCount == 4)
        topic.refused = [2]
        topic.mode = .acknowledges
        try await eventually("all but the refused one are forwarded") { journal.snapshot.unforwardedCount == 1 }
        #expect(topic.taken.sorted() == [1, 3, 4])
        #expect(try journal.unforwarded(limit: 10, maxBytes: .max).map(\.number) == [2])
        topic.refused = []
        setup.pipeline.retryNow()
        try await eventually("all are forwarded") { journal.snapshot.unforwardedCount == 0 }
        #expect(topic.taken.sorted() == [1, 2, 3, 4], "each once")
        #expect(journal.snapshot.deadLetterCount == 4, "forwarded letters are kept")
        setup.stop()
    }

    /// Without the topic's acknowledgement a letter is sent again by the next process.
    @Test func unacknowledgedLettersAreForwardedAfterARestart() async throws {
        let directory = try TemporaryDirectory("letters")
        let topic = ScriptedTopic()
        topic.mode = .isSilent
        // The folder is free when the journal's object is gone.
        do {
            let first = try setup(directory, topic)
            _ = try await first.append(Self.events)
            try await eventually("all were sent") { topic.unansweredCount == 4 }
            #expect(first.journal.snapshot.unforwardedCount == 4)
            first.stop()
        }
        topic.mode = .acknowledges
        do {
            let second = try setup(directory, topic)
            let journal = second.journal
            try await eventually("all are forwarded") { journal.snapshot.unforwardedCount == 0 }
            #expect(topic.taken.sorted() == [1, 1, 2, 2, 3, 3, 4, 4])
            second.stop()
        }
        // And not a third time.
        let third = try setup(directory, topic)
        _ = try await third.append(["{\"bad\":2}"])
        try await eventually("the new one is forwarded") { topic.taken.last == 5 }
        #expect(topic.taken.count == 9)
        third.stop()
    }

    /// A flipped bit costs the entry that it is in; the rest drains, and nothing crashes or stands still.
    @Test func damagedEntryIsSetAsideAndTheRestDrains() async throws {
        let directory = try TemporaryDirectory("letters")
        do {
            let first = try setup(directory)
            first.destination.failure.withLock { $0 = .transient }
            // Each an entry of its own: they wait for one another.
            for number in 0..<20 { _ = try await first.append(["{\"text\":\"event-\(number)-\(filler)\"}"]) }
            first.stop()
        }

        let file = URL(filePath: directory.appending("data.mdb"))
        var bytes = try Data(contentsOf: file)
        let place = try #require(bytes.firstRange(of: Data("event-13-".utf8)))
        bytes[place.lowerBound] ^= 0x10
        try bytes.write(to: file)

        let second = try setup(directory)
        // Who waits for them is told that one is not inserted.
        let stream = try #require(second.journal.stream(table: "events")).id
        let report = await second.pipeline.insertion(of: 1..<21, in: stream, timeout: .seconds(30))
        #expect(report?.inserted == 19 && report?.deadLettered == 1)
        #expect(await second.pipeline.drain(timeout: .seconds(30)))
        let letters = try second.journal.deadLetters(matching: DeadLetterFilter(), limit: 100)
        #expect(letters.map(\.letter.problem.kind) == ["damaged_entry"])
        let payload = String(decoding: try #require(letters.first).letter.payload, as: UTF8.self)
        #expect(payload.contains("vent-13-"))
        let inserted = Set(second.destination.inserts.withLock { $0.flatMap(\.payloads) })
        #expect(inserted.count == 19 && !inserted.contains { $0.contains("event-13-") })
        #expect(second.pipeline.status.allSatisfy { $0.mode == "running" || $0.mode == "stopped" })
        second.stop()
    }

    /// Makes an entry larger than half a page, so that it has pages of its own.
    private var filler: String { String(repeating: "x", count: 5_000) }
}
