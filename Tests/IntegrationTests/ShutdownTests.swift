import Glibc
import IngestCore
import Synchronization
import TestSupport
import Testing

/// SIGTERM and SIGINT: nothing acknowledged is lost, and the process ends in time.
@Suite(.serialized) struct ShutdownTests {
    @Test func underLoadEverythingAcknowledgedIsFlushedAndCommitted() async throws {
        // Many small batches, so that draining takes long enough to be looked at.
        let settings = ["BATCH_MAX_ROWS": "200", "INSERT_PARALLELISM": "1", "SHUTDOWN_TIMEOUT": "120s"]
        try await Scene.run(topics: ["events": 1], environment: settings) { scene in
            scene.clickHouse.kill()
            try scene.cluster.produce(numbered(0..<1_000, "k").map { .init($0) }, to: "events")
            try await scene.service.start()
            let load = PostingLoad(port: scene.service.port, clients: 3)
            try await scene.awaitIntake(to: 1_000, "events")
            try await eventually("a backlog") { load.acknowledged.count > 5_000 }
            try await scene.clickHouse.restartInBackground()
            let process = try scene.service.process
            let connection = try ServiceConnection(port: scene.service.port)
            #expect(try connection.request("GET", "/readyz").status == 200)
            process.signal(SIGTERM)
            try await process.logged("stopping")
            try await eventually("readiness ends while draining") {
                try connection.request("GET", "/readyz").status == 503
            }
            #expect(try connection.request("GET", "/livez").status == 200)
            #expect(process.exit == nil)
            let exit = try await process.ended(within: .seconds(120))
            #expect(exit == .code(0))
            load.stop()
            let acknowledged = load.acknowledged
            let ids = try await scene.clickHouse.query("SELECT DISTINCT event_id FROM events WHERE source = 'http'")
            let missing = acknowledged.subtracting(ids.split(separator: "\n").map(String.init))
            #expect(missing.isEmpty, "\(missing.count) of \(acknowledged.count), such as \(missing.prefix(5))")
            #expect(load.refusals > 0, "the load did not see the shutdown")
            #expect(try scene.committed("events") == 1_000)
            #expect(await scene.service.journalStatistics().contains("events: 0 events wait"))
        }
    }

    @Test func withClickHouseDownItEndsSoonAndTheNextStartDelivers() async throws {
        try await Scene.run(topics: ["events": 1]) { scene in
            scene.clickHouse.kill()
            try scene.cluster.produce(numbered(0..<100, "k").map { .init($0) }, to: "events")
            try await scene.service.start()
            try await scene.post(numbered(0..<500, "h"))
            try await scene.awaitIntake(to: 100, "events")
            // Well below SHUTDOWN_TIMEOUT, which is 30 s: there is nothing to wait for.
            #expect(try await scene.service.stop(within: .seconds(10)) == .code(0))
            #expect(try scene.committed("events") ?? 0 == 0)
            #expect(await scene.service.journalStatistics().contains("events: 600 events wait"))
            try await scene.clickHouse.restartInBackground()
            try await scene.service.start()
            try await scene.awaitFlush()
            #expect(try await scene.clickHouse.number("SELECT count() FROM events_unique") == 600)
            try await scene.awaitCommit(of: 100, "events")
        }
    }

