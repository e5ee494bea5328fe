import TestSupport
import Testing

/// ClickHouse is down, or goes down: acknowledging and consuming go on, committing waits.
@Suite(.serialized) struct OutageTests {
    @Test func eventsAreTakenWhileClickHouseIsDownAndDrainInOrder() async throws {
        let settings = ["BATCH_MAX_ROWS": "300", "INSERT_PARALLELISM": "1"]
        try await Scene.run(topics: ["events": 2], environment: settings) { scene in
            scene.clickHouse.kill()
            try scene.cluster.produce(numbered(0..<1_000, "k0-").map { .init($0) }, to: "events", partition: 0)
            try scene.cluster.produce(numbered(0..<700, "k1-").map { .init($0) }, to: "events", partition: 1)
            try await scene.service.start()
            for start in stride(from: 0, to: 1_000, by: 50) {
                try await scene.post(numbered(start..<(start + 50), "h"))
            }
            try await scene.awaitIntake(to: 1_000, "events", 0)
            try await scene.awaitIntake(to: 700, "events", 1)
            let status = try await scene.service.status()
            #expect(status.pendingEvents == 2_700)
            #expect(status["events"]?.state == "retrying")
            #expect(status["events"]?.flushedPosition == 1, "sequences begin with 1")
            let readiness = try await scene.service.get("/readyz")
            #expect(readiness.status == 200, "able to accept durably is ready: \(readiness.text)")
            // The offset at which consuming began may be committed: nothing is before it.
            #expect(try scene.committed("events", 0) ?? 0 == 0)
            #expect(try scene.committed("events", 1) ?? 0 == 0)

            try await scene.clickHouse.restartInBackground()
            var positions: [UInt64] = []
            try await eventually("everything is flushed") {
                let status = try await scene.service.status()
                positions.append(try #require(status["events"]).flushedPosition)
                return status.pendingEvents == 0
            }
            #expect(positions == positions.sorted(), "the flushed position went back")
            try await scene.awaitCommit(of: 1_000, "events", 0)
            try await scene.awaitCommit(of: 700, "events", 1)
            #expect(try await scene.clickHouse.number("SELECT count() FROM events_unique") == 2_700)
            #expect(try await scene.clickHouse.number("SELECT uniqExact(event_id) FROM events") == 2_700)
            // One batch at a time, so the time of insertion must follow each source's own order.
            let disordered = try await scene.clickHouse.number(
                """
                SELECT countIf(previous > inserted_at) FROM (
                    SELECT inserted_at, lagInFrame(inserted_at, 1, toDateTime64(0, 3, 'UTC')) OVER (
                        PARTITION BY source, partition ORDER BY JSONExtractInt(payload, 'n')
                        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS previous
                    FROM events)
                """)
            #expect(disordered == 0)
            #expect(try await scene.clickHouse.number("SELECT uniqExact(inserted_at) FROM events") > 3)
        }
    }

    @Test func clickHouseKilledInTheMiddleOfADrainLosesNothing() async throws {
        let settings = ["BATCH_MAX_ROWS": "200", "INSERT_PARALLELISM": "2"]
        try await Scene.run(environment: settings) { scene in
            scene.clickHouse.kill()
            try await scene.service.start()
            for start in stride(from: 0, to: 40_000, by: 2_000) {
                try await scene.post(numbered(start..<(start + 2_000), "h"))
            }
            for round in 1...3 {
                try await scene.clickHouse.restartInBackground()
                let goal = UInt64(round * 4_000)
                try await eventually("part of the backlog is flushed") {
                    try await scene.service.status()["events"]!.flushedPosition >= goal
                }
                scene.clickHouse.kill()
                try #require(try await scene.service.status().pendingEvents > 0, "drained before it was killed")
            }
            try await scene.clickHouse.restartInBackground()
            try await scene.awaitFlush()
            #expect(try await scene.clickHouse.number("SELECT uniqExact(event_id) FROM events") == 40_000)
            #expect(try await scene.clickHouse.number("SELECT count() FROM events_unique") == 40_000)
        }
    }

    @Test func acknowledgementsOfInsertionWaitForClickHouse() async throws {
        try await Scene.run { scene in
            scene.clickHouse.kill()
            try await scene.service.start()
            let early = try await scene.service.post(
                #"{"event_id":"early"}"#, to: "/v1/events?ack=inserted&timeout=300ms")
            #expect(early.status == 504)
            #expect(early.text.contains(#""first_sequence":1,"#), "\(early.text)")
            let service = scene.service
            async let waiting = service.post(#"{"event_id":"waiting"}"#, to: "/v1/events?ack=inserted&timeout=25s")
            try await eventually("both are in the journal") { try await service.status().pendingEvents == 2 }
            try await scene.clickHouse.restartInBackground()
            let answer = try await waiting
            #expect(answer.status == 200, "\(answer.text)")
            #expect(answer.text.contains(#""inserted":1"#), "\(answer.text)")
            let ids = try await scene.clickHouse.query("SELECT event_id FROM events_unique ORDER BY event_id")
            #expect(ids == "early\nwaiting")
        }
    }
}
