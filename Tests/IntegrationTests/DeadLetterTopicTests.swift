import Foundation
import TestSupport
import Testing

/// Guarantee 2 where the event is bad: its offset is committed only after the DLQ topic has it.
@Suite(.serialized) struct DeadLetterTopicTests {
    private static let settings = ["KAFKA_TOPICS": "events", "KAFKA_DLQ_TOPIC": "letters"]
    /// Offsets 0 to 2 are events, 3 is broken JSON, 4 is an event.
    private static let messages = numbered(0..<3, "k") + ["{broken", #"{"event_id":"last"}"#]

    @Test func commitsWaitForTheTopicAlsoAfterAKill() async throws {
        try await Scene.run(topics: ["events": 1], environment: Self.settings) { scene in
            try scene.cluster.allowClientsToRefuseTopicCreation()
            try scene.cluster.produce(Self.messages.map { .init($0) }, to: "events")
            try await scene.service.start()
            try await scene.awaitIntake(to: 5, "events")
            try await scene.awaitFlush()
            // Everything before the broken message may be committed, and nothing behind it.
            try await scene.awaitCommit(of: 3, "events")
            try await eventually("the status names the topic") {
                let status = try await scene.service.get("/v1/status").text
                let readiness = try await scene.service.get("/readyz").text
                return status.contains(#""awaiting_forwarding":1"#) && readiness.contains("letters")
            }
            try await scene.service.kill()
            try await scene.service.start()
            try await scene.awaitFlush()
            #expect(try scene.committed("events") == 3)

            try scene.cluster.createTopic("letters", partitions: 1)
            try await scene.awaitCommit(of: 5, "events")
            let letters = try scene.cluster.messages(in: "letters")
            let letter = try #require(letters.last)
            let document = try #require(
                try JSONSerialization.jsonObject(with: Data(letter.payload ?? [])) as? [String: Any])
            #expect(document["payload"] as? String == "{broken")
            #expect((document["error"] as? [String: Any])?["kind"] as? String == "invalid_json")
            let source = document["source"] as? [String: Any]
            #expect(source?["topic"] as? String == "events" && source?["offset"] as? Int == 3)
            #expect(String(decoding: letter.key ?? [], as: UTF8.self) == document["event_id"] as? String)
            #expect(try await scene.service.status().journal.deadLetters == 1, "kept after it was forwarded")
        }
    }

    /// Who has no Kafka, or wants none for this, keeps dead letters in the journal.
    @Test func withoutForwardingNothingWaits() async throws {
        let settings = Self.settings.merging(["KAFKA_DLQ_FORWARDING": "off"]) { $1 }
        try await Scene.run(topics: ["events": 1], environment: settings) { scene in
            try scene.cluster.allowClientsToRefuseTopicCreation()
            try scene.cluster.produce(Self.messages.map { .init($0) }, to: "events")
            try await scene.service.start()
            try await scene.awaitCommit(of: 5, "events")
            #expect(try await scene.deadLetters().map(\.error.kind) == ["invalid_json"])
        }
    }

    /// An operator who discards a letter that was not forwarded gives its offset free.
    @Test func discardingLetsTheOffsetGo() async throws {
        try await Scene.run(topics: ["events": 1], environment: Self.settings) { scene in
            try scene.cluster.allowClientsToRefuseTopicCreation()
            try scene.cluster.produce(Self.messages.map { .init($0) }, to: "events")
            try await scene.service.start()
            try await scene.awaitCommit(of: 3, "events")
            try await eventually("there is a dead letter") { try await scene.deadLetters().count == 1 }
            let number = try #require(try await scene.deadLetters().first).id
            let refused = try await scene.service.request("POST", "/v1/dead-letters/\(number)/retry")
            #expect(refused.status == 409, "broken JSON is no row: \(refused.text)")
            let discarded = try await scene.service.request("DELETE", "/v1/dead-letters/\(number)")
            #expect(discarded.status == 200, "\(discarded.text)")
            try await scene.awaitCommit(of: 5, "events")
        }
    }
}
