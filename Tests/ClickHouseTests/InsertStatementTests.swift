import IngestCore
import Testing

@testable import ClickHouse

struct InsertStatementTests {
    private func statement(_ table: String, _ mode: RowMode = .flat, takesPatterns: Bool = true) throws -> String {
        try InsertStatement.text(table: table, database: "main", rowMode: mode, takesPatterns: takesPatterns)
    }

    @Test func namesAreQualifiedAndQuoted() throws {
        #expect(try statement("events") == "INSERT INTO `main`.`events` FORMAT JSONEachRow")
        #expect(try statement("other.events") == "INSERT INTO `other`.`events` FORMAT JSONEachRow")
        #expect(try statement("other.a.b") == "INSERT INTO `other`.`a.b` FORMAT JSONEachRow")
        #expect(try statement("we`ird\\; DROP") == "INSERT INTO `main`.`we\\`ird\\\\; DROP` FORMAT JSONEachRow")
    }

    @Test func envelopesNameTheirColumns() throws {
        #expect(
            try statement("events", .envelope, takesPatterns: false) == """
                INSERT INTO `main`.`events` (`event_id`, `payload`, `source`, `topic`, `partition`, `offset`, `key`, \
                `received_at`) FORMAT JSONEachRow
                """)
        #expect(
            try statement("events", .envelope).hasSuffix(
                ", `received_at`, COLUMNS('^traceparent$')) FORMAT JSONEachRow"))
    }

    @Test(arguments: ["", ".", "a.", ".a", "a\nb", "a\u{0}", "a.\u{7F}"])
    func refusesWhatIsNoName(table: String) {
        #expect(throws: InsertStatement.InvalidTable.self) { try statement(table) }
    }

    @Test func percentEncoding() {
        #expect(InsertStatement.percentEncoded("aZ09-._~") == "aZ09-._~")
        #expect(InsertStatement.percentEncoded("a b+c&d=é`%") == "a%20b%2Bc%26d%3D%C3%A9%60%25")
    }

    @Test func onlyKnownSettingsAreSent() throws {
        let endpoint = Endpoint(url: try EndpointURL("http://ch.example:8123/sub/"))
        let old = try #require(
            ServerCapabilities(answer: Array("version\t18.16.1\nsetting\tinsert_distributed_sync\n".utf8)))
        #expect(
            endpoint.insertURL(statement: "S", token: "t/1", rowMode: .flat, capabilities: old)
                == "http://ch.example:8123/sub/?query=S&wait_end_of_query=1&insert_distributed_sync=1")
        let known = InsertSettings.asked.map { "setting\t\($0)\n" }.joined()
        let new = try #require(ServerCapabilities(answer: Array("version\t26.9.2.1\n\(known)".utf8)))
        let url = endpoint.insertURL(statement: "S", token: "t/1", rowMode: .flat, capabilities: new)
        for setting in [
            "async_insert=0", "distributed_foreground_insert=1", "insert_deduplicate=1", "deduplicate_insert=enable",
            "deduplicate_blocks_in_dependent_materialized_views=1", "date_time_input_format=best_effort",
            "input_format_skip_unknown_fields=0", "input_format_allow_errors_num=0",
            "input_format_allow_errors_ratio=0", "input_format_parallel_parsing=0", "send_progress_in_http_headers=0",
            "http_write_exception_in_output_format=0", "insert_deduplication_token=t%2F1",
        ] {
            #expect(url.contains("&\(setting)"))
        }
        #expect(!url.contains("insert_distributed_sync"))
        let envelopes = endpoint.insertURL(statement: "S", token: "t/1", rowMode: .envelope, capabilities: new)
        #expect(envelopes.contains("&input_format_skip_unknown_fields=1"))
    }

    @Test(arguments: [
        "", "x", "version\t\n", "setting\tx\n", "version\tnginx\n", "<html>\n", "version\t1.2\nother\tx\n",
    ])
    func capabilitiesOfSomethingElse(answer: String) {
        #expect(ServerCapabilities(answer: Array(answer.utf8)) == nil)
    }

    @Test func compressionWhereItPays() throws {
        func compresses(_ url: String, _ version: String, _ compression: ClickHouseConfiguration.Compression) throws
            -> Bool
        {
            let capabilities = try #require(ServerCapabilities(answer: Array("version\t\(version)\n".utf8)))
            return Endpoint(url: try EndpointURL(url)).compresses(compression, capabilities)
        }
        #expect(try compresses("http://ch.example:8123", "26.9.2", .auto))
        #expect(try compresses("http://10.1.2.3:8123", "21.1", .auto))
        #expect(try !compresses("http://ch.example:8123", "18.16.1", .auto))
        #expect(try !compresses("http://ch.example:8123", "26.9.2", .none))
        for loopback in ["http://127.0.0.1:8123", "http://localhost:8123", "http://[::1]:8123"] {
            #expect(try !compresses(loopback, "26.9.2", .auto))
            #expect(try compresses(loopback, "26.9.2", .zstd))
        }
    }
}

struct ClickHouseConfigurationTests {
    @Test(arguments: [
        ("http://a:8123", "http://a:8123"), ("http://a:8123///", "http://a:8123"), ("https://a/x/y/", "https://a/x/y"),
        ("http://[::1]:8123/", "http://[::1]:8123"),
    ])
    func takesURLs(text: String, base: String) throws {
        #expect(try EndpointURL(text).base == base)
    }

    @Test(arguments: [
        "", "127.0.0.1:8123", "ftp://a", "http://", "http://user:hunter2@a:8123", "http://a:8123/?database=x",
        "http://a/#b",
        "http://a:99999",
    ])
    func refusesURLs(text: String) throws {
        let problems = ClickHouseConfiguration(endpoints: [text]).problems()
        #expect(problems.count == 1)
        #expect(!problems.joined().contains("hunter2"))
    }

    @Test func namesEachProblem() {
        let problems = ClickHouseConfiguration(
            endpoints: [], database: "", user: "a\r\nX-Other: 1", password: "\n", connectTimeout: .zero,
            requestTimeout: .zero, maximumConnections: 0
        ).problems()
        #expect(problems.count == 7)
        #expect(ClickHouseConfiguration().problems().isEmpty)
    }

    @Test func hidesThePassword() {
        let configuration = ClickHouseConfiguration(password: "hunter2")
        var dumped = ""
        dump(configuration, to: &dumped)
        for text in ["\(configuration)", String(reflecting: configuration), dumped, "\([configuration])"] {
            #expect(!text.contains("hunter2"))
        }
    }
}
