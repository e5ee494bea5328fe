import TestSupport
import Testing

/// Which metrics there are, and that strangers can't make more of them.
@Suite(.serialized) struct MetricNameTests {
    /// What dashboards, alerts and people rely on: a metric that is renamed or dropped breaks theirs.
    private static let promised: [String: String] = [
        "ingest_events_total": "counter", "ingest_journal_events": "gauge", "ingest_journal_bytes": "gauge",
        "ingest_journal_file_bytes": "gauge", "ingest_journal_max_bytes": "gauge",
        "ingest_journal_disk_free_bytes": "gauge", "ingest_journal_oldest_event_age_seconds": "gauge",
        "ingest_journal_commit_seconds": "histogram", "ingest_clickhouse_insert_seconds": "histogram",
        "ingest_clickhouse_insert_rows_total": "counter", "ingest_stream_held": "gauge",
        "ingest_dead_letters_total": "counter", "ingest_dead_letters_stored": "gauge",
        "ingest_dead_letters_stored_bytes": "gauge", "ingest_dead_letters_max_bytes": "gauge",
        "ingest_dead_letters_unforwarded": "gauge", "ingest_dlq_produced_total": "counter",
        "ingest_kafka_consumer_lag": "gauge", "ingest_kafka_unjournaled_events": "gauge",
        "ingest_kafka_uncommitted_events": "gauge", "ingest_kafka_rebalances_total": "counter",
        "ingest_kafka_errors_total": "counter", "ingest_kafka_consumer_restarts_total": "counter",
        "ingest_backpressure_active": "gauge", "ingest_ready": "gauge", "ingest_component_healthy": "gauge",
        "ingest_build_info": "gauge", "ingest_metrics_series_dropped_total": "counter",
        "process_cpu_seconds_total": "counter", "process_resident_memory_bytes": "gauge",
        "process_start_time_seconds": "gauge", "process_open_fds": "gauge", "process_max_fds": "gauge",
    ]

    /// Each label's name, and the values that it may have where they are ours.
    private static let labels: [String: Set<String>?] = [
        "source": ["http", "kafka"], "stream": ["events", "clicks"], "result": nil, "reason": nil, "le": nil,
        "kind": ["assigned", "revoked", "lost"], "topic": ["events"], "partition": ["0"], "error": nil,
        "component": [
            "journal", "clickhouse", "kafka", "dead_letter_topic", "dead_letters", "http", "http_tls", "http_tokens",
            "stream",
        ], "version": nil,
    ]

    @Test func allAreThereAndStrangersCanNotAddSeries() async throws {
        let settings = [
            "STREAMS": "clicks=clicks", "KAFKA_TOPICS": "events", "KAFKA_DLQ_TOPIC": "letters",
        ]
        try await Scene.run(topics: ["events": 1, "letters": 1], environment: settings) { scene in
            try await scene.service.start()
            try scene.cluster.produce([.init("{broken"), .init(#"{"event_id":"a"}"#)], to: "events")
            try await scene.awaitCommit(of: 2, "events")
            try await scene.post(numbered(0..<3, "h"))
            try await scene.awaitFlush()
            let before = try await scene.service.metrics()
            #expect(before["ingest_ready"] == 1)
            #expect(before.samples.keys.contains { $0.hasPrefix("ingest_build_info{version=") })

            for number in 0..<100 {
                let name = "stranger\(number)"
                let body = #"{"event_id":"\#(name)","stream":"\#(name)","topic":"\#(name)"}"#
                _ = try await scene.service.post(
                    body, to: "/v1/events/\(name)",
                    headers: ["Idempotency-Key": name, "ce-type": name, "Authorization": "Bearer \(name)"])
                _ = try await scene.service.post(body, to: "/?query=INSERT%20INTO%20\(name)%20FORMAT%20JSONEachRow")
                _ = try await scene.service.post("{\(name)", to: "/v1/events?on_error=dead_letter")
                _ = try await scene.service.request("POST", "/v1/streams/\(name)/retry")
                _ = try await scene.service.get("/\(name)")
            }
            try scene.cluster.createTopic("stranger", partitions: 50)
            try scene.cluster.produce(
                (0..<50).map { .init([UInt8]("x\($0)".utf8), key: [UInt8]("key\($0)".utf8)) }, to: "events")
            try await scene.awaitCommit(of: 52, "events")
            let after = try await scene.service.metrics()
            #expect(
                after[#"ingest_dead_letters_total{reason="invalid_json",stream="events"}"#].map { $0 > 100 } == true)
            #expect(Set(after.samples.keys).subtracting(before.samples.keys) == [])

            try scene.cluster.bringDown()
            try await eventually("the consumer has an error") {
                try await scene.service.metrics().samples.keys.contains { $0.hasPrefix("ingest_kafka_errors_total{") }
            }
            let all = try await scene.service.metrics()
            #expect(all.kinds == Self.promised)
            #expect(all.helped == Set(Self.promised.keys))
            #expect(Set(all.samples.keys.map { Self.family(of: $0) }) == Set(Self.promised.keys))
            for series in all.samples.keys {
                for (label, value) in Self.labels(of: series) {
                    guard let allowed = Self.labels[label] else {
                        Issue.record("\(series): label \(label) is not known here")
                        continue
                    }
                    #expect(allowed?.contains(value) != false, "\(series)")
                }
            }
        }
    }

    private static func family(of series: String) -> String {
        let name = ServiceMetrics.name(of: series)
        for suffix in ["_bucket", "_sum", "_count"] where name.hasSuffix(suffix) {
            let base = String(name.dropLast(suffix.count))
            if promised[base] == "histogram" { return base }
        }
        return name
    }

    /// Of values without quotes and commas.
    private static func labels(of series: String) -> [(name: String, value: String)] {
        guard let open = series.firstIndex(of: "{") else { return [] }
        return series[series.index(after: open)...].dropLast().split(separator: ",").map { pair in
            let parts = pair.split(separator: "=", maxSplits: 1)
            return (String(parts[0]), String(parts[1].dropFirst().dropLast()))
        }
    }
}
