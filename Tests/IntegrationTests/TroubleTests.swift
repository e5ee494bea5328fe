import TestSupport
import Testing

/// Networks and room that come and go while events keep coming.
@Suite(.serialized) struct TroubleTests {
    /// ClickHouse refuses, hangs, is cut off in requests and answers, and swallows answers, in turn and under load; at no
    /// moment does a client notice.
    @Test func everyKindOfBrokenConnectionUnderLoad() async throws {
        let settings = [
            "BATCH_MAX_ROWS": "500", "CLICKHOUSE_REQUEST_TIMEOUT": "1s", "CLICKHOUSE_CONNECT_TIMEOUT": "500ms",
        ]
        try await Scene.run(environment: settings, through: { FaultProxy(to: $0) }) { scene, proxy in
            let proxy = try #require(proxy)
            try await scene.service.start()
            let modes: [FaultProxy.Mode] = [
                .refuse, .hang, .cutRequest(afterBytes: 700), .cutRequest(afterBytes: 40_000),
                .cutAnswer(afterBytes: 0),
                .cutAnswer(afterBytes: 60), .swallowAnswer,
            ]
            var sent = 0
            for round in 0..<3 {
                for mode in modes {
                    proxy.setMode(mode)
                    for _ in 0..<4 {
                        try await scene.post(numbered(sent..<(sent + 250), "e"))
                        sent += 250
                    }
                    // It tries, in vain or without hearing of its success.
                    let connections = proxy.acceptedConnections
                    if mode != .refuse {
                        try await eventually("\(mode), round \(round): it tries") {
                            proxy.acceptedConnections > connections
                        }
                    }
                    proxy.setMode(.pass)
                    let goal = try await scene.service.status()["events"]!.flushedPosition
                    try await eventually("\(mode), round \(round): it goes on") {
                        let stream = try await scene.service.status()["events"]!
                        return stream.flushedPosition > goal || stream.pendingEvents == 0
                    }
                }
            }
            try await scene.awaitFlush()
            #expect(try await scene.clickHouse.number("SELECT uniqExact(event_id) FROM events") == sent)
            // Guarantee 4: whatever answer was lost, the token kept the rows single.
            #expect(try await scene.clickHouse.number("SELECT count() FROM events") == sent)
            #expect(try await scene.deadLetters().isEmpty)
        }
    }

    /// A journal that is full refuses HTTP and pauses Kafka, and takes both again when ClickHouse is back.
    @Test func fullJournalHoldsBothSourcesBackAndLetsGo() async throws {
        let settings = [
            "JOURNAL_MAX_BYTES": "16MiB", "HTTP_MAX_BODY_BYTES": "2MiB", "BATCH_MAX_BYTES": "1MiB",
            "JOURNAL_LOW_WATERMARK_PERCENT": "50",
        ]
        try await Scene.run(topics: ["events": 1], environment: settings) { scene in
            scene.clickHouse.kill()
            try await scene.service.start()
            let filler = String(repeating: "x", count: 2_000)
            func events(_ range: Range<Int>, _ prefix: String) -> [String] {
                range.map { #"{"event_id":"\#(prefix)\#($0)","filler":"\#(filler)"}"# }
            }
            var accepted = 0
            var refusal: ServiceResponse?
            while refusal == nil, accepted < 20_000 {
                let body = events(accepted..<(accepted + 200), "h").joined(separator: "\n")
                let answer = try await scene.service.post(body)
                if answer.status == 202 { accepted += 200 } else { refusal = answer }
            }
            let answer = try #require(refusal)
            #expect(answer.status == 503 && answer.headers["retry-after"] != nil)
            #expect(answer.text.contains("JOURNAL_MAX_BYTES"), "\(answer.text)")
            let readiness = try await scene.service.get("/readyz")
            #expect(readiness.status == 503, "able to accept is what ready means: \(readiness.text)")

            try scene.cluster.produce(events(0..<500, "k").map { .init($0) }, to: "events")
            try await eventually("the partition is paused") {
                try await scene.service.get("/metrics").text.contains(#"ingest_backpressure_active{source="kafka"} 1"#)
            }
            #expect(try scene.committed("events") ?? 0 == 0)
            let full = try await scene.service.metrics()
            #expect(full[#"ingest_backpressure_active{source="http"}"#] == 1)
            #expect(full["ingest_ready"] == 0)
            #expect(full[#"ingest_component_healthy{component="journal"}"#] == 0)

            try await scene.clickHouse.restartInBackground()
            try await scene.awaitCommit(of: 500, "events")
            try await eventually("HTTP is taken again") {
                try await scene.service.post(#"{"event_id":"last"}"#).status == 202
            }
            try await scene.awaitFlush()
            let ids = try await scene.clickHouse.query(
                "SELECT uniqExact(event_id) FROM events WHERE source = 'http' UNION ALL "
                    + "SELECT uniqExact(event_id) FROM events WHERE source = 'kafka'")
            #expect(Set(ids.split(separator: "\n").map(String.init)) == ["\(accepted + 1)", "500"])
            try await eventually("no backpressure is reported any more") {
                try await scene.service.get("/metrics").text.contains(#"ingest_backpressure_active{source="kafka"} 0"#)
            }
            let drained = try await scene.service.metrics()
            #expect(drained[#"ingest_backpressure_active{source="http"}"#] == 0)
            #expect(drained["ingest_ready"] == 1)
            #expect(drained[#"ingest_component_healthy{component="journal"}"#] == 1)
        }
    }
}
