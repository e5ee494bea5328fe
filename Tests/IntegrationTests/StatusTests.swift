import Foundation
import TestSupport
import Testing

/// `/v1/status`, which people's pages and programs show.
@Suite(.serialized) struct StatusTests {
    private struct Document: Decodable {
        struct Journal: Decodable {
            let max_bytes: Int
            let disk_free_bytes: Int?
        }

        struct Source: Decodable, Equatable {
            let source: String
            let stream: String
            let accepted_events: Int
            let rejected_events: Int
            let dead_letter_events: Int
        }

        struct Stream: Decodable {
            let stream: String
            let pending_events: Int
            let oldest_event_age_seconds: Double?
            let inserted_events: Int
            let dead_letters: Int
        }

        let host: String
        let time: String
        let uptime_seconds: Double
        let journal: Journal
        let sources: [Source]
        let streams: [Stream]
    }

    private func document(_ scene: Scene) async throws -> Document {
        try JSONDecoder().decode(Document.self, from: Data(try await scene.service.get("/v1/status").body))
    }

    /// Of one sample of `/metrics`.
    private func metric(_ sample: String, _ scene: Scene) async throws -> Double? {
        let lines = try await scene.service.get("/metrics").text.split(separator: "\n")
        return lines.first { $0.hasPrefix(sample + " ") }.flatMap { Double($0.dropFirst(sample.count + 1)) }
    }

    @Test func totalsAndAgesAreThoseOfTheMetrics() async throws {
        let settings = ["KAFKA_DLQ_FORWARDING": "off", "STREAMS": "orders=shop"]
        try await Scene.run(topics: ["events": 1], environment: settings, through: { FaultProxy(to: $0) }) {
            scene, proxy in
            let proxy = try #require(proxy)
            proxy.setMode(.refuse)
            try scene.cluster.produce((numbered(0..<4, "k") + ["{broken"]).map { .init($0) }, to: "events")
            try await scene.service.start()
            let quiet = try await document(scene).streams.first { $0.stream == "shop" }
            #expect(quiet?.oldest_event_age_seconds == nil)
            #expect(
                try await scene.service.get("/v1/status").text.contains(#""oldest_event_age_seconds":null"#),
                "not left out, which would be an older service")

            try await scene.post(numbered(0..<3, "h"))
            #expect(try await scene.service.post("{}\nx\n").status == 400)
            try await scene.post([#"{"event_id":"d"}"#, "x"], to: "/v1/events?on_error=dead_letter")
            try await scene.awaitIntake(to: 5, "events")
            let held = try await document(scene)
            #expect(
                held.sources == [
                    .init(
                        source: "http", stream: "events", accepted_events: 4, rejected_events: 2, dead_letter_events: 1),
                    .init(
                        source: "http", stream: "shop", accepted_events: 0, rejected_events: 0, dead_letter_events: 0),
                    .init(
                        source: "kafka", stream: "events", accepted_events: 4, rejected_events: 0,
                        dead_letter_events: 1),
                ])
            let waiting = try #require(held.streams.first { $0.stream == "events" })
            #expect(waiting.pending_events == 8 && waiting.inserted_events == 0 && waiting.dead_letters == 2)
            let age = try #require(waiting.oldest_event_age_seconds)
            let gauge = "ingest_journal_oldest_event_age_seconds{stream=\"events\"}"
            let later = try #require(try await metric(gauge, scene))
            #expect(age > 0 && age <= later && later < age + 10)
            #expect(held.journal.max_bytes == 1 << 30)
            #expect(try #require(held.journal.disk_free_bytes) > 0)
            let host = try String(contentsOfFile: "/proc/sys/kernel/hostname", encoding: .utf8)
            #expect(held.host == host.trimmingCharacters(in: .newlines))
            let clock = ISO8601DateFormatter()
            clock.formatOptions = [.withInternetDateTime, .withFractionalSeconds]
            let time = try #require(clock.date(from: held.time))
            #expect(abs(time.timeIntervalSinceNow) < 10 && held.time.hasSuffix("Z"))

            proxy.setMode(.pass)
            _ = try await scene.service.request("POST", "/v1/streams/retry")
            try await scene.awaitFlush()
            let done = try #require(try await document(scene).streams.first { $0.stream == "events" })
            #expect(done.inserted_events == 8 && done.oldest_event_age_seconds == nil && done.pending_events == 0)
            #expect(try await metric("ingest_clickhouse_insert_rows_total{stream=\"events\"}", scene) == 8)
        }
    }
}
