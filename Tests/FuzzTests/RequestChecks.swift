import HTTPTypes
import IngestCore

@testable import HTTPIngest

/// Paths and queries lead to a route, to values within their bounds, or to a refusal.
enum PathCheck {
    static func run(_ bytes: UnsafeRawBufferPointer) throws {
        // As the server has it: text.
        let text = String(decoding: bytes, as: UTF8.self)
        let parts = text.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        let path = parts.first.map(String.init) ?? ""
        let query = parts.count > 1 ? String(parts[1]) : nil
        if let route = Route(path: path) { try demand(!route.methods.isEmpty, "a route without methods") }
        try checkEncoding(path)
        if let pairs = try refusable({ () throws(Problem) in try QueryParameters(query).pairs }) {
            try demand(Set(pairs.map(\.name)).count == pairs.count && pairs.count <= 16, "names of parameters")
        }
        if let timeout = try refusable({ () throws(Problem) in try IngestQuery(query).insertionTimeout }) ?? nil {
            try demand(timeout > .zero && timeout <= IngestQuery.longestTimeout, "a timeout")
        }
        if let listing = try refusable({ () throws(Problem) in try DeadLetterQuery(listing: query) }) {
            try demand((1...1_000).contains(listing.limit), "a limit")
        }
        _ = try refusable { () throws(Problem) in try DeadLetterQuery(changing: query) }
        if let time = Timestamp.milliseconds(iso8601: path) {
            try demand(Timestamp.milliseconds(iso8601: Timestamp.iso8601(milliseconds: time)) == time, "a time")
        }
    }

    private static func checkEncoding(_ text: String) throws {
        let encoded = text.utf8.flatMap { Array("%\(String($0 >> 4, radix: 16))\(String($0 & 15, radix: 16))".utf8) }
        try demand(PercentEncoding.decode(encoded) == text, "percent-encoding")
        _ = PercentEncoding.decode(text.utf8)
    }
}

/// Header fields say how a body is to be read, or are refused.
enum FieldCheck {
    static func run(_ bytes: UnsafeRawBufferPointer) throws {
        let fields = HTTPFields(lines: String(decoding: bytes, as: UTF8.self))
        if let content = try refusable({ () throws(Problem) in try ContentDescription(fields) }) {
            let length = content.mode.withDefaultID { $0?.count }
            try demand(length.map { (1...Limits.eventIDBytes).contains($0) } ?? true, "an id that can't be kept")
        }
        if let key = try refusable({ () throws(Problem) in try IdempotencyKey(fields) }) ?? nil {
            try demand((1...255).contains(key.text.utf8.count), "an idempotency key")
        }
        if let accept = fields[.accept] {
            _ = AcceptHeader.allows("application/json", accept)
            try demand(
                AcceptHeader.allows("application/json", "application/json, " + accept) || accept.contains("q"), "Accept"
            )
        }
        _ = Authorizer.bearerToken(fields[.authorization])
    }
}

extension HTTPFields {
    /// What of the lines is a field.
    init(lines: some StringProtocol) {
        self.init()
        for line in lines.split(separator: "\n").prefix(64) {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2, let name = HTTPField.Name(String(parts[0])) else { continue }
            append(HTTPField(name: name, value: String(parts[1])))
        }
    }
}

/// - Returns: `nil` for a refusal, which can be told to the client.
private func refusable<Value>(_ body: () throws(Problem) -> Value) throws -> Value? {
    do throws(Problem) {
        return try body()
    } catch {
        try demand((400..<500).contains(error.status.code) && !error.detail.isEmpty, "a refusal")
        _ = error.answer
        return nil
    }
}
