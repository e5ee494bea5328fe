import Foundation
import TestSupport
import Testing

/// Guarantee 5: one bad event costs one event, against real servers.
@Suite(.serialized) struct PoisonTests {
    typealias Engine = ClickHouseServer.Engine

    private static let settings = [
        "ROW_MODE": "flat", "CLICKHOUSE_TABLE": "coded", "BATCH_MAX_ROWS": "4000", "BATCH_MAX_AGE": "200ms",
    ]

    /// A table with a column that an event can be too wide for.
    private static func makeTable(_ clickHouse: ClickHouseServer) async throws {
        try await clickHouse.query(
            "CREATE TABLE coded (event_id String, code FixedString(4)) ENGINE = ReplacingMergeTree ORDER BY event_id")
    }

    private static func event(_ id: String, isBad: Bool) -> String {
        #"{"event_id":"\#(id)","code":"\#(isBad ? "too wide: \(id)" : "good")"}"#
    }

    /// One in 1,000, and 100 in a row.
    private static func events(_ prefix: String, bad: (Int) -> Bool) -> (all: [String], badIDs: Set<String>) {
        var badIDs: Set<String> = []
        let all = (0..<5_000).map { number in
            if bad(number) { badIDs.insert("\(prefix)\(number)") }
            return event("\(prefix)\(number)", isBad: bad(number))
        }
        return (all, badIDs)
    }

