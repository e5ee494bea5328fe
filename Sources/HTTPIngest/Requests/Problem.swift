internal import EventJSON
internal import HTTPTypes
internal import IngestCore
internal import NIOCore

/// A refusal, answered as `application/problem+json` (RFC 9457) with the members `kind` (a stable name for
/// programs), and where events are bad `errors` and `error_count`.
struct Problem: Error {
    let status: HTTPResponse.Status
    let kind: String
    let detail: String
    /// Seconds after which it makes sense to try again.
    var retryAfter: Int?
    var header: HTTPField?
    var report: BodyReport?
    /// Events that are on stable storage all the same.
    var accepted: Acceptance?
    /// Whether the request's body was read to its end.
    var isBodyRead = false
    var closesConnection = false

    init(_ status: HTTPResponse.Status, _ kind: String, _ detail: String) {
        self.status = status
        self.kind = kind
        self.detail = detail
    }

    static let notFound = Problem(.notFound, "not_found", "there is nothing at this path")

    static func methodNotAllowed(_ methods: [HTTPRequest.Method]) -> Problem {
        let allowed = methods.map(\.rawValue).joined(separator: ", ")
        var problem = Problem(.methodNotAllowed, "method_not_allowed", "this path takes \(allowed)")
        problem.header = HTTPField(name: .allow, value: allowed)
        return problem
    }

    /// The bytes are no HTTP request, or end in the middle of one.
    static var malformed: Problem {
        var problem = Problem.badRequest("malformed_request", "this is no HTTP/1.1 request")
        problem.closesConnection = true
        return problem
    }

    static let headersTooLarge = Problem(
        .requestHeaderFieldsTooLarge, "headers_too_large",
        "the request line and headers are larger than \(ConnectionLimits.headBytes) bytes or have more than "
            + "\(ConnectionLimits.headFields) fields")

    static let headTimedOut = Problem(
        .requestTimeout, "request_timeout", "the request line and headers did not come in time")

    static var requestTimedOut: Problem {
        var problem = Problem(
            .requestTimeout, "request_timeout", "the request's body did not come in time; nothing of it was accepted")
        problem.closesConnection = true
        return problem
    }

    static func notAcceptable(_ type: String) -> Problem {
        Problem(.notAcceptable, "not_acceptable", "the answer is \(type), which the header Accept excludes")
    }

    static func badRequest(_ kind: String, _ detail: String) -> Problem { Problem(.badRequest, kind, detail) }

    static func badParameter(_ detail: String) -> Problem { badRequest("bad_parameter", detail) }

    static func unknownParameter(_ name: String) -> Problem { badParameter("unknown parameter \"\(name)\"") }

    static func unsupported(_ detail: String) -> Problem {
        Problem(.unsupportedMediaType, "unsupported_type", detail)
    }

    static func tooLarge(limit: Int) -> Problem {
        var problem = Problem(
            .contentTooLarge, "too_large", "the body is larger than \(limit) bytes; send fewer events a request")
        problem.closesConnection = true
        return problem
    }

    static func unavailable(_ kind: String, _ detail: String, retryAfter: Int) -> Problem {
        var problem = Problem(.serviceUnavailable, kind, detail)
        problem.retryAfter = retryAfter
        return problem
    }

    static var draining: Problem {
        var problem = unavailable("shutting_down", IntakeError.shuttingDown.description, retryAfter: 5)
        problem.closesConnection = true
        return problem
    }

    init(_ error: IntakeError) {
        switch error {
        case .full: self = .unavailable("journal_full", error.description, retryAfter: 5)
        case .overloaded: self = .unavailable("overloaded", error.description, retryAfter: 1)
        case .shuttingDown: self = .draining
        case .keyReused: self.init(.unprocessableContent, "key_reused", error.description)
        case .storage: self = .unavailable("storage", error.description, retryAfter: 5)
        }
        isBodyRead = true
    }

    init(_ failure: OperationFailure) {
        switch failure {
        case .notFound(let reason): self.init(.notFound, "not_found", reason)
        case .impossible(let reason): self.init(.conflict, "impossible", reason)
        case .unavailable(let reason): self = .unavailable("unavailable", reason, retryAfter: 5)
        }
    }

    static func invalidEvents(_ report: BodyReport) -> Problem {
        let total = report.accepted + report.rejected
        var problem = Problem.badRequest(
            "invalid_events",
            "\(report.rejected) of \(total) events are invalid; nothing of the request was accepted")
        problem.report = report
        problem.isBodyRead = true
        return problem
    }

    static var empty: Problem {
        var problem = badRequest("empty", "the body holds no events")
        problem.isBodyRead = true
        return problem
    }

    static func tooManyInvalidEvents(_ report: BodyReport) -> Problem {
        var problem = Problem.badRequest(
            "too_many_invalid_events",
            "\(report.rejected) events are invalid, of which \(Limits.requestDeadLetters) a request can become dead "
                + "letters; nothing of the request was accepted")
        problem.report = report
        problem.isBodyRead = true
        return problem
    }

    var answer: Answer {
        var text = JSONText()
        text.object {
            $0.member("type", "about:blank")
            $0.member("title", status.reasonPhrase)
            $0.member("status", status.code)
            $0.member("kind", kind)
            $0.member("detail", detail)
            if let report {
                $0.member("error_count", report.rejected)
                $0.problems(report.problems)
            }
            accepted?.write(to: &$0)
        }
        var answer = Answer.json(status, text)
        answer.headers[.contentType] = "application/problem+json"
        if let retryAfter { answer.headers[.retryAfter] = String(retryAfter) }
        if let header { answer.headers[header.name] = header.value }
        answer.closesConnection = closesConnection
        return answer
    }
}

extension JSONText {
    /// `errors`: the first of the bad events.
    mutating func problems(_ problems: [BodyReport.Problem]) {
        array("errors", Array(problems.prefix(Limits.reportedProblems))) { text, problem in
            text.member("index", problem.index)
            text.member("byte_offset", problem.error.byteOffset ?? problem.offset)
            text.member("kind", problem.error.kind)
            text.member("detail", problem.error.message)
        }
    }
}
