import Glibc
import IngestCore
import Synchronization
import TestSupport
import Testing

@testable import ClickHouse

extension RealServerTests {
    /// Networks and servers that fail, and come back.
    struct OutageTests {
        typealias Engine = ClickHouseServer.Engine

        @Test(arguments: ClickHouseServer.installedEngines)
        func aServerThatComesBack(engine: Engine) async throws {
            let server = try ClickHouseServer(engine)
            try await server.makeFlatTable("t")
            let client = try ServerScope.client([server.url], password: "")
            defer { client.shutdown() }
            #expect(await client.insert(.numbered(10), into: "t", token: "1").isInserted)
            server.kill()
            for _ in 0..<2 {
                let failure = try #require(await client.insert(.numbered(10), into: "t", token: "2").failure)
                #expect(failure.failureClass == .transient)
                #expect(failure.httpStatus == nil)
            }
            #expect(!client.state().isHealthy)
            #expect(client.state().detail.contains("since "))
            try server.restart()
            #expect(await client.insert(.numbered(10), into: "t", token: "2").isInserted)
            #expect(client.state().isHealthy)
            #expect(try await server.count("t") == 20)
        }

        @Test func theNextEndpointIsUsed() async throws {
            let engine = try #require(ClickHouseServer.installedEngines.first)
            let server = try ServerScope.server(engine)
            try await server.makeFlatTable("endpoints")
            let first = FaultProxy(to: server.port)
            let second = FaultProxy(to: server.port)
            first.setMode(.refuse)
            let client = try ServerScope.client([first.url, second.url])
            defer { client.shutdown() }
            // Nobody was reached, so the same INSERT goes on to the next.
            #expect(await client.insert(.numbered(10), into: "endpoints", token: "1").isInserted)
            #expect(first.acceptedConnections == 0)
            #expect(second.acceptedConnections == 1)
            // It stays there, until that one is gone too.
            first.setMode(.pass)
            #expect(await client.insert(.numbered(10), into: "endpoints", token: "2").isInserted)
            #expect(first.acceptedConnections == 0)
            second.setMode(.refuse)
            #expect(await client.insert(.numbered(10), into: "endpoints", token: "3").isInserted)
            #expect(first.acceptedConnections == 1)
            first.setMode(.refuse)
            let failure = try #require(await client.insert(.numbered(10), into: "endpoints", token: "4").failure)
            #expect(failure.failureClass == .transient)
        }

        @Test func manyBatchesMoveOnTogether() async throws {
            let engine = try #require(ClickHouseServer.installedEngines.first)
            let server = try ServerScope.server(engine)
            try await server.makeFlatTable("together")
            let proxies = (0..<3).map { _ in FaultProxy(to: server.port) }
            let client = try ServerScope.client(proxies.map(\.url))
            defer { client.shutdown() }
            #expect(await client.insert(.numbered(1), into: "together", token: "0").isInserted)
            for proxy in proxies.dropLast() { proxy.setMode(.refuse) }
            await withTaskGroup { group in
                for index in 1..<20 {
                    group.addTask {
                        let outcome = await client.insert(
                            .numbered(1, from: index), into: "together", token: "\(index)")
                        #expect(outcome.isInserted, "\(outcome)")
                    }
                }
            }
            #expect(try await server.query("SELECT count(), uniqExact(id) FROM together") == "20\t20")
        }

        @Test(.enabled(if: ClickHouseServer.isInstalled(.chdb)))
        func anUnknownOutcomeCanBeRepeated() async throws {
            let server = try ServerScope.server(.chdb)
            try await server.makeFlatTable("unknown")
            let proxy = FaultProxy(to: server.port)
            let client = try ServerScope.client([proxy.url])
            defer { client.shutdown() }
            #expect(await client.insert(.numbered(5), into: "unknown", token: "1").isInserted)
            proxy.setMode(.swallowAnswer)
            let failure = try #require(
                await client.insert(.numbered(5_000, from: 5), into: "unknown", token: "2").failure)
            #expect(failure.failureClass == .transient)
            #expect(failure.message.contains("unknown"))
            // The server has it, and we can't know.
            #expect(try await server.count("unknown") == 5_005)
            proxy.setMode(.pass)
            #expect(await client.insert(.numbered(5_000, from: 5), into: "unknown", token: "2").isInserted)
            #expect(try await server.count("unknown") == 5_005)
        }

        @Test(arguments: ClickHouseServer.installedEngines, [20, 150, 1_000])
        func halfAnAnswerIsTransient(engine: Engine, bytes: Int) async throws {
            let server = try ServerScope.server(engine)
            let table = "half_\(bytes)"
            try await server.makeFlatTable(table)
            let proxy = FaultProxy(to: server.port)
            let client = try ServerScope.client([proxy.url])
            defer { client.shutdown() }
            #expect(await client.insert(.numbered(5), into: table, token: "1").isInserted)
            // The answer to an INSERT has about 250 bytes.
            proxy.setMode(.cutAnswer(afterBytes: bytes))
            let outcome = await client.insert(.numbered(5), into: table, token: "2")
            #expect(bytes < 200 ? outcome.failure?.failureClass == .transient : outcome.isInserted, "\(outcome)")
        }

