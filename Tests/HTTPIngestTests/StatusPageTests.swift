import HTTPIngest
import Testing

/// The page at `/`, beside what ClickHouse's clients get there.
@Suite(.timeLimit(.minutes(1))) struct StatusPageTests {
    private static let browser = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

    @Test(arguments: [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", true),
        ("text/html", true), ("TEXT/HTML; charset=utf-8", true), ("*/*;q=0.1, text/html;q=0.5", true),
        // Whoever takes anything, or says nothing, is a client of ClickHouse.
        ("*/*", false), ("text/*", false), ("", false), ("application/json", false), ("text/html;q=0, */*", false),
        ("text/html2", false), ("text/plain", false),
        // Java's HttpURLConnection, in two versions.
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", false),
        ("text/html, image/gif, image/jpeg, */*; q=0.2", false),
    ])
    func thePageIsForThoseWhoNameHTML(accept: String, isPage: Bool) async throws {
        try await withServer { server in
            let response = try await server.get("/", headers: accept.isEmpty ? [] : ["Accept: \(accept)"])
            #expect(response.status == 200)
            #expect(response.headers["vary"] == "Accept")
            if isPage {
                #expect(response.body.hasPrefix("<!DOCTYPE html>"))
                #expect(response.headers["content-type"] == "text/html; charset=utf-8")
            } else {
                #expect(response.body == "Ok.\n")
                #expect(response.headers["content-security-policy"] == nil)
            }
        }
    }

    /// What else is at `/` is ClickHouse's, whoever asks.
    @Test func onlyTheBarePathIsThePage() async throws {
        try await withServer { server in
            let select = try await server.get("/?query=SELECT%201", headers: [Self.browser])
            #expect(select.status == 200 && select.body == "1\n")
            let ping = try await server.get("/ping", headers: [Self.browser])
            #expect(ping.body == "Ok.\n" && ping.headers["vary"] == nil)
            let post = try await server.post("/", "SELECT 1", headers: [Self.browser])
            #expect(post.status == 200 && post.body == "1\n")
            for method in ["PUT", "DELETE", "PATCH"] {
                let response = try await server.get("/", method: method, headers: [Self.browser])
                #expect(response.status == 405 && response.headers["allow"] == "GET, HEAD, POST, OPTIONS")
            }
            #expect(try await server.get("/?", headers: [Self.browser]).body.hasPrefix("<!DOCTYPE html>"))
        }
    }

    @Test func thePageMayDoNothingButItsOwn() async throws {
        // Without a token: it holds nothing.
        try await withServer({ $0.token = "t" }) { server in
            let response = try await server.get("/", headers: [Self.browser])
            #expect(response.status == 200)
            let policy = try #require(response.headers["content-security-policy"])
            for part in [
                "default-src 'none'", "connect-src 'self'", "img-src data:", "base-uri 'none'", "form-action 'none'",
                "frame-ancestors 'none'", "require-trusted-types-for 'script'",
            ] {
                #expect(policy.split(separator: "; ").contains(Substring(part)), "\(part)")
            }
            #expect(!policy.contains("unsafe") && !policy.contains("*"))
            #expect(response.headers["x-content-type-options"] == "nosniff")
            #expect(response.headers["referrer-policy"] == "no-referrer")
            #expect(response.headers["cache-control"] == "no-cache")
            // All of it is in it.
            #expect(!response.body.contains("src=\"") && !response.body.contains("rel=\"stylesheet\""))
            #expect(response.body.contains("<script>\"use strict\";") && response.body.contains("<style>:root {"))
            #expect(
                try await server.get("/v1/status", headers: ["Authorization: Bearer t"]).headers["cache-control"]
                    == "no-store")
        }
    }

    @Test func headAndRevalidation() async throws {
        try await withServer { server in
            let page = try await server.get("/", headers: [Self.browser])
            let tag = try #require(page.headers["etag"])
            let head = try await server.get("/", method: "HEAD", headers: [Self.browser])
            #expect(head.status == 200 && head.headers["etag"] == tag && head.body.isEmpty)
            #expect(head.headers["content-length"] == "\(page.body.utf8.count)")
            let connection = try await server.connect()
            for known in [tag, "W/\(tag)", "\"other\", \(tag)", "*"] {
                try await connection.get("/", headers: [Self.browser, "If-None-Match: \(known)"])
                let same = try await connection.response(hasBody: false)
                #expect(same.status == 304 && same.headers["etag"] == tag && same.headers["vary"] == "Accept")
                #expect(same.headers["content-length"] == nil && same.headers["content-type"] == nil)
                #expect(same.headers["content-security-policy"] != nil)
            }
            for other in ["\"other\"", String(tag.dropFirst())] {
                let response = try await server.get("/", headers: [Self.browser, "If-None-Match: \(other)"])
                #expect(response.status == 200 && response.body == page.body)
            }
        }
    }

    /// It shows that the service stops; ClickHouse's clients are sent away.
    @Test func thePageIsThereWhileTheServiceDrains() async throws {
        try await withServer { server in
            server.service.beginDraining()
            let page = try await server.get("/", headers: [Self.browser])
            let ping = try await server.get("/")
            #expect(page.status == 200 && ping.status == 503)
        }
    }
}
