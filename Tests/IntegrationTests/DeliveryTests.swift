import Foundation
import TestSupport
import Testing

/// What was sent is what ClickHouse has, on an old server and on today's engine.
@Suite(.serialized) struct DeliveryTests {
    typealias Engine = ClickHouseServer.Engine

    /// JSON objects that are hard on encoders; none has an `event_id`, so that the id is the payload's digest.
    private static let hardPayloads = [
        #"{}"#, #"{"a":"\u0000\u001f\"\\\/\b\f\n\r\t"}"#, #"{"surrogates":"\ud83d\ude42","lower":"\u00e9"}"#,
        #"{"emoji":"👩‍👩‍👧‍👦🏳️‍🌈","text":"日本語 עברית العربية ﷽"}"#, "{\"separators\":\"\u{2028}\u{2029}\u{FEFF}\u{7F}\"}",
        #"{"big":18446744073709551615,"bigger":123456789012345678901234567890,"small":-9223372036854775808}"#,
        #"{"exponent":1.0E+300,"digits":0.1000000000000000055511151231257827,"negative":-0.0}"#,
        #"{ "spaces" : [ 1 , 2 ,  { "deep" : [[[[null]]]] } ] , "true" : true }"#, #"{"":"empty name","{\"":"]}"}"#,
        #"{"quote":"' \" ` ; -- ) FORMAT JSONEachRow"}"#, "{\"long\":\"\(String(repeating: "é\\\"", count: 20_000))\"}",
    ]

    @Test(arguments: ClickHouseServer.installedEngines)
    func hardPayloadsArriveByteForByte(engine: Engine) async throws {
        try await Scene.run(engine, topics: ["events": 1]) { scene in
            let viaHTTP = Self.hardPayloads
            let viaKafka = Self.hardPayloads.map { "{\"via\":\"kafka\"," + $0.dropFirst() }
                .map { $0.replacingOccurrences(of: ",}", with: "}") }
            let key = Array("key\"\\\n🙂".utf8)
            try scene.cluster.produce(viaKafka.map { .init(Array($0.utf8), key: key) }, to: "events")
            try await scene.service.start()
            try await scene.post(viaHTTP)
            try await scene.awaitCommit(of: Int64(viaKafka.count), "events")
            try await scene.awaitFlush()
            for (source, sent) in [("http", viaHTTP), ("kafka", viaKafka)] {
                let rows = try await scene.clickHouse.query(
                    "SELECT DISTINCT hex(payload) FROM events WHERE source = '\(source)'")
                #expect(rows.split(separator: "\n").map(String.init).sorted() == sent.map(hex).sorted(), "\(source)")
            }
            let origin = try await scene.clickHouse.query(
                "SELECT DISTINCT topic, partition, hex(key) FROM events WHERE source = 'kafka' FORMAT TabSeparatedRaw")
            #expect(origin == "events\t0\t\(hex("key\"\\\n🙂"))")
            let offsets = try await scene.clickHouse.number(
                "SELECT uniqExact(offset) FROM events WHERE source = 'kafka' AND offset < \(viaKafka.count)")
            #expect(offsets == viaKafka.count)
        }
    }