        /// The connection ends within the body: like a killed process, or a network that breaks. Rows are long, so that
        /// no cut happens to be between two of them.
        @Test(arguments: ClickHouseServer.installedEngines)
        func aBodyCutByTheNetworkLeavesNothing(engine: Engine) async throws {
            let server = try ServerScope.server(engine)
            try await server.makeFlatTable("cut")
            let proxy = FaultProxy(to: server.port)
            let client = try ServerScope.client([proxy.url])
            defer { client.shutdown() }
            #expect(await client.insert(.numbered(1), into: "cut", token: "0").isInserted)
            let batch = ClickHouseTestBatch.numbered(40, textBytes: 50_000, from: 1)
            for bytes in [900, 10_000, 400_003, 1_000_000] {
                proxy.setMode(.cutRequest(afterBytes: bytes))
                let outcome = await client.insert(batch, into: "cut", token: "\(bytes)")
                #expect(outcome.failure?.failureClass == .transient, "\(outcome)")
            }
            try await server.settle("cut")
            let left = try await server.query("SELECT count(), max(id) FROM cut")
            #expect(left == "1\t0", "\(left)")
            proxy.setMode(.pass)
            #expect(await client.insert(batch, into: "cut", token: "900").isInserted)
            #expect(try await server.count("cut") == 41)
        }

        @Test(.timeLimit(.minutes(1)))
        func noAnswerInTimeIsTransient() async throws {
            let engine = try #require(ClickHouseServer.installedEngines.first)
            let server = try ServerScope.server(engine)
            try await server.makeFlatTable("slow")
            let proxy = FaultProxy(to: server.port)
            let client = try ServerScope.client([proxy.url], requestTimeout: .milliseconds(400))
            defer { client.shutdown() }
            #expect(await client.insert(.numbered(1), into: "slow", token: "1").isInserted)
            proxy.setMode(.hang)
            let failure = try #require(await client.insert(.numbered(1), into: "slow", token: "2").failure)
            #expect(failure.failureClass == .transient)
            #expect(failure.message.contains("outcome is unknown"))
            proxy.setMode(.pass)
            #expect(await client.insert(.numbered(1), into: "slow", token: "2").isInserted)
        }

        @Test func deadKeptConnectionsGoUnnoticed() async throws {
            let engine = try #require(ClickHouseServer.installedEngines.first)
            let server = try ServerScope.server(engine)
            try await server.makeFlatTable("dead")
            let proxy = FaultProxy(to: server.port)
            let client = try ServerScope.client([proxy.url])
            defer { client.shutdown() }
            for token in 0..<5 {
                #expect(await client.insert(.numbered(1), into: "dead", token: "\(token)").isInserted)
                // Breaks all connections.
                proxy.setMode(.pass)
            }
        }

        @Test func shutdownCompletesEverythingOnce() async throws {
            let server = FaultProxy(to: 1)
            server.setMode(.hang)
            let client = try ServerScope.client([server.url], maximumConnections: 2)
            let completions = Mutex<[String]>([])
            @Sendable func insert(_ token: String) {
                client.insert(
                    InsertRequest(
                        table: "t", token: token, rowCount: 1,
                        makeReader: { ClickHouseTestBatch.numbered(1).makeReader() },
                        completion: { outcome in
                            #expect(outcome.failure?.failureClass == .transient)
                            #expect(outcome.failure?.message.contains("shutting down") == true)
                            completions.withLock { $0.append(token) }
                        }))
            }
            for index in 0..<10 { insert("\(index)") }
            try await eventually("connected") { server.acceptedConnections > 0 }
            await withTaskGroup { group in
                for _ in 0..<3 { group.addTask { client.shutdown() } }
            }
            #expect(completions.withLock { $0.sorted() } == (0..<10).map { "\($0)" })
            insert("late")
            #expect(completions.withLock { $0.last } == "late")
            #expect(completions.withLock { $0.count } == 11)
            #expect(!client.state().isHealthy)
            client.shutdown()
        }

        /// A transfer that is under way leaves nothing behind either.
        @Test(arguments: ClickHouseServer.installedEngines)
        func shutdownInTheMiddleOfABody(engine: Engine) async throws {
            let server = try ServerScope.server(engine)
            try await server.makeFlatTable("interrupted")
            let client = try ServerScope.client([server.url])
            let halfway = AsyncStream<Void>.makeStream()
            let outcomes = AsyncStream<InsertOutcome>.makeStream()
            client.insert(
                InsertRequest(
                    table: "interrupted", token: "1", rowCount: 100_000,
                    makeReader: {
                        PausingReader(.numbered(100_000)) {
                            halfway.continuation.yield()
                            let deadline = MonotonicClock.now + 10_000_000_000
                            while client.state().detail != "shut down" && MonotonicClock.now < deadline {
                                sched_yield()
                            }
                        }
                    },
                    completion: { outcomes.continuation.yield($0) }))
            for await _ in halfway.stream { break }
            client.shutdown()
            for await outcome in outcomes.stream {
                #expect(outcome.failure?.message.contains("shutting down") == true, "\(outcome)")
                break
            }
            try await server.settle("interrupted")
            #expect(try await server.count("interrupted") == 0)
        }

        /// Pauses when some of the events were read.
        private final class PausingReader: EventReader {
            private let reader: any EventReader
            private let pause: () -> Void
            private var runs = 0

            init(_ batch: ClickHouseTestBatch, _ pause: @escaping () -> Void) {
                self.pause = pause
                reader = batch.makeReader(eventsPerRun: 1_000)
            }

            func read(_ body: (inout EventRun) throws -> Void) throws -> Bool {
                runs += 1
                if runs == 20 { pause() }
                return try reader.read(body)
            }
        }
    }
}
