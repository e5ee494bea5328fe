import HTTPIngest
import IngestCore
import Synchronization
import Testing

/// Routes that show and change dead letters and streams.
@Suite(.timeLimit(.minutes(1))) struct ManagementTests {
    @Test(arguments: [
        ("", "all after=0 limit=100"),
        ("?", "all after=0 limit=100"),
        ("?stream=shop.clicks&kind=row_data", "stream=shop.clicks kind=row_data after=0 limit=100"),
        ("?after=18446744073709551615&limit=1000", "all after=18446744073709551615 limit=1000"),
        ("?limit=1&after=0", "all after=0 limit=1"),
        ("?order=oldest&after=7", "all after=7 limit=100"),
        ("?stream=caf%C3%A9%26%3D%25&kind=a+b", "stream=café&=% kind=a+b after=0 limit=100"),
        ("?since=1795403723772&until=0", "since=1795403723772 until=0 after=0 limit=100"),
        ("?since=1970-01-01T00:00:00Z&until=2026-11-23", "since=0 until=1795392000000 after=0 limit=100"),
        ("?since=2026-11-23T01:58:00.1239Z", "since=1795399080123 after=0 limit=100"),
        (
            "?since=2026-11-23t03:58:00%2B02:00&until=2026-11-22T20:58:00-05:00",
            "since=1795399080000 until=1795399080000 after=0 limit=100"
        ),
    ])
    func listing(query: String, order: String) async throws {
        try await withServer { server in
            let response = try await server.get("/v1/dead-letters\(query)")
            #expect(response.status == 200 && response.body == #"{"dead_letters":[]}"#)
            #expect(response.headers["content-type"] == "application/json")
            #expect(response.headers["cache-control"] == "no-store")
            #expect(server.operations.orders == ["list \(order)"])
        }
    }

    @Test func theNewestComeFirstWhereThatIsAskedFor() async throws {
        try await withServer { server in
            let all = try await server.get("/v1/dead-letters?order=newest&limit=10")
            let some = try await server.get("/v1/dead-letters?kind=row_data&order=newest")
            #expect(all.status == 200 && some.status == 200)
            #expect(server.operations.orders == ["newest all limit=10", "newest kind=row_data limit=100"])
        }
    }

    static let badFilters = [
        "stream=", "kind", "stream=a&stream=b", "steam=a", "since=", "since=-1", "since=yesterday", "since=%ff",
        "since=2026-02-29", "since=2026-11-23T01:58:00", "since=2026-11-23T24:00:00Z", "since=2026-11-23T01:58:00.Z",
        "since=2026-11-23T01:58:00Zx", "since=9223372036854775808", "since=99999999999999999999999",
        "until=2026-11-23T01:58:60Z", "until=0000-01-01", "stream=%zz", "=", String(repeating: "a&b", count: 500),
    ]

    @Test(
        arguments: badFilters + [
            "limit=0", "limit=1001", "limit=-1", "limit=+1", "limit=", "limit=1e2", "limit=99999999999999999999999999",
            "after=-1", "after=18446744073709551616", "after=x", "all=true", "order=", "order=desc",
            "order=newest&after=1",
        ])
    func badListings(query: String) async throws {
        try await withServer { server in
            expectProblem(try await server.get("/v1/dead-letters?\(query)"), 400, "bad_parameter")
            #expect(server.operations.orders.isEmpty)
        }
    }

    @Test func oneLetter() async throws {
        try await withServer { server in
            let shown = try await server.get("/v1/dead-letters/42")
            #expect(shown.status == 200 && shown.body == #"{"id":42}"#)
            let retried = try await server.post("/v1/dead-letters/18446744073709551615/retry", "")
            #expect(retried.status == 200 && retried.body == #"{"changed":3,"not_retryable":1}"#)
            let discarded = try await server.get("/v1/dead-letters/%37", method: "DELETE")
            #expect(discarded.status == 200 && discarded.body == #"{"changed":2,"not_retryable":0}"#)
            #expect(server.operations.orders == ["show 42", "retry 18446744073709551615", "discard 7"])
            for query in ["?x=1", "?all=true", "?kind=row_data"] {
                expectProblem(try await server.get("/v1/dead-letters/42" + query), 400, "bad_parameter")
                let delete = try await server.get("/v1/dead-letters/42" + query, method: "DELETE")
                expectProblem(delete, 400, "bad_parameter")
                expectProblem(try await server.post("/v1/dead-letters/42/retry" + query, ""), 400, "bad_parameter")
            }
            #expect(server.operations.orders.count == 3)
        }
    }

    @Test(arguments: [
        "18446744073709551616", "-1", "+1", "0x1", "1.0", "%20", "1%2F2", "%00", "%zz", "", "Retry", "1/", "1/Retry",
        "1/retry/", "1/retry/1", "retry/retry", "1//retry", String(repeating: "9", count: 5_000),
    ])
    func whatIsNoLetterIsNotFound(id: String) async throws {
        try await withServer { server in
            for method in ["GET", "DELETE", "POST"] {
                expectProblem(try await server.get("/v1/dead-letters/\(id)", method: method), 404, "not_found")
            }
            #expect(server.operations.orders.isEmpty)
        }
    }

    @Test func manyLetters() async throws {
        try await withServer { server in
            let retried = try await server.post("/v1/dead-letters/retry?stream=events&since=5", "")
            #expect(retried.status == 200 && retried.body == #"{"changed":3,"not_retryable":1}"#)
            _ = try await server.post("/v1/dead-letters/retry?all=true", "")
            let discarded = try await server.get("/v1/dead-letters?kind=invalid_json&until=9", method: "DELETE")
            #expect(discarded.status == 200 && discarded.body == #"{"changed":2,"not_retryable":0}"#)
            _ = try await server.get("/v1/dead-letters?all=true", method: "DELETE")
            #expect(
                server.operations.orders == [
                    "retry stream=events since=5", "retry all", "discard kind=invalid_json until=9", "discard all",
                ])
        }
    }

    /// Nothing but `all=true` means all.
    @Test(
        arguments: badFilters + [
            "", "all", "all=", "all=1", "all=false", "all=true&all=true", "all=true&kind=row_data", "all=true&stream=",
            "limit=5", "after=5", "stream=a&limit=5", "ALL=true",
        ])
    func allMustBeAskedFor(query: String) async throws {
        try await withServer { server in
            let retry = try await server.post("/v1/dead-letters/retry?\(query)", "")
            expectProblem(retry, 400, "bad_parameter")
            if query.isEmpty { #expect(retry.body.contains("all=true")) }
            let discard = try await server.get("/v1/dead-letters?\(query)", method: "DELETE")
            expectProblem(discard, 400, "bad_parameter")
            #expect(server.operations.orders.isEmpty)
        }
    }

    @Test func streams() async throws {
        try await withServer { server in
            let one = try await server.post("/v1/streams/shop.%22clicks%22/retry", "")
            #expect(one.status == 202 && one.body == #"{"stream":"shop.\"clicks\"","retrying":true}"#)
            let all = try await server.post("/v1/streams/retry", "")
            #expect(all.status == 202 && all.body == #"{"retrying":true}"#)
            #expect(try await server.post("/v1/streams/retry/retry", "").status == 202)
            #expect(server.operations.orders == ["stream shop.\"clicks\"", "stream -", "stream retry"])
            for path in ["", "/a", "//retry", "/a/b/retry", "/retry/"] {
                expectProblem(try await server.post("/v1/streams\(path)", ""), 404, "not_found")
            }
            expectProblem(try await server.post("/v1/streams/a/retry?now=1", ""), 400, "bad_parameter")
            #expect(server.operations.orders.count == 3)
        }
    }

    static let requests = [
        ("GET", "/v1/dead-letters"), ("GET", "/v1/dead-letters/1"), ("DELETE", "/v1/dead-letters/1"),
        ("DELETE", "/v1/dead-letters?all=true"), ("POST", "/v1/dead-letters/1/retry"),
        ("POST", "/v1/dead-letters/retry?all=true"), ("POST", "/v1/streams/a/retry"), ("POST", "/v1/streams/retry"),
    ]

    @Test(arguments: [
        (OperationFailure.notFound("there is no \"x\""), 404, "not_found"),
        (.impossible("it is no valid event"), 409, "impossible"),
        (.unavailable("the journal has no room"), 503, "unavailable"),
    ])
    func failures(failure: OperationFailure, status: Int, kind: String) async throws {
        try await withServer { server in
            server.operations.script.withLock { $0.failure = failure }
            let connection = try await server.connect()
            for (method, target) in Self.requests {
                try await connection.get(target, method: method)
                let response = try await connection.response()
                expectProblem(response, status, kind)
                #expect((response.headers["retry-after"] != nil) == (status == 503))
                #expect(response.headers["connection"] == nil)
            }
            #expect(server.operations.orders.count == Self.requests.count)
        }
    }

    @Test func theTokenIsNeeded() async throws {
        try await withServer({ $0.token = "s3cret" }) { server in
            for (method, target) in Self.requests {
                let none = try await server.get(target, method: method)
                expectProblem(none, 401, "unauthorized")
                #expect(none.headers["www-authenticate"] == "Bearer")
                let wrong = try await server.get(target, method: method, headers: ["Authorization: Bearer x"])
                expectProblem(wrong, 403, "forbidden")
                #expect(server.operations.orders.isEmpty)
            }
            #expect(try await server.get("/v1/dead-letters", method: "HEAD").status == 401)
            for (method, target) in Self.requests {
                let right = try await server.get(target, method: method, headers: ["Authorization: Bearer s3cret"])
                #expect(right.status < 300)
            }
            #expect(server.operations.orders.count == Self.requests.count)
            for open in ["/livez", "/readyz", "/metrics", "/v1/status"] {
                #expect(try await server.get(open).status == 200)
            }
        }
    }

    @Test(arguments: [
        ("/v1/dead-letters", "GET, HEAD, DELETE", ["POST", "PUT", "PATCH"]),
        ("/v1/dead-letters/1", "GET, HEAD, DELETE", ["POST", "PUT"]),
        ("/v1/dead-letters/1/retry", "POST", ["GET", "HEAD", "DELETE"]),
        ("/v1/dead-letters/retry", "POST", ["GET", "HEAD", "DELETE", "PUT"]),
        ("/v1/streams/retry", "POST", ["GET", "DELETE"]), ("/v1/streams/a/retry", "POST", ["GET", "HEAD"]),
    ])
    func otherMethods(path: String, allowed: String, methods: [String]) async throws {
        try await withServer { server in
            for method in methods {
                let response = try await server.get(path, method: method)
                #expect(response.status == 405)
                #expect(response.headers["allow"] == allowed + ", OPTIONS")
            }
            #expect(server.operations.orders.isEmpty)
        }
    }

    @Test func headAnswersLikeGet() async throws {
        try await withServer { server in
            let list = try await server.get("/v1/dead-letters?limit=7", method: "HEAD")
            #expect(list.status == 200 && list.headers["content-length"] == "19")
            let one = try await server.get("/v1/dead-letters/1", method: "HEAD")
            #expect(one.status == 200 && one.headers["content-length"] == "8")
            #expect(server.operations.orders == ["list all after=0 limit=7", "show 1"])
        }
    }

    @Test func bodiesAreIgnored() async throws {
        try await withServer { server in
            let connection = try await server.connect()
            for size in [0, 50_000] {
                try await connection.post("/v1/dead-letters/1/retry", String(repeating: "x", count: size))
                let response = try await connection.response()
                #expect(response.status == 200 && response.headers["connection"] == nil)
            }
            // A larger one is not waited for.
            try await connection.send(
                "POST /v1/streams/retry HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000000\r\n\r\nxxx")
            let response = try await connection.response()
            #expect(response.status == 202 && response.headers["connection"] == "close")
            #expect(await connection.closed() == "")
        }
    }
}