    @Test(arguments: ClickHouseServer.installedEngines)
    func flatRowsHaveTheEventsOwnFields(engine: Engine) async throws {
        let settings = ["ROW_MODE": "flat", "CLICKHOUSE_TABLE": "flat"]
        try await Scene.run(engine, topics: ["events": 1], environment: settings) { scene in
            try await scene.clickHouse.query(
                "CREATE TABLE flat (event_id String, text String, big UInt64, small Int64, ratio Float64) "
                    + "ENGINE = ReplacingMergeTree ORDER BY event_id")
            let text = "日本 \\\"🙂\\\" \\u00e9\\n"
            func event(_ id: String) -> String {
                #"{"event_id":"\#(id)","text":"\#(text)","big":18446744073709551615,"#
                    + #""small":-9223372036854775808,"ratio":0.25}"#
            }
            try scene.cluster.produce([.init(event("k"))], to: "events")
            try await scene.service.start()
            try await scene.post([event("h")])
            try await scene.awaitCommit(of: 1, "events")
            try await scene.awaitFlush()
            let rows = try await scene.clickHouse.query(
                "SELECT DISTINCT event_id, hex(text), big, small, ratio FROM flat ORDER BY event_id")
            let fields = "\(hex("日本 \"🙂\" é\n"))\t18446744073709551615\t-9223372036854775808\t0.25"
            #expect(rows == "h\t\(fields)\nk\t\(fields)")
        }
    }

    @Test(arguments: ClickHouseServer.installedEngines)
    func streamsGoToTheirTables(engine: Engine) async throws {
        let settings = ["STREAMS": "orders=shop_orders,clicks=web_clicks"]
        try await Scene.run(engine, topics: ["orders": 1, "other": 1], environment: settings) { scene in
            for table in ["shop_orders", "web_clicks"] { try await scene.clickHouse.makeEnvelopeTable(table) }
            try scene.cluster.produce(numbered(0..<50, "k-orders-").map { .init($0) }, to: "orders")
            try scene.cluster.produce(numbered(0..<50, "k-other-").map { .init($0) }, to: "other")
            try await scene.service.start()
            for stream in ["orders", "clicks", "other"] {
                try await scene.post(numbered(0..<50, "h-\(stream)-"), to: "/v1/events/\(stream)")
            }
            for topic in ["orders", "other"] { try await scene.awaitCommit(of: 50, topic) }
            try await scene.awaitFlush()
            for (table, sources) in [
                ("shop_orders", "h-orders,k-orders"), ("web_clicks", "h-clicks"), ("events", "h-other,k-other"),
            ] {
                let rows = try await scene.clickHouse.query(
                    """
                    SELECT arrayStringConcat(arraySort(groupUniqArray(replaceRegexpOne(event_id, '-[0-9]+$', ''))), ','), \
                    uniqExact(event_id) / uniqExact(source) FROM \(table)
                    """)
                #expect(rows == "\(sources)\t50", "\(table)")
            }
        }
    }

    @Test(arguments: ClickHouseServer.installedEngines)
    func aMissingTableHoldsItsStreamOnlyUntilItIsThere(engine: Engine) async throws {
        try await Scene.run(engine, topics: ["late": 1], environment: ["STREAMS": "late=late_table"]) { scene in
            try scene.cluster.produce(numbered(0..<50, "k").map { .init($0) }, to: "late")
            try await scene.service.start()
            try await scene.post(numbered(0..<50, "h"), to: "/v1/events/late")
            try await scene.awaitIntake(to: 50, "late")
            try await eventually("the stream is held") {
                try await scene.service.status()["late_table"]?.state == "held"
            }
            let inserted = try await scene.service.post(
                numbered(0..<50, "other").joined(separator: "\n"), to: "/v1/events?ack=inserted")
            #expect(inserted.status == 200, "a neighbor's stream must go on: \(inserted.text)")
            let status = try await scene.service.status()
            let stream = try #require(status["late_table"])
            #expect(stream.state == "held")
            #expect(stream.reason?.contains("late_table") == true, "\(stream.reason ?? "")")
            #expect(stream.pendingEvents == 100)
            #expect(status.journal.deadLetters == 0, "an operator's mistake makes no dead letters")
            #expect(try scene.committed("late") ?? 0 == 0)
            try await scene.clickHouse.makeEnvelopeTable("late_table")
            try await scene.awaitFlush()
            #expect(try await scene.clickHouse.number("SELECT uniqExact(event_id) FROM late_table") == 100)
            #expect(try await scene.clickHouse.number("SELECT uniqExact(event_id) FROM events") == 50)
            try await scene.awaitCommit(of: 50, "late")
            #expect(try await scene.service.status()["late_table"]?.state == "running")
        }
    }

    /// A folder of `.ndjson` files with real events.
    private static let sampleFolder = ProcessInfo.processInfo.environment["INGESTD_SAMPLE_EVENTS"]

    @Test(.enabled(if: sampleFolder != nil, "INGESTD_SAMPLE_EVENTS names no folder of .ndjson files"))
    func realEventsArriveByteForByte() async throws {
        let folder = URL(filePath: try #require(Self.sampleFolder))
        let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
            .filter { $0.pathExtension == "ndjson" }
        try #require(!files.isEmpty, "no .ndjson file in \(folder.path)")
        let events = try files.flatMap { file in
            try String(contentsOf: file, encoding: .utf8).split(separator: "\n").map(String.init)
        }
        for engine in ClickHouseServer.installedEngines {
            try await Scene.run(engine, topics: ["events": 1]) { scene in
                try scene.cluster.produce(events.map { .init($0) }, to: "events")
                try await scene.service.start()
                try await scene.post(events)
                try await scene.awaitCommit(of: Int64(events.count), "events")
                try await scene.awaitFlush()
                for source in ["http", "kafka"] {
                    let rows = try await scene.clickHouse.query(
                        "SELECT DISTINCT hex(payload) FROM events WHERE source = '\(source)'")
                    // Compared as sets: among thousands of bytes a difference is best looked at elsewhere.
                    let arrived = Set(rows.split(separator: "\n").map(String.init))
                    #expect(arrived == Set(events.map(hex)), "\(engine) \(source)")
                }
            }
        }
    }
}
