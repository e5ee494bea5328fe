import HTTPIngest
import IngestCore
import TestSupport
import Testing

/// CloudEvents in HTTP's three modes.
@Suite(.timeLimit(.minutes(1))) struct CloudEventRequestTests {
    private static let headers = [
        "ce-specversion: 1.0", "ce-id: a-1", "ce-source: /shop", "ce-type: order", "ce-time: 2026-11-23T01:58:00Z",
        "ce-traceparent: 00-1-2-01", "Content-Type: application/json; charset=utf-8",
    ]

    private func headers(without name: String = "", _ others: String...) -> [String] {
        Self.headers.filter { name.isEmpty || !$0.hasPrefix(name + ":") } + others
    }

    // MARK: Binary

    @Test func theHeaderIsTheID() async throws {
        try await withServer { server in
            let requests: [(body: String, headers: [String], id: String)] = [
                (#"{"n":1}"#, headers(), "a-1"),
                (#"{"id":"no","event_id":null}"#, headers(), "a-1"),
                (#"{"event_id":"own"}"#, headers(), "own"),
                ("{}", headers(without: "Content-Type"), "a-1"),
                ("{\n}", headers(without: "Content-Type", "Content-Type: application/vnd.shop.order+json"), "a-1"),
                // The standard's own example, as it is now and as it was.
                ("{}", headers(without: "ce-id", "CE-ID: Euro%20%E2%82%AC%20%F0%9F%98%80"), "Euro € 😀"),
                ("{}", headers(without: "ce-id", #"ce-id: "Euro \"%e2%82%ac\" \\""#), #"Euro "€" \"#),
                ("{}", headers(without: "ce-id", "ce-id: 100%2525"), "100%25"),
                (
                    "{}", headers(without: "ce-id", "ce-id: " + String(repeating: "%C3%A9", count: 512)),
                    String(repeating: "é", count: 512)
                ),
            ]
            for request in requests {
                let response = try await server.post("/v1/events/clicks", request.body, headers: request.headers)
                #expect(response.status == 202, "\(response.body)")
                let record = try #require(server.intake.records.last)
                #expect(record.ids == [request.id])
                #expect(record.payloads == [request.body])
                #expect(record.stream == Server.clicks.id)
            }
            let compressed = try await server.connect()
            try await compressed.post(
                "/v1/events", Compression.zstd.compress("{}"), headers: headers("Content-Encoding: zstd"))
            #expect(try await compressed.response().status == 202)
            #expect(server.intake.records.last?.ids == ["a-1"])
        }
    }

    @Test func whatIsMissingIsNamed() async throws {
        try await withServer { server in
            for name in ["ce-id", "ce-source", "ce-type", "ce-specversion"] {
                for other in [nil, "\(name):"] {
                    let response = try await server.post(
                        "/v1/events", "{}", headers: headers(without: name) + [other].compactMap { $0 })
                    expectProblem(response, 400, "invalid_cloudevent")
                    #expect(response.body.contains("missing: \(name)\""), "\(response.body)")
                }
            }
            let response = try await server.post("/v1/events", "{}", headers: ["ce-id: a"])
            #expect(response.body.contains("missing: ce-source, ce-type, ce-specversion\""))
            #expect(server.intake.records.isEmpty)
        }
    }

    @Test(arguments: [
        ("ce-specversion", "ce-specversion: 0.3", "send 1.0"), ("ce-id", "ce-id: 100%", "percent-encoded"),
        ("ce-id", "ce-id: %C0%A0", "percent-encoded"), ("ce-id", #"ce-id: """#, "empty ce-id"),
        ("ce-id", "ce-id: " + String(repeating: "x", count: 1_025), "1024 are the most"),
        ("", "ce-id: second", "more than one ce-id"),
    ])
    func badHeadersAreTold(name: String, header: String, words: String) async throws {
        try await withServer { server in
            let response = try await server.post("/v1/events", "{}", headers: headers(without: name, header))
            expectProblem(response, 400, "invalid_cloudevent")
            #expect(response.body.contains(words), "\(response.body)")
            #expect(server.intake.records.isEmpty)
        }
    }

    @Test func theDataIsOneObject() async throws {
        try await withServer { server in
            for body in ["[{}]", "{}\n{}", "1", #""text""#] {
                let response = try await server.post("/v1/events", body, headers: headers())
                expectProblem(response, 400, "invalid_events")
                #expect(response.body.contains("1 of 1 events"))
            }
            expectProblem(try await server.post("/v1/events", "", headers: headers()), 400, "empty")
            for type in ["application/x-ndjson", "text/plain", "application/xml"] {
                let response = try await server.post(
                    "/v1/events", "{}", headers: headers(without: "Content-Type", "Content-Type: \(type)"))
                expectProblem(response, 415, "unsupported_type")
            }
            #expect(server.intake.records.isEmpty)
            let kept = try await server.post("/v1/events?on_error=dead_letter", #"{"n":01}"#, headers: headers())
            #expect(kept.status == 202)
            #expect(server.intake.records.last?.deadLetters.map(\.eventID) == ["a-1"])
        }
    }

    // MARK: Structured and batched

    private static let structured = ["Content-Type: application/cloudevents+json; charset=UTF-8"]
    private static let batched = ["Content-Type: Application/CloudEvents-Batch+JSON"]

    private static func event(_ id: String, more: String = "") -> String {
        #"{ "specversion":"1.0","id":"\#(id)","source":"/s","type":"t"\#(more),"data":{"id":7} }"#
    }

    @Test func theEnvelopeIsThePayload() async throws {
        try await withServer { server in
            let event = Self.event("a")
            // Headers that say the same don't matter.
            for headers in [Self.structured, Self.structured + ["ce-id: a", "ce-specversion: 1.0"]] {
                #expect(try await server.post("/v1/events", event, headers: headers).status == 202)
                #expect(server.intake.records.last?.payloads == [event])
                #expect(server.intake.records.last?.ids == ["a"])
            }
            let own = Self.event("a", more: #","event_id":"own""#)
            #expect(try await server.post("/v1/events", own, headers: Self.structured).status == 202)
            #expect(server.intake.records.last?.ids == ["own"])
            for body in ["[\(event)]", "\(event)\n\(event)"] {
                let response = try await server.post("/v1/events", body, headers: Self.structured)
                expectProblem(response, 400, "invalid_events")
            }
        }
    }

    @Test func aBatchIsAnArray() async throws {
        try await withServer { server in
            let response = try await server.post(
                "/v1/events", "\r\n\t [\(Self.event("a")),\n\(Self.event("b"))]", headers: Self.batched)
            #expect(response.status == 202)
            #expect(server.intake.records.map(\.ids) == [["a", "b"]])
            for body in [Self.event("a"), "{}\n{}", "1"] {
                let refused = try await server.post("/v1/events", body, headers: Self.batched)
                expectProblem(refused, 400, "invalid_cloudevent")
            }
            expectProblem(try await server.post("/v1/events", " ", headers: Self.batched), 400, "empty")
        }
    }

    /// "The batch MAY be empty": there is nothing to do, and that succeeds.
    @Test func anEmptyBatchIsAccepted() async throws {
        try await withServer { server in
            for body in ["[]", " [\n] "] {
                let response = try await server.post("/v1/events", body, headers: Self.batched)
                #expect(response.status == 202)
                #expect(response.body == #"{"accepted":0,"stream":"events"}"#)
            }
            let inserted = try await server.post(
                "/v1/events?ack=inserted&on_error=dead_letter", "[]", headers: Self.batched)
            #expect(inserted.status == 200)
            #expect(inserted.body.contains(#""accepted":0,"stream":"events","inserted":0,"#), "\(inserted.body)")
            #expect(server.intake.records.isEmpty)
            expectProblem(try await server.post("/v1/events", "[", headers: Self.batched), 400, "invalid_events")
        }
    }

    @Test func badOnesAreNamed() async throws {
        try await withServer { server in
            let broken = Self.event("b").replacing(#","type":"t""#, with: "")
            let body = "[\(Self.event("a")),\(broken),{}]"
            let response = try await server.post("/v1/events", body, headers: Self.batched)
            expectProblem(response, 400, "invalid_events")
            #expect(response.body.contains("2 of 3 events"))
            #expect(
                response.body.contains(
                    #"{"index":1,"byte_offset":\#(Self.event("a").utf8.count + 2),"kind":"invalid_cloudevent","#
                        + #""detail":"a CloudEvent needs \"type\""}"#), "\(response.body)")
            #expect(response.body.contains(#"needs \"id\", \"source\", \"specversion\", \"type\""#))
            let kept = try await server.post("/v1/events?on_error=dead_letter", body, headers: Self.batched)
            #expect(kept.status == 202)
            let record = try #require(server.intake.records.last)
            #expect(record.ids == ["a"])
            #expect(record.deadLetters.map(\.problem.kind) == ["invalid_cloudevent", "invalid_cloudevent"])
            #expect(record.deadLetters.first?.eventID == "b")
        }
    }

    @Test func otherFormatsAreRefused() async throws {
        try await withServer { server in
            for type in [
                "application/cloudevents", "application/cloudevents+avro", "application/cloudevents-batch+xml",
            ] {
                for more in [[], ["ce-specversion: 1.0"]] {
                    let response = try await server.post("/v1/events", "{}", headers: ["Content-Type: \(type)"] + more)
                    expectProblem(response, 415, "unsupported_type")
                }
            }
        }
    }
}
