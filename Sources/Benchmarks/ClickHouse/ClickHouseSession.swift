import CCurl

/// Where ClickHouse is, for measurements and checks.
public struct ClickHouseAddress: Sendable {
    /// `http://host:8123`.
    public var url: String
    /// Of tables that are named without one.
    public var database: String
    /// User name.
    public var user: String
    /// Password; sent as a header, never shown.
    public var password: String

    /// Collects the parts.
    public init(url: String, database: String, user: String, password: String) {
        self.url = url
        self.database = database
        self.user = user
        self.password = password
    }
}

/// Statements over one kept connection, with libcurl and nothing else: what is measured or checked here shares no code
/// with what did the work, so a fault of the service's own client can't hide. For one thread at a time.
final class ClickHouseSession {
    private let address: ClickHouseAddress
    private let handle: UnsafeMutableRawPointer
    private var headers: UnsafeMutablePointer<curl_slist>?
    private let answer = AnswerBox()

    private static let isCurlReady = curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK

    init(_ address: ClickHouseAddress) throws(BenchmarkFailure) {
        guard Self.isCurlReady, let handle = curl_easy_init() else {
            throw BenchmarkFailure("libcurl could not be initialized")
        }
        self.address = address
        self.handle = handle
        for line in [
            "X-ClickHouse-User: \(address.user)", "X-ClickHouse-Key: \(address.password)", "Expect:",
            "Content-Type: application/octet-stream",
        ] {
            headers = curl_slist_append(headers, line)
        }
        check(ccurl_set_list(handle, CURLOPT_HTTPHEADER, headers))
        check(ccurl_set_string(handle, CURLOPT_NOPROXY, "*"))
        check(ccurl_set_long(handle, CURLOPT_NOSIGNAL, 1))
        check(ccurl_set_long(handle, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1))
        check(ccurl_set_long(handle, CURLOPT_CONNECTTIMEOUT_MS, 10_000))
        check(ccurl_set_long(handle, CURLOPT_TIMEOUT_MS, 600_000))
        check(ccurl_set_long(handle, CURLOPT_POST, 1))
        check(ccurl_set_long(handle, CURLOPT_UPLOAD_BUFFERSIZE, 2 << 20))
        check(ccurl_set_pointer(handle, CURLOPT_WRITEDATA, Unmanaged.passUnretained(answer).toOpaque()))
        check(
            ccurl_set_data_callback(handle, CURLOPT_WRITEFUNCTION) { bytes, size, count, context in
                Unmanaged<AnswerBox>.fromOpaque(context!).takeUnretainedValue()
                    .append(UnsafeRawBufferPointer(start: bytes, count: size * count))
                return size * count
            })
    }

    deinit {
        curl_easy_cleanup(handle)
        curl_slist_free_all(headers)
    }

    /// The answer to a statement.
    @discardableResult
    func query(_ statement: String) throws(BenchmarkFailure) -> [UInt8] {
        var statement = statement
        let outcome = statement.withUTF8 { bytes in
            Result { () throws(BenchmarkFailure) in try send(UnsafeRawBufferPointer(bytes), parameters: []) }
        }
        try outcome.get()
        return answer.bytes
    }

    /// The answer's lines.
    func lines(_ statement: String) throws(BenchmarkFailure) -> [Substring] {
        String(decoding: try query(statement), as: UTF8.self).split(separator: "\n")
    }

    /// Runs an INSERT whose rows are `rows`, with settings as parameters of the URL.
    func insert(
        _ statement: String, settings: [(name: String, value: String)], rows: UnsafeRawBufferPointer
    ) throws(BenchmarkFailure) {
        try send(rows, parameters: [("query", statement)] + settings)
        guard answer.bytes.isEmpty else { throw BenchmarkFailure("an INSERT was answered with \(answer.text)") }
    }

    private func send(
        _ body: UnsafeRawBufferPointer, parameters: [(name: String, value: String)]
    ) throws(BenchmarkFailure) {
        answer.bytes.removeAll(keepingCapacity: true)
        var url = address.url
        if url.hasSuffix("/") { url.removeLast() }
        url += "/?database=\(Self.percentEncoded(address.database))"
        for (name, value) in parameters { url += "&\(name)=\(Self.percentEncoded(value))" }
        check(ccurl_set_string(handle, CURLOPT_URL, url))
        // Not copied: it must live until the answer has come, which is before this returns.
        check(ccurl_set_pointer(handle, CURLOPT_POSTFIELDS, UnsafeMutableRawPointer(mutating: body.baseAddress)))
        check(ccurl_set_long(handle, CURLOPT_POSTFIELDSIZE, body.count))
        let result = curl_easy_perform(handle)
        guard result == CURLE_OK else {
            throw BenchmarkFailure("ClickHouse at \(address.url): \(String(cString: curl_easy_strerror(result)))")
        }
        var status = 0
        check(ccurl_get_long(handle, CURLINFO_RESPONSE_CODE, &status))
        guard status == 200 else { throw BenchmarkFailure("ClickHouse answered \(status): \(answer.text)") }
    }

    /// The options are ours and known to this libcurl: what fails here is memory or a mistake.
    private func check(_ result: CURLcode) {
        precondition(result == CURLE_OK, "libcurl refused an option: \(String(cString: curl_easy_strerror(result)))")
    }

    private static func percentEncoded(_ text: String) -> String {
        var result = ""
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F, 0x7E:
                result.unicodeScalars.append(Unicode.Scalar(byte))
            default: result += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
            }
        }
        return result
    }
}

/// What curl writes an answer to.
private final class AnswerBox {
    var bytes: [UInt8] = []

    func append(_ more: UnsafeRawBufferPointer) { bytes += more }

    /// Its beginning, for messages.
    var text: String { String(decoding: bytes.prefix(1_000), as: UTF8.self) }
}

/// A table's name for a statement: each part in backticks.
func quotedTable(_ name: String) -> String {
    name.split(separator: ".", maxSplits: 1).map { part in
        "`" + part.map { $0 == "`" || $0 == "\\" ? "\\\($0)" : String($0) }.joined() + "`"
    }.joined(separator: ".")
}
