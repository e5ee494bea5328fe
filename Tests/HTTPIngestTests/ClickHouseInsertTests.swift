import HTTPIngest
import IngestCore
import NIOCore
import Testing

/// INSERTs as ClickHouse's clients send them.
@Suite(.timeLimit(.minutes(1))) struct ClickHouseInsertTests {
    private let insert = "INSERT INTO events FORMAT JSONEachRow"
    private let rows = "{\"a\":1}\n{\"event_id\":\"x\",\"a\":2}\n"
    private let payloads = [#"{"a":1}"#, #"{"event_id":"x","a":2}"#]

    private func expectInserted(
        _ response: RawConnection.Response, _ count: Int, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(response.status == 200 && response.body.isEmpty, "\(response.body)", sourceLocation: sourceLocation)
        #expect(response.headers["content-type"] == "text/plain; charset=UTF-8", sourceLocation: sourceLocation)
        #expect(response.headers["x-clickhouse-exception-code"] == nil, sourceLocation: sourceLocation)
        #expect(
            response.headers["x-clickhouse-summary"]?.contains(#""written_rows":"\#(count)""#) == true,
            sourceLocation: sourceLocation)
    }

    @Test func answersOnceDurable() async throws {
        try await withClickHouseServer { server in
            server.intake.mode = .hold
            let connection = try await server.connect()
            try await connection.post(target(query: insert), rows)
            try await server.intake.received(1)
            server.intake.release()
            let response = try await connection.response()
            expectInserted(response, 2)
            #expect(response.headers["x-clickhouse-query-id"]?.utf8.count == 36)
            #expect(response.headers["x-clickhouse-server-display-name"] == "ingestd")
            let record = try #require(server.intake.records.first)
            #expect(record.stream == Server.events.id && record.payloads == payloads && record.ids == [nil, "x"])
        }
    }

    /// The statement in the parameter, in the body, and in both.
    @Test func whereTheStatementStands() async throws {
        try await withClickHouseServer { server in
            let connection = try await server.connect()
            let requests = [
                (target(query: insert), rows), (target(query: insert + " ; "), rows),
                (target(query: insert + "\n" + payloads[0]), payloads[1]),
                ("/", insert + "\n" + rows), ("/", insert + " " + payloads[0] + "\n" + payloads[1] + ";\n"),
                ("/?database=default", "-- rows\n" + insert + "\n[" + payloads.joined(separator: ", ") + "]"),
                (target(query: "INSERT INTO default.events"), "FORMAT JSONEachRow\n" + rows),
                (target(query: "INSERT INTO"), "events FORMAT JSONEachRow " + rows),
                ("/?query=INSERT+INTO+events+FORMAT+JSONEachRow", rows),
            ]
            for (target, body) in requests {
                try await connection.post(target, body, headers: ["Content-Type: text/csv"])
                expectInserted(try await connection.response(), 2)
            }
            #expect(server.intake.records.count == requests.count)
            #expect(server.intake.records.allSatisfy { $0.payloads == payloads })
        }
    }

    @Test func chunkedAndExpected() async throws {
        try await withClickHouseServer { server in
            let connection = try await server.connect()
            try await connection.send(
                "POST \(target(query: insert)) HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
                    + "4\r\n{\"a\"\r\n3\r\n:1}\r\n0\r\n\r\n")
            expectInserted(try await connection.response(), 1)
            try await connection.send(
                "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 47\r\nExpect: 100-continue\r\n\r\n")
            #expect(try await connection.response().status == 100)
            try await connection.send(insert + "\n{\"a\":12}\n")
            expectInserted(try await connection.response(), 1)
        }
    }

    @Test func tablesAreStreams() async throws {
        try await withClickHouseServer({ $0.clickHouseDatabase = "logs" }) { server in
            for (text, parameters) in [
                (#"INSERT INTO shop.`"clicks"` FORMAT JSONEachRow"#, []),
                (#"INSERT INTO `"clicks"` FORMAT JSONEachRow"#, [("database", "shop")]),
                (
                    "INSERT INTO {database:Identifier}.{table:Identifier} FORMAT JSONEachRow",
                    [("param_database", "shop"), ("param_table", #""clicks""#)]
                ),
            ] {
                expectInserted(try await server.post(target([("query", text)] + parameters), rows), 2)
            }
            #expect(server.intake.records.map(\.stream) == [Server.clicks.id, Server.clicks.id, Server.clicks.id])
            for text in ["INSERT INTO events FORMAT JSONEachRow", "INSERT INTO logs.events FORMAT JSONEachRow"] {
                expectInserted(try await server.post(target(query: text), rows), 2)
            }
            #expect(server.intake.records.last?.stream == Server.events.id)
            let header = try await server.post(
                target(query: "INSERT INTO events FORMAT JSONEachRow"), rows, headers: ["X-ClickHouse-Database: shop"])
            expectException(header, 404, 60, "UNKNOWN_TABLE")
            #expect(header.body.contains(#"logs.events, shop."clicks" (CLICKHOUSE_TABLE, STREAMS)"#))
            let database = try await server.post(target(query: "INSERT INTO x.events FORMAT JSONEachRow"), rows)
            expectException(database, 404, 81, "UNKNOWN_DATABASE")
            #expect(server.intake.records.count == 5)
        }
    }

    @Test func envelopesCanNotBeFilled() async throws {
        try await withServer { server in
            let response = try await server.post(target(query: insert), rows)
            expectException(response, 501, 48, "NOT_IMPLEMENTED")
            #expect(response.body.contains("ROW_MODE=flat"))
            #expect(try await server.get("/?query=SELECT%201").body == "1\n")
            #expect(server.intake.records.isEmpty)
        }
    }

    @Test func insertsOfNothing() async throws {
        try await withClickHouseServer { server in
            for (target, body) in [(target(query: insert), ""), ("/", insert + "\n"), (target(query: insert), " \n")] {
                expectInserted(try await server.post(target, body), 0)
            }
            #expect(server.intake.records.isEmpty)
        }
    }

    @Test func columnsAreChecked() async throws {
        try await withClickHouseServer { server in
            let listed = "INSERT INTO events (a, `event_id`) FORMAT JSONEachRow"
            expectInserted(try await server.post(target(query: listed), rows), 2)
            let other = try await server.post(target(query: listed), rows + "{\"a\":1,\"b\":2}")
            expectException(other, 400, 117, "INCORRECT_DATA")
            #expect(other.body.contains("JSONEachRow format: b: (at row 3)"))
            #expect(server.intake.records.count == 1)
        }
    }

    @Test func badRowsRefuseAll() async throws {
        try await withClickHouseServer { server in
            let connection = try await server.connect()
            for (body, code, name, words) in [
                ("{\"a\":1}\n{\"a\":x}\n", 27, "CANNOT_PARSE_INPUT_ASSERTION_FAILED", "row 2"),
                ("1 2", 27, "CANNOT_PARSE_INPUT_ASSERTION_FAILED", "row 1"),
                ("{\"event_id\":[]}", 117, "INCORRECT_DATA", "neither a string nor an integer"),
            ] {
                try await connection.post(target(query: insert), body)
                let response = try await connection.response()
                expectException(response, 400, code, name)
                #expect(response.body.contains(words), "\(response.body)")
            }
            #expect(server.intake.records.isEmpty)
        }
    }

    @Test(arguments: [
        (IntakeError.full("the disk is full"), 252, "TOO_MANY_PARTS"),
        (.overloaded, 202, "TOO_MANY_SIMULTANEOUS_QUERIES"), (.shuttingDown, 210, "NETWORK_ERROR"),
        (.storage("EIO"), 425, "SYSTEM_ERROR"),
    ])
    func refusalsThatPass(error: IntakeError, code: Int, name: String) async throws {
        try await withClickHouseServer { server in
            server.intake.mode = .refuse(error)
            let response = try await server.post(target(query: insert), rows)
            expectException(response, 503, code, name)
            #expect(response.headers["retry-after"] != nil)
        }
    }

    @Test func drainingRefuses() async throws {
        try await withClickHouseServer { server in
            server.service.beginDraining()
            for (target, body) in [(target(query: insert), rows), ("/", insert + "\n" + rows)] {
                let response = try await server.post(target, body)
                expectException(response, 503, 210, "NETWORK_ERROR")
                #expect(response.headers["connection"] == "close")
            }
            #expect(try await server.get("/ping").status == 503)
            #expect(server.intake.records.isEmpty)
        }
    }

    @Test func bodiesAreBounded() async throws {
        try await withClickHouseServer({ $0.maxBodyBytes = 1_000 }) { server in
            let large = #"{"a":""# + String(repeating: "x", count: 1_000) + #""}"#
            for target in [target(query: insert), "/"] {
                expectException(try await server.post(target, large), 413, 229, "QUERY_IS_TOO_LARGE")
            }
            #expect(server.intake.records.isEmpty)
        }
    }

    /// A repeated INSERT is recognized by the token, wherever it stands, or by the header.
    @Test func tokensAreKeys() async throws {
        try await withClickHouseServer { server in
            let token = "a\"b\\c"
            let statement = #"INSERT INTO events SETTINGS insert_deduplication_token='a"b\\c' FORMAT JSONEachRow"#
            for (target, body, headers) in [
                (target(query: insert, ("insert_deduplication_token", token)), rows, []),
                ("/", statement + rows, []), (target(query: insert), rows, [#"Idempotency-Key: "a\"b\\c""#]),
                // The token comes first.
                (target(query: insert, ("insert_deduplication_token", token)), rows, ["Idempotency-Key: x"]),
            ] {
                expectInserted(try await server.post(target, body, headers: headers), 2)
            }
            let keys = server.intake.records.map(\.request)
            #expect(keys.count == 4 && keys[0] != nil && Set(keys).count == 1)
            expectInserted(try await server.post(target(query: insert, ("insert_deduplication_token", "")), rows), 2)
            #expect(server.intake.records.last?.request == nil)
            server.intake.mode = .refuse(.keyReused)
            let reused = try await server.post(target(query: insert, ("insert_deduplication_token", token)), rows)
            expectException(reused, 422, 36, "BAD_ARGUMENTS")
        }
    }

    @Test func compressedBodies() async throws {
        try await withClickHouseServer { server in
            // `printf 'INSERT INTO events FORMAT JSONEachRow\n{"a":1}\n' | gzip -n`
            let connection = try await server.connect()
            let body = [UInt8]([
                0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xf3, 0xf4, 0x0b, 0x76, 0x0d, 0x0a, 0x51,
                0xf0, 0xf4, 0x0b, 0xf1, 0x57, 0x48, 0x2d, 0x4b, 0xcd, 0x2b, 0x29, 0x56, 0x70, 0xf3, 0x0f, 0xf2, 0x75,
                0x0c, 0x51, 0xf0, 0x0a, 0xf6, 0xf7, 0x73, 0x4d, 0x4c, 0xce, 0x08, 0xca, 0x2f, 0xe7, 0xaa, 0x56, 0x4a,
                0x54, 0xb2, 0x32, 0xac, 0xe5, 0x02, 0x00, 0xa2, 0x2a, 0x82, 0x90, 0x2e, 0x00, 0x00, 0x00,
            ])
            let head = "POST / HTTP/1.1\r\nHost: t\r\nContent-Encoding: gzip\r\nContent-Length: \(body.count)\r\n\r\n"
            try await connection.send(ByteBuffer(bytes: Array(head.utf8) + body))
            expectInserted(try await connection.response(), 1)
            #expect(server.intake.records.first?.payloads == [#"{"a":1}"#])
            let unknown = try await server.post(target(query: insert), rows, headers: ["Content-Encoding: br"])
            expectException(unknown, 415, 48, "NOT_IMPLEMENTED")
        }
    }

    @Test(arguments: [
        ("async_insert", "1"), ("wait_for_async_insert", "0"), ("async_insert_busy_timeout_ms", "5"),
        ("max_insert_block_size", "1"), ("session_id", "x"), ("date_time_input_format", "best_effort"),
        ("input_format_skip_unknown_fields", "0"), ("input_format_import_nested_json", "1"), ("", ""),
        ("wait_end_of_query", "1"), ("send_progress_in_http_headers", "1"), ("compress", "1"), ("quota_key", "q"),
    ])
    func settingsThatChangeNothing(name: String, value: String) async throws {
        try await withClickHouseServer { server in
            expectInserted(try await server.post(target(query: insert, (name, value)), rows), 2)
        }
    }

    @Test(arguments: [
        ("input_format_allow_errors_num", "1"), ("input_format_allow_errors_ratio", "0.5"),
        ("input_format_skip_unknown_fields", "1"), ("insert_quorum", "2"), ("insert_deduplication_token", "ä"),
        ("date_time_input_format", "best_effort_us"), ("decompress", "1"), ("readonly", "1"),
        ("input_format_json_read_bools_as_numbers", "0"), ("no_such_setting", "1"),
        ("input_format_null_as_default", "0"),
    ])
    func settingsThatWouldBreakAPromise(name: String, value: String) async throws {
        try await withClickHouseServer { server in
            let inParameter = try await server.post(target(query: insert, (name, value)), rows)
            expectException(inParameter, 404, 115, "UNKNOWN_SETTING")
            #expect(inParameter.body.contains(name))
            let text = "INSERT INTO events SETTINGS \(name) = '\(value)' FORMAT JSONEachRow"
            expectException(try await server.post("/", text + "\n" + rows), 404, 115, "UNKNOWN_SETTING")
            #expect(server.intake.records.isEmpty)
        }
    }

    @Test func whatIsNoInsert() async throws {
        try await withClickHouseServer { server in
            expectException(try await server.post("/", rows), 400, 62, "SYNTAX_ERROR")
            #expect(try await server.post("/", rows).body.contains("/v1/events"))
            expectException(try await server.post("/", ""), 400, 62, "SYNTAX_ERROR")
            expectException(try await server.post("/", "DROP TABLE events"), 501, 48, "NOT_IMPLEMENTED")
            let native = try await server.post("/", "INSERT INTO events FORMAT Native\n\u{1}\u{1}")
            expectException(native, 501, 48, "NOT_IMPLEMENTED")
            #expect(native.body.contains("JSONEachRow"))
            let form = try await server.post(
                target(query: insert), "--x", headers: ["Content-Type: multipart/form-data; boundary=x"])
            expectException(form, 501, 48, "NOT_IMPLEMENTED")
            let get = try await server.get(target(query: insert + " {}"))
            expectException(get, 405, 164, "READONLY")
            #expect(get.headers["allow"] == "POST")
            #expect(try await server.get("/?query=x", method: "PUT").status == 405)
            #expect(server.intake.records.isEmpty)
        }
    }
}
