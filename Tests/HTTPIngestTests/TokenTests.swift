import Foundation
import HTTPIngest
import IngestCore
import Logging
import TestSupport
import Testing

/// Several tokens and their rights, and the file that they come from.
@Suite(.timeLimit(.minutes(1))) struct TokenTests {
    /// A request and the status that it gets with a token.
    private func status(
        _ server: Server, _ token: String?, _ target: String, method: String = "POST"
    ) async throws -> Int {
        let headers = token.map { ["Authorization: Bearer \($0)"] } ?? []
        if method == "POST" { return try await server.post(target, "{}", headers: headers).status }
        return try await server.get(target, method: method, headers: headers).status
    }

    private func file(_ text: String, in folder: TemporaryDirectory) throws -> String {
        let path = folder.appending("tokens")
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        return path
    }

    @Test func eachTokenHasItsRights() async throws {
        let folder = try TemporaryDirectory("tokens")
        let path = try file(
            """
            # who: what
            all-1
            all-2\tingest\r
              clicks-1   ingest:clicks

            table-1 ingest:shop.%22clicks%22,other
            named-1 ingest:a%20b
            fallback-1 ingest:events
            both-1 ingest:clicks operations
            """, in: folder)
        try await withServer({ $0.tokensPath = path }) { server in
            let clicks = "/v1/events/clicks", named = "/v1/events/a%20b"
            let fallback = "/v1/events", unknown = "/v1/events/unknown"
            let allowed: [(String, [String])] = [
                ("all-1", [clicks, named, fallback, unknown]), ("all-2", [clicks, named, fallback, unknown]),
                // Names of the path: the other name of the same table is not it.
                ("clicks-1", [clicks]), ("named-1", [named]),
                // Tables: every name that leads there.
                ("table-1", [clicks, named]), ("fallback-1", [fallback, unknown]), ("both-1", [clicks]),
            ]
            for (token, targets) in allowed {
                for target in [clicks, named, fallback, unknown] {
                    let expected = targets.contains(target) ? 202 : 403
                    #expect(try await status(server, token, target) == expected, "\(token) \(target)")
                }
            }
            let none = try await server.post(clicks, "{}")
            expectProblem(none, 401, "unauthorized")
            #expect(none.headers["www-authenticate"] == "Bearer")
            let wrong = try await server.post(clicks, "{}", headers: ["Authorization: Bearer all-3"])
            expectProblem(wrong, 403, "forbidden")
            #expect(wrong.headers["www-authenticate"] == #"Bearer error="invalid_token""#)
            let other = try await server.post(clicks, "{}", headers: ["Authorization: Bearer named-1"])
            #expect(other.headers["www-authenticate"] == #"Bearer error="insufficient_scope""#)
            for notOne in ["#", "#who:", "# who: what", "ingest", "all-1 ", " all-1", "all-1,", "ALL-1"] {
                let answer = try await server.post(clicks, "{}", headers: ["Authorization: Bearer \(notOne)"])
                // Blanks around a header's value are not part of it.
                let isTrimmed = notOne.hasSuffix(" ")
                #expect(answer.status == (isTrimmed ? 202 : 403), "\(notOne)")
            }
        }
    }

    enum Setup: CaseIterable {
        case open, general, operationsOnly, generalAndOperations, sameForBoth, fileWithout, fileWith, generalAndFileWith
    }

    /// Statuses of ingest, dead letters and metrics without a token, with the general one and with that of operations.
    @Test(
        arguments: zip(
            Setup.allCases,
            [
                [[202, 200, 200], [202, 200, 200], [202, 200, 200]],
                [[401, 401, 200], [202, 200, 200], [403, 403, 200]],
                [[202, 401, 401], [202, 403, 403], [202, 200, 200]],
                [[401, 401, 401], [202, 403, 403], [403, 200, 200]],
                [[401, 401, 401], [202, 200, 200], [403, 403, 403]],
                [[401, 401, 200], [202, 403, 200], [403, 403, 200]],
                [[401, 401, 401], [202, 403, 403], [403, 200, 200]],
                [[401, 401, 401], [202, 403, 403], [403, 200, 200]],
            ]))
    func operationsNeedTheirToken(setup: Setup, expected: [[Int]]) async throws {
        let folder = try TemporaryDirectory("tokens")
        let with = try file("file\nops operations", in: folder)
        let without = folder.appending("without")
        try "general".write(toFile: without, atomically: true, encoding: .utf8)
        func configure(_ configuration: inout HTTPIngestConfiguration) {
            switch setup {
            case .open: break
            case .general: configuration.token = "general"
            case .operationsOnly: configuration.operationsToken = "ops"
            case .generalAndOperations:
                configuration.token = "general"
                configuration.operationsToken = "ops"
            case .sameForBoth:
                configuration.token = "general"
                configuration.operationsToken = "general"
            case .fileWithout: configuration.tokensPath = without
            case .fileWith: configuration.tokensPath = with
            case .generalAndFileWith:
                configuration.token = "general"
                configuration.tokensPath = with
            }
        }
        try await withServer(configure) { server in
            let general = setup == .fileWith ? "file" : "general"
            for (token, statuses) in zip([nil, general, "ops"], expected) {
                let who = "\(setup), \(token ?? "none")"
                let ingest = try await status(server, token, "/v1/events")
                #expect(ingest == statuses[0], "\(who)")
                let management = try await status(server, token, "/v1/dead-letters", method: "GET")
                #expect(management == statuses[1], "\(who)")
                for path in ["/metrics", "/v1/status"] {
                    let observation = try await status(server, token, path, method: "GET")
                    #expect(observation == statuses[2], "\(who): \(path)")
                }
                for path in ["/livez", "/readyz"] {
                    let health = try await status(server, token, path, method: "GET")
                    #expect(health == 200)
                }
            }
        }
    }

    @Test func theFileIsReadAgain() async throws {
        let folder = try TemporaryDirectory("tokens")
        let path = try file("old", in: folder)
        try await withServer({
            $0.tokensPath = path
            $0.token = "fixed"
            $0.reloadInterval = .milliseconds(5)
        }) { server in
            #expect(try await status(server, "old", "/v1/events") == 202)
            #expect(try await status(server, "new", "/v1/events") == 403)
            _ = try file("new\nops operations", in: folder)
            try await eventually("the new token works") { try await status(server, "new", "/v1/events") == 202 }
            #expect(try await status(server, "old", "/v1/events") == 403)
            #expect(try await status(server, "fixed", "/v1/events") == 202)
            #expect(try await status(server, nil, "/metrics", method: "GET") == 401)
            // A broken file changes nothing, and is reported without what is in it.
            _ = try file("newer\ns3cret ingets", in: folder)
            try await eventually("the trouble is shown") {
                try await server.get("/readyz").body.contains("line 2: right 1 is none of")
            }
            let ready = try await server.get("/readyz")
            #expect(ready.status == 200 && !ready.body.contains("s3cret"))
            #expect(ready.body.contains(#""component":"http_tokens","healthy":false,"required":false"#))
            #expect(try await status(server, "new", "/v1/events") == 202)
            #expect(try await status(server, "newer", "/v1/events") == 403)
            try FileManager.default.removeItem(atPath: path)
            try await eventually("the trouble is shown") {
                try await server.get("/readyz").body.contains("can't be read: No such file or directory")
            }
            #expect(try await status(server, "new", "/v1/events") == 202)
            _ = try file("newer", in: folder)
            try await eventually("the newer token works") { try await status(server, "newer", "/v1/events") == 202 }
            #expect(try await server.get("/readyz").body.contains("http_tokens") == false)
        }
    }

    @Test(arguments: [
        ("s3cret admin", "line 1: right 1 is none of ingest, ingest:NAME,NAME and operations"),
        ("a\nb\n\ns3cret ingest ingest:", "line 4: right 2 is none"), ("s3cret ingest:a,,b", "line 1: right 1"),
        ("s3cret ingest:%zz", "line 1: right 1"), ("s3crét", "line 1: a token consists of visible ASCII"),
        ("s3cret\ns3cret ingest", "line 2: the token is there already"),
        ("s3cret-setting", "line 1: the token is there already"),
        (String(repeating: "# line\n", count: 1_000) + "s3cret", "line 1001: more than 1000 lines"),
        (String(repeating: "x", count: 1 << 20) + " ", "is larger than 1048576 bytes"),
    ])
    func aBrokenFileIsRefusedAtStart(text: String, reason: String) throws {
        let folder = try TemporaryDirectory("tokens")
        let path = try file(text, in: folder)
        let error = try #require(
            startError {
                $0.token = "s3cret-setting"
                $0.tokensPath = path
            })
        #expect(error.description.hasPrefix(path) && error.description.contains(reason), "\(error)")
        #expect(!error.description.contains("s3c"))
    }

    @Test func aMissingFileIsReportedAtStart() throws {
        let error = try #require(startError { $0.tokensPath = "/nowhere/tokens" })
        #expect(error.description == "/nowhere/tokens can't be read: No such file or directory")
    }
}

/// Why a service does not start as configured.
func startError(_ configure: (inout HTTPIngestConfiguration) -> Void) -> HTTPConfigurationError? {
    var configuration = HTTPIngestConfiguration(port: 0)
    configure(&configuration)
    return #expect(throws: HTTPConfigurationError.self) {
        _ = try HTTPIngestService(
            configuration: configuration, routes: StreamRoutes(byName: [:], fallback: Server.events),
            intake: RecordingIntake(), operations: ScriptedOperations(), logger: Logger(label: "test"))
    }
}
