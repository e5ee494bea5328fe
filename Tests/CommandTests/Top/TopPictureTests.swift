import Foundation
import Testing

@testable import ingestd

@Suite struct TopPictureTests {
    private typealias Fixture = StatusFixture

    private func lines(
        _ status: ServiceStatus?, _ content: TopPicture.Content = .rates(nil), columns: Int = 100, rows: Int? = nil,
        connection: TopPicture.Connection = .connected, hint: String = ""
    ) -> [String] {
        TopPicture(
            address: "http://127.0.0.1:8080", connection: connection, status: status, content: content, hint: hint
        ).lines(columns: columns, rows: rows).map(\.text)
    }

    /// A service in trouble, with names of wide characters.
    private static let troubled: ServiceStatus = {
        var status = Fixture.quiet
        status.journal = .init(
            id: "j", stored_bytes: 8 << 30, max_bytes: 10 << 30, disk_free_bytes: 55 << 30, refusing: "it is full")
        status.streams = [
            Fixture.stream("aaa", pending: 5, taken: 12_345),
            Fixture.stream("주문", state: "retrying", reason: "no route", pending: 7),
            Fixture.stream("zzz", state: "held", reason: String(repeating: "wrong password ", count: 30), pending: 9),
        ]
        status.streams[2].oldest_event_age_seconds = 4_000
        status.dead_letters = .init(
            stored: 12, stored_bytes: 3_000, store_full: true, forwarding: true, awaiting_forwarding: 4,
            topic_healthy: false, topic_detail: "no broker")
        status.clickhouse = .init(healthy: false, detail: "since ten: refused")
        status.kafka = .init(
            enabled: true, healthy: false, detail: "lost",
            partitions: (0..<100).map { Fixture.partition("주제", $0, lag: $0 == 3 ? nil : $0 * 10) })
        return status
    }()

