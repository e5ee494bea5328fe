import HTTPIngest
import IngestCore
import Testing

/// The header `traceparent` (W3C Trace Context).
@Suite(.timeLimit(.minutes(1))) struct TraceHeaderTests {
    private static let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    private static let other = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    private static let cloudEvent = ["ce-specversion: 1.0", "ce-id: a", "ce-source: /s", "ce-type: t"]

    /// Sends a request and expects that its events are kept with these traces.
    private func expect(
        _ traces: [String?], _ server: Server, _ headers: [String], _ body: String = "{}",
        to target: String = "/v1/events", sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let response = try await server.post(target, body, headers: headers)
        #expect(response.status == 202 || response.status == 200, "\(response.body)", sourceLocation: sourceLocation)
        #expect(server.intake.records.last?.traces == traces, sourceLocation: sourceLocation)
    }

    @Test func allEventsOfARequestShareIt() async throws {
        try await withServer { server in
            // Ids of each kind: of the payload, with escapes, derived; more events than the first buffer has room for.
            let body = "{\"event_id\":\"a\"}\n{\"event_id\":\"\\u0061\"}\n" + String(repeating: "{}\n", count: 1_000)
            let expected = [String?](repeating: Self.valid, count: 1_002)
            try await expect(expected, server, ["TraceParent: \(Self.valid)", "tracestate: a=b"], body)
            let record = try #require(server.intake.records.last)
            #expect(record.payloads.joined(separator: "\n") + "\n" == body)
            #expect(record.ids[..<3] == ["a", "a", nil])
            // The next request on the way has none of it.
            try await expect([String?](repeating: nil, count: 1_002), server, [], body)
            #expect(server.intake.records.last?.byteCount == record.byteCount - 96 * 1_002)
        }
    }

    @Test(arguments: [
        ["traceparent: nonsense"], ["traceparent:"], ["traceparent: \(valid.uppercased())"],
        ["traceparent: \(valid)", "traceparent: \(valid)"], ["traceparent: \(valid), \(other)"],
        // An attribute without a CloudEvent in binary mode.
        ["ce-traceparent: \(valid)"],
    ])
    func whatIsNotValidIsIgnored(headers: [String]) async throws {
        try await withServer { server in
            try await expect([nil], server, headers)
        }
    }

    @Test func theAttributeOfACloudEventComesFirst() async throws {
        try await withServer { server in
            let header = "traceparent: \(Self.valid)"
            try await expect([Self.valid], server, Self.cloudEvent + [header])
            try await expect([Self.other], server, Self.cloudEvent + [header, "ce-traceparent: \(Self.other)"])
            try await expect([Self.other], server, Self.cloudEvent + ["ce-traceparent: \(Self.other)"])
            try await expect([Self.valid], server, Self.cloudEvent + [header, "ce-traceparent: 1"])
            // In the other modes attributes are payload.
            let structured = #"{"specversion":"1.0","id":"a","source":"/s","type":"t","traceparent":"\#(Self.other)"}"#
            let type = "Content-Type: application/cloudevents+json"
            try await expect([Self.valid], server, [header, type], structured)
            try await expect([nil], server, [type], structured)
        }
    }

    @Test func badEventsKeepItToo() async throws {
        try await withServer { server in
            let target = "/v1/events?on_error=dead_letter"
            try await expect([Self.valid], server, ["traceparent: \(Self.valid)"], "{}\n{bad\n", to: target)
            #expect(server.intake.records.last?.deadLetters.map(\.traceparent) == [Self.valid])
            try await expect([nil], server, [], "{}\n{bad\n", to: target)
            #expect(server.intake.records.last?.deadLetters.map(\.traceparent) == [nil])
        }
    }

    @Test func clickHousesInterfaceTakesIt() async throws {
        try await withClickHouseServer { server in
            let insert = target(query: "INSERT INTO events FORMAT JSONEachRow")
            try await expect(
                [Self.valid, Self.valid], server, ["traceparent: \(Self.valid)"], "{\"a\":1}\n{\"a\":2}\n", to: insert)
            try await expect([nil], server, [], "{\"a\":1}", to: insert)
        }
    }

    /// A client that sends a request again does so in another span.
    @Test func aRepeatedRequestMayHaveAnother() async throws {
        try await withServer { server in
            let key = "Idempotency-Key: k"
            try await expect([Self.valid], server, [key, "traceparent: \(Self.valid)"])
            try await expect([Self.other], server, [key, "traceparent: \(Self.other)"])
            let requests = server.intake.records.map(\.request)
            #expect(requests.count == 2 && requests[0] != nil && requests[0] == requests[1])
        }
    }
}
