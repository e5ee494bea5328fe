import HTTPIngest
import IngestCore
import MetricsTestKit
import TestSupport
import Testing

/// Requests that are answered on their connection's event loop, beside those that a task serves.
@Suite(.timeLimit(.minutes(1))) struct DirectIngestTests {
    /// With a known length, so answered on the event loop.
    private func direct(_ body: String) -> String {
        "POST /v1/events HTTP/1.1\r\nHost: t\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    /// Its length is not known before its end, so the task's.
    private func chunked(_ body: String) -> String {
        "POST /v1/events HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n\(body.utf8.count)\r\n\(body)\r\n0\r\n\r\n"
    }

    private let live = "GET /livez HTTP/1.1\r\nHost: t\r\n\r\n"

    @Test func ordersAreKeptBetweenBothKinds() async throws {
        try await withServer { server in
            let connection = try await server.connect()
            var text = ""
            for number in 0..<60 {
                let body = "{\"n\":\(number + 100)}"
                text += [direct(body), chunked(body), live, chunked(body) + live][number % 4]
            }
            try await connection.send(text)
            for number in 0..<60 {
                if number % 4 != 2 { #expect(try await connection.response().status == 202) }
                if number % 4 > 1 { #expect(try await connection.response().status == 200) }
            }
            let sent = (0..<60).filter { $0 % 4 != 2 }.map { "{\"n\":\($0 + 100)}" }
            #expect(server.intake.records.flatMap(\.payloads) == sent)
        }
    }

    /// They are encoded in another way, which nobody can tell.
    @Test(arguments: ["{\"n\":1}", "{\"n\":", "\n"])
    func answersOfBothKindsAreAlike(body: String) async throws {
        try await withServer { server in
            let connection = try await server.connect()
            var answers: [RawConnection.Response] = []
            for request in [direct(body), chunked(body)] {
                try await connection.send(request)
                answers.append(try await connection.response())
            }
            #expect(answers[0].status == (body.contains("}") ? 202 : 400) && answers[0].status == answers[1].status)
            // Sequences and times differ.
            let known = answers.map { answer in
                (answer.headers.map { "\($0): \($1)" }.sorted() + [answer.body]).map { $0.filter { !$0.isNumber } }
            }
            #expect(known[0] == known[1] && answers[0].headers.count == 3, "\(known)")
        }
    }

    @Test func whatComesBehindWaitsForTheAnswer() async throws {
        try await withServer { server in
            server.intake.mode = .hold
            let connection = try await server.connect()
            try await connection.send(direct("{\"n\":1}") + chunked("{\"n\":2}") + direct("{\"n\":3}") + live)
            try await server.intake.received(1)
            // Other connections do not wait for it.
            #expect(try await server.get("/livez").status == 200)
            #expect(server.intake.records.count == 1)
            server.intake.mode = .accept
            server.intake.release()
            for status in [202, 202, 202, 200] { #expect(try await connection.response().status == status) }
            #expect(server.intake.records.flatMap(\.payloads) == ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"])
        }
    }

    /// `nc -N` and others close their side behind the last request.
    @Test func whoEndsSendingIsAnswered() async throws {
        try await withServer { server in
            server.intake.mode = .hold
            let connection = try await server.connect()
            try await connection.post("/v1/events", "{}")
            try await server.intake.received(1)
            try await connection.finishSending()
            // The end has come once this one, sent later, is answered.
            #expect(try await server.get("/livez").status == 200)
            server.intake.release()
            #expect(try await connection.response().status == 202)
            #expect(await connection.closed() == "")
        }
    }

    @Test func nothingIsTakenBehindAnAnswerThatEndsTheConnection() async throws {
        try await withServer { server in
            server.intake.mode = .refuse(.shuttingDown)
            let connection = try await server.connect()
            try await connection.send(direct("{\"n\":1}") + direct("{\"n\":2}") + direct("{\"n\":3}"))
            let response = try await connection.response()
            expectProblem(response, 503, "shutting_down")
            #expect(response.headers["connection"] == "close")
            #expect(await connection.closed() == "")
            #expect(server.intake.records.count == 1)
        }
    }

    /// What a body takes of the bytes for all is given back, however the request ends.
    @Test func bodiesDoNotLeak() async throws {
        try await withServer({
            $0.maxBodyBytes = 1_000
            $0.maxBufferedBytes = 1_000
            $0.idleTimeout = .milliseconds(50)
        }) { server in
            let event = "{\"a\":\"" + String(repeating: "x", count: 850) + "\"}"
            let bad = "{" + event
            for (body, status) in [(event, 202), (bad, 400)] {
                for _ in 0..<3 { #expect(try await server.post("/v1/events", body).status == status) }
            }
            for ending in 0..<3 {
                let connection = try await server.connect()
                try await connection.send(String(direct(event).dropLast()))
                if ending == 0 { try await connection.reset() }
                if ending == 1 {
                    try await connection.finishSending()
                    expectProblem(try await connection.response(), 400, "malformed_request")
                }
                if ending == 2 { expectProblem(try await connection.response(), 408, "request_timeout") }
                try await eventually("there is room again") {
                    try await server.post("/v1/events", event).status == 202
                }
            }
        }
    }

    @Test func eventsCountAlsoIfTheClientHasGone() async throws {
        let metrics = TestMetrics()
        try await withServer(metrics: metrics) { server in
            server.intake.mode = .hold
            let connection = try await server.connect()
            try await connection.post("/v1/events", "{}")
            try await server.intake.received(1)
            try await connection.reset()
            #expect(try await server.get("/livez").status == 200)
            server.intake.release()
            let accepted = try metrics.expectCounter(
                "ingest_events_total", [("source", "http"), ("stream", "events"), ("result", "accepted")])
            try await eventually("it is counted") { accepted.totalValue == 1 }
        }
    }
}
