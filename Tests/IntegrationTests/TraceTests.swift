import Foundation
import TestSupport
import Testing

/// `traceparent` on its way from HTTP and Kafka to ClickHouse.
@Suite(.serialized) struct TraceTests {
    private static let ofHTTP = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    private static let ofKafka = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"

    private static func rows(_ scene: Scene, of table: String = "events_unique") async throws -> String {
        try await scene.clickHouse.query(
            "SELECT event_id, traceparent FROM \(table) ORDER BY event_id FORMAT TabSeparatedRaw")
    }

    private static func post(_ scene: Scene, _ id: String, _ trace: String?) async throws {
        let answer = try await scene.service.post(
            #"{"event_id":"\#(id)"}"#, to: "/v1/events?ack=inserted&timeout=25s",
            headers: trace.map { ["traceparent": $0] } ?? [:])
        try #require(answer.status == 200 && answer.text.contains(#""inserted":1"#), "\(answer.text)")
    }

    /// What ClickHouse rejects keeps its trace on the DLQ topic and when it is sent again.
    @Test(.enabled(if: ClickHouseServer.isInstalled(.chdb)))
    func tracesReachTheTableTheTopicAndComeBack() async throws {
        let settings = ["KAFKA_TOPICS": "events", "KAFKA_DLQ_TOPIC": "letters", "CLICKHOUSE_TABLE": "narrow"]
        try await Scene.run(topics: ["events": 1, "letters": 1], environment: settings) { scene in
            // As events, but with room for ids of four bytes.
            try await scene.clickHouse.query(
                "CREATE TABLE narrow (event_id FixedString(4), payload String, source String, topic String, "
                    + "partition Int32, offset Int64, key String, received_at DateTime64(3), traceparent String) "
                    + "ENGINE = MergeTree ORDER BY received_at")
            let header: (String, [UInt8]?) = ("traceparent", Array(Self.ofKafka.utf8))
            try scene.cluster.produce(
                [
                    .init(Array(#"{"event_id":"k-01"}"#.utf8), headers: [("other", nil), header]),
                    .init(Array(#"{"event_id":"k-02"}"#.utf8), headers: [("traceparent", Array("none".utf8))]),
                    .init(Array(#"{"event_id":"bad-kafka"}"#.utf8), headers: [header]),
                ], to: "events")
            try await scene.service.start()
            try await Self.post(scene, "h-01", Self.ofHTTP)
            try await Self.post(scene, "h-02", nil)
            let bad = try await scene.service.post(
                #"{"event_id":"bad-http"}"#, to: "/v1/events?ack=inserted&timeout=25s",
                headers: ["traceparent": Self.ofHTTP])
            #expect(bad.text.contains(#""dead_lettered":1"#), "\(bad.text)")
            try await scene.awaitCommit(of: 3, "events")
            try await scene.awaitFlush()
            let good = "h-01\t\(Self.ofHTTP)\nh-02\t\nk-01\t\(Self.ofKafka)\nk-02\t"
            #expect(try await Self.rows(scene, of: "narrow") == good)

            try await scene.awaitMessages(2, on: "letters")
            let letters = try scene.cluster.messages(in: "letters").map {
                String(decoding: $0.payload ?? [], as: UTF8.self)
            }
            #expect(letters.contains { $0.contains(#""source":{"kind":"http","traceparent":"\#(Self.ofHTTP)"}"#) })
            #expect(letters.contains { $0.contains(#""headers":{"traceparent":"\#(Self.ofKafka)"}"#) })

            try await scene.clickHouse.query("ALTER TABLE narrow MODIFY COLUMN event_id String")
            let answer = try await scene.service.request("POST", "/v1/dead-letters/retry?all=true")
            #expect(answer.text.contains(#""changed":2"#), "\(answer.text)")
            try await scene.awaitFlush()
            let sentAgain = "bad-http\t\(Self.ofHTTP)\nbad-kafka\t\(Self.ofKafka)\n"
            #expect(try await Self.rows(scene, of: "narrow") == sentAgain + good)
        }
    }

    /// Neither order of service and migration holds a stream, nor the way back; each batch fills what there is.
    @Test(.enabled(if: ClickHouseServer.isInstalled(.chdb)))
    func theColumnMayComeAndGoMeanwhile() async throws {
        try await Scene.run { scene in
            func migrate(_ arguments: String...) async throws {
                let (exit, output) = try await ServiceProcess.run(
                    executable: ServiceProcess.projectPath("tools/migrate"), arguments,
                    environment: ["CLICKHOUSE_URL": scene.clickHouse.url])
                try #require(exit == .code(0), "\(output)")
            }
            try await migrate("--down-to", "003")
            try await scene.service.start()
            try await Self.post(scene, "before", Self.ofHTTP)
            try await migrate()
            try await Self.post(scene, "with", Self.ofHTTP)
            #expect(try await Self.rows(scene) == "before\t\nwith\t\(Self.ofHTTP)")
            try await migrate("--down-to", "003")
            try await Self.post(scene, "after", Self.ofHTTP)
            try await migrate()
            #expect(try await Self.rows(scene) == "after\t\nbefore\t\nwith\t")
            #expect(try await scene.service.get("/metrics").text.contains("ingest_dead_letters_stored 0"))
        }
    }

    /// A server that knows no patterns for columns, and a table without the column.
    @Test(.enabled(if: ClickHouseServer.isInstalled(.server)))
    func anOldServerDoesWithoutThem() async throws {
        try await Scene.run(.server) { scene in
            try await scene.service.start()
            try await Self.post(scene, "h", Self.ofHTTP)
            #expect(try await scene.clickHouse.query("SELECT event_id FROM events") == "h")
        }
    }

    /// What is missing of the other columns is still the operator's business, and not dropped.
    @Test(.enabled(if: ClickHouseServer.isInstalled(.chdb)))
    func noOtherColumnMayBeMissing() async throws {
        try await Scene.run(environment: ["CLICKHOUSE_TABLE": "less"]) { scene in
            try await scene.clickHouse.query("CREATE TABLE less AS events")
            try await scene.clickHouse.query("ALTER TABLE less DROP COLUMN payload")
            try await scene.service.start()
            try await scene.post([#"{"event_id":"a"}"#])
            try await eventually("the stream is held") { try await scene.service.status()["less"]?.state == "held" }
            #expect(try await scene.service.status()["less"]?.reason?.contains("payload") == true)
            try await scene.clickHouse.query("ALTER TABLE less ADD COLUMN payload String")
            try await scene.awaitFlush()
            #expect(try await scene.clickHouse.query("SELECT event_id, payload FROM less") == "a\t{\"event_id\":\"a\"}")
        }
    }
}