    @Test func aQuietServiceInOnePicture() {
        #expect(
            lines(Fixture.quiet, .totals) == [
                "ingestd 1.2.3  connected  ingest-1  up 1m40s  http://127.0.0.1:8080", "healthy", "",
                "sources 0  ->  journal, waiting 0  ->  ClickHouse 0  since the start",
                "journal [........................] 0 B of 9.77 KiB (0%), disk has 5.00 GiB free",
                "dead letters 0 stored (0 B)", "", "SOURCE  STREAM  ACCEPTED  REJECTED  DEAD",
                "http    events         0         0     0", "", "STREAM  STATE    BACKLOG  OLDEST  INSERTED  DEAD",
                "events  running        0       -         0     0",
            ])
    }

    @Test func ratesAndForecast() throws {
        let now = Fixture.sample(after: 2) {
            $0.sources = [Fixture.source("http", accepted: 3_000)]
            $0.streams[0] = Fixture.stream("events", pending: 1_000, taken: 3_000)
            $0.streams[0].oldest_event_age_seconds = 30
            $0.journal.stored_bytes = 5_000
        }
        let rates = try #require(FlowRates(from: Fixture.sample(after: 0), to: now))
        let shown = lines(now.status, .rates(rates))
        #expect(shown[3] == "sources 1500/s  ->  journal, waiting 1000  ->  ClickHouse 1000/s")
        #expect(shown[4].contains("[############............] 4.88 KiB of 9.77 KiB (50%), full in 2s"))
        #expect(
            shown[7...8] == [
                "SOURCE  STREAM  IN/S  ACCEPTED  REJECTED  DEAD", "http    events  1500      3000         0     0",
            ])
        #expect(
            shown[10...11] == [
                "STREAM  STATE    BACKLOG  OLDEST  IN/S  OUT/S  DEAD",
                "events  running     1000     30s  1500   1000     0",
            ])
    }

    @Test func whatIsWrongComesFirst() throws {
        let shown = lines(Self.troubled, rows: 60)
        #expect(
            Array(shown[1...6]) == [
                "refuses events: it is full", "1 stream held",
                "the store of dead letters is full: retry or discard some",
                "ClickHouse: since ten: refused", "Kafka: lost", "DLQ topic: no broker",
            ])
        #expect(shown.contains("dead letters 12 stored (2.93 KiB), 4 awaiting forwarding"))
        let table = try #require(shown.firstIndex { $0.hasPrefix("STREAM") })
        #expect(shown[table + 1].hasPrefix("zzz     held            9    1h6m"))
        // The reason is wrapped, and long ones are cut.
        #expect(shown[table + 2].hasPrefix("  wrong password wrong"))
        #expect(shown[table + 4].hasSuffix("..") && shown[table + 4].count <= 100)
        #expect(
            shown[table + 5...table + 7].map { String($0.prefix(14)) }
                == ["주문    retrying", "  no route", "aaa     runnin"].map { String($0.prefix(14)) })
        let styled = TopPicture(address: "", connection: .connected, status: Self.troubled, content: .rates(nil))
            .lines(columns: 100).map { $0.escaped(hasColor: true) }
        #expect(styled.contains { $0.hasPrefix("\u{1B}[31mzzz ") })
    }

    @Test func partitionsByLagAsManyAsFit() throws {
        for rows in [24, 40, 60] {
            let shown = lines(Self.troubled, rows: rows, hint: "q quits")
            #expect(shown.count == rows)
            #expect(shown.last == "q quits")
            let table = try #require(shown.firstIndex { $0.hasPrefix("KAFKA PARTITION") })
            #expect(shown[table + 1].hasPrefix("주제/99          990 "))
            let more = try #require(shown.last { $0.hasPrefix("and ") })
            let listed = shown.count { $0.hasPrefix("주제/") }
            #expect(more == "and \(100 - listed) more partitions")
        }
        // The one without a lag is the last.
        let all = lines(Self.troubled)
        #expect(all.last?.hasPrefix("주제/3             - ") == true)
        #expect(!all.contains { $0.hasPrefix("and ") })
    }

    /// Lines never get wider than the screen, or more than its rows, whatever is shown.
    @Test func everythingFits() {
        let pictures: [(ServiceStatus?, TopPicture.Connection)] = [
            (Self.troubled, .connected), (Fixture.quiet, .connected), (nil, .connecting),
            (Self.troubled, .lost(since: "12:00:00", seconds: 3, reason: "연결할 수 없음 because of many things")),
        ]
        for (status, connection) in pictures {
            for content in [TopPicture.Content.totals, .rates(nil)] {
                for columns in [1, 7, 39, 40, 57, 80, 132] {
                    for rows in [1, 5, 24, 200] {
                        let lines = TopPicture(
                            address: "http://a.host.with.a.long.name.example:8080", connection: connection,
                            status: status, content: content, hint: "every 2s, q quits"
                        ).lines(columns: columns, rows: rows)
                        #expect(lines.count == rows && lines.allSatisfy { $0.width <= columns })
                    }
                }
            }
        }
    }

    @Test func narrowScreensLeaveColumnsOut() throws {
        let shown = lines(Self.troubled, columns: 40, rows: 40)
        #expect(shown.contains("STREAM  STATE     BACKLOG  OLDEST  OUT/S"))
        #expect(shown.contains { $0.hasPrefix("in -/s > wait 21 > out -/s") })
        #expect(shown.contains { $0.hasPrefix("journal 8.00 GiB of 10.0 GiB (80%)") })
        #expect(shown.contains { $0.hasPrefix("KAFKA PARTITION  LAG") })
    }

    @Test func lowScreensKeepTheStreams() {
        let low = lines(Fixture.quiet, rows: 12, hint: "q quits")
        #expect(low.contains { $0.hasPrefix("events  running") } && !low.contains { $0.hasPrefix("SOURCE") })
        #expect(lines(Fixture.quiet, rows: 13, hint: "q quits").contains { $0.hasPrefix("SOURCE") })
    }

    @Test(arguments: [
        ("q", [KeyReader.Key.quit]), ("Q", [.quit]), ("\u{3}", [.quit]), ("\u{1A}", [.suspend]), ("x\u{C}", [.redraw]),
        ("\u{1B}[A", []), ("\u{1B}Oq", []), ("\u{1B}[1;5q", []), ("\u{1B}[Aq", [.quit]), ("\u{1B}q", []),
        ("\u{1B}\u{1B}[Bq", [.quit]), ("\u{1B}[1\u{3}", [.quit]), ("한글", []),
    ])
    func keys(text: String, keys: [KeyReader.Key]) {
        var reader = KeyReader()
        #expect(reader.read(Array(text.utf8)) == keys)
        // The same in pieces.
        reader = KeyReader()
        #expect(text.utf8.flatMap { reader.read([$0]) } == keys)
    }

    @Test func aServiceThatIsAway() {
        let lost = TopPicture.Connection.lost(since: "12:00:00", seconds: 75, reason: "Connection refused")
        let shown = lines(Fixture.quiet, connection: lost)
        #expect(shown[0].hasPrefix("ingestd 1.2.3  not connected since 12:00:00 (1m15s)  ingest-1"))
        #expect(shown[1...2] == ["Connection refused", "what follows is the last answer"])
        #expect(
            lines(nil, connection: lost) == [
                "ingestd  not connected since 12:00:00 (1m15s)  http://127.0.0.1:8080", "Connection refused",
            ])
        #expect(lines(nil, connection: .connecting) == ["ingestd  connecting  http://127.0.0.1:8080"])
        // It is what matters most.
        #expect(lines(Fixture.quiet, columns: 40, connection: lost)[1] == "not connected since 12:00:00 (1m15s)")
    }

    @Test func anOlderServiceShowsDashes() throws {
        let document = """
            {"version":"0.0.1","uptime_seconds":5.5,"journal":{"id":"x","stored_bytes":10,"file_bytes":1,"dead_letters":0},
             "streams":[{"stream":"events","state":"running","pending_events":3,"next_sequence":4,"flushed_position":1,
             "stored_bytes":1,"inserts_in_flight":0}],"dead_letters":{"stored":0,"stored_bytes":0,"store_full":false,
             "forwarding":false,"awaiting_forwarding":0},"clickhouse":{"healthy":true,"detail":""},
             "kafka":{"enabled":false,"healthy":true,"detail":"","partitions":[]}}
            """
        let sample = try StatusSample(document: Array(document.utf8), askedAt: 0, answeredAt: 0)
        let shown = lines(sample.status, .totals)
        #expect(shown[0].hasPrefix("ingestd 0.0.1  connected  -  up 5s"))
        #expect(shown.contains("sources -  ->  journal, waiting 3  ->  ClickHouse -  since the start"))
        #expect(shown.contains("journal 10 B of -, disk has - free"))
        #expect(shown.contains("events  running        3       -         -     -"))
    }

    /// A stream's reason may hold what a stranger has sent.
    @Test func nothingFromOutsideReachesTheTerminalAsACommand() {
        let evil = "a\u{1B}[2J\u{1B}]0;t\u{7}\u{9B}31m\r\n\u{8}\u{202E}b\u{7F}"
        var status = Self.troubled
        (status.version, status.host) = (evil, evil)
        status.journal.refusing = evil
        status.clickhouse.detail = evil
        status.kafka.detail = evil
        status.dead_letters.topic_detail = evil
        status.sources = [Fixture.source(evil)]
        status.streams = [
            Fixture.stream(evil, state: evil, reason: evil), Fixture.stream("b", state: "held", reason: evil),
        ]
        status.kafka.partitions = [Fixture.partition(evil, 1, lag: 1)]
        let lost = TopPicture.Connection.lost(since: evil, seconds: 1, reason: evil)
        for (connection, columns) in [(TopPicture.Connection.connected, 200), (lost, 200), (lost, 40)] {
            let lines = TopPicture(address: evil, connection: connection, status: status, content: .rates(nil))
                .lines(columns: columns)
            for line in lines {
                let scalars = line.escaped(hasColor: false).unicodeScalars
                let rest = line.text
                #expect(!rest.isEmpty || scalars.isEmpty)
                // The one escape sequence there is without color: titles.
                let text = line.escaped(hasColor: false).replacing("\u{1B}[1m", with: "").replacing(
                    "\u{1B}[m", with: "")
                #expect(
                    text.unicodeScalars.allSatisfy {
                        ![.control, .format].contains($0.properties.generalCategory)
                    }, "\(text.debugDescription)")
            }
            #expect(lines.contains { $0.text.contains("a\u{FFFD}[2J\u{FFFD}]0;t\u{FFFD}\u{FFFD}31m") } || columns == 40)
        }
    }
}

