import HTTPIngest
import Testing

/// OPTIONS, Accept and CORS.
@Suite(.timeLimit(.minutes(1))) struct MethodTests {
    @Test func optionsNamesTheMethods() async throws {
        try await withServer({ $0.token = "t" }) { server in
            let connection = try await server.connect()
            for (path, methods) in [
                ("/v1/events", "POST, OPTIONS"), ("/v1/events/clicks", "POST, OPTIONS"),
                ("/livez", "GET, HEAD, OPTIONS"), ("/v1/dead-letters", "GET, HEAD, DELETE, OPTIONS"),
                ("*", "GET, HEAD, POST, DELETE, OPTIONS"),
            ] {
                try await connection.get(path, method: "OPTIONS", headers: ["Origin: https://app.example"])
                let response = try await connection.response(hasBody: false)
                #expect(response.status == 204)
                #expect(response.headers["allow"] == methods)
                #expect(response.headers["content-length"] == nil)
                #expect(response.headers.keys.allSatisfy { !$0.hasPrefix("access-control") && $0 != "vary" })
            }
            expectProblem(try await server.get("/nothing", method: "OPTIONS"), 404, "not_found")
            expectProblem(try await server.get("*"), 404, "not_found")
        }
    }

    @Test(arguments: [
        ("application/json", true), ("*/*", true), ("application/*", true), ("text/html, application/json;q=0.5", true),
        ("text/html,application/xhtml+xml,*/*;q=0.8", true), ("APPLICATION/JSON; charset=utf-8", true), ("", true),
        ("text/html", false), ("application/json;q=0", false), ("application/json; q=0.000, */*", false),
        ("*/*;q=0", false), ("application/*;q=0, */*", false), ("*/*;q=0, application/json", true),
        ("application/problem+json", false), ("nonsense", false),
    ])
    func acceptIsHonored(accept: String, isAllowed: Bool) async throws {
        try await withServer { server in
            let headers = ["Accept: \(accept)"]
            for response in [
                try await server.post("/v1/events", "{}", headers: headers),
                try await server.get("/v1/dead-letters", headers: headers),
                try await server.get("/v1/status", headers: headers),
            ] {
                if isAllowed { #expect(response.status < 300) } else { expectProblem(response, 406, "not_acceptable") }
            }
            #expect(server.intake.records.count == (isAllowed ? 1 : 0))
            // Health is a status; metrics are text.
            #expect(try await server.get("/readyz", headers: headers).status == 200)
            #expect(try await server.get("/metrics", headers: ["Accept: text/plain;version=0.0.4"]).status == 200)
            #expect(try await server.get("/metrics", headers: ["Accept: application/json"]).status == 406)
        }
    }

    // MARK: CORS

    private static let preflight = [
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: authorization,content-type, Idempotency-Key,x-other,ce-id,content-encoding,"
            + "traceparent",
    ]

    @Test func pagesOfConfiguredOriginsMayAsk() async throws {
        try await withServer({
            $0.token = "t"
            $0.corsOrigins = ["https://App.example", "http://localhost:3000"]
        }) { server in
            for origin in ["https://app.example", "http://localhost:3000"] {
                let allowed = try await server.get(
                    "/v1/events", method: "OPTIONS", headers: Self.preflight + ["Origin: \(origin)"])
                #expect(allowed.status == 204)
                #expect(allowed.headers["access-control-allow-origin"] == origin)
                #expect(allowed.headers["access-control-allow-methods"] == "POST, OPTIONS")
                #expect(
                    allowed.headers["access-control-allow-headers"]
                        == "authorization, content-type, idempotency-key, ce-id, content-encoding, traceparent")
                #expect(allowed.headers["access-control-max-age"] == "7200")
                #expect(allowed.headers["vary"] != nil)
                // The answers to the requests themselves, good and bad.
                for (token, status) in [("t", 202), ("x", 403)] {
                    let answer = try await server.post(
                        "/v1/events", "{}", headers: ["Origin: \(origin)", "Authorization: Bearer \(token)"])
                    #expect(answer.status == status)
                    #expect(answer.headers["access-control-allow-origin"] == origin)
                    #expect(answer.headers["vary"] == "Origin")
                    #expect(answer.headers["access-control-expose-headers"] == "Retry-After, Idempotency-Replayed")
                }
                let missing = try await server.get("/nothing", headers: ["Origin: \(origin)"])
                #expect(missing.headers["access-control-allow-origin"] == origin)
            }
            for origin in ["https://other.example", "https://app.example.evil", "http://app.example", "null"] {
                let refused = try await server.get(
                    "/v1/events", method: "OPTIONS", headers: Self.preflight + ["Origin: \(origin)"])
                #expect(refused.headers["access-control-allow-origin"] == nil)
                #expect(refused.headers["vary"]?.hasPrefix("Origin") == true)
            }
            #expect(try await server.get("/livez").headers["vary"] == "Origin")
        }
    }

    @Test func allOriginsMayAsk() async throws {
        try await withServer({ $0.corsOrigins = ["*"] }) { server in
            let answer = try await server.post("/v1/events", "{}", headers: ["Origin: https://x.example"])
            #expect(answer.headers["access-control-allow-origin"] == "*")
            #expect(answer.headers["vary"] == nil)
        }
    }

    @Test(arguments: ["https://app.example/", "app.example", "https://", "ftp://app.example", "null", "https://*. a"])
    func whatIsNoOriginIsReportedAtStart(origin: String) throws {
        let error = try #require(startError { $0.corsOrigins = ["*", origin] })
        #expect(error.description.contains("is no origin"))
    }
}
