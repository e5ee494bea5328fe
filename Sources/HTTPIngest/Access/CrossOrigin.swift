internal import HTTPTypes
internal import HummingbirdCore

/// Lets pages of some origins send events and read answers (CORS, https://fetch.spec.whatwg.org/#http-cors-protocol).
struct CrossOrigin: Sendable {
    private let allowsAll: Bool
    private let origins: Set<String>

    /// What pages may send besides what every page may.
    private static let headers: Set<String> = [
        "authorization", "content-type", "content-encoding", "idempotency-key", "accept", "traceparent",
    ]
    private static let headerPrefix = "ce-"
    private static let exposedHeaders = "Retry-After, Idempotency-Replayed"
    /// Seconds for which a browser may remember what it was told; more than two hours none does.
    private static let maxAge = "7200"

    /// - Parameter origins: exact, or `*` for all.
    /// - Returns: `nil` if there is none.
    /// - Throws: `HTTPConfigurationError`.
    init?(_ origins: [String]) throws(HTTPConfigurationError) {
        guard !origins.isEmpty else { return nil }
        allowsAll = origins.contains("*")
        self.origins = Set(origins.map { $0.lowercased() }).subtracting(["*"])
        for origin in self.origins where !Self.isOrigin(origin) {
            throw HTTPConfigurationError(
                description: "\"\(origin)\" is no origin: write it as browsers do, https://app.example or "
                    + "http://localhost:3000, without a path, or * for all")
        }
    }

    private static func isOrigin(_ text: String) -> Bool {
        for scheme in ["https://", "http://"] where text.hasPrefix(scheme) {
            let host = text.dropFirst(scheme.count)
            return !host.isEmpty && host.utf8.allSatisfy { (0x21...0x7e).contains($0) && $0 != UInt8(ascii: "/") }
        }
        return false
    }

    /// Says on any answer, also one of an error, whether the page that asked may read it.
    func mark(_ answer: inout Answer, for headers: HTTPFields) {
        if allowsAll {
            answer.headers[.accessControlAllowOrigin] = "*"
        } else {
            // Caches must keep the answers for different origins apart.
            answer.headers.append(HTTPField(name: .vary, value: "Origin"))
            guard let origin = headers[.origin], origins.contains(origin) else { return }
            answer.headers[.accessControlAllowOrigin] = origin
        }
        answer.headers[.accessControlExposeHeaders] = Self.exposedHeaders
    }

    /// Says what a page may send to a path.
    func answerPreflight(_ answer: inout Answer, _ request: Request, _ methods: [HTTPRequest.Method]) {
        guard request.headers[.accessControlRequestMethod] != nil else { return }
        answer.headers[.accessControlAllowMethods] = methods.map(\.rawValue).joined(separator: ", ")
        answer.headers[.accessControlMaxAge] = Self.maxAge
        let asked = (request.headers[.accessControlRequestHeaders] ?? "").split(separator: ",").map {
            $0.filter { $0 != " " && $0 != "\t" }.lowercased()
        }
        let allowed = asked.filter { Self.headers.contains($0) || $0.hasPrefix(Self.headerPrefix) }
        if !allowed.isEmpty { answer.headers[.accessControlAllowHeaders] = allowed.joined(separator: ", ") }
        if !asked.isEmpty {
            answer.headers.append(HTTPField(name: .vary, value: "Access-Control-Request-Headers"))
        }
    }
}