    @Test(arguments: ClickHouseServer.installedEngines)
    func exactlyTheBadEventsBecomeDeadLettersAndArriveAfterTheTableIsMended(engine: Engine) async throws {
        try await Scene.run(engine, topics: ["events": 1, "events.dlq": 1], environment: Self.kafkaSettings) { scene in
            try await Self.makeTable(scene.clickHouse)
            let http = Self.events("h") { $0 % 1_000 == 7 || (2_000..<2_100).contains($0) }
            let kafka = Self.events("k") { $0 % 1_000 == 0 || (4_900..<5_000).contains($0) }
            let badIDs = http.badIDs.union(kafka.badIDs)
            try scene.cluster.produce(kafka.all.map { .init($0) }, to: "events")
            try await scene.service.start()
            for start in stride(from: 0, to: 5_000, by: 1_000) {
                try await scene.post(Array(http.all[start..<(start + 1_000)]))
            }
            try await scene.awaitIntake(to: 5_000, "events")
            try await scene.awaitFlush(within: .seconds(60))
            try await scene.awaitCommit(of: 5_000, "events")

            #expect(
                try await scene.clickHouse.number("SELECT uniqExact(event_id) FROM coded") == 10_000 - badIDs.count)
            #expect(try await scene.clickHouse.number("SELECT countIf(code != 'good') FROM coded") == 0)
            let letters = try await scene.deadLetters()
            #expect(Set(letters.map(\.eventID)) == badIDs)
            #expect(letters.count == badIDs.count, "each bad event is one letter")
            for letter in letters {
                #expect(letter.error.kind == "row_data" && letter.error.clickhouseCode == 131, "\(letter)")
                // The verdict on this event alone: it is the first row of what was sent.
                #expect(letter.error.message.contains("at row 1)"), "\(letter)")
            }
            try await scene.awaitMessages(badIDs.count, on: "events.dlq")
            #expect(try await scene.service.status()["coded"]?.state == "running")
            let metrics = try await scene.service.get("/metrics").text
            for line in [
                #"ingest_dead_letters_total{reason="row_data",stream="coded"} \#(badIDs.count)"#,
                "ingest_dead_letters_stored \(badIDs.count)", "ingest_dead_letters_unforwarded 0",
                #"ingest_dlq_produced_total{result="ok"} \#(badIDs.count)"#,
            ] {
                #expect(metrics.contains(line), "\(line) is not in\n\(metrics)")
            }

            // The operator widens the column and sends them again.
            try await scene.clickHouse.query("ALTER TABLE coded MODIFY COLUMN code String")
            let answer = try await scene.service.request("POST", "/v1/dead-letters/retry?stream=coded&kind=row_data")
            #expect(answer.status == 200 && answer.text.contains(#""changed":\#(badIDs.count)"#), "\(answer.text)")
            try await scene.awaitFlush()
            #expect(try await scene.clickHouse.number("SELECT uniqExact(event_id) FROM coded") == 10_000)
            let mended = try await scene.clickHouse.number("SELECT uniqExact(event_id) FROM coded WHERE code != 'good'")
            #expect(mended == badIDs.count)
            try await eventually("the store is empty") { try await scene.deadLetters().isEmpty }
        }
    }

    private static let kafkaSettings = settings.merging([
        "KAFKA_TOPICS": "events", "KAFKA_DLQ_TOPIC": "events.dlq",
    ]) { $1 }

    /// `ack=inserted` says which events became dead letters.
    @Test func reportOfInsertionNamesDeadLetters() async throws {
        try await Scene.run(environment: Self.settings) { scene in
            try await Self.makeTable(scene.clickHouse)
            try await scene.service.start()
            let events = (0..<10).map { Self.event("e\($0)", isBad: $0 == 3 || $0 == 8) }
            let answer = try await scene.service.post(
                events.joined(separator: "\n"), to: "/v1/events?ack=inserted&timeout=25s")
            #expect(answer.status == 200, "\(answer.text)")
            #expect(
                answer.text.contains(#""inserted":8,"dead_lettered":2,"dead_letter_ids":["e3","e8"]"#),
                "\(answer.text)")
        }
    }

    /// Partial acceptance: what is no JSON becomes a dead letter beside the good events of its request.
    @Test func invalidEventsOfARequestCanBecomeDeadLetters() async throws {
        try await Scene.run { scene in
            try await scene.service.start()
            let body = #"{"event_id":"a"}"# + "\n{broken\n" + #"{"event_id":"b"}"#
            let refused = try await scene.service.post(body)
            #expect(refused.status == 400)
            let answer = try await scene.service.post(
                body, to: "/v1/events?on_error=dead_letter&ack=inserted&timeout=25s")
            #expect(answer.status == 200, "\(answer.text)")
            #expect(answer.text.contains(#""inserted":2,"dead_lettered":1"#), "\(answer.text)")
            #expect(try await scene.clickHouse.query("SELECT event_id FROM events_unique ORDER BY event_id") == "a\nb")
            let letter = try #require(try await scene.deadLetters().first)
            #expect(letter.error.kind == "invalid_json")
            let whole = try await scene.service.get("/v1/dead-letters/\(letter.id)")
            #expect(whole.text.contains(#""payload":"{broken""#), "\(whole.text)")
        }
    }

    /// ClickHouse and the service are killed again and again while a batch is divided.
    @Test func killsDuringDivisionChangeNothing() async throws {
        let settings = Self.settings.merging(["BATCH_MAX_ROWS": "1000"]) { $1 }
        try await Scene.run(environment: settings) { scene in
            try await Self.makeTable(scene.clickHouse)
            let sent = Self.events("e") { $0 % 50 == 49 }
            scene.clickHouse.kill()
            try await scene.service.start()
            try await scene.post(sent.all)
            for round in 0..<6 {
                // Even rounds end with both down, odd ones with the service alone.
                if round == 0 || round % 2 == 1 { try await scene.clickHouse.restartInBackground() }
                let before = try await scene.service.status().pendingEvents
                try await eventually("some events are flushed") {
                    let now = try await scene.service.status().pendingEvents
                    return now < before || now == 0
                }
                if round % 2 == 0 { scene.clickHouse.kill() }
                try await scene.service.kill()
                try await scene.service.start()
            }
            // The last round was an odd one.
            try await scene.awaitFlush(within: .seconds(60))
            #expect(
                try await scene.clickHouse.number("SELECT uniqExact(event_id) FROM coded")
                    == sent.all.count - sent.badIDs.count)
            // The table has no deduplication window, so copies may be there; they have one id.
            let letters = try await scene.deadLetters()
            #expect(Set(letters.map(\.eventID)) == sent.badIDs)
            #expect(letters.count == sent.badIDs.count, "the letter and the position are one transaction")
        }
    }

    /// A table that takes nothing is no reason to give events up, not even one by one.
    @Test func wrongTableHoldsTheStreamBeforeAllEventsAreDeadLetters() async throws {
        let settings = Self.settings.merging(["HOLD_AFTER_REJECTED": "20", "HOLD_RETRY_INTERVAL": "1h"]) { $1 }
        try await Scene.run(environment: settings) { scene in
            try await Self.makeTable(scene.clickHouse)
            try await scene.service.start()
            try await scene.post((0..<500).map { Self.event("e\($0)", isBad: true) })
            try await eventually("the stream is held") { try await scene.service.status()["coded"]?.state == "held" }
            let stream = try #require(try await scene.service.status()["coded"])
            #expect(stream.reason?.contains("20 events in a row") == true, "\(stream.reason ?? "")")
            #expect(try await scene.deadLetters().count <= 21)
            try await scene.clickHouse.query("ALTER TABLE coded MODIFY COLUMN code String")
            let answer = try await scene.service.request("POST", "/v1/streams/coded/retry")
            #expect(answer.status == 202, "\(answer.text)")
            try await scene.awaitFlush()
            let letters = try await scene.deadLetters().count
            #expect(try await scene.clickHouse.number("SELECT uniqExact(event_id) FROM coded") == 500 - letters)
        }
    }

    /// At the bound of the store the stream holds; discarding makes room, and it goes on.
    @Test func fullStoreHoldsTheStreamUntilThereIsRoom() async throws {
        let settings = Self.settings.merging(["JOURNAL_DEAD_LETTERS_MAX_BYTES": "1MiB"]) { $1 }
        try await Scene.run(environment: settings) { scene in
            try await Self.makeTable(scene.clickHouse)
            try await scene.service.start()
            let filler = String(repeating: "x", count: 100_000)
            let events = (0..<20).map { #"{"event_id":"e\#($0)","code":"\#(filler)"}"# }
            try await scene.post(events)
            try await eventually("the stream is held") { try await scene.service.status()["coded"]?.state == "held" }
            let reason = try await scene.service.status()["coded"]?.reason ?? ""
            #expect(reason.contains("JOURNAL_DEAD_LETTERS_MAX_BYTES"), "\(reason)")
            var ids: Set<String> = []
            while try await scene.service.status().pendingEvents > 0 {
                ids.formUnion(try await scene.deadLetters().map(\.eventID))
                _ = try await scene.service.request("DELETE", "/v1/dead-letters?all=true")
                try await eventually("it goes on") {
                    let status = try await scene.service.status()
                    return status["coded"]?.state == "held" || status.pendingEvents == 0
                }
            }
            ids.formUnion(try await scene.deadLetters().map(\.eventID))
            #expect(ids.count == 20, "every bad event was a dead letter once")
        }
    }
}

/// A dead letter as the API lists it.
struct ListedDeadLetter: Decodable {
    struct Problem: Decodable {
        let kind: String
        let clickhouseCode: Int?
        let message: String
    }

    let id: UInt64
    let eventID: String
    let stream: String
    let error: Problem
    let forwarded: Bool?
    let payload: String?

    enum CodingKeys: String, CodingKey {
        case id
        case eventID = "eventId"
        case stream, error, forwarded, payload
    }
}

private struct DeadLetterPage: Decodable {
    let deadLetters: [ListedDeadLetter]
    let nextAfter: UInt64?
}

extension Scene {
    /// All dead letters of the service, page by page.
    func deadLetters() async throws -> [ListedDeadLetter] {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        var letters: [ListedDeadLetter] = []
        var after: UInt64? = 0
        while let start = after {
            let answer = try await service.get("/v1/dead-letters?limit=50&after=\(start)")
            try #require(answer.status == 200, "\(answer.text)")
            let page = try decoder.decode(DeadLetterPage.self, from: Data(answer.body))
            letters += page.deadLetters
            after = page.nextAfter
        }
        return letters
    }
}
