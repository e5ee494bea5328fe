internal import EventJSON
internal import HTTPTypes

/// What a request says about its body.
struct ContentDescription: Equatable {
    let format: BodyFormat
    /// From `Content-Length`; `nil` if the body is chunked.
    let length: Int?

    /// - Throws: `Problem` 415.
    init(_ headers: HTTPFields) throws(Problem) {
        format = try Self.format(headers[.contentType])
        try Self.checkEncoding(headers[.contentEncoding])
        length = headers[.contentLength].flatMap { Int($0) }
    }

    private static func format(_ contentType: String?) throws(Problem) -> BodyFormat {
        guard let contentType else { return .detect }
        if let format = format(ofType: contentType) { return format }
        let end = contentType.utf8.firstIndex(of: UInt8(ascii: ";")) ?? contentType.endIndex
        let type = contentType[..<end].filter { $0 != " " && $0 != "\t" }.lowercased()
        guard let format = format(ofType: type) else {
            throw .unsupported(
                "the type \"\(type)\" is not supported: send application/json (an object or an array of objects) or "
                    + "application/x-ndjson (an object a line)")
        }
        return format
    }

    /// - Parameter type: in lower case, without parameters.
    private static func format(ofType type: String) -> BodyFormat? {
        switch type {
        case "application/json": .json
        case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/jsonlines",
            "application/x-jsonlines", "application/json-lines":
            .ndjson
        // The last is what `curl -d` says unless it is told otherwise. What is no JSON is refused all the same.
        case "", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded": .detect
        default: nil
        }
    }

    // The place where decompression will begin: an encoding that is known here is undone while the body is received.
    private static func checkEncoding(_ encoding: String?) throws(Problem) {
        guard let encoding, encoding.lowercased() != "identity" else { return }
        throw .unsupported("the content encoding \"\(encoding)\" is not supported: send the body as it is")
    }
}
