import IngestCore
import TestSupport
import Testing

@testable import ClickHouse

extension RealServerTests {
    /// Batches that were sent before: what the server remembers of them, and what it has.
    ///
    /// A deleted row stands for one that the server lost between noting the token and naming the part: the token is
    /// known, the row is not there.
    @Suite(.enabled(if: ClickHouseServer.isInstalled(.chdb)))
    struct RepeatedBatchTests {
        private static let window = "SETTINGS non_replicated_deduplication_window = 1000"

        private func makeTable(_ server: ClickHouseServer, _ name: String, _ engine: String) async throws {
            try await server.query(
                """
                CREATE TABLE \(name) (event_id String, payload String, source String, topic String, partition Int32, \
                offset Int64, key String, received_at DateTime64(3, 'UTC')) \(engine)
                """)
        }

        /// Ids of any bytes, some of them twice, and derived ones; more than a sample.
        private static let batch = ClickHouseTestBatch(
            (0..<1_000).map { number in
                let payload = Array(#"{"number":\#(number)}"#.utf8)
                guard number % 2 == 0 else { return ClickHouseTestEvent(payload: payload) }
                let id = Array("id '\\\n\t🙂 \(number / 8)".utf8) + [0, 0x7F, 0xFF]
                return ClickHouseTestEvent(payload: payload, id: .stored, storedID: id)
            }, eventsPerEntry: 64)

        @Test(arguments: [
            "ENGINE = MergeTree ORDER BY payload", "ENGINE = ReplacingMergeTree(received_at) ORDER BY event_id",
            "ENGINE = ReplacingMergeTree ORDER BY (source, event_id)",
        ])
        func rowsThatTheServerOnlyRemembersAreInsertedAgain(engine: String) async throws {
            let server = try ServerScope.server(.chdb)
            try await server.query("DROP TABLE IF EXISTS remembered")
            try await makeTable(server, "remembered", "\(engine) \(Self.window)")
            let client = try ServerScope.client([server.url], rowMode: .envelope)
            defer { client.shutdown() }
            #expect(await client.insert(Self.batch, into: "remembered", token: "1").isInserted)
            let ids = try await server.query("SELECT uniqExact(event_id) FROM remembered")
            #expect(Int(ids)! > 500)
            try await server.query(
                "ALTER TABLE remembered DELETE WHERE cityHash64(event_id) % 2 = 0 SETTINGS mutations_sync = 2")
            let left = try await server.query("SELECT uniqExact(event_id) FROM remembered")
            #expect(left != ids)
            // This is why: the server says that all is well.
            #expect(await client.insert(Self.batch, into: "remembered", token: "1").isInserted)
            #expect(try await server.query("SELECT uniqExact(event_id) FROM remembered") == left)
            #expect(await client.insert(Self.batch, into: "remembered", token: "1", isRepeated: true).isInserted)
            #expect(try await server.query("SELECT uniqExact(event_id) FROM remembered") == ids)
            // And it is done with that.
            let rows = try await server.count("remembered")
            #expect(await client.insert(Self.batch, into: "remembered", token: "1", isRepeated: true).isInserted)
            #expect(try await server.count("remembered") == rows)
        }

        @Test(arguments: [1, 2, 3, 1_000])
        func rowsThatAreThereAreNotAddedAgain(count: Int) async throws {
            let server = try ServerScope.server(.chdb)
            try await server.query("DROP TABLE IF EXISTS there")
            try await makeTable(server, "there", "ENGINE = MergeTree ORDER BY event_id \(Self.window)")
            let client = try ServerScope.client([server.url], rowMode: .envelope)
            defer { client.shutdown() }
            let batch = count == 1_000 ? Self.batch : .numbered(count)
            for isRepeated in [false, true, true] {
                #expect(await client.insert(batch, into: "there", token: "1", isRepeated: isRepeated).isInserted)
                #expect(try await server.count("there") == count)
            }
        }

        /// Their rows may be gone by design, and a second insert would count events twice.
        @Test(arguments: ["SummingMergeTree ORDER BY source", "ReplacingMergeTree ORDER BY source"])
        func tablesThatNeedNotKeepRowsAreBelieved(engine: String) async throws {
            let server = try ServerScope.server(.chdb)
            try await server.query("DROP TABLE IF EXISTS aggregated")
            try await makeTable(server, "aggregated", "ENGINE = \(engine) \(Self.window)")
            let client = try ServerScope.client([server.url], rowMode: .envelope)
            defer { client.shutdown() }
            #expect(await client.insert(Self.batch, into: "aggregated", token: "1").isInserted)
            #expect(try await server.count("aggregated") <= 1)
            try await server.query("ALTER TABLE aggregated DELETE WHERE 1 SETTINGS mutations_sync = 2")
            #expect(await client.insert(Self.batch, into: "aggregated", token: "1", isRepeated: true).isInserted)
            #expect(try await server.count("aggregated") == 0)
        }
    }
}

/// The question whether rows are there, and servers that do not answer it.
struct RowLookupTests {
    private static let capabilities = ScriptedServer.capabilities(version: "25.3.1.1", settings: [InsertSettings.token])

