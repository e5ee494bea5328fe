import IngestCore
import TestSupport
import Testing

@testable import Kafka

/// Where ids come from, by topic.
@Suite struct EventIDTests {
    private static let structured: (String, [UInt8]?) = (
        "content-type", Array("application/CloudEvents+JSON; charset=UTF-8".utf8)
    )

    private static func header(_ name: String, _ value: String) -> (String, [UInt8]?) { (name, Array(value.utf8)) }

    private static func message(_ payload: String, _ headers: (String, [UInt8]?)...) -> KafkaMock.Message {
        KafkaMock.Message(Array(payload.utf8), headers: headers.map { (name: $0.0, value: $0.1) })
    }

    @Test func rulesAndCloudEventsComeInTheirOrder() async throws {
        var rig = try Rig()
        let cases: [String: [(KafkaMock.Message, String?)]] = [
            "orders": [
                (Self.message(#"{"order_id":7,"event_id":"e"}"#, Self.header("event_id", "h")), "7"),
                (Self.message(#"{"order_id":null,"event_id":"e"}"#), "e"),
                (Self.message(#"{"event_id":"e","order_id":"o\u0041"}"#), "oA"),
                (Self.message("{}", Self.header("event_id", "h")), "h"),
                (Self.message("{}"), nil),
                // A structured CloudEvent's own attribute stands in for the general field.
                (Self.message(#"{"id":"ce","specversion":"1.0"}"#, Self.structured), "ce"),
                (Self.message(#"{"id":"ce","order_id":"o"}"#, Self.structured), "o"),
            ],
            "clicks.web": [
                (Self.message(#"{"event_id":"e"}"#, Self.header("x-id", "x"), Self.header("x-id", "y")), "x"),
                (Self.message(#"{"event_id":"e"}"#, ("x-id", nil), Self.header("ce_id", "c")), "e"),
                (Self.message(#"{"event_id":"e"}"#, Self.header("x-id", "")), "e"),
                (Self.message("{}", Self.header("ce_id", "c")), "c"),
            ],
            "events": [
                // Binary CloudEvents, complete and not.
                (
                    Self.message(
                        #"{"n":1}"#, Self.header("ce_specversion", "1.0"), Self.header("ce_type", "t"),
                        Self.header("ce_source", "/s"), Self.header("ce_id", "c1"),
                        Self.header("content-type", "application/json")), "c1"
                ),
                (Self.message(#"{"id":"not mine"}"#, Self.header("ce_type", "t")), nil),
                (Self.message(#"{"id":"not mine"}"#, Self.header("content-type", "application/json")), nil),
                // Structured ones, complete and not.
                (
                    Self.message(
                        #"{"specversion":"1.0","type":"t","source":"/s","id":"s1","data":{"id":"inner"}}"#,
                        Self.structured), "s1"
                ),
                (Self.message(#"{"type":"t"}"#, Self.structured), nil),
                (Self.message(#"{"id":null}"#, Self.structured, Self.header("ce_id", "c")), "c"),
                (Self.message(#"{"id":"s1","event_id":"own"}"#, Self.structured), "own"),
            ],
        ]
        for (topic, messages) in cases {
            if topic != Rig.topic { try rig.mock.createTopic(topic, partitions: 1) }
            try rig.mock.produce(messages.map(\.0), to: topic)
        }
        rig.configuration.topics = cases.keys.sorted()
        rig.configuration.eventIDRules = [
            EventIDRule(topic: "orders", source: .field("order_id")),
            EventIDRule(topic: #"^clicks\."#, source: .header("x-id")),
            EventIDRule(topic: "clicks.web", source: .field("never looked at")),
        ]
        try await rig.withSource { _ in
            try await wait(for: "all events") { rig.intake.eventCount == 18 }
        }
        for (topic, messages) in cases {
            let events = rig.intake.events(of: TopicPartition(topic: topic, partition: 0))
            #expect(events.map(\.id) == messages.map(\.1), "\(topic)")
            #expect(events.map { Array($0.payload.utf8) } == messages.map { $0.0.payload }, "\(topic)")
        }
        #expect(rig.intake.accepted.flatMap(\.deadLetters) == [])
    }

    @Test func whatCantBeAnIDOrAnEventIsADeadLetter() async throws {
        var rig = try Rig()
        let binary: [UInt8] = [0, 0xff, 0x80]
        try rig.mock.produce(
            [
                KafkaMock.Message(Array(#"{"event_id":"a"}"#.utf8), key: binary, headers: [("bytes", binary)]),
                // An empty payload is no tombstone.
                KafkaMock.Message([]), Self.message(#"{"id":{}}"#, Self.structured),
                Self.message(#"{"event_id":"b"}"#, ("x-id", binary)),
                Self.message(#"[{"id":"batches are not for Kafka"}]"#, Self.structured),
                KafkaMock.Message(nil),
            ], to: Rig.topic)
        rig.configuration.eventIDRules = [EventIDRule(topic: "^.*", source: .header("x-id"))]
        try await rig.withSource { _ in
            try await wait(for: "all messages") { rig.intake.covered(Rig.partition()) == 0..<6 }
        }
        let letters = rig.intake.accepted.flatMap(\.deadLetters)
        #expect(
            letters.map(\.problem.kind) == ["invalid_json", "invalid_event_id", "invalid_event_id", "not_an_object"])
        #expect(letters.first?.payload == [])
        #expect(letters.map { $0.kafka?.offset } == [1, 2, 3, 4])
        let event = try #require(rig.intake.events(of: Rig.partition()).first)
        #expect(event.id == "a")
        // Keys and headers are kept byte for byte: u16 name length, i32 value length, name, value.
        #expect(event.headerBytes == [5, 0, 3, 0, 0, 0] + Array("bytes".utf8) + binary)
    }

    @Test func badRulesAreNamed() {
        func problem(_ rule: EventIDRule) -> String? {
            var configuration = KafkaSourceConfiguration(bootstrapServers: "127.0.0.1:1", topics: ["t"], groupID: "g")
            configuration.eventIDRules = [rule]
            do throws(KafkaConfigurationError) {
                try configuration.validate()
                return nil
            } catch {
                return error.property
            }
        }
        #expect(problem(EventIDRule(topic: "t", source: .field("id"))) == nil)
        #expect(problem(EventIDRule(topic: "^(", source: .field("id"))) == "eventIDRules")
        #expect(problem(EventIDRule(topic: "t", source: .header(""))) == "eventIDRules")
        #expect(problem(EventIDRule(topic: "", source: .field("id"))) == "eventIDRules")
    }
}
