import IngestCore
import Kafka
import MetricsTestKit
import TestSupport
import Testing

@Suite struct ConsumptionTests {
    @Test func eventsArriveInOrderWithAllThatKafkaKnows() async throws {
        let rig = try Rig(partitions: 2)
        for partition: Int32 in 0..<2 {
            try rig.mock.produce(
                (0..<500).map { number in
                    KafkaMock.Message(
                        Array("{\"n\":\(number),\"event_id\":\"p\(partition)-\(number)\"}".utf8),
                        key: Array("key \(number)".utf8), headers: [("trace", Array("abc".utf8)), ("empty", nil)],
                        timestamp: 1_700_000_000_000 + Int64(number))
                }, to: Rig.topic, partition: partition)
        }
        try await rig.withSource { _ in
            try await wait(for: "1000 events") { rig.intake.eventCount == 1_000 }
        }
        for number: Int32 in 0..<2 {
            let events = rig.intake.events(of: Rig.partition(number))
            #expect(events.map(\.offset) == Array(0..<500))
            #expect(events.map(\.id) == (0..<500).map { "p\(number)-\($0)" })
            #expect(events.map(\.key) == (0..<500).map { "key \($0)" })
            #expect(events.map(\.timestamp) == (0..<500).map { 1_700_000_000_000 + $0 })
            // u16 name length, i32 value length, name, value.
            let headers: [UInt8] =
                [5, 0, 3, 0, 0, 0] + Array("traceabc".utf8) + [5, 0, 255, 255, 255, 255] + Array("empty".utf8)
            #expect(events.allSatisfy { $0.headerBytes == headers })
            #expect(rig.intake.covered(Rig.partition(number)) == 0..<500)
        }
        #expect(rig.intake.accepted.allSatisfy { $0.stream == Rig.stream.id })
        #expect(rig.intake.failure == nil)
    }

    @Test func theEventIDIsThePayloadsThenAHeadersThenDerived() async throws {
        let rig = try Rig()
        let cloudEvents: (String, [UInt8]?) = ("ce_id", Array("from ce_id".utf8))
        let plain: (String, [UInt8]?) = ("event_id", Array("from event_id".utf8))
        try rig.mock.produce(
            [
                KafkaMock.Message(Array("{\"event_id\":\"own\"}".utf8), headers: [plain, cloudEvents]),
                KafkaMock.Message(Array("{}".utf8), headers: [plain, cloudEvents]),
                KafkaMock.Message(Array("{}".utf8), headers: [plain]),
                KafkaMock.Message(Array("{}".utf8), headers: [("ce_id", nil)]),
                KafkaMock.Message(Array("{}".utf8), headers: [("ce_id", [0xff])]),
                KafkaMock.Message(Array("{}".utf8)),
            ], to: Rig.topic)
        try await rig.withSource { _ in
            try await wait(for: "all messages") { rig.intake.covered(Rig.partition()) == 0..<6 }
        }
        let events = rig.intake.events(of: Rig.partition())
        #expect(events.map(\.id) == ["own", "from ce_id", "from event_id", nil, nil])
        #expect(rig.intake.accepted.flatMap(\.deadLetters).map(\.problem.kind) == ["invalid_event_id"])
    }

