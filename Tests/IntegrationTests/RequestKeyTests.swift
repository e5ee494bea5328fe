import TestSupport
import Testing

/// `Idempotency-Key` over the whole service: a client that never saw the answer may ask again.
@Suite(.serialized) struct RequestKeyTests {
    private let body = #"[{"event_id":"a"},{"event_id":"b"}]"#
    private let key = ["Idempotency-Key": "order-17"]

    /// Events that wait: ClickHouse is not there.
    private func waitingEvents(_ service: ServiceInstance) async throws -> UInt64 {
        try await service.status().streams.reduce(0) { $0 + $1.pendingEvents }
    }

    @Test func aRequestThatIsRepeatedAfterAKillIsAcceptedOnce() async throws {
        try await ServiceTurn.take {
            let service = try ServiceInstance(["CLICKHOUSE_URL": "http://127.0.0.1:1"])
            try await service.start()
            let first = try await service.post(body, headers: key)
            #expect(first.status == 202)
            #expect(first.headers["idempotency-replayed"] == nil)
            try await service.kill()
            try await service.start()
            let second = try await service.post(body, headers: key)
            #expect(second.status == 202)
            #expect(second.body == first.body)
            #expect(second.headers["idempotency-replayed"] == "true")
            #expect(try await waitingEvents(service) == 2)
            // Another body under the key is the client's mistake; without a key the same body is accepted again.
            #expect(try await service.post(#"{"event_id":"c"}"#, headers: key).status == 422)
            #expect(try await service.post(body).status == 202)
            #expect(try await waitingEvents(service) == 4)
            try await service.kill()
        }
    }

    @Test func ofManyCopiesAtOnceOneIsAccepted() async throws {
        try await ServiceTurn.take {
            let service = try ServiceInstance(["CLICKHOUSE_URL": "http://127.0.0.1:1"])
            try await service.start()
            let answers = try await withThrowingTaskGroup(of: ServiceResponse.self) { group in
                for _ in 0..<20 { group.addTask { try await service.post(body, headers: key) } }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(answers.allSatisfy { $0.status == 202 && $0.body == answers[0].body })
            #expect(answers.count { $0.headers["idempotency-replayed"] == nil } == 1)
            #expect(try await waitingEvents(service) == 2)
            try await service.kill()
        }
    }
}
