import HTTPIngest
import IngestCore
import Synchronization
import Testing

/// `on_error=dead_letter`: bad events are kept, good ones are taken.
@Suite(.timeLimit(.minutes(1))) struct BadEventTests {
    private static let target = "/v1/events?on_error=dead_letter"
    private static let ndjson = ["Content-Type: application/x-ndjson"]
    private static let json = ["Content-Type: application/json"]

    private func sha256(_ text: String) -> String { Array(text.utf8).withUnsafeBytes { EventID.derive(from: $0) } }

    @Test func goodAndBadBecomeDurableTogether() async throws {
        try await withServer { server in
            let bad = [#"{"event_id":"b","n":01}"#, #"[1]"#]
            let response = try await server.post(
                "/v1/events/clicks?on_error=dead_letter", "{\"a\":1}\n \(bad[0]) \n\n\(bad[1])\r\n{\"c\":1}\n",
                headers: Self.ndjson)
            #expect(response.status == 202)
            #expect(
                response.body
                    == #"{"accepted":2,"stream":"shop.\"clicks\"","first_sequence":100,"last_sequence":101,"#
                    + #""dead_lettered":2,"dead_letter_ids":["b","\#(sha256(bad[1]))"],"errors":["#
                    + #"{"index":1,"byte_offset":29,"kind":"invalid_json","detail":"not a JSON number"},"#
                    + #"{"index":2,"byte_offset":35,"kind":"not_an_object","#
                    + #""detail":"an event is a JSON object, not an array or a scalar"}]}"#)
            #expect(server.intake.records.count == 1)
            let record = try #require(server.intake.records.first)
            #expect(record.payloads == [#"{"a":1}"#, #"{"c":1}"#])
            #expect(record.deadLetters.map(\.payload) == bad.map { Array($0.utf8) })
            #expect(record.deadLetters.map(\.eventID) == ["b", sha256(bad[1])])
            #expect(
                record.deadLetters.map(\.problem) == [
                    // Counted from the start of what is kept.
                    DeadLetter.Problem(kind: "invalid_json", message: "not a JSON number (byte 20)"),
                    DeadLetter.Problem(
                        kind: "not_an_object", message: "an event is a JSON object, not an array or a scalar (byte 0)"),
                ])
            for letter in record.deadLetters {
                #expect(letter.table == Server.clicks.table && letter.kafka == nil)
                #expect(abs(letter.failedAt - record.receivedAt) < 60_000)
            }
        }
    }

    @Test func withoutBadEventsTheAnswerHasTheSameMembers() async throws {
        try await withServer { server in
            let response = try await server.post(Self.target, "[{}]")
            #expect(response.status == 202)
            #expect(
                response.body
                    == #"{"accepted":1,"stream":"events","first_sequence":100,"last_sequence":100,"#
                    + #""dead_lettered":0,"dead_letter_ids":[],"errors":[]}"#)
            #expect(server.intake.records.map(\.deadLetters) == [[]])
        }
    }

    @Test(arguments: [
        (#"{"a":"#, "application/json"), (#"{"event_id":"x"}{"event_id":"y"}"#, "application/json"),
        ("{\n  \"a\": [\n    {}\n  ],\n  \"b\": tru\n}", ""), ("\u{feff}{}", "application/x-ndjson"),
        ("no", "text/plain"),
    ])
    func withoutGoodEventsThereAreNoSequences(body: String, type: String) async throws {
        try await withServer { server in
            let response = try await server.post(
                Self.target, " \(body) ", headers: type.isEmpty ? [] : ["Content-Type: \(type)"])
            #expect(response.status == 202)
            #expect(
                response.body.hasPrefix(
                    #"{"accepted":0,"stream":"events","dead_lettered":1,"dead_letter_ids":["\#(sha256(body))"]"#),
                "\(response.body)")
            let record = try #require(server.intake.records.first)
            #expect(record.payloads.isEmpty)
            #expect(record.deadLetters.map(\.payload) == [Array(body.utf8)])
        }
    }

    @Test func theRestOfABrokenArrayIsOneLetter() async throws {
        try await withServer { server in
            let rest = #"{"event_id":"c","x":"open},{"event_id":"d"},{}]"#
            let response = try await server.post(
                Self.target, #"[{"event_id":"a"},{"event_id":"b","n":NaN},\#(rest)"#, headers: Self.json)
            #expect(response.status == 202)
            let record = try #require(server.intake.records.first)
            #expect(record.ids == ["a"])
            #expect(record.deadLetters.map(\.eventID) == ["b", sha256(rest)])
            #expect(record.deadLetters.map(\.payload) == [#"{"event_id":"b","n":NaN}"#, rest].map { Array($0.utf8) })
        }
    }

    /// There is nothing to keep where something is only missing, but the client is told.
    @Test func whatIsMissingIsTold() async throws {
        try await withServer { server in
            for body in ["[{},]", "[{},,{}]", "[{}"] {
                let response = try await server.post(Self.target, body, headers: Self.json)
                #expect(response.status == 202)
                #expect(
                    response.body.contains(#""dead_lettered":0,"dead_letter_ids":[],"errors":[{"index":1,"#),
                    "\(response.body)")
            }
            #expect(server.intake.records.allSatisfy { $0.deadLetters.isEmpty })
        }
    }

    @Test(arguments: ["", " \n", "[]", "[", "[,]", "\n\r\n"])
    func whatHoldsNothingIsRefused(body: String) async throws {
        try await withServer { server in
            for target in [Self.target, "/v1/events?ack=inserted&on_error=dead_letter"] {
                let response = try await server.post(target, body)
                #expect(response.status == 400)
            }
            #expect(server.intake.records.isEmpty)
        }
    }

    @Test func tooManyBadEventsAreRefused() async throws {
        try await withServer { server in
            let most = "{}\n" + String(repeating: "x\n", count: Limits.requestDeadLetters)
            let refused = try await server.post(Self.target, most + "x")
            expectProblem(refused, 400, "too_many_invalid_events")
            #expect(refused.body.contains(#""error_count":\#(Limits.requestDeadLetters + 1)"#))
            #expect(server.intake.records.isEmpty)
            let accepted = try await server.post(Self.target, most)
            #expect(accepted.status == 202)
            #expect(accepted.body.contains(#""dead_lettered":\#(Limits.requestDeadLetters),"#))
            for answer in [refused, accepted] {
                #expect(answer.body.split(separator: #"{"index":"#).count - 1 == Limits.reportedProblems)
            }
            #expect(accepted.body.split(separator: sha256("x")).count - 1 == Limits.reportedProblems)
            #expect(server.intake.records.map(\.deadLetters.count) == [Limits.requestDeadLetters])
        }
    }

    @Test func anEventThatIsTooLargeIsKept() async throws {
        try await withServer({
            $0.maxBodyBytes = Limits.eventBytes + 100
        }) { server in
            let large = #"{"a":""# + String(repeating: "x", count: Limits.eventBytes) + #""}"#
            let response = try await server.post(Self.target, large + "\n{}\n", headers: Self.ndjson)
            #expect(response.status == 202)
            let record = try #require(server.intake.records.first)
            #expect(record.payloads == ["{}"])
            #expect(record.deadLetters.map(\.problem.kind) == ["too_large"])
            #expect(record.deadLetters.map(\.payload.count) == [large.utf8.count])
        }
    }

    // MARK: ack=inserted

    private static let waiting = "/v1/events?ack=inserted&on_error=dead_letter"

    @Test func lettersMadeAtOnceCountInTheEnd() async throws {
        try await withServer { server in
            server.operations.script.withLock {
                $0.report = InsertionReport(inserted: 1, deadLettered: 1, deadLetterIDs: ["later"])
            }
            let response = try await server.post(Self.waiting, "{}\n{}\n{\"event_id\":\"now\"")
            #expect(response.status == 200)
            #expect(
                response.body.hasPrefix(
                    #"{"accepted":2,"stream":"events","first_sequence":100,"last_sequence":101,"inserted":1,"#
                        + #""dead_lettered":2,"dead_letter_ids":["now","later"],"errors":[{"index":2,"#),
                "\(response.body)")
            #expect(server.operations.script.withLock { $0.asked.map(\.sequences) } == [100..<102])
        }
    }

    @Test func idsAreBoundedTogether() async throws {
        try await withServer { server in
            let ids = (0..<Limits.reportedProblems).map { "later\($0)" }
            server.operations.script.withLock {
                $0.report = InsertionReport(inserted: 0, deadLettered: 30, deadLetterIDs: ids)
            }
            let response = try await server.post(Self.waiting, "{}\n" + String(repeating: "x\n", count: 15))
            #expect(response.body.contains(#""dead_lettered":45,"#))
            #expect(response.body.contains("later4") && !response.body.contains("later5"))
        }
    }

    @Test func onlyGoodEventsAreWaitedFor() async throws {
        try await withServer { server in
            let response = try await server.post(Self.waiting, "x")
            #expect(response.status == 200)
            #expect(
                response.body.hasPrefix(
                    #"{"accepted":0,"stream":"events","inserted":0,"dead_lettered":1,"dead_letter_ids":["#))
            #expect(server.operations.script.withLock { $0.asked.isEmpty })
            let late = try await server.post(Self.waiting, "{}\nx")
            expectProblem(late, 504, "not_inserted_yet")
            #expect(late.body.contains(#""accepted":1,"#) && late.body.contains(#""dead_lettered":1,"#))
        }
    }

    @Test func nothingIsKeptOfWhatFindsNoRoom() async throws {
        try await withServer { server in
            server.intake.mode = .refuse(.full("the dead letters have reached their bound: retry or discard some"))
            for target in [Self.target, Self.waiting] {
                let response = try await server.post(target, "{}\nx")
                expectProblem(response, 503, "journal_full")
                #expect(response.headers["retry-after"] == "5")
                #expect(response.body.contains("retry or discard some") && !response.body.contains("dead_lettered"))
            }
        }
    }
}
