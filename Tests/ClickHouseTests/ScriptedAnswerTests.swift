import IngestCore
import Logging
import Synchronization
import TestSupport
import Testing

@testable import ClickHouse

/// What real servers can't be made to answer.
struct ScriptedAnswerTests {
    private static let known = InsertSettings.asked

    /// Runs a test against a server that answers every INSERT with `reply`.
    private func withServer(
        version: String = "26.9.1", settings: [String] = known,
        reply: @escaping @Sendable (ScriptedServer.Request) -> ScriptedServer.Reply,
        _ body: (ScriptedServer, ClickHouseClient) async throws -> Void
    ) async throws {
        let server = ScriptedServer { request in
            request.isCapabilityQuery
                ? .answer(ScriptedServer.capabilities(version: version, settings: settings)) : reply(request)
        }.start()
        defer { server.stop() }
        let client = try ClickHouseClient(
            configuration: ClickHouseConfiguration(
                endpoints: [server.url], user: "u", password: "p w", rowMode: .flat, compression: .none),
            logger: Logger(label: "test"))
        defer { client.shutdown() }
        try await body(server, client)
    }

    @Test func sendsWhatItShould() async throws {
        try await withServer(reply: { _ in .answer(ScriptedServer.http(200)) }) { server, client in
            let outcome = await client.insert(.numbered(10_000), into: "db.t", token: "a b")
            #expect(outcome.isInserted)
            let request = try #require(server.inserts.first)
            #expect(request.target.hasPrefix("/?query=INSERT%20INTO%20%60db%60.%60t%60%20FORMAT%20JSONEachRow&"))
            #expect(request.target.contains("&insert_deduplication_token=a%20b"))
            #expect(request.target.contains("&async_insert=0"))
            #expect(!request.target.contains("p%20w") && !request.target.contains("p w"))
            for request in server.requests {
                #expect(request.headers.contains("X-ClickHouse-User: u"))
                #expect(request.headers.contains("X-ClickHouse-Key: p w"))
                #expect(!request.headers.contains { $0.lowercased().hasPrefix("expect") })
            }
            #expect(request.body.count { $0 == 0x0A } == 10_000)
            #expect(client.state().isHealthy)
        }
    }

    @Test(
        arguments: [
            (ScriptedServer.http(200, headers: ["X-ClickHouse-Exception-Code: 209"]), FailureClass.transient, 209),
            (ScriptedServer.http(200, body: "Code: 117. DB::Exception: bad (at row 3)"), .rowData, 117),
            (ScriptedServer.http(200, body: "text"), .transient, nil),
            (
                ScriptedServer.http(500, headers: ["X-ClickHouse-Exception-Code: 27"], body: "Code: 27. D (at row 3)"),
                .rowData, 27
            ),
            (ScriptedServer.http(503, body: "no backend"), .transient, nil),
            (ScriptedServer.http(403, body: "forbidden"), .configuration, nil),
            (ScriptedServer.http(413), .batchShape, nil),
        ] as [(String, FailureClass, Int?)])
    func countsAsAFailure(answer: String, failureClass: FailureClass, code: Int?) async throws {
        try await withServer(reply: { _ in .answer(answer) }) { _, client in
            let failure = try #require(await client.insert(.numbered(3), into: "t", token: "t").failure)
            #expect(failure.failureClass == failureClass)
            #expect(failure.clickHouseCode == code)
            #expect(failure.httpStatus != nil)
            #expect(client.state().isHealthy == (failureClass == .rowData || failureClass == .batchShape))
        }
    }

    @Test func aRefusalBeforeTheBodyIsRead() async throws {
        let answer = ScriptedServer.http(
            400, headers: ["X-ClickHouse-Exception-Code: 117", "Connection: close"], body: "Code: 117. D (at row 1)")
        try await withServer(reply: { _ in .early(answer) }) { _, client in
            let outcome = await client.insert(.numbered(100_000), into: "t", token: "t")
            #expect(outcome.failure?.failureClass == .rowData)
            #expect(outcome.failure?.rowHint == 1)
        }
    }

    @Test func successBeforeTheBodyIsReadIsNone() async throws {
        let reply = ScriptedServer.Reply.early(ScriptedServer.http(200, headers: ["Connection: close"]))
        try await withServer(reply: { _ in reply }) { _, client in
            let outcome = await client.insert(.numbered(200_000), into: "t", token: "t")
            #expect(outcome.failure?.failureClass == .transient)
        }
    }

    /// No server, however it parses, may see the end of a body that has none.
    @Test func anUnreadableBatchIsBrokenOff() async throws {
        try await withServer(reply: { _ in .answer(ScriptedServer.http(200)) }) { server, client in
            let outcome = await client.insert(.numbered(20_000), into: "t", token: "t", failsAfter: 19_000)
            guard case .unreadable = outcome else {
                Issue.record("\(outcome)")
                return
            }
            #expect(await client.insert(.numbered(1), into: "t", token: "u").isInserted)
            #expect(server.inserts.map { $0.body.count { $0 == 0x0A } } == [1])
        }
    }

