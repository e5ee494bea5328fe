import HTTPIngest
import IngestCore
import Logging
import MetricsTestKit
import Synchronization
import Testing

/// Health, metrics, draining and stopping.
@Suite(.timeLimit(.minutes(1))) struct OperationsTests {
    @Test func healthNamesEachComponent() async throws {
        try await withServer { server in
            server.operations.script.withLock {
                $0.readiness = [
                    ComponentHealth(component: "journal", isHealthy: true, isRequired: true, detail: "12% used"),
                    ComponentHealth(component: "clickhouse", isHealthy: false, isRequired: false, detail: "refused"),
                ]
                $0.liveness = [ComponentHealth(component: "writer", isHealthy: true, isRequired: true, detail: "ok")]
            }
            let ready = try await server.get("/readyz")
            #expect(ready.status == 200)
            #expect(
                ready.body
                    == #"{"status":"ready","components":[{"component":"journal","healthy":true,"required":true,"#
                    + #""detail":"12% used"},{"component":"clickhouse","healthy":false,"required":false,"#
                    + #""detail":"refused"}]}"#)
            #expect(
                try await server.get("/livez").body
                    == #"{"status":"alive","components":[{"component":"writer","healthy":true,"required":true,"#
                    + #""detail":"ok"}]}"#)
            let broken = [ComponentHealth(component: "journal", isHealthy: false, isRequired: true, detail: "full")]
            server.operations.script.withLock {
                $0.readiness = broken
                $0.liveness = broken
            }
            let notReady = try await server.get("/readyz")
            #expect(notReady.status == 503)
            #expect(notReady.body.hasPrefix(#"{"status":"not ready","components":[{"component":"journal""#))
            #expect(try await server.get("/livez").status == 503)
        }
    }

    @Test func documents() async throws {
        try await withServer { server in
            let metrics = try await server.get("/metrics?x=1")
            #expect(metrics.status == 200 && metrics.body == "up 1\n")
            #expect(metrics.headers["content-type"]?.hasPrefix("text/plain; version=0.0.4") == true)
            let status = try await server.get("/v1/status")
            #expect(status.status == 200 && status.body == #"{"state":"fine"}"#)
            #expect(status.headers["content-type"] == "application/json")
            let head = try await server.get("/metrics", method: "HEAD")
            #expect(head.status == 200 && head.headers["content-length"] == "5")
        }
    }

    @Test func drainingRefusesNewEventsAndEndsOldRequests() async throws {
        try await withServer { server in
            server.intake.mode = .hold
            let old = try await server.connect()
            try await old.post("/v1/events", "{}")
            try await server.intake.received(1)
            server.service.beginDraining()
            let connection = try await server.connect()
            try await connection.post("/v1/events", "{}")
            let refused = try await connection.response()
            #expect(refused.status == 503)
            #expect(refused.headers["retry-after"] != nil)
            #expect(refused.headers["connection"] == "close")
            #expect(await connection.closed() == "")
            #expect(try await server.get("/livez").status == 200)
            #expect(try await server.get("/metrics").status == 200)
            let ready = try await server.get("/readyz")
            #expect(ready.status == 503 && ready.body.contains("shutting down"))
            server.intake.release()
            #expect(try await old.response().status == 202)
            #expect(server.intake.records.count == 1)
        }
    }

    @Test func stoppingWaitsForRequestsInProgress() async throws {
        try await withServer { server in
            server.intake.mode = .hold
            let idle = try await server.connect()
            try await idle.get("/livez")
            _ = try await idle.response()
            let busy = try await server.connect()
            try await busy.post("/v1/events", "{}")
            try await server.intake.received(1)
            let isStopped = Atomic(false)
            async let stop: Void = {
                try await server.service.stop()
                isStopped.store(true, ordering: .sequentiallyConsistent)
            }()
            // Idle connections are closed first, and nobody new gets in.
            #expect(await idle.closed() == "")
            await #expect(throws: (any Error).self) { _ = try await server.get("/livez") }
            let isTooEarly = isStopped.load(ordering: .sequentiallyConsistent)
            #expect(!isTooEarly)
            server.intake.release()
            #expect(try await busy.response().status == 202)
            try await stop
        }
    }

    @Test func aTakenPortIsReported() async throws {
        try await withServer { server in
            let second = try HTTPIngestService(
                configuration: HTTPIngestConfiguration(port: server.port),
                routes: StreamRoutes(byName: [:], fallback: Server.events), intake: server.intake,
                operations: server.operations, logger: Logger(label: "test"))
            let port = Task { try await second.boundPort() }
            await #expect(throws: (any Error).self) { try await second.run() }
            await #expect(throws: (any Error).self) { try await port.value }
        }
    }

    @Test func eventsAreCounted() async throws {
        let metrics = TestMetrics()
        try await withServer(metrics: metrics) { server in
            func total(_ result: String) throws -> Int64 {
                try metrics.expectCounter(
                    "ingest_events_total",
                    [("source", "http"), ("stream", Server.clicks.table), ("result", result)]
                ).totalValue
            }
            _ = try await server.post("/v1/events/clicks", "[{},{},{}]")
            _ = try await server.post("/v1/events/clicks", "{}\nx\n{}\n{}")
            _ = try await server.post("/v1/events/clicks?on_error=dead_letter", "{}\nx\n{}\ny\n")
            server.intake.mode = .refuse(.full("x"))
            _ = try await server.post("/v1/events/clicks", "[{},{}]")
            _ = try await server.post("/v1/events/clicks?on_error=dead_letter", "[{},1]")
            #expect(try total("accepted") == 5)
            #expect(try total("dead_letter") == 2)
            #expect(try total("rejected") == 4)
            #expect(try total("refused") == 4)
        }
    }

    @Test func healthIsShownAsOfTheScrape() async throws {
        let metrics = TestMetrics()
        try await withServer(metrics: metrics) { server in
            func scraped(_ health: [ComponentHealth]) async throws {
                server.operations.script.withLock { $0.readiness = health }
                #expect(try await server.get("/metrics").status == 200)
            }
            func ready() throws -> Double? { try metrics.expectGauge("ingest_ready").lastValue }
            func component(_ name: String) throws -> Double? {
                try metrics.expectGauge("ingest_component_healthy", [("component", name)]).lastValue
            }
            func health(_ name: String, _ isHealthy: Bool, isRequired: Bool = false) -> ComponentHealth {
                ComponentHealth(component: name, isHealthy: isHealthy, isRequired: isRequired, detail: "")
            }
            try await scraped([health("journal", true, isRequired: true), health("kafka", true)])
            #expect(try ready() == 1 && component("journal") == 1 && component("kafka") == 1)
            #expect(try component("stream") == 1 && component("dead_letters") == 1 && component("http") == 1)
            // Not required, and two streams under one name.
            try await scraped([
                health("journal", true, isRequired: true), health("kafka", false), health("stream a", false),
                health("stream b", true), health("dead_letters", false),
            ])
            #expect(try ready() == 1 && component("journal") == 1 && component("kafka") == 0)
            #expect(try component("stream") == 0 && component("dead_letters") == 0)
            try await scraped([health("journal", false, isRequired: true)])
            #expect(try ready() == 0 && component("journal") == 0)
            // What is not mentioned is well again.
            #expect(try component("kafka") == 1 && component("stream") == 1 && component("dead_letters") == 1)
            try await scraped([health("journal", true, isRequired: true)])
            #expect(try ready() == 1 && component("journal") == 1)
            server.service.beginDraining()
            #expect(try await server.get("/metrics").status == 200)
            #expect(try ready() == 0 && component("http") == 0)
        }
    }

    @Test func backpressureIsShown() async throws {
        let metrics = TestMetrics()
        try await withServer(metrics: metrics) { server in
            func value() throws -> Double? {
                try metrics.expectGauge("ingest_backpressure_active", [("source", "http")]).lastValue
            }
            func value(behind mode: RecordingIntake.Mode) async throws -> Double? {
                server.intake.mode = mode
                _ = try await server.post("/v1/events", "{}")
                return try value()
            }
            let initial = try value()
            #expect(initial == 0)
            #expect(try await value(behind: .refuse(.full("x"))) == 1)
            // That the disk is slow or broken says nothing about room.
            #expect(try await value(behind: .refuse(.overloaded)) == 1)
            #expect(try await value(behind: .accept) == 0)
            #expect(try await value(behind: .refuse(.storage("x"))) == 0)
            #expect(try await value(behind: .refuse(.full("x"))) == 1)
        }
    }
}