    @Test func aClientThatWaitsForInsertionDoesNotKeepItAlive() async throws {
        try await Scene.run { scene in
            scene.clickHouse.kill()
            try await scene.service.start()
            let service = scene.service
            async let waiting = service.post(
                #"{"event_id":"a"}"#, to: "/v1/events?ack=inserted&timeout=60s", timeoutSeconds: 60)
            try await eventually("it is in the journal") { try await service.status().pendingEvents == 1 }
            #expect(try await service.stop(within: .seconds(10)) == .code(0))
            #expect(try await waiting.status == 504)
        }
    }

    @Test func aClientThatStallsDoesNotKeepItAlive() async throws {
        try await Scene.run(environment: ["SHUTDOWN_TIMEOUT": "1s"]) { scene in
            try await scene.service.start()
            let connection = try ServiceConnection(port: scene.service.port)
            let body = String(repeating: " ", count: 100)
            try connection.send(
                Array("POST /v1/events HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\n\(body)".utf8))
            // A second connection is accepted after the first, so that one is being served by now.
            #expect(try await scene.service.get("/readyz").status == 200)
            #expect(try await scene.service.stop(within: .seconds(10)) == .code(0))
            _ = consume connection
        }
    }

    @Test func aHangingClickHouseCostsTheTimeoutAndNothingElse() async throws {
        try await Scene.run(
            environment: ["SHUTDOWN_TIMEOUT": "1s"], through: { FaultProxy(to: $0) }
        ) { scene, proxy in
            let proxy = try #require(proxy)
            proxy.setMode(.hang)
            try await scene.service.start()
            try await scene.post(numbered(0..<500, "h"))
            let start = ContinuousClock.now
            #expect(try await scene.service.stop(within: .seconds(10)) == .code(0))
            #expect(ContinuousClock.now - start < .seconds(6))
            #expect(await scene.service.journalStatistics().contains("events: 500 events wait"))
            proxy.setMode(.pass)
            try await scene.service.start()
            try await scene.awaitFlush()
            #expect(try await scene.clickHouse.number("SELECT count() FROM events_unique") == 500)
        }
    }

    @Test func aSecondSignalEndsItAtOnceWithoutLoss() async throws {
        try await Scene.run(through: { FaultProxy(to: $0) }) { scene, proxy in
            let proxy = try #require(proxy)
            proxy.setMode(.hang)
            try await scene.service.start()
            try await scene.post(numbered(0..<500, "h"))
            let process = try scene.service.process
            process.signal(SIGTERM)
            try await process.logged("stopping")
            #expect(process.exit == nil)
            process.signal(SIGINT)
            #expect(try await process.ended(within: .seconds(5)) == .code(1))
            proxy.setMode(.pass)
            try await scene.service.start()
            try await scene.awaitFlush()
            #expect(try await scene.clickHouse.number("SELECT count() FROM events_unique") == 500)
        }
    }
}

/// Clients that post events until they are refused or cut off.
private final class PostingLoad: Sendable {
    private struct State {
        var acknowledged: Set<String> = []
        var refusals = 0
    }

    /// What the threads share with their owner.
    private final class Shared: Sendable {
        let state = Mutex(State())
        let isStopped = Atomic(false)
    }

    private let shared = Shared()
    private let threads: [DedicatedThread]

    init(port: UInt16, clients: Int) {
        let shared = shared
        threads = (0..<clients).map { client in
            DedicatedThread(name: "posting-load") { Self.run(client, port, shared) }
        }
    }

    deinit { stop() }

    /// Ids of events whose 202 was read.
    var acknowledged: Set<String> { shared.state.withLock { $0.acknowledged } }

    /// Clients that were told to go away, or cut off.
    var refusals: Int { shared.state.withLock { $0.refusals } }

    func stop() {
        shared.isStopped.store(true, ordering: .releasing)
        for thread in threads { thread.join() }
    }

    private static func run(_ client: Int, _ port: UInt16, _ shared: Shared) {
        var next = 0
        do {
            let connection = try ServiceConnection(port: port)
            while !shared.isStopped.load(ordering: .acquiring) {
                let prefix = "c\(client)-"
                let numbers = next..<(next + 20)
                next += 20
                let body = Array(numbered(numbers, prefix).joined(separator: "\n").utf8)
                let response = try connection.request("POST", "/v1/events", body)
                guard response.status == 202 else { break }
                shared.state.withLock { state in
                    for number in numbers { state.acknowledged.insert("\(prefix)\(number)") }
                }
            }
        } catch {
            // Cut off: what was not acknowledged is not counted.
        }
        shared.state.withLock { $0.refusals += 1 }
    }
}
