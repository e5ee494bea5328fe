internal import EventJSON
internal import HTTPTypes
internal import IngestCore
internal import NIOCore

/// A refusal in ClickHouse's words: `Code: N. DB::Exception: message. (NAME) (version ...)`, with the code in a header
/// too [ClickHouse: src/Server/HTTPHandler.cpp]. Clients decide by the code, or by the status, whether to try again.
struct ClickHouseError: Error {
    /// [ClickHouse: src/Common/ErrorCodes.cpp, src/Server/HTTP/exceptionCodeToHTTPStatus.cpp]
    enum Code: Int {
        case CANNOT_PARSE_INPUT_ASSERTION_FAILED = 27
        case BAD_ARGUMENTS = 36
        case NOT_IMPLEMENTED = 48
        case UNKNOWN_TABLE = 60
        case SYNTAX_ERROR = 62
        case UNKNOWN_FORMAT = 73
        case UNKNOWN_DATABASE = 81
        case UNKNOWN_SETTING = 115
        case INCORRECT_DATA = 117
        case READONLY = 164
        case TOO_MANY_SIMULTANEOUS_QUERIES = 202
        case SOCKET_TIMEOUT = 209
        case NETWORK_ERROR = 210
        case QUERY_IS_TOO_LARGE = 229
        case TOO_MANY_PARTS = 252
        case SYSTEM_ERROR = 425
        case UNKNOWN_QUERY_PARAMETER = 456
        case ACCESS_DENIED = 497
        case AUTHENTICATION_FAILED = 516

        var status: HTTPResponse.Status {
            switch self {
            case .CANNOT_PARSE_INPUT_ASSERTION_FAILED, .BAD_ARGUMENTS, .SYNTAX_ERROR, .INCORRECT_DATA,
                .UNKNOWN_QUERY_PARAMETER:
                .badRequest
            case .UNKNOWN_TABLE, .UNKNOWN_FORMAT, .UNKNOWN_DATABASE, .UNKNOWN_SETTING: .notFound
            case .NOT_IMPLEMENTED: .notImplemented
            // ClickHouse says 500, which clients try again in vain.
            case .READONLY: .methodNotAllowed
            case .QUERY_IS_TOO_LARGE: .contentTooLarge
            // ClickHouse says 500 here too; 503 is what HTTP has for it, and what clients wait after.
            case .TOO_MANY_SIMULTANEOUS_QUERIES, .SOCKET_TIMEOUT, .NETWORK_ERROR, .TOO_MANY_PARTS, .SYSTEM_ERROR:
                .serviceUnavailable
            case .ACCESS_DENIED, .AUTHENTICATION_FAILED: .forbidden
            }
        }
    }

    let code: Code
    var message: String
    var status: HTTPResponse.Status
    var headers: HTTPFields = [:]
    /// Whether the request's body was read to its end.
    var isBodyRead = false
    var closesConnection = false
    /// The statement ends too early: the rest of it may stand in the request's body.
    var isIncomplete = false

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
        status = code.status
    }

    static func incomplete(_ expected: String) -> ClickHouseError {
        var error = ClickHouseError(.SYNTAX_ERROR, "Syntax error: the statement ends where \(expected) was expected")
        error.isIncomplete = true
        return error
    }

    /// What another part of the service refused.
    init(_ problem: Problem) {
        self.init(Self.code(of: problem), problem.detail)
        status = problem.status
        if let event = problem.report?.problems.first {
            message +=
                ": row \(event.index + 1), byte \(event.error.byteOffset ?? event.offset): \(event.error.message)"
        }
        if status == .unauthorized {
            message =
                "Authentication failed: send the service's token as the password (X-ClickHouse-Key, Basic or the "
                + "parameter password), or as Authorization: Bearer"
            headers[.wwwAuthenticate] = #"Basic realm="ingestd""#
        }
        if let retryAfter = problem.retryAfter { headers[.retryAfter] = String(retryAfter) }
        isBodyRead = problem.isBodyRead
        closesConnection = problem.closesConnection
    }

    /// For what passes, codes that clients try again, each of them: client-v2 of clickhouse-java and
    /// clickhouse-kafka-connect have a list of codes [ServerException.java, Utils.java]; clickhouse-connect and Vector
    /// look at the status [_backend/http_sync.py, sinks/clickhouse/service.rs].
    private static func code(of problem: Problem) -> Code {
        switch problem.status {
        case .unauthorized: .AUTHENTICATION_FAILED
        // The secret is known, but may not do this.
        case .forbidden where problem.header?.value.contains("insufficient_scope") == true: .ACCESS_DENIED
        case .forbidden: .AUTHENTICATION_FAILED
        case .requestTimeout: .SOCKET_TIMEOUT
        case .contentTooLarge: .QUERY_IS_TOO_LARGE
        case .unsupportedMediaType, .notImplemented: .NOT_IMPLEMENTED
        case .serviceUnavailable, .tooManyRequests, .gatewayTimeout:
            switch problem.kind {
            // What ClickHouse says when inserts come faster than it can merge them.
            case "journal_full": .TOO_MANY_PARTS
            case "shutting_down": .NETWORK_ERROR
            case "storage": .SYSTEM_ERROR
            default: .TOO_MANY_SIMULTANEOUS_QUERIES
            }
        default:
            problem.report?.problems.first?.error.kind == "invalid_json"
                ? .CANNOT_PARSE_INPUT_ASSERTION_FAILED : problem.report == nil ? .BAD_ARGUMENTS : .INCORRECT_DATA
        }
    }

    var answer: Answer {
        let end = message.hasSuffix(".") ? "" : "."
        let text =
            "Code: \(code.rawValue). DB::Exception: \(message)\(end) (\(code)) "
            + "(version \(ClickHouseDialect.version) (ingestd))\n"
        var answer = Answer(status: status, headers: headers, body: ByteBuffer(string: text))
        answer.headers[.contentType] = "text/plain; charset=UTF-8"
        answer.headers[.clickHouseExceptionCode] = String(code.rawValue)
        if code == .READONLY { answer.headers[.allow] = "POST" }
        answer.closesConnection = closesConnection
        return answer
    }
}

/// What the endpoint says of itself.
enum ClickHouseDialect {
    /// The version of ClickHouse whose HTTP interface is spoken: clients choose by it what they ask for.
    static let version = "24.8.1.1"
    static let revision = 54_471
    static let displayName = "ingestd"
    static let timeZone = "UTC"
    /// Bytes of a statement, without its rows.
    static let statementBytes = 64 << 10
}

extension HTTPField.Name {
    static let clickHouseExceptionCode = Self("X-ClickHouse-Exception-Code")!
    static let clickHouseSummary = Self("X-ClickHouse-Summary")!
    static let clickHouseQueryID = Self("X-ClickHouse-Query-Id")!
    static let clickHouseDisplayName = Self("X-ClickHouse-Server-Display-Name")!
    static let clickHouseTimeZone = Self("X-ClickHouse-Timezone")!
    static let clickHouseFormat = Self("X-ClickHouse-Format")!
    static let clickHouseDatabase = Self("X-ClickHouse-Database")!
    static let clickHouseUser = Self("X-ClickHouse-User")!
    static let clickHouseKey = Self("X-ClickHouse-Key")!
}
