import HTTPIngest
import IngestCore
import Synchronization
import TestSupport
import Testing

/// `Idempotency-Key`.
@Suite(.timeLimit(.minutes(1))) struct IdempotencyTests {
    private func post(
        _ server: Server, _ body: String, key: String?, target: String = "/v1/events", headers: [String] = []
    ) async throws -> RawConnection.Response {
        try await server.post(target, body, headers: headers + (key.map { ["Idempotency-Key: \($0)"] } ?? []))
    }

    @Test func theKeyNamesTheRequest() async throws {
        try await withServer { server in
            func request(
                _ body: String, key: String?, target: String = "/v1/events", headers: [String] = []
            ) async throws -> RequestKey? {
                let response = try await post(server, body, key: key, target: target, headers: headers)
                #expect(response.status == 202)
                #expect(response.headers["idempotency-replayed"] == nil)
                return try #require(server.intake.records.last).request
            }
            #expect(try await request("{}", key: nil) == nil)
            let first = try #require(try await request("{}", key: "k1"))
            // With quotes or without, and whatever the answer is to wait for.
            #expect(try await request("{}", key: #""k1""#) == first)
            let (bare, quoted) = (#"k\"1"#, #""k\\\"1""#)
            let escaped = try await request("{}", key: bare)
            #expect(try await request("{}", key: quoted) == escaped)
            // Another stream has keys of its own.
            #expect(try await request("{}", key: "k1", target: "/v1/events/clicks")?.key != first.key)
            #expect(try await request("{}", key: "K1")?.key != first.key)
            // The same key with another meaning.
            let others = [
                try await request("{} ", key: "k1"),
                try await request("{}", key: "k1", target: "/v1/events?on_error=dead_letter"),
                try await request("{}", key: "k1", headers: ["Content-Type: application/json"]),
                try await request(
                    "{}", key: "k1", headers: ["ce-id: 1", "ce-source: s", "ce-type: t", "ce-specversion: 1.0"]),
            ]
            for other in others {
                #expect(other?.key == first.key && other?.fingerprint != first.fingerprint)
            }
            // How it was compressed does not matter.
            let connection = try await server.connect()
            try await connection.post(
                "/v1/events", Compression.gzip.compress("{}"),
                headers: ["Content-Encoding: gzip", "Idempotency-Key: k1"])
            #expect(try await connection.response().status == 202)
            #expect(server.intake.records.last?.request == first)
        }
    }

    @Test(arguments: [
        "", #""""#, #""open"#, #""a"b"#, #""a";x=1"#, #""a\x""#, "two words", #""two words""#, "caf\u{e9}",
        String(repeating: "k", count: 256),
    ])
    func badKeysAreRefused(key: String) async throws {
        try await withServer { server in
            expectProblem(try await post(server, "{}", key: key), 400, "bad_idempotency_key")
            #expect(server.intake.records.isEmpty)
        }
    }

    @Test func oneKeyARequest() async throws {
        try await withServer { server in
            let twice = try await post(server, "{}", key: "a", headers: ["Idempotency-Key: b"])
            expectProblem(twice, 400, "bad_idempotency_key")
            let longest = String(repeating: "~", count: 255)
            #expect(try await post(server, "{}", key: longest).status == 202)
            #expect(try await post(server, "{}", key: "\"\(longest)\"").status == 202)
        }
    }

    @Test func aRepetitionGetsTheFirstAnswer() async throws {
        try await withServer { server in
            server.intake.mode = .repeat(Receipt(sequences: 40..<42, deadLetters: 3..<4, isRepeat: true))
            let response = try await post(server, "{}\n{}", key: "k")
            #expect(response.status == 202)
            #expect(response.headers["idempotency-replayed"] == "true")
            #expect(
                response.body == #"{"accepted":2,"stream":"events","first_sequence":40,"last_sequence":41}"#)
            let kept = try await post(
                server, "{}\n{}\n{\"event_id\":\"b\",}", key: "k", target: "/v1/events?on_error=dead_letter")
            #expect(kept.headers["idempotency-replayed"] == "true")
            #expect(kept.body.contains(#""first_sequence":40,"last_sequence":41,"dead_lettered":1,"#))
            #expect(kept.body.contains(#""dead_letter_ids":["b"]"#))
            // The wait is for the events of the first time.
            let late = try await post(server, "{}\n{}", key: "k", target: "/v1/events?ack=inserted")
            expectProblem(late, 504, "not_inserted_yet")
            #expect(late.headers["idempotency-replayed"] == "true")
            server.operations.script.withLock {
                $0.report = InsertionReport(inserted: 2, deadLettered: 0, deadLetterIDs: [])
            }
            let inserted = try await post(server, "{}\n{}", key: "k", target: "/v1/events?ack=inserted")
            #expect(inserted.status == 200 && inserted.headers["idempotency-replayed"] == "true")
            #expect(server.operations.script.withLock { $0.asked.map(\.sequences) } == [40..<42, 40..<42])
        }
    }

    @Test func aKeyIsForOneRequest() async throws {
        try await withServer { server in
            server.intake.mode = .refuse(.keyReused)
            let response = try await post(server, "{}", key: "k")
            expectProblem(response, 422, "key_reused")
            #expect(response.headers["idempotency-replayed"] == nil)
        }
    }

    @Test func withoutAWindowKeysAreIgnored() async throws {
        try await withServer({ $0.idempotencyWindow = .zero }) { server in
            for key in ["k", "two words"] {
                let response = try await post(server, "{}", key: key)
                #expect(response.status == 202)
                #expect(server.intake.records.last?.request == nil)
            }
        }
    }
}
