internal import HTTPTypes
internal import IngestCore

/// The headers of a CloudEvent in binary mode (HTTP binding of CloudEvents 1.0.2, section 3.1).
enum BinaryCloudEvent {
    private static let id = HTTPField.Name("ce-id")!
    private static let source = HTTPField.Name("ce-source")!
    private static let type = HTTPField.Name("ce-type")!
    private static let specVersion = HTTPField.Name("ce-specversion")!

    /// Whether a request is meant as one, well-formed or not.
    static func isMeant(by headers: HTTPFields) -> Bool { headers.contains(specVersion) || headers.contains(id) }

    /// Checks the attributes that every CloudEvent has.
    /// - Returns: the event's id, decoded.
    /// - Throws: `Problem` 400.
    static func id(_ headers: HTTPFields) throws(Problem) -> [UInt8] {
        let required = [id, source, type, specVersion]
        let missing = required.filter { (headers[$0] ?? "").isEmpty }
        guard missing.isEmpty else {
            throw invalid("needs the headers \(names(required)); missing: \(names(missing))")
        }
        for name in required where headers[fields: name].count(where: { _ in true }) > 1 {
            throw invalid("has more than one \(names([name]))")
        }
        let version = try value(of: specVersion, in: headers)
        guard version == "1.0" else { throw invalid("has the ce-specversion \"\(version)\": send 1.0") }
        let decoded = Array(try value(of: id, in: headers).utf8)
        guard !decoded.isEmpty else { throw invalid("has an empty ce-id") }
        guard decoded.count <= Limits.eventIDBytes else {
            throw invalid("has a ce-id of \(decoded.count) bytes: \(Limits.eventIDBytes) are the most")
        }
        return decoded
    }

    /// A value without the quotes that older versions of the standard allow (RFC 7230, section 3.2.6) and without
    /// percent-encoding, in this order.
    private static func value(of name: HTTPField.Name, in headers: HTTPFields) throws(Problem) -> String {
        var bytes = Array((headers[name] ?? "").utf8)
        if bytes.count >= 2, bytes.first == UInt8(ascii: "\""), bytes.last == UInt8(ascii: "\"") {
            var unquoted: [UInt8] = []
            var content = bytes[1..<(bytes.count - 1)].makeIterator()
            while let byte = content.next() {
                if byte == UInt8(ascii: "\\"), let escaped = content.next() {
                    unquoted.append(escaped)
                } else {
                    unquoted.append(byte)
                }
            }
            bytes = unquoted
        }
        guard let value = PercentEncoding.decode(bytes) else {
            throw invalid("has a \(names([name])) that is not percent-encoded UTF-8")
        }
        return value
    }

    private static func names(_ names: [HTTPField.Name]) -> String {
        names.map(\.canonicalName).joined(separator: ", ")
    }

    private static func invalid(_ words: String) -> Problem {
        .badRequest("invalid_cloudevent", "the CloudEvent in binary mode \(words)")
    }
}
