internal import Decompression
internal import HTTPTypes

/// What can be wrong with a body before its events are looked at, and with their number.
extension Problem {
    static func unsupportedEncoding(_ detail: String) -> Problem {
        var problem = unsupported(detail)
        // So a client learns what to send (RFC 9110, section 12.5.3).
        problem.header = HTTPField(
            name: .acceptEncoding, value: ContentCoding.allCases.map(\.rawValue).joined(separator: ", "))
        return problem
    }

    /// More bytes are being received, over all connections, than may be.
    static var overloaded: Problem {
        var problem = unavailable(
            "overloaded", "more bytes are being received than may be; send again", retryAfter: 1)
        problem.closesConnection = true
        return problem
    }

    /// - Parameter isBodyRead: whether all of the body has come.
    init(_ error: DecompressionError, isBodyRead: Bool) {
        switch error {
        case .corrupt(let reason, let offset):
            self = .badRequest(
                "bad_compression", "the body can't be decompressed: \(reason) (about byte \(offset) as sent)")
        case .truncated(let coding):
            self = .badRequest("bad_compression", "the body ends before its \(coding.rawValue) stream does")
        case .tooLarge(let limit):
            self = Problem(
                .contentTooLarge, "too_large",
                "the body is larger than \(limit) bytes once decompressed; send fewer events a request")
        case .ratio(let limit):
            self = Problem(
                .contentTooLarge, "compression_ratio",
                "the body is more than \(limit) times as large once decompressed; compress less, or send it as it is")
        case .noMemory:
            self = .overloaded
        }
        self.isBodyRead = isBodyRead
        // Nobody reads the rest.
        closesConnection = !isBodyRead
    }

    static func tooManyEvents(limit: Int) -> Problem {
        var problem = Problem(
            .contentTooLarge, "too_many_events",
            "the request holds more than \(limit) events, the most that one may; nothing of it was accepted: send fewer "
                + "events a request")
        problem.isBodyRead = true
        return problem
    }

    static var notABatch: Problem {
        var problem = badRequest("invalid_cloudevent", "a batch of CloudEvents is a JSON array")
        problem.isBodyRead = true
        return problem
    }

    /// The same, for a body that was compressed: offsets in it are easily taken for those of what was sent.
    func inDecompressedBody() -> Problem {
        guard report != nil else { return self }
        var problem = Problem(status, kind, detail + "; byte offsets are those of the decompressed body")
        problem.report = report
        problem.isBodyRead = isBodyRead
        return problem
    }
}