    private static func answer(_ text: String, status: Int = 200, code: Int? = nil) -> ScriptedServer.Reply {
        let header = code.map { "X-ClickHouse-Exception-Code: \($0)\r\n" } ?? ""
        return .answer("HTTP/1.1 \(status) -\r\n\(header)Content-Length: \(text.utf8.count)\r\n\r\n\(text)")
    }

    /// Answers every INSERT with success, and lookups with `lookup`.
    private func outcome(
        isRepeated: Bool = true, _ lookup: ScriptedServer.Reply
    ) async throws -> (outcome: InsertOutcome, server: ScriptedServer) {
        let server = ScriptedServer { request in
            if request.isCapabilityQuery { return .answer(Self.capabilities) }
            return request.target.contains("INSERT") ? Self.answer("") : lookup
        }.start()
        defer { server.stop() }
        let client = try ServerScope.client([server.url], rowMode: .envelope)
        defer { client.shutdown() }
        return (await client.insert(.numbered(2), into: "t", token: "one", isRepeated: isRepeated), server)
    }

    @Test func onlyRepeatedBatchesAreLookedUp() async throws {
        let first = try await outcome(isRepeated: false, .close)
        #expect(first.outcome.isInserted)
        #expect(first.server.inserts.count == 1)
        let repeated = try await outcome(Self.answer("2\t1\n"))
        #expect(repeated.outcome.isInserted)
        #expect(repeated.server.inserts.count == 2)
        let question = String(decoding: repeated.server.inserts[1].body, as: UTF8.self)
        #expect(question.contains("FROM `default`.`t` WHERE event_id IN ('"))
    }

    @Test func missingRowsAreSentOnceMoreUnderAnotherToken() async throws {
        let (outcome, server) = try await outcome(Self.answer("1\t1\n"))
        #expect(outcome.isInserted)
        try #require(server.inserts.count == 3)
        #expect(server.inserts[0].target.contains("insert_deduplication_token=one"))
        #expect(server.inserts[2].target.contains("insert_deduplication_token=one-again-"))
        #expect(server.inserts[2].body == server.inserts[0].body)
    }

    /// ACCESS_DENIED; no such column; too slow; not ClickHouse's words.
    @Test(arguments: [497, 47, 159, nil])
    func whoMayNotLookBelieves(code: Int?) async throws {
        let answer = Self.answer("no", status: code == nil ? 403 : 500, code: code)
        let (outcome, server) = try await outcome(answer)
        #expect(outcome.isInserted)
        #expect(server.inserts.count == 2)
    }

    /// Nothing is believed of a server that goes away or is too busy; the batch comes again.
    @Test(arguments: [ScriptedServer.Reply.close, answer("busy", status: 500, code: 202)])
    func troubleDuringTheLookupIsAFailure(reply: ScriptedServer.Reply) async throws {
        let (outcome, _) = try await outcome(reply)
        #expect(outcome.failure?.failureClass == .transient)
    }

    /// A kept connection died under the batch: curl has sent it again by itself.
    @Test func whatCurlHasSentTwiceIsLookedUp() async throws {
        let server = ScriptedServer { request in
            if request.isCapabilityQuery { return .answer(Self.capabilities) }
            if request.connection == 0 && request.position == 2 { return .close }
            return Self.answer(request.target.contains("INSERT") ? "" : "2\t1\n")
        }.start()
        defer { server.stop() }
        let client = try ServerScope.client([server.url], rowMode: .envelope)
        defer { client.shutdown() }
        for token in ["one", "two"] {
            #expect(await client.insert(.numbered(2), into: "t", token: token).isInserted)
        }
        #expect(server.inserts.map { $0.target.contains("INSERT") } == [true, true, true, false])
    }

    /// Long ids of any bytes do not make a statement that a server refuses for its length.
    @Test func theQuestionIsBounded() throws {
        let batch = ClickHouseTestBatch(
            (0..<300).map { number in
                ClickHouseTestEvent(
                    payload: Array("{}".utf8), id: .stored,
                    storedID: Array("\(number)".utf8) + [UInt8](repeating: 0xFF, count: 1_000))
            })
        let request = InsertRequest(
            table: "t", token: "one", rowCount: batch.rowCount, makeReader: { batch.makeReader() }, completion: { _ in }
        )
        let statement = try RowLookup(request, database: "default").statement
        #expect(statement.utf8.count < 262_144)
        #expect(statement.utf8.count > 190_000)
        #expect(statement.utf8.allSatisfy { (0x20..<0x7F).contains($0) })
    }
}
