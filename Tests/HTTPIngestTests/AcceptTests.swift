import IngestCore
import NIOCore
import Synchronization
import Testing

/// Requests whose events are taken.
@Suite(.timeLimit(.minutes(1))) struct AcceptTests {
    @Test(arguments: [
        (#"{"event_id":"a","n":1}"#, "application/json", [#"{"event_id":"a","n":1}"#]),
        ("[{\"a\": 1}, {\"b\":2}\n]", "Application/JSON; charset=utf-8", [#"{"a": 1}"#, #"{"b":2}"#]),
        ("{\n\"a\":1\n}", "application/json", ["{\n\"a\":1\n}"]),
        ("{\"a\":1}\n\n{\"b\":2}\r\n", "application/x-ndjson", [#"{"a":1}"#, #"{"b":2}"#]),
        ("{\"a\":1}\n{\"b\":2}", "application/jsonl", [#"{"a":1}"#, #"{"b":2}"#]),
        ("{\"a\":1}\n{\"b\":2}", "text/plain", [#"{"a":1}"#, #"{"b":2}"#]),
        (#"{"a":1}"#, "application/x-www-form-urlencoded", [#"{"a":1}"#]),
        ("{\n\"a\":1}", "application/octet-stream", ["{\n\"a\":1}"]),
        ("[{}]", "", ["{}"]),
    ])
    func bodiesInAllForms(body: String, type: String, payloads: [String]) async throws {
        try await withServer { server in
            let headers = type.isEmpty ? [] : ["Content-Type: \(type)"]
            let response = try await server.post("/v1/events", body, headers: headers)
            #expect(response.status == 202)
            let (count, last) = (payloads.count, 99 + payloads.count)
            #expect(
                response.body
                    == #"{"accepted":\#(count),"stream":"events","first_sequence":100,"last_sequence":\#(last)}"#)
            #expect(response.headers["content-type"] == "application/json")
            #expect(response.headers["date"]?.hasSuffix(" GMT") == true)
            let record = try #require(server.intake.records.first)
            #expect(record.payloads == payloads)
            #expect(record.stream == Server.events.id)
            #expect(record.receivedAt > 1_600_000_000_000)
        }
    }

    @Test func pathChoosesTheStream() async throws {
        try await withServer { server in
            let named = try await server.post("/v1/events/clicks", "{}")
            #expect(
                named.body
                    == #"{"accepted":1,"stream":"shop.\"clicks\"","first_sequence":100,"last_sequence":100}"#)
            #expect(try await server.post("/v1/events/a%20b", "{}").status == 202)
            #expect(try await server.post("/v1/events/other", "{}").status == 202)
            #expect(server.intake.records.map(\.stream.rawValue) == [2, 2, 1])
        }
    }

    /// Guarantee 1: the answer comes behind the completion, and only there.
    @Test func answersOnlyOnceEventsAreDurable() async throws {
        try await withServer { server in
            server.intake.mode = .hold
            let connection = try await server.connect()
            let answered = Atomic(false)
            async let response = {
                try await connection.post("/v1/events", "{}")
                let response = try await connection.response()
                answered.store(true, ordering: .sequentiallyConsistent)
                return response
            }()
            try await server.intake.received(1)
            // The service has all the time to do wrong while it answers others.
            for _ in 0..<50 { #expect(try await server.get("/livez").status == 200) }
            let isTooEarly = answered.load(ordering: .sequentiallyConsistent)
            #expect(!isTooEarly)
            server.intake.release()
            #expect(try await response.status == 202)
        }
    }

    @Test func ackInsertedWaitsAndNamesDeadLetters() async throws {
        try await withServer { server in
            server.operations.script.withLock {
                $0.report = InsertionReport(inserted: 1, deadLettered: 1, deadLetterIDs: ["a\"\n\u{1}"])
            }
            let response = try await server.post("/v1/events?ack=inserted&timeout=1500ms", "[{},{}]")
            #expect(response.status == 200)
            #expect(
                response.body
                    == #"{"accepted":2,"stream":"events","first_sequence":100,"last_sequence":101,"#
                    + #""inserted":1,"dead_lettered":1,"dead_letter_ids":["a\"\n\u0001"]}"#)
            _ = try await server.post("/v1/events/clicks?ack=inserted", "{}")
            let asked = server.operations.script.withLock { $0.asked }
            #expect(asked.map(\.sequences) == [100..<102, 102..<103])
            #expect(asked.map(\.timeout) == [.milliseconds(1500), .seconds(10)])
            #expect(asked.map(\.stream) == [Server.events.id, Server.clicks.id])
        }
    }

    @Test func ackInsertedNamesTheSequencesWhenTheTimeIsUp() async throws {
        try await withServer { server in
            let response = try await server.post("/v1/events?ack=inserted&timeout=1s", "{}")
            #expect(response.status == 504)
            #expect(response.headers["content-type"] == "application/problem+json")
            #expect(response.body.contains(#""kind":"not_inserted_yet""#))
            #expect(
                response.body.hasSuffix(
                    #""accepted":1,"stream":"events","first_sequence":100,"last_sequence":100}"#))
        }
    }

    @Test func insertionIsNotAwaitedForRefusedEvents() async throws {
        try await withServer { server in
            server.intake.mode = .refuse(.overloaded)
            let response = try await server.post("/v1/events?ack=inserted", "{}")
            #expect(response.status == 503)
            #expect(server.operations.script.withLock { $0.asked.isEmpty })
        }
    }

    @Test func connectionsLiveOn() async throws {
        try await withServer { server in
            let connection = try await server.connect()
            for (body, status) in [("{}", 202), ("{", 400), ("[{}]", 202)] {
                try await connection.post("/v1/events", body)
                #expect(try await connection.response().status == status)
            }
            // Also behind requests that were rejected before their body was read.
            try await connection.post("/nowhere", String(repeating: "x", count: 50_000))
            #expect(try await connection.response().status == 404)
            try await connection.get("/livez")
            #expect(try await connection.response().status == 200)
        }
    }

    @Test func pipelinedRequestsAreAnsweredInOrder() async throws {
        try await withServer { server in
            let connection = try await server.connect()
            func request(_ body: String) -> String {
                "POST /v1/events HTTP/1.1\r\nHost: t\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
            }
            try await connection.send(request("{}") + request("[{},{}]") + request("no") + request("{}"))
            var answers: [String] = []
            for _ in 0..<4 {
                let response = try await connection.response()
                answers.append("\(response.status) \(response.body.prefix(13))")
            }
            #expect(answers[0] == #"202 {"accepted":1"#)
            #expect(answers[1] == #"202 {"accepted":2"#)
            #expect(answers[2].hasPrefix("400"))
            #expect(answers[3] == #"202 {"accepted":1"#)
        }
    }

    @Test func aSlowChunkedBodyArrivesWhole() async throws {
        try await withServer { server in
            let connection = try await server.connect()
            try await connection.send("POST /v1/events HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
            let body = "{\"event_id\":\"é\"}\n{\"b\":[1,2]}\n"
            for byte in body.utf8 {
                try await connection.send(ByteBuffer(bytes: Array("1\r\n".utf8) + [byte] + Array("\r\n".utf8)))
            }
            try await connection.send("0\r\n\r\n")
            #expect(try await connection.response().status == 202)
            #expect(server.intake.records.first?.payloads == ["{\"event_id\":\"é\"}", "{\"b\":[1,2]}"])
            #expect(server.intake.records.first?.ids == ["é", nil])
        }
    }

    @Test func expectContinueIsAnswered() async throws {
        try await withServer { server in
            let connection = try await server.connect()
            try await connection.send(
                "POST /v1/events HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            #expect(try await connection.response().status == 100)
            try await connection.send("{}")
            #expect(try await connection.response().status == 202)
        }
    }

    @Test func manyRequestsInParallel() async throws {
        try await withServer { server in
            try await withThrowingTaskGroup(of: [String].self) { group in
                for client in 0..<32 {
                    group.addTask {
                        let connection = try await server.connect()
                        var bodies: [String] = []
                        for request in 0..<10 {
                            let body = #"[{"event_id":"\#(client)-\#(request)"},{"c":\#(client)}]"#
                            try await connection.post("/v1/events", body)
                            bodies.append(try await connection.response().body)
                        }
                        return bodies
                    }
                }
                var answers: Set<String> = []
                for try await bodies in group { answers.formUnion(bodies) }
                let expected = (0..<320).map { request in
                    let first = 100 + 2 * request
                    return #"{"accepted":2,"stream":"events","first_sequence":\#(first),"last_sequence":\#(first + 1)}"#
                }
                #expect(answers == Set(expected))
            }
            let ids = server.intake.records.compactMap(\.ids.first).compactMap { $0 }
            #expect(Set(ids).count == 320)
        }
    }

    @Test func largeBodiesComeInManyPieces() async throws {
        try await withServer { server in
            let lines = (0..<20_000).map { #"{"event_id":\#($0),"text":"\#(String(repeating: "é", count: 50))"}"# }
            let response = try await server.post("/v1/events", lines.joined(separator: "\n"))
            #expect(response.status == 202)
            #expect(server.intake.records.first?.payloads == lines)
        }
    }
}
