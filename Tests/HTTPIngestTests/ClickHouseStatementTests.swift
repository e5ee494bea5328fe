import NIOCore
import Testing

@testable import HTTPIngest

/// What ClickHouse's clients write, and what strangers do.
@Suite struct ClickHouseStatementTests {
    private func parse(_ text: String, _ parameters: [String: String] = [:]) throws -> ClickHouseStatement {
        try parse(Array(text.utf8), parameters)
    }

    private func parse(_ text: [UInt8], _ parameters: [String: String] = [:]) throws -> ClickHouseStatement {
        // A copy of exactly this length: reading behind its end would show under the address sanitizer.
        try text.withUnsafeBytes { try ClickHouseStatement($0, parameters: parameters) }
    }

    private func refusal(_ text: [UInt8]) -> ClickHouseError? {
        do {
            _ = try parse(text)
            return nil
        } catch {
            return error as? ClickHouseError
        }
    }

    private static let written: [(text: String, database: String?, table: String, columns: [String]?, rest: String)] = [
        ("INSERT INTO t FORMAT JSONEachRow", nil, "t", nil, ""),
        ("insert into table d.t format jsoneachrow", "d", "t", nil, ""),
        ("INSERT INTO d . t FORMAT JSONLines\n{}", "d", "t", nil, "\n{}"),
        ("INSERT t FORMAT NDJSON {}", nil, "t", nil, " {}"),
        ("\u{20}\n\tINSERT/**/INTO`a b`.\"c\"\"d\"FORMAT JSONL{}", "a b", "c\"d", nil, "{}"),
        (#"INSERT INTO `a\`b\\` FORMAT JSONEachRow;"#, nil, #"a`b\"#, nil, ""),
        ("INSERT INTO t FORMAT JSONEachRow ; \n{}", nil, "t", nil, " \n{}"),
        ("INSERT INTO t (a, `b c`, n.x) FORMAT JSONEachRow", nil, "t", ["a", "b c", "n.x"], ""),
        ("INSERT INTO t(a)FORMAT JSONEachRow [1", nil, "t", ["a"], " [1"),
        ("INSERT INTO t (*) FORMAT JSONEachRow", nil, "t", nil, ""),
        (
            "-- rows\nINSERT INTO t -- x\n # y\n #!z\n /* FORMAT ' */ FORMAT JSONEachRow --no comment", nil, "t", nil,
            " --no comment"
        ),
        ("INSERT INTO FUNCTION FORMAT JSONEachRow", nil, "FUNCTION", nil, ""),
        ("INSERT INTO `table` FORMAT JSONEachRow", nil, "table", nil, ""),
        ("INSERT INTO täble FORMAT JSONEachRow", nil, "", nil, ""),
        ("INSERT INTO `täble` FORMAT JSONEachRow", nil, "täble", nil, ""),
        ("INSERT INTO t SETTINGS async_insert=1, x = 'a, b', y=-1.5, z=true FORMAT JSONEachRow", nil, "t", nil, ""),
    ]

    @Test(arguments: 0..<16) func inserts(index: Int) throws {
        let expected = Self.written[index]
        guard !expected.table.isEmpty else {
            #expect(refusal(Array(expected.text.utf8))?.code == .SYNTAX_ERROR)
            return
        }
        guard case .insert(let insert) = try parse(expected.text) else {
            Issue.record("no INSERT")
            return
        }
        #expect(insert.database == expected.database)
        #expect(insert.table == expected.table)
        #expect(insert.columns == expected.columns)
        #expect(String(decoding: Array(expected.text.utf8)[insert.dataOffset...], as: UTF8.self) == expected.rest)
        if expected.text.contains("SETTINGS") {
            #expect(insert.settings.map(\.name) == ["async_insert", "x", "y", "z"])
            #expect(insert.settings.map(\.value) == ["1", "a, b", "-1.5", "true"])
        }
    }

    /// As Vector writes it.
    @Test func parametersNameTables() throws {
        let text = "INSERT INTO {database:Identifier}.{table:Identifier} FORMAT JSONEachRow"
        let statement = try parse(text, ["database": "d", "table": "t\" --"])
        let dataOffset = text.utf8.count
        #expect(statement == .insert(.init(database: "d", table: "t\" --", columns: nil, dataOffset: dataOffset)))
        #expect(refusal(Array(text.utf8))?.code == .UNKNOWN_QUERY_PARAMETER)
        #expect(refusal(Array("INSERT INTO {t:String} FORMAT JSONEachRow".utf8))?.code == .SYNTAX_ERROR)
    }

    @Test(arguments: [
        ("", ClickHouseError.Code.SYNTAX_ERROR, true), (" -- x", .SYNTAX_ERROR, true), ("/* x", .SYNTAX_ERROR, true),
        ("INSERT", .SYNTAX_ERROR, true), ("INSERT INTO", .SYNTAX_ERROR, true), ("INSERT INTO d.", .SYNTAX_ERROR, true),
        ("INSERT INTO t", .SYNTAX_ERROR, true), ("INSERT INTO `t", .SYNTAX_ERROR, true),
        ("INSERT INTO t (a, b", .SYNTAX_ERROR, true), ("INSERT INTO t (a,", .SYNTAX_ERROR, true),
        ("INSERT INTO t FORMAT", .SYNTAX_ERROR, true), ("INSERT INTO t SETTINGS", .SYNTAX_ERROR, true),
        ("INSERT INTO t SETTINGS a", .SYNTAX_ERROR, true), ("INSERT INTO t SETTINGS a=", .SYNTAX_ERROR, true),
        ("INSERT INTO {t:Identifier", .SYNTAX_ERROR, true), ("SELECT", .SYNTAX_ERROR, true),
        ("INSERT INTO t SETTINGS a=b FORMAT JSONEachRow", .SYNTAX_ERROR, false),
        ("INSERT INTO '' FORMAT JSONEachRow", .SYNTAX_ERROR, false),
        ("INSERT INTO `` FORMAT JSONEachRow", .SYNTAX_ERROR, false),
        ("INSERT INTO t () FORMAT JSONEachRow", .SYNTAX_ERROR, false),
        ("INSERT INTO t (a b) FORMAT JSONEachRow", .SYNTAX_ERROR, false),
        ("INSERT INTO a.b.c FORMAT JSONEachRow", .SYNTAX_ERROR, false),
        ("INSERT INTO t PARTITION BY a FORMAT JSONEachRow", .SYNTAX_ERROR, false),
        ("{\"a\":1}", .SYNTAX_ERROR, false), ("; INSERT INTO t FORMAT JSONEachRow", .SYNTAX_ERROR, false),
        (#"INSERT INTO `a\0b` FORMAT JSONEachRow"#, .SYNTAX_ERROR, false),
        ("INSERT INTO t (* EXCEPT(a)) FORMAT JSONEachRow", .NOT_IMPLEMENTED, false),
        ("INSERT INTO t FORMAT Native", .NOT_IMPLEMENTED, false),
        ("INSERT INTO t FORMAT JSONCompactEachRow [1]", .NOT_IMPLEMENTED, false),
        ("INSERT INTO t VALUES (1)", .NOT_IMPLEMENTED, false), ("INSERT INTO t SELECT 1", .NOT_IMPLEMENTED, false),
        ("INSERT INTO t FROM INFILE 'x' FORMAT JSONEachRow", .NOT_IMPLEMENTED, false),
        ("INSERT INTO FUNCTION url('http://x') FORMAT JSONEachRow", .NOT_IMPLEMENTED, false),
        ("DROP TABLE t", .NOT_IMPLEMENTED, false), ("DESCRIBE TABLE t", .NOT_IMPLEMENTED, false),
        ("SELECT * FROM t", .NOT_IMPLEMENTED, false), ("SELECT a", .NOT_IMPLEMENTED, false),
        ("SELECT 1 UNION ALL SELECT 2", .NOT_IMPLEMENTED, false), ("SELECT 1; SELECT 2", .NOT_IMPLEMENTED, false),
        ("SELECT sleep(3)", .NOT_IMPLEMENTED, false), ("SELECT version(1)", .NOT_IMPLEMENTED, false),
        ("SELECT 1 INTO OUTFILE '/etc/x'", .NOT_IMPLEMENTED, false), ("SELECT (1)", .NOT_IMPLEMENTED, false),
        ("SELECT 99999999999999999999", .NOT_IMPLEMENTED, false), ("SELECT 0x1f", .NOT_IMPLEMENTED, false),
        ("SELECT password FROM system.settings", .NOT_IMPLEMENTED, false),
        ("SELECT name FROM system.users", .NOT_IMPLEMENTED, false),
    ])
    func refusals(text: String, code: ClickHouseError.Code, isIncomplete: Bool) throws {
        let error = try #require(refusal(Array(text.utf8)))
        #expect(error.code == code, "\(error.message)")
        #expect(error.isIncomplete == isIncomplete, "\(error.message)")
    }

    @Test func sizesAreBounded() throws {
        let limit = ClickHouseDialect.statementBytes
        let start = "INSERT INTO t FORMAT JSONEachRow"
        func padded(_ size: Int) -> [UInt8] { [UInt8](repeating: 0x20, count: size - start.utf8.count) + start.utf8 }
        #expect(refusal(padded(limit)) == nil)
        for text in [padded(limit + 2), Array(("INSERT INTO t (a" + String(repeating: ",a", count: limit)).utf8)] {
            let error = try #require(refusal(text))
            #expect(error.code == .SYNTAX_ERROR && !error.isIncomplete)
        }
        // Rows are not part of the statement.
        #expect(refusal(Array(start.utf8) + [UInt8](repeating: 0x27, count: 4 * limit)) == nil)
        #expect(refusal(Array("SELECT ".utf8) + [UInt8](repeating: 0x28, count: limit - 7))?.code == .NOT_IMPLEMENTED)
    }

    /// Every prefix and every change of one byte ends in a statement or an error, and reads no byte that is not there.
    @Test func mutations() {
        let texts = [
            "INSERT INTO `d`.{t:Identifier} (a, \"b\") SETTINGS x='\\'y', z=1 /* c */ FORMAT JSONEachRow {\"a\":1}",
            "SELECT version() AS v, 'x\\n' \"y\", 12 LIMIT 1 SETTINGS a=1 FORMAT JSON;",
        ]
        for text in texts.map({ Array($0.utf8) }) {
            for end in text.indices { _ = refusal(Array(text[..<end])) }
            for index in text.indices {
                for byte in [0, 0x0a, 0x22, 0x27, 0x28, 0x2a, 0x2f, 0x3b, 0x5c, 0x60, 0x7b, 0x80, 0xff] as [UInt8] {
                    var changed = text
                    changed[index] = byte
                    if let error = refusal(changed) {
                        let answer = String(buffer: error.answer.body)
                        #expect(answer.hasPrefix("Code: \(error.code.rawValue). DB::Exception: "))
                        #expect(answer.utf8.count < 1_000)
                    }
                }
            }
        }
    }

    @Test func columnsOfRows() throws {
        let columns = ClickHouseColumns(["a", "b c", "n.x"])
        func check(_ body: String) throws { try Array(body.utf8).withUnsafeBytes { try columns.check($0) } }
        for body in [
            #"{"a":1}"#, #"{}"#, "{}\n{\"b c\":{\"d\":[{\"e\":1}]},\"a\":\"\\\",\\\"x\\\":\"}\n",
            #"[{"a":[1,"d"]},{"n":{"y":1}}]"#,
            " [ {\"n.x\" : [ ] } ]", "",
        ] {
            #expect(throws: Never.self) { try check(body) }
        }
        for (body, row) in [
            (#"{"d":1}"#, 1), ("{\"a\":1}\n{\"a\":{\"a\":1},\"d\":\"a\"}", 2), (#"[{"a":1},{"a":"b","d":null}]"#, 2),
            (#"{"n.y":1}"#, 1), (#"{"a":"\\","d":1}"#, 1),
        ] {
            let error = #expect(throws: ClickHouseError.self) { try check(body) }
            #expect(error?.code == .INCORRECT_DATA)
            #expect(error?.message.contains("(at row \(row))") == true, "\(body): \(error?.message ?? "")")
        }
    }

    @Test func base64() {
        func decoded(_ text: String) -> String? { Base64.decode(text.utf8).map { String(decoding: $0, as: UTF8.self) } }
        #expect(decoded("") == "" && decoded("dTpw") == "u:p" && decoded("dTpwdw==") == "u:pw")
        #expect(decoded("dTpwdw") == "u:pw" && decoded("dTpwd2U=") == "u:pwe")
        for bad in ["d", "dTpwd", "d===", "dT=w", "dT pw", "dTp-"] { #expect(decoded(bad) == nil, "\(bad)") }
    }
}