    @Test func noAnswerIsTransient() async throws {
        try await withServer(reply: { _ in .close }) { _, client in
            let failure = try #require(await client.insert(.numbered(3), into: "t", token: "t").failure)
            #expect(failure.failureClass == .transient)
            #expect(failure.httpStatus == nil)
            #expect(failure.message.contains("outcome is unknown"))
            #expect(client.state().detail.contains("outcome is unknown"))
        }
    }

    /// A kept connection that dies under a request is replaced, and the whole body sent again.
    @Test func aDeadKeptConnectionIsReplaced() async throws {
        try await withServer(reply: { request in
            // The question came first on connection 0; its first INSERT is answered, the second is not.
            request.connection == 0 && request.position == 2 ? .close : .answer(ScriptedServer.http(200))
        }) { server, client in
            for count in [1, 20_000] {
                #expect(await client.insert(.numbered(count), into: "t", token: "\(count)").isInserted)
            }
            try #require(server.inserts.map(\.connection) == [0, 0, 1])
            #expect(server.inserts[1].body == server.inserts[2].body)
            #expect(server.inserts[2].body.count { $0 == 0x0A } == 20_000)
        }
    }

    @Test func asksAgainAfterAnUpgrade() async throws {
        let isUpgraded = Mutex(false)
        let server = ScriptedServer { request in
            if request.isCapabilityQuery {
                return isUpgraded.withLock { $0 }
                    ? .answer(ScriptedServer.capabilities(version: "26.9.1", settings: Self.known))
                    : .answer(ScriptedServer.capabilities(version: "18.16.1", settings: ["insert_deduplicate"]))
            }
            return request.target.contains("outage") ? .close : .answer(ScriptedServer.http(200))
        }.start()
        defer { server.stop() }
        let client = try ClickHouseClient(
            configuration: ClickHouseConfiguration(endpoints: [server.url], rowMode: .flat),
            logger: Logger(label: "test"))
        defer { client.shutdown() }
        #expect(await client.insert(.numbered(1), into: "t", token: "1").isInserted)
        #expect(await client.insert(.numbered(1), into: "outage", token: "1").failure != nil)
        isUpgraded.withLock { $0 = true }
        #expect(await client.insert(.numbered(1), into: "t", token: "1").isInserted)
        #expect(server.requests.count(where: \.isCapabilityQuery) == 2)
        #expect(try #require(server.inserts.first).target.contains("&insert_deduplicate=1"))
        #expect(!server.inserts[0].target.contains("async_insert"))
        #expect(!server.inserts[0].target.contains("insert_deduplication_token"))
        #expect(try #require(server.inserts.last).target.contains("&insert_deduplication_token=1"))
    }

    @Test(arguments: [
        (ScriptedServer.http(200, body: "<html>"), FailureClass.configuration),
        (ScriptedServer.http(404, body: "nginx"), .configuration),
        (ScriptedServer.http(400, body: "Code: 62. DB::Exception: Syntax error"), .configuration),
        (ScriptedServer.http(403, headers: ["X-ClickHouse-Exception-Code: 516"], body: "Code: 516. D"), .configuration),
        (ScriptedServer.http(502, body: "bad gateway"), .transient),
        (ScriptedServer.http(500, headers: ["X-ClickHouse-Exception-Code: 202"], body: "Code: 202. D"), .transient),
    ])
    func aServerThatDoesNotAnswerTheQuestion(answer: String, failureClass: FailureClass) async throws {
        let server = ScriptedServer { _ in .answer(answer) }.start()
        defer { server.stop() }
        let client = try ClickHouseClient(
            configuration: ClickHouseConfiguration(endpoints: [server.url]), logger: Logger(label: "test"))
        defer { client.shutdown() }
        let outcome = await client.insert(.numbered(1), into: "t", token: "1")
        #expect(outcome.failure?.failureClass == failureClass)
        #expect(server.inserts.isEmpty || failureClass != .configuration)
        #expect(!client.state().isHealthy)
    }

    @Test func overridesReachTheClient() async throws {
        let server = ScriptedServer { request in
            request.isCapabilityQuery
                ? .answer(ScriptedServer.capabilities(version: "26.9.1", settings: []))
                : .answer(ScriptedServer.http(400, body: "Code: 117. DB::Exception: x (at row 1)"))
        }.start()
        defer { server.stop() }
        let client = try ClickHouseClient(
            configuration: ClickHouseConfiguration(
                endpoints: [server.url], failureClassOverrides: [117: .configuration]),
            logger: Logger(label: "test"))
        defer { client.shutdown() }
        #expect(await client.insert(.numbered(1), into: "t", token: "1").failure?.failureClass == .configuration)
    }

    @Test func anImpossibleTableIsTheOperatorsBusiness() async throws {
        try await withServer(reply: { _ in .answer(ScriptedServer.http(200)) }) { server, client in
            #expect(await client.insert(.numbered(1), into: "a.", token: "1").failure?.failureClass == .configuration)
            #expect(server.inserts.isEmpty)
            #expect(await client.insert(.numbered(1), into: "a", token: "1").isInserted)
        }
    }
}