@Suite struct TopDocumentTests {
    private struct Line: Decodable {
        struct Rates: Decodable {
            struct Stream: Decodable {
                let stream: String
                let inserted_events: Double?
            }
            let seconds: Double
            let inserted_events: Double?
            let full_in_seconds: Double?
            let streams: [Stream]
        }
        struct Status: Decodable { let version: String }
        let connected: Bool
        let service: String
        let rates: Rates?
        let status: Status?
        let error: String?
    }

    @Test func oneLineWithRatesAndTheServicesOwnWords() throws {
        let before = StatusFixture.sample(after: 0)
        let later = StatusFixture.sample(after: 2) { $0.streams[0].inserted_events = 10 }
        let sample = StatusSample(
            status: later.status, document: Array("{\"version\":\n\"a\u{7F}\u{9B}\\u001bb\", \"new\":1}\r\n".utf8),
            askedAt: 0, answeredAt: 0)
        let rates = try #require(FlowRates(from: before, to: later))
        let text = try TopDocument.line(sample, rates: rates, address: "http://h:1", time: "2026-11-23T00:00:00Z")
        #expect(text.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control })
        #expect(text.contains("\"new\":1"))
        #expect(text.contains("\"full_in_seconds\":null"))
        let line = try JSONDecoder().decode(Line.self, from: Data(text.utf8))
        #expect(line.connected && line.service == "http://h:1")
        #expect(line.status?.version == "a\u{7F}\u{9B}\u{1B}b")
        #expect(line.rates?.inserted_events == 5 && line.rates?.streams.first?.inserted_events == 5)
        let first = try TopDocument.line(sample, rates: nil, address: "", time: "")
        #expect(first.contains("\"rates\":null"))
        let failure = try JSONDecoder().decode(
            Line.self, from: Data(try TopDocument.line(failure: "a \"b\"\n", address: "", time: "").utf8))
        #expect(!failure.connected && failure.error == "a \"b\"\n" && failure.status == nil)
    }
}
