import HTTPIngest
import IngestCore
import NIOCore
import Testing

/// Requests that are refused: nothing of them is handed over.
@Suite(.timeLimit(.minutes(1))) struct RefuseTests {
    @Test func invalidEventsAreNamed() async throws {
        try await withServer { server in
            let response = try await server.post(
                "/v1/events", "{\"a\":1}\n{\"b\":01}\n{\"event_id\":[]}\n",
                headers: ["Content-Type: application/x-ndjson"])
            expectProblem(response, 400, "invalid_events")
            #expect(
                response.body.hasSuffix(
                    #""error_count":2,"errors":[{"index":1,"byte_offset":13,"kind":"invalid_json","#
                        + #""detail":"not a JSON number"},{"index":2,"byte_offset":29,"kind":"invalid_event_id","#
                        + #""detail":"\"event_id\" is neither a string nor an integer"}]}"#), "\(response.body)")
            #expect(server.intake.records.isEmpty)
        }
    }

    @Test func problemsAreBounded() async throws {
        try await withServer { server in
            let response = try await server.post("/v1/events", String(repeating: "x\n", count: 1_000))
            expectProblem(response, 400, "invalid_events")
            #expect(response.body.contains(#""error_count":1000"#))
            #expect(response.body.split(separator: #"{"index":"#).count - 1 == Limits.reportedProblems)
        }
    }

    @Test(arguments: ["", " \n", "[]", "\n\n\r\n"])
    func bodiesWithoutEvents(body: String) async throws {
        try await withServer { server in
            let response = try await server.post("/v1/events", body)
            #expect(response.status == 400)
            #expect(server.intake.records.isEmpty)
        }
    }

    @Test(arguments: [
        "ack=durable", "ack=", "ack", "timeout=1s", "ack=inserted&timeout=1", "ack=inserted&timeout=0s",
        "ack=inserted&timeout=6m", "ack=inserted&timeout=-1s", "on_error=skip", "on_error",
        "on_error=dead_letter&on_error=dead_letter",
        "akc=inserted", "ack=inserted%", "ack=inserted&ack=inserted", "%=1",
    ])
    func unknownParameters(query: String) async throws {
        try await withServer { server in
            expectProblem(try await server.post("/v1/events?\(query)", "{}"), 400, "bad_parameter")
            #expect(server.intake.records.isEmpty)
        }
    }

    @Test(arguments: [
        ("Content-Type: text/csv", "{}"), ("Content-Type: multipart/form-data; boundary=x", "{}"),
        ("Content-Encoding: br", "{}"),
        ("Content-Encoding: identity, br", "{}"),
    ])
    func unsupportedTypes(header: String, body: String) async throws {
        try await withServer { server in
            expectProblem(
                try await server.post("/v1/events", body, headers: [header]), 415, "unsupported_type")
            #expect(try await server.post("/v1/events", body, headers: ["Content-Encoding: identity"]).status == 202)
            #expect(server.intake.records.count == 1)
        }
    }

    @Test func pathsAndMethods() async throws {
        try await withServer { server in
            for path in ["/v1", "/v1/events/", "/v1/events/a/b", "/v1/events/%zz", "/v1/events/%ff", "/LIVEZ"] {
                expectProblem(try await server.post(path, "{}"), 404, "not_found")
            }
            let get = try await server.get("/v1/events")
            expectProblem(get, 405, "method_not_allowed")
            #expect(get.headers["allow"] == "POST, OPTIONS")
            let post = try await server.post("/metrics", "")
            expectProblem(post, 405, "method_not_allowed")
            #expect(post.headers["allow"] == "GET, HEAD, OPTIONS")
        }
    }

    @Test func tokenIsRequiredForIngestOnly() async throws {
        try await withServer({ $0.token = "s3cret" }) { server in
            let none = try await server.post("/v1/events", "{}")
            expectProblem(none, 401, "unauthorized")
            #expect(none.headers["www-authenticate"] == "Bearer")
            let basic = try await server.post("/v1/events", "{}", headers: ["Authorization: Basic s3cret"])
            expectProblem(basic, 401, "unauthorized")
            for wrong in ["s3cre", "s3crets", "S3cret", "s3cres", "x"] {
                let response = try await server.post("/v1/events/x", "{}", headers: ["Authorization: Bearer \(wrong)"])
                expectProblem(response, 403, "forbidden")
            }
            #expect(server.intake.records.isEmpty)
            let right = try await server.post("/v1/events", "{}", headers: ["Authorization: bearer s3cret"])
            #expect(right.status == 202)
            #expect(try await server.get("/livez").status == 200)
        }
    }

    @Test(arguments: [
        (IntakeError.full("the disk of /j is full: make room there"), "journal_full"), (.overloaded, "overloaded"),
        (.shuttingDown, "shutting_down"), (.storage("EIO"), "storage"),
    ])
    func refusalsOfTheJournal(error: IntakeError, kind: String) async throws {
        try await withServer { server in
            server.intake.mode = .refuse(error)
            let response = try await server.post("/v1/events", "{}")
            expectProblem(response, 503, kind)
            #expect(response.body.contains(error.description))
            #expect(response.headers["retry-after"].flatMap { Int($0) }.map { $0 > 0 } == true)
        }
    }

    // MARK: Size

    private func event(_ size: Int) -> String { #"{"a":""# + String(repeating: "x", count: size - 8) + #""}"# }

    private func chunk(_ text: String) -> String { String(text.utf8.count, radix: 16) + "\r\n\(text)\r\n" }

    private static let chunkedHead = "POST /v1/events HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"

    @Test func bodiesUpToTheLimit() async throws {
        try await withServer({ $0.maxBodyBytes = 10_000 }) { server in
            #expect(try await server.post("/v1/events", event(10_000)).status == 202)
            expectProblem(try await server.post("/v1/events", event(10_001)), 413, "too_large")
            for (size, status) in [(10_000, 202), (10_001, 413)] {
                let connection = try await server.connect()
                let text = event(size)
                try await connection.send(
                    Self.chunkedHead + chunk(String(text.prefix(6_000))) + chunk(String(text.dropFirst(6_000)))
                        + "0\r\n\r\n")
                #expect(try await connection.response().status == status)
            }
            #expect(server.intake.records.map { $0.payloads[0].utf8.count } == [10_000, 10_000])
        }
    }

    @Test func announcedLargeBodyIsRefusedUnread() async throws {
        try await withServer({ $0.maxBodyBytes = 10_000 }) { server in
            let connection = try await server.connect()
            try await connection.send("POST /v1/events HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000000\r\n\r\n")
            let response = try await connection.response()
            expectProblem(response, 413, "too_large")
            #expect(response.headers["connection"] == "close")
            #expect(await connection.closed() == "")
        }
    }

    @Test func endlessBodyIsRefusedWhenItPassesTheLimit() async throws {
        try await withServer({ $0.maxBodyBytes = 10_000 }) { server in
            let connection = try await server.connect()
            try await connection.send(Self.chunkedHead)
            for _ in 0..<11 { try await connection.send(chunk(String(repeating: "x", count: 1_000))) }
            let response = try await connection.response()
            expectProblem(response, 413, "too_large")
            #expect(response.headers["connection"] == "close")
            #expect(await connection.closed() == "")
        }
    }

    @Test func expectContinueIsNotAnsweredForARefusedRequest() async throws {
        try await withServer({ $0.token = "t" }) { server in
            let connection = try await server.connect()
            try await connection.send(
                "POST /v1/events HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            let response = try await connection.response()
            #expect(response.status == 401)
            #expect(response.headers["connection"] == "close")
            #expect(await connection.closed() == "")
        }
    }

    @Test func bodiesInTransitAreBoundedTogether() async throws {
        try await withServer({
            $0.maxBodyBytes = 1_000
            $0.maxBufferedBytes = 1_500
        }) { server in
            let slow = try await server.connect()
            let text = event(1_000)
            try await slow.send(
                "POST /v1/events HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n" + text.prefix(900))
            // Once those have arrived there is no room for as many again.
            var response = try await server.post("/v1/events", text)
            while response.status == 202 { response = try await server.post("/v1/events", text) }
            expectProblem(response, 503, "overloaded")
            #expect(response.headers["retry-after"] == "1")
            try await slow.send(String(text.dropFirst(900)))
            #expect(try await slow.response().status == 202)
            #expect(try await server.post("/v1/events", text).status == 202)
        }
    }

    // MARK: Clients that go away

    enum Departure: CaseIterable { case finishes, closes, resets }
    enum Framing: CaseIterable { case length, chunked }

    @Test(arguments: Departure.allCases, Framing.allCases)
    func aClientThatGoesAwayLeavesNothing(departure: Departure, framing: Framing) async throws {
        try await withServer { server in
            var connection: RawConnection? = try await server.connect()
            switch framing {
            case .length:
                try await connection?.send(
                    "POST /v1/events HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n{\"a\":1}\n")
            case .chunked: try await connection?.send(Self.chunkedHead + chunk("{\"a\":1}\n"))
            }
            // The bytes are there before the end is.
            for _ in 0..<3 { #expect(try await server.get("/livez").status == 200) }
            switch departure {
            case .finishes:
                try await connection?.finishSending()
                let rest = await connection?.closed() ?? ""
                #expect(rest.isEmpty || rest.hasPrefix("HTTP/1.1 400"))
            case .closes: connection = nil
            case .resets: try await connection?.reset()
            }
            // Stopping waits for all requests in progress: it would hang on one that had been forgotten.
            try await server.service.stop()
            #expect(server.intake.records.isEmpty)
        }
    }

    @Test func stalledRequestsAreCutOff() async throws {
        try await withServer({ $0.idleTimeout = .milliseconds(50) }) { server in
            let connection = try await server.connect()
            try await connection.send("POST /v1/events HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\n{}")
            _ = await connection.closed()
            #expect(server.intake.records.isEmpty)
        }
    }

    @Test func whatIsNotHTTPIsRefused() async throws {
        try await withServer { server in
            let connection = try await server.connect()
            try await connection.send("what?\r\n\r\n")
            #expect(await connection.closed().hasPrefix("HTTP/1.1 400"))
        }
    }
}
