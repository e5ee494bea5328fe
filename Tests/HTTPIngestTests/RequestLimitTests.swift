import HTTPIngest
import IngestCore
import Testing

/// Events of a request, bytes of an event, levels of its nesting.
@Suite(.timeLimit(.minutes(1))) struct RequestLimitTests {
    private static let keeping = "/v1/events?on_error=dead_letter"

    @Test func eventsOfARequest() async throws {
        try await withServer({ $0.maxRequestEvents = 300 }) { server in
            func lines(_ count: Int) -> String { String(repeating: "{}\n", count: count) }
            #expect(try await server.post("/v1/events", lines(300)).status == 202)
            for target in ["/v1/events", Self.keeping] {
                for body in [lines(301), lines(200) + String(repeating: "x\n", count: 101), lines(100_000)] {
                    let connection = try await server.connect()
                    try await connection.post(target, body)
                    let response = try await connection.response()
                    expectProblem(response, 413, "too_many_events")
                    #expect(response.body.contains("more than 300 events"))
                    // The body was read: the connection goes on.
                    try await connection.post(target, "{}")
                    #expect(try await connection.response().status == 202)
                }
            }
            #expect(server.intake.records.map(\.payloads.count) == [300, 1, 1, 1, 1, 1, 1])
        }
    }

    @Test func bytesOfAnEvent() async throws {
        try await withServer({ $0.maxEventBytes = 100 }) { server in
            func event(_ size: Int) -> String { #"{"a":""# + String(repeating: "x", count: size - 8) + #""}"# }
            for (body, offset) in [("{}\n\(event(101))", 3), ("[{},\(event(101))]", 4)] {
                #expect(try await server.post("/v1/events", body.replacing("xx", with: "x")).status == 202)
                let refused = try await server.post("/v1/events", body)
                expectProblem(refused, 400, "invalid_events")
                #expect(
                    refused.body.contains(
                        #""index":1,"byte_offset":\#(offset),"kind":"too_large","detail":"larger than 100 bytes""#),
                    "\(refused.body)")
                let kept = try await server.post(Self.keeping, body)
                #expect(kept.status == 202)
                let letters = try #require(server.intake.records.last?.deadLetters)
                #expect(letters.map(\.problem.kind) == ["too_large"])
                #expect(letters.map(\.payload) == [Array(event(101).utf8)])
            }
            #expect(try await server.post("/v1/events", event(100)).status == 202)
        }
    }

    @Test func levelsOfNesting() async throws {
        try await withServer { server in
            func nested(_ depth: Int) -> String {
                #"{"a":"# + String(repeating: "[", count: depth - 1) + String(repeating: "]", count: depth - 1) + "}"
            }
            #expect(try await server.post("/v1/events", nested(Limits.jsonDepth)).status == 202)
            for depth in [Limits.jsonDepth + 1, 1_000_000] {
                let refused = try await server.post("/v1/events", "{}\n" + nested(depth))
                expectProblem(refused, 400, "invalid_events")
                #expect(
                    refused.body.contains(
                        #""index":1,"byte_offset":\#(3 + 5 + Limits.jsonDepth - 1),"kind":"invalid_json","#
                            + #""detail":"nested deeper than \#(Limits.jsonDepth) levels""#), "\(refused.body)")
            }
        }
    }
}
