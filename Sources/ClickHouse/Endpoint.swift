import CCurl

/// A base URL, checked and taken apart.
struct EndpointURL: Sendable, Equatable {
    /// Why a URL can't be used. Does not repeat the URL: it could hold a password.
    struct Invalid: Error {
        let message: String
    }

    /// Scheme, host, port and path, without a slash at the end.
    let base: String
    /// Whether the server is on this machine.
    let isLoopback: Bool

    init(_ text: String) throws(Invalid) {
        guard let url = curl_url() else { throw Invalid(message: "out of memory") }
        defer { curl_url_cleanup(url) }
        let result = curl_url_set(url, CURLUPART_URL, text, 0)
        guard result == CURLUE_OK else {
            let reason = String(cString: curl_url_strerror(result))
            throw Invalid(message: "a ClickHouse URL can't be read: \(reason); expected http://host:8123")
        }
        func part(_ what: CURLUPart) -> String? {
            var value: UnsafeMutablePointer<CChar>?
            guard curl_url_get(url, what, &value, 0) == CURLUE_OK, let value else { return nil }
            defer { curl_free(value) }
            return String(cString: value)
        }
        guard let scheme = part(CURLUPART_SCHEME), scheme == "http" || scheme == "https" else {
            throw Invalid(message: "a ClickHouse URL must start with http:// or https://")
        }
        guard part(CURLUPART_USER) == nil, part(CURLUPART_PASSWORD) == nil else {
            throw Invalid(message: "a ClickHouse URL must not hold user and password; they are settings of their own")
        }
        guard part(CURLUPART_QUERY) == nil, part(CURLUPART_FRAGMENT) == nil else {
            throw Invalid(message: "a ClickHouse URL must not have a query or fragment")
        }
        guard var base = part(CURLUPART_URL), let host = part(CURLUPART_HOST) else {
            throw Invalid(message: "a ClickHouse URL has no host")
        }
        while base.hasSuffix("/") { base.removeLast() }
        self.base = base
        isLoopback = host == "localhost" || host == "[::1]" || host.hasPrefix("127.")
    }
}

/// What a server can do, as it told itself.
struct ServerCapabilities: Sendable, Equatable {
    /// As `version()` has it.
    let version: String
    /// Those of our settings that the server knows.
    let settings: Set<String>

    /// Reads the answer to `InsertStatement.capabilityQuery`; `nil` if it is none.
    init?(answer: [UInt8]) {
        var version: String?
        var settings: Set<String> = []
        for line in String(decoding: answer, as: UTF8.self).split(separator: "\n") {
            let fields = line.split(separator: "\t", maxSplits: 1)
            guard fields.count == 2 else { return nil }
            switch fields[0] {
            case "version": version = String(fields[1])
            case "setting": settings.insert(String(fields[1]))
            default: return nil
            }
        }
        guard let version, Self.major(of: version) != nil else { return nil }
        self.version = version
        self.settings = settings
    }

    /// The first number of the version.
    var majorVersion: Int { Self.major(of: version) ?? 0 }

    /// Whether a retry of a batch can be recognized.
    var hasDeduplicationToken: Bool { settings.contains(InsertSettings.token) }

    /// Whether `COLUMNS('pattern')` can stand among an INSERT's columns: since 20.10 [ClickHouse pull request 14453].
    var takesColumnPatterns: Bool { majorVersion >= 21 }

    private static func major(of version: String) -> Int? { version.split(separator: ".").first.flatMap { Int($0) } }
}

/// One of the servers that batches go to. Owned by the transfer loop.
struct Endpoint {
    /// What is known about the server.
    enum State {
        /// Nothing, or nothing any more: it was unreachable and may have been upgraded since.
        case unknown
        /// It was asked.
        case asking
        /// What it answered.
        case known(ServerCapabilities)
    }

    let url: EndpointURL
    var state = State.unknown
    /// Whether it was said in the log that the server has no deduplication token.
    var warnedOfDuplicates = false
    /// Whether it was said in the log that rows can't be looked up there.
    var warnedOfLookups = false
    /// Longest time for looking rows up; with the bundled schema it takes milliseconds.
    private static let lookupSeconds = 30

    /// The address of an INSERT.
    func insertURL(
        statement: String, token: String, rowMode: RowMode, capabilities: ServerCapabilities
    ) -> String {
        var text = "\(url.base)/?query=\(InsertStatement.percentEncoded(statement))&wait_end_of_query=1"
        text += InsertSettings.query(known: capabilities.settings, rowMode: rowMode)
        if capabilities.hasDeduplicationToken {
            text += "&\(InsertSettings.token)=\(InsertStatement.percentEncoded(token))"
        }
        return text
    }

    /// The address of the question whether a batch's rows are there.
    var lookupURL: String { "\(url.base)/?wait_end_of_query=1&max_execution_time=\(Self.lookupSeconds)" }

    /// The address of the question what the server can do.
    var capabilityURL: String {
        "\(url.base)/?query=\(InsertStatement.percentEncoded(InsertStatement.capabilityQuery))&wait_end_of_query=1"
    }

    /// Whether bodies are to be compressed.
    func compresses(_ compression: ClickHouseConfiguration.Compression, _ capabilities: ServerCapabilities) -> Bool {
        switch compression {
        case .none: false
        case .zstd: true
        case .auto: !url.isLoopback && capabilities.majorVersion >= 21
        }
    }
}
