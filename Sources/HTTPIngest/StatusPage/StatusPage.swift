internal import Crypto
internal import HTTPTypes
internal import HummingbirdCore
internal import NIOCore

/// The page for people at `/`. It is the same for everyone and holds no data, so it needs no token: its script asks for
/// `/v1/status`, which may need one.
///
/// The files of `page/` are embedded in the program and served as one document, so that the parts always fit each other,
/// also while a load balancer leads to an old and a new version. The document runs only its own script and style, which
/// its policy names by their digests, and speaks only with its own origin.
struct StatusPage: Sendable {
    private let document: ByteBuffer
    private let headers: HTTPFields
    private let tag: String

    init() {
        let script = Self.text(PackageResources.status_js)
        let style = Self.text(PackageResources.status_css)
        let html = Self.replacing(
            #"<script src="status.js"></script>"#, with: "<script>\(script)</script>",
            in: Self.replacing(
                #"<link rel="stylesheet" href="status.css">"#, with: "<style>\(style)</style>",
                in: Self.text(PackageResources.status_html)))
        document = ByteBuffer(string: html)
        tag = "\"\(Self.digest(html).prefix(22))\""
        let policy = [
            "default-src 'none'", "script-src 'sha256-\(Self.digest(script))'",
            "style-src 'sha256-\(Self.digest(style))'", "connect-src 'self'", "img-src data:", "base-uri 'none'",
            "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
        headers = [
            .contentType: "text/html; charset=utf-8", .contentSecurityPolicy: policy.joined(separator: "; "),
            .xContentTypeOptions: "nosniff", .referrerPolicy: "no-referrer", .crossOriginResourcePolicy: "same-origin",
            // Kept, but asked for each time whether it is still the same.
            .cacheControl: "no-cache", .eTag: tag, .vary: "Accept",
        ]
    }

    /// Whether a request comes from somebody who looks: a GET of the bare path whose client names HTML. All others are
    /// ClickHouse's clients.
    static func isAskedFor(by request: Request) -> Bool {
        isNegotiated(request) && AcceptHeader.names("text/html", request.headers[.accept] ?? "")
            && !isJava(request.headers[.accept] ?? "")
    }

    /// Whether the answer depends on `Accept`.
    static func isNegotiated(_ request: Request) -> Bool {
        (request.method == .get || request.method == .head) && request.uri.query?.isEmpty ?? true
    }

    /// The default of Java's HttpURLConnection, which older drivers of ClickHouse use: it names HTML and wants anything.
    private static func isJava(_ accept: String) -> Bool { accept.hasPrefix("text/html, image/gif, image/jpeg, *") }

    func answer(to request: Request) -> Answer {
        var headers = headers
        if let known = request.headers[.ifNoneMatch], matches(known) {
            headers[.contentType] = nil
            return Answer(status: .notModified, headers: headers, body: ByteBuffer())
        }
        return Answer(status: .ok, headers: headers, body: document)
    }

    /// - Parameter tags: of `If-None-Match` (RFC 9110, section 13.1.2).
    private func matches(_ tags: String) -> Bool {
        tags.split(separator: ",").contains {
            let known = $0.filter { $0 != " " && $0 != "\t" }
            return known == "*" || known == tag || known == "W/" + tag
        }
    }

    // MARK: Putting it together

    private static func text(_ resource: [UInt8]) -> String { String(decoding: resource, as: UTF8.self) }

    private static func digest(_ text: String) -> String { Base64.encode(SHA256.hash(data: Array(text.utf8))) }

    private static func replacing(_ place: String, with text: String, in page: String) -> String {
        let parts = page.split(separator: place, omittingEmptySubsequences: false)
        precondition(parts.count == 2, "the status page has no single \(place)")
        return parts[0] + text + parts[1]
    }
}

extension HTTPField.Name {
    static let referrerPolicy = Self("Referrer-Policy")!
    static let crossOriginResourcePolicy = Self("Cross-Origin-Resource-Policy")!
}
