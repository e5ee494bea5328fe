import Foundation
import TestSupport
import Testing

/// The numbers of `/metrics`, held against what was really sent, stored, inserted and committed.
@Suite(.serialized) struct MetricValueTests {
    private static let times = "ingest_clickhouse_insert_seconds"

    @Test func theJournalsGaugesSayWhatItHolds() async throws {
        try await Scene.run { scene in
            scene.clickHouse.kill()
            let before = ContinuousClock.now
            try await scene.service.start()
            var metrics = try await scene.service.metrics()
            #expect(metrics[#"ingest_journal_events{stream="events"}"#] == 0)
            #expect(metrics[#"ingest_journal_oldest_event_age_seconds{stream="events"}"#] == 0)
            #expect(metrics["ingest_journal_bytes"] == 0)
            #expect(metrics["ingest_journal_max_bytes"] == 1_073_741_824, "JOURNAL_MAX_BYTES of these tests")

            for start in stride(from: 0, to: 300, by: 100) {
                try await scene.post(numbered(start..<(start + 100), "h"))
            }
            let sent = ContinuousClock.now
            try await Task.sleep(for: .milliseconds(300))
            metrics = try await scene.service.metrics()
            #expect(metrics[#"ingest_journal_events{stream="events"}"#] == 300)
            let age = try #require(metrics[#"ingest_journal_oldest_event_age_seconds{stream="events"}"#])
            #expect(age >= 0.3 - 0.002 && age <= seconds(since: before), "\(age)")
            #expect(metrics[#"ingest_events_total{result="accepted",source="http",stream="events"}"#] == 300)
            #expect(try #require(metrics["ingest_journal_commit_seconds_count"]) >= 3)
            // What another process finds in the file.
            let stored = try await statistics(scene)
            #expect(stored.pendingEvents == 300)
            #expect(metrics["ingest_journal_bytes"] == Double(stored.storedBytes))
            #expect(stored.storedBytes > 300 * numbered(0..<1, "h")[0].utf8.count)
            #expect(metrics["ingest_journal_file_bytes"] == Double(stored.fileBytes))
            let data = scene.service.journalPath + "/data.mdb"
            let length = try #require(try FileManager.default.attributesOfItem(atPath: data)[.size] as? Int)
            #expect(stored.fileBytes <= length, "the file ends behind its last page")

            try await scene.clickHouse.restartInBackground()
            try await scene.awaitFlush()
            metrics = try await scene.service.metrics()
            #expect(metrics[#"ingest_journal_events{stream="events"}"#] == 0)
            #expect(metrics[#"ingest_journal_oldest_event_age_seconds{stream="events"}"#] == 0)
            #expect(metrics["ingest_journal_bytes"] == 0)
            #expect(metrics["ingest_clickhouse_insert_rows_total{stream=\"events\"}"] == 300)
            #expect(sent < .now)
        }
    }

    /// Other programs write to the same disk meanwhile, so it is compared with what is free before and after.
    @Test func freeDiskIsThatOfTheJournalsFileSystem() async throws {
        try await Scene.run { scene in
            try await scene.service.start()
            let before = try freeBytes(scene.service.journalPath)
            let free = try #require(try await scene.service.metrics()["ingest_journal_disk_free_bytes"])
            let after = try freeBytes(scene.service.journalPath)
            let tolerance = 64.0 * 1_048_576
            #expect((min(before, after) - tolerance...max(before, after) + tolerance).contains(free))
        }
    }

    /// A table of its own without partitions: its blocks are numbered one by one, and each insert is one.
    @Test func everyInsertIsTimedOnceAndItsRowsCounted() async throws {
        let settings = ["CLICKHOUSE_TABLE": "plain", "BATCH_MAX_ROWS": "40", "INSERT_PARALLELISM": "1"]
        try await Scene.run(environment: settings, through: { FaultProxy(to: $0) }) { scene, proxy in
            let proxy = try #require(proxy)
            try await scene.clickHouse.makeEnvelopeTable("plain")
            let start = ContinuousClock.now
            try await scene.service.start()
            for round in 0..<5 {
                try await scene.post(numbered((round * 100)..<(round * 100 + 100), "h"))
                try await scene.awaitFlush()
            }
            let inserts = try await scene.clickHouse.number(
                "SELECT max(max_block_number) FROM system.parts WHERE table = 'plain'")
            #expect(inserts >= 15, "500 rows are at least 3 inserts of up to 40 rows in each round")
            var metrics = try await scene.service.metrics()
            func count(_ result: String) -> Double? {
                metrics["\(Self.times)_count{result=\"\(result)\",stream=\"plain\"}"]
            }
            #expect(count("ok") == Double(inserts))
            #expect(count("retry") == 0 && count("error") == 0)
            #expect(metrics["\(Self.times)_bucket{result=\"ok\",stream=\"plain\",le=\"+Inf\"}"] == Double(inserts))
            let total = try #require(metrics["\(Self.times)_sum{result=\"ok\",stream=\"plain\"}"])
            #expect(total > 0 && total < seconds(since: start), "\(total)")
            #expect(metrics[#"ingest_clickhouse_insert_rows_total{stream="plain"}"#] == 500)
            #expect(try await scene.clickHouse.number("SELECT count() FROM plain") == 500)

            // Each try in vain is one connection.
            proxy.setMode(.cutAnswer(afterBytes: 0))
            let connections = proxy.acceptedConnections
            try await scene.post(numbered(500..<510, "h"))
            try await eventually("it has tried five times") { proxy.acceptedConnections >= connections + 5 }
            proxy.setMode(.refuse)
            let tries = proxy.acceptedConnections - connections
            try await eventually("refused connections count as well") {
                metrics = try await scene.service.metrics()
                return count("retry").map { $0 > Double(tries) } == true
            }
            #expect(count("ok") == Double(inserts) && count("error") == 0)
            proxy.setMode(.pass)
            try await scene.awaitFlush()
            metrics = try await scene.service.metrics()
            #expect(count("ok") == Double(inserts) + 1)
            #expect(metrics[#"ingest_clickhouse_insert_rows_total{stream="plain"}"#] == 510)
        }
    }

