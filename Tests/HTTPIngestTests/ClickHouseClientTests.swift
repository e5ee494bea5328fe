import HTTPIngest
import IngestCore
import Testing

/// What clients ask before they insert, and who they are.
@Suite(.timeLimit(.minutes(1))) struct ClickHouseClientTests {
    @Test func pings() async throws {
        try await withClickHouseServer({ $0.token = "s3cret" }) { server in
            for path in ["/ping", "/", "/?"] {
                let response = try await server.get(path)
                #expect(response.status == 200 && response.body == "Ok.\n", "\(path)")
            }
            #expect(try await server.get("/ping", method: "HEAD").headers["content-length"] == "4")
        }
    }

    @Test(arguments: [
        ("SELECT 1", "1\n"), ("select 1;", "1\n"), ("SELECT 1 FORMAT Null", ""),
        ("SELECT 1 AS check FORMAT CSV", "1\n"),
        ("SELECT version()", "24.8.1.1\n"), ("SELECT timezone()", "UTC\n"),
        ("SELECT version(), timezone()", "24.8.1.1\tUTC\n"),
        (
            "SELECT currentUser() AS user, timezone() AS timezone, version() AS version LIMIT 1",
            "default\tUTC\t24.8.1.1\n"
        ),
        ("SELECT currentDatabase(), hostName()", "default\tingestd\n"), ("SELECT 1 LIMIT 0", ""),
        ("SELECT 'a\tb', 300 FORMAT TSVWithNamesAndTypes", "\\'a\\tb\\'\t300\nString\tUInt16\na\\tb\t300\n"),
        ("SELECT 1 AS \"a\"\"b\", 'c\"' AS d FORMAT CSVWithNames", "\"a\"\"b\",\"d\"\n1,\"c\"\"\"\n"),
        ("SELECT 1 AS a, 'x\"' `b` FORMAT JSONEachRow", "{\"a\":1,\"b\":\"x\\\"\"}\n"),
        ("SELECT 1, version() FORMAT JSONCompactEachRow", "[1,\"24.8.1.1\"]\n"),
        ("SELECT 5000000000 AS n, 'x' FORMAT Values", "(5000000000,'x')"),
        (
            "SELECT 1 AS n SETTINGS max_threads=1 FORMAT JSON",
            #"{"meta":[{"name":"n","type":"UInt8"}],"data":[{"n":1}],"rows":1,"#
                + #""statistics":{"elapsed":0,"rows_read":0,"bytes_read":0}}"# + "\n"
        ),
        ("SELECT 1 AS check FORMAT Native", "\u{1}\u{1}\u{5}check\u{5}UInt8\u{1}"),
        ("SELECT 'x' AS a FORMAT RowBinaryWithNamesAndTypes", "\u{1}\u{1}a\u{6}String\u{1}x"),
        (
            "SELECT name, value, readonly FROM system.settings WHERE (name = 'x') LIMIT 10000 FORMAT Native",
            "\u{3}\u{0}\u{4}name\u{6}String\u{5}value\u{6}String\u{8}readonly\u{5}UInt8"
        ),
    ])
    func selects(text: String, answer: String) async throws {
        try await withServer { server in
            let get = try await server.get(target(query: text))
            #expect(get.status == 200 && get.body == answer, "\(get.body)")
            #expect(get.headers["x-clickhouse-query-id"] != nil && get.headers["x-clickhouse-format"] != nil)
            let connection = try await server.connect()
            for (target, body) in [
                ("/?wait_end_of_query=1", text), (target(query: text), ""),
                ("/?query=SELECT", String(text.dropFirst(6))),
            ] {
                try await connection.post(target, body)
                #expect(try await connection.response().body == answer)
            }
        }
    }

    @Test func formatsOfAnswers() async throws {
        try await withServer { server in
            let header = try await server.get(target(query: "SELECT 1"), headers: ["X-ClickHouse-Format: JSONEachRow"])
            #expect(
                header.body == "{\"1\":1}\n"
                    && header.headers["content-type"]?.hasPrefix("application/x-ndjson") == true)
            #expect(try await server.get(target(query: "SELECT 'a'", ("default_format", "CSV"))).body == "\"a\"\n")
            expectException(
                try await server.get(target(query: "SELECT 1 FORMAT Parquet")), 404, 73, "UNKNOWN_FORMAT")
            expectException(
                try await server.get(target(query: "SELECT 1", ("compress", "1"))), 501, 48, "NOT_IMPLEMENTED")
            expectException(
                try await server.get(target(query: "SELECT 1", ("no_such", "1"))), 404, 115, "UNKNOWN_SETTING")
        }
    }

    @Test func queryIDsAreToldBack() async throws {
        try await withServer { server in
            let answer = try await server.get(target(query: "SELECT 1", ("query_id", "q-1")))
            #expect(answer.headers["x-clickhouse-query-id"] == "q-1")
            let refused = try await server.get(target(query: "SELECT x", ("query_id", "q-2")))
            #expect(refused.headers["x-clickhouse-query-id"] == "q-2")
            for bad in ["a b", "a\r\nSet-Cookie: x", "\u{fc}", String(repeating: "x", count: 257)] {
                let response = try await server.get(target(query: "SELECT 1", ("query_id", bad)))
                expectException(response, 400, 36, "BAD_ARGUMENTS")
            }
        }
    }

    @Test(arguments: ["/?query=%zz", "/?query=%ff", "/?a=1&a=2", "/?query=SELECT+1&query=SELECT+2"])
    func badParameters(target: String) async throws {
        try await withServer { server in
            expectException(try await server.get(target), 400, 36, "BAD_ARGUMENTS")
            let many = "/?" + (0...256).map { "max_\($0)=1" }.joined(separator: "&")
            expectException(try await server.get(many), 400, 36, "BAD_ARGUMENTS")
        }
    }

    // MARK: Authentication

    private static let insert = target(query: "INSERT INTO events FORMAT JSONEachRow")

    @Test(arguments: [
        (["X-ClickHouse-User: u", "X-ClickHouse-Key: s3:cret"], []), (["X-ClickHouse-Key: s3:cret"], []),
        // u:s3:cret
        (["Authorization: Basic dTpzMzpjcmV0"], []), (["Authorization: basic OnMzOmNyZXQ="], []),
        (["Authorization: Bearer s3:cret"], []), ([], [("user", "u"), ("password", "s3:cret")]),
        ([], [("password", "s3:cret")]),
    ])
    func rightSecrets(headers: [String], parameters: [(String, String)]) async throws {
        try await withClickHouseServer({ $0.token = "s3:cret" }) { server in
            let insert = ("query", "INSERT INTO events FORMAT JSONEachRow")
            #expect(try await server.post(target([insert] + parameters), "{}", headers: headers).status == 200)
            let inBody = try await server.post(target(parameters), insert.1 + " {}", headers: headers)
            #expect(inBody.status == 200)
            #expect(try await server.get(target([("query", "SELECT 1")] + parameters), headers: headers).body == "1\n")
            #expect(server.intake.records.count == 2)
        }
    }

    @Test(arguments: [
        ([], []), (["X-ClickHouse-User: default"], []), (["X-ClickHouse-Key: x"], []),
        (["X-ClickHouse-Key: s3cre"], []), (["Authorization: Basic dTpz"], []), (["Authorization: Basic !"], []),
        (["Authorization: Basic"], []), (["Authorization: Bearer"], []), (["Authorization: Negotiate s3cret"], []),
        ([], [("user", "s3cret")]), ([], [("password", "")]), (["X-ClickHouse-Key: s3cret"], [("password", "s3cret")]),
        (["X-ClickHouse-Key: s3cret", "Authorization: Bearer s3cret"], []),
        (["Authorization: Bearer s3cret"], [("password", "s3cret")]),
    ])
    func wrongSecrets(headers: [String], parameters: [(String, String)]) async throws {
        try await withClickHouseServer({ $0.token = "s3cret" }) { server in
            for query in [
                "INSERT INTO events FORMAT JSONEachRow", "INSERT INTO none FORMAT JSONEachRow", "SELECT 1", "",
            ] {
                let response = try await server.post(
                    target([("query", query)] + parameters), "INSERT INTO events FORMAT JSONEachRow {}",
                    headers: headers)
                let isAnonymous = response.headers["www-authenticate"] != nil
                expectException(response, isAnonymous ? 401 : 403, 516, "AUTHENTICATION_FAILED")
                #expect(!response.body.contains("s3cret"))
            }
            #expect(server.intake.records.isEmpty)
        }
    }
}