    @Test func whatIsNoEventBecomesADeadLetterAndItsNeighboursArrive() async throws {
        let rig = try Rig()
        try rig.produce(["{\"event_id\":\"a\"}"])
        try rig.mock.produce(
            [
                KafkaMock.Message(
                    Array("{\"broken".utf8), key: Array("k".utf8), headers: [("h", Array("v".utf8))],
                    timestamp: 1_700_000_000_123)
            ], to: Rig.topic)
        let large = [UInt8](repeating: 0x78, count: Limits.kafkaMetadataBytes + 1)
        try rig.mock.produce(
            [KafkaMock.Message(Array("{\"event_id\":\"too large\"}".utf8), headers: [("h", large)])],
            to: Rig.topic)
        try rig.produce(["[]", "{\"event_id\":\"b\"}"])
        try await rig.withSource { _ in
            try await wait(for: "all messages") { rig.intake.covered(Rig.partition())?.upperBound == 5 }
        }
        #expect(rig.intake.covered(Rig.partition()) == 0..<5)
        let ids = rig.intake.events(of: Rig.partition()).map(\.id)
        #expect(ids == ["a", "b"])
        let letters = rig.intake.accepted.flatMap(\.deadLetters)
        #expect(letters.map(\.problem.kind) == ["invalid_json", "too_large", "not_an_object"])
        #expect(letters.dropFirst().first?.eventID == "too large")
        let letter = try #require(letters.first)
        #expect(letter.payload == Array("{\"broken".utf8))
        #expect(letter.table == "events_table")
        #expect(letter.eventID == Array("{\"broken".utf8).withUnsafeBytes { EventID.derive(from: $0) })
        #expect(
            letter.kafka
                == DeadLetter.KafkaOrigin(
                    partition: Rig.partition(), offset: 1, timestamp: 1_700_000_000_123, key: Array("k".utf8),
                    headers: [("h", Array("v".utf8))]))
    }

    @Test func tombstonesAreSkippedAndTheirOffsetsCovered() async throws {
        var rig = try Rig()
        let metrics = TestMetrics()
        rig.metrics = metrics
        try rig.produce(["{\"event_id\":\"a\"}"])
        try rig.mock.produce([KafkaMock.Message(nil, key: [1]), KafkaMock.Message(nil, key: [2])], to: Rig.topic)
        try rig.produce(["not JSON"])
        try await rig.withSource { _ in
            try await wait(for: "the first messages") { rig.intake.covered(Rig.partition()) == 0..<4 }
            // A run of nothing but tombstones is recorded as well.
            try rig.mock.produce([KafkaMock.Message(nil)], to: Rig.topic)
            try await wait(for: "a lone tombstone") { rig.intake.covered(Rig.partition()) == 0..<5 }
        }
        #expect(rig.intake.eventCount == 1)
        func count(_ result: String) throws -> Int64 {
            try metrics.expectCounter(
                "ingest_events_total", [("source", "kafka"), ("stream", "events_table"), ("result", result)]
            ).totalValue
        }
        #expect(try count("accepted") == 1)
        #expect(try count("skipped") == 3)
        #expect(try count("dead_letter") == 1)
    }

    @Test func consumingStartsWhereTheLedgerSays() async throws {
        let rig = try Rig(partitions: 2)
        try rig.produce(numbered(0..<10), partition: 0)
        try rig.produce(numbered(0..<10), partition: 1)
        try rig.mock.commit(3, group: "group", topic: Rig.topic, partition: 0)
        // The journal holds the messages up to offset 6.
        rig.ledger.setStart(6, of: Rig.partition(0))
        try await rig.withSource { _ in
            try await wait(for: "both partitions") {
                rig.intake.covered(Rig.partition(0))?.upperBound == 10
                    && rig.intake.covered(Rig.partition(1))?.upperBound == 10
            }
        }
        #expect(rig.intake.covered(Rig.partition(0)) == 6..<10)
        // Without a committed offset: everything.
        #expect(rig.intake.covered(Rig.partition(1)) == 0..<10)
        #expect(rig.ledger.count(.assigned(Rig.partition(0), committed: 3)) == 1)
        #expect(rig.ledger.count(.assigned(Rig.partition(1), committed: nil)) == 1)
    }

    @Test func lagAndUncommittedAreReported() async throws {
        var rig = try Rig()
        let metrics = TestMetrics()
        rig.metrics = metrics
        try rig.produce(numbered(0..<10))
        rig.ledger.setFlushed(4, of: Rig.partition())
        try await rig.withSource { source in
            try await wait(for: "numbers of the partition") {
                source.partitions.first.map { $0.lag == 6 && $0.uncommitted == 6 } ?? false
            }
            let status = try #require(source.partitions.first)
            #expect(status.position == 10 && status.committed == 4 && status.end == 10 && !status.isPaused)
            let dimensions = [("topic", "events"), ("partition", "0")]
            try await wait(for: "the gauge") {
                try metrics.expectGauge("ingest_kafka_consumer_lag", dimensions).lastValue == 6
            }
            #expect(source.health.isHealthy)
            #expect(source.health.component == "kafka")
            #expect(!source.health.isRequired)
        }
    }
}