    @Test func deadLettersAreCountedByReasonAndStored() async throws {
        let settings = [
            "ROW_MODE": "flat", "CLICKHOUSE_TABLE": "coded", "KAFKA_TOPICS": "events", "KAFKA_DLQ_TOPIC": "letters",
            "JOURNAL_DEAD_LETTERS_MAX_BYTES": "64MiB",
        ]
        try await Scene.run(topics: ["events": 1], environment: settings) { scene in
            try scene.cluster.allowClientsToRefuseTopicCreation()
            try await scene.clickHouse.query(
                "CREATE TABLE coded (event_id String, code FixedString(4)) ENGINE = MergeTree ORDER BY event_id")
            try await scene.service.start()
            var metrics = try await scene.service.metrics()
            #expect(metrics["ingest_dead_letters_stored"] == 0 && metrics["ingest_dead_letters_stored_bytes"] == 0)
            #expect(metrics["ingest_dead_letters_max_bytes"] == 67_108_864)

            let large = String(repeating: "x", count: 10_000)
            let codes = [0: "too wide", 7: large, 14: "too wide"]
            let events = (0..<20).map { #"{"event_id":"e\#($0)","code":"\#(codes[$0] ?? "good")"}"# }
            let answer = try await scene.service.post(
                (events + ["{broken", "[1]", "{also"]).joined(separator: "\n"), to: "/v1/events?on_error=dead_letter")
            #expect(answer.status == 202, "\(answer.text)")
            try await scene.awaitFlush()
            let letters = try await scene.deadLetters()
            let reasons = Dictionary(grouping: letters, by: \.error.kind).mapValues { Double($0.count) }
            #expect(reasons["row_data"] == 3 && reasons.values.reduce(0, +) == 6, "\(reasons)")
            metrics = try await scene.service.metrics()
            for (reason, count) in reasons {
                #expect(metrics["ingest_dead_letters_total{reason=\"\(reason)\",stream=\"coded\"}"] == count)
            }
            let counted = metrics.samples.filter { ServiceMetrics.name(of: $0.key) == "ingest_dead_letters_total" }
            #expect(counted.values.reduce(0, +) == 6)
            #expect(metrics["ingest_dead_letters_stored"] == 6)
            #expect(metrics[#"ingest_clickhouse_insert_rows_total{stream="coded"}"#] == 17)
            #expect(
                try #require(metrics[#"ingest_clickhouse_insert_seconds_count{result="error",stream="coded"}"#]) > 0)
            let bytes = try #require(metrics["ingest_dead_letters_stored_bytes"])
            // In pages: the large one, which has its payload and a message about it, on pages of its own.
            #expect(bytes.truncatingRemainder(dividingBy: 4_096) == 0 && (16_384...40_960).contains(bytes), "\(bytes)")
            // There is no topic that takes them.
            #expect(metrics["ingest_dead_letters_unforwarded"] == 6)
            #expect(metrics[#"ingest_dlq_produced_total{result="ok"}"#] == 0)

            try scene.cluster.createTopic("letters", partitions: 1)
            try await scene.awaitMessages(6, on: "letters")
            try await eventually("all are forwarded") {
                try await scene.service.metrics()["ingest_dead_letters_unforwarded"] == 0
            }
            metrics = try await scene.service.metrics()
            #expect(metrics[#"ingest_dlq_produced_total{result="ok"}"#] == 6)
            #expect(metrics["ingest_dead_letters_stored"] == 6, "kept after they were forwarded")

            let one = try #require(letters.first { $0.eventID == "e7" }).id
            #expect(try await scene.service.request("DELETE", "/v1/dead-letters/\(one)").status == 200)
            metrics = try await scene.service.metrics()
            #expect(metrics["ingest_dead_letters_stored"] == 5)
            #expect(try #require(metrics["ingest_dead_letters_stored_bytes"]) <= bytes - 12_288)
            _ = try await scene.service.request("DELETE", "/v1/dead-letters?all=true")
            metrics = try await scene.service.metrics()
            #expect(metrics["ingest_dead_letters_stored"] == 0 && metrics["ingest_dead_letters_stored_bytes"] == 0)
            #expect(metrics[#"ingest_dead_letters_total{reason="row_data",stream="coded"}"#] == 3, "never goes back")
        }
    }

    @Test func kafkasGaugesFollowTheOffsets() async throws {
        try await Scene.run(topics: ["events": 2]) { scene in
            scene.clickHouse.kill()
            try scene.cluster.produce(numbered(0..<120, "a").map { .init($0) }, to: "events", partition: 0)
            try scene.cluster.produce(numbered(0..<45, "b").map { .init($0) }, to: "events", partition: 1)
            try await scene.service.start()
            try await scene.awaitIntake(to: 120, "events", 0)
            try await scene.awaitIntake(to: 45, "events", 1)
            func expect(lag: [Double], uncommitted: [Double]) async throws {
                for partition in 0...1 {
                    let labels = "{partition=\"\(partition)\",topic=\"events\"}"
                    var metrics = try await scene.service.metrics()
                    // They are published once a second.
                    try await eventually("the numbers of partition \(partition)") {
                        metrics = try await scene.service.metrics()
                        return metrics["ingest_kafka_consumer_lag\(labels)"] == lag[partition]
                            && metrics["ingest_kafka_uncommitted_events\(labels)"] == uncommitted[partition]
                    }
                    #expect(metrics["ingest_kafka_unjournaled_events\(labels)"] == 0)
                }
            }
            try await expect(lag: [120, 45], uncommitted: [120, 45])
            let metrics = try await scene.service.metrics()
            #expect(metrics[#"ingest_journal_events{stream="events"}"#] == 165)
            #expect(metrics[#"ingest_events_total{result="accepted",source="kafka",stream="events"}"#] == 165)
            #expect(metrics[#"ingest_backpressure_active{source="kafka"}"#] == 0)
            #expect(metrics[#"ingest_kafka_rebalances_total{kind="assigned"}"#] == 1)

            try await scene.clickHouse.restartInBackground()
            try await scene.awaitCommit(of: 120, "events", 0)
            try await scene.awaitCommit(of: 45, "events", 1)
            try await expect(lag: [0, 0], uncommitted: [0, 0])
        }
    }

    @Test func aHeldStreamShowsUntilItGoesOn() async throws {
        let settings = ["CLICKHOUSE_TABLE": "later"]
        try await Scene.run(environment: settings) { scene in
            try await scene.service.start()
            func held(_ metrics: ServiceMetrics) -> [String: Double] {
                metrics.samples.filter { ServiceMetrics.name(of: $0.key) == "ingest_stream_held" }
            }
            #expect(Set(held(try await scene.service.metrics()).values) == [0])
            try await scene.post(numbered(0..<3, "h"))
            try await eventually("the stream is held") { try await scene.service.status()["later"]?.state == "held" }
            var metrics = try await scene.service.metrics()
            #expect(
                held(metrics).filter { $0.value != 0 } == [
                    #"ingest_stream_held{reason="configuration",stream="later"}"#: 1
                ])
            #expect(metrics[#"ingest_component_healthy{component="stream"}"#] == 0)
            #expect(metrics[#"ingest_component_healthy{component="clickhouse"}"#] == 0)
            #expect(metrics[#"ingest_component_healthy{component="journal"}"#] == 1)
            #expect(metrics["ingest_ready"] == 1, "events are accepted")

            try await scene.clickHouse.makeEnvelopeTable("later")
            try await scene.awaitFlush()
            metrics = try await scene.service.metrics()
            #expect(Set(held(metrics).values) == [0])
            #expect(metrics[#"ingest_component_healthy{component="stream"}"#] == 1)
            #expect(metrics[#"ingest_component_healthy{component="clickhouse"}"#] == 1)
        }
    }

    private func seconds(since start: ContinuousClock.Instant) -> Double { (ContinuousClock.now - start) / .seconds(1) }

    private func freeBytes(_ path: String) throws -> Double {
        let attributes = try FileManager.default.attributesOfFileSystem(forPath: path)
        return try #require(attributes[.systemFreeSize] as? NSNumber).doubleValue
    }

    private struct Statistics: Decodable {
        struct Stream: Decodable { let pendingEvents: UInt64 }
        let storedBytes: Int
        let fileBytes: Int
        let streams: [Stream]
        var pendingEvents: UInt64 { streams.reduce(0) { $0 + $1.pendingEvents } }
    }

    /// `ingestd journal stats` beside the service.
    private func statistics(_ scene: Scene) async throws -> Statistics {
        let result = try await ServiceProcess.run(
            ["journal", "stats", "--json"], environment: ["JOURNAL_PATH": scene.service.journalPath])
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Statistics.self, from: Data(result.output.utf8))
    }
}
