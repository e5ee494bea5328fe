internal import Decompression
internal import EventJSON
internal import HTTPTypes

/// What a request says about its body.
struct ContentDescription: Equatable {
    let mode: ContentMode
    /// How it is compressed; `nil` if it is not.
    let coding: ContentCoding?
    /// From `Content-Length`; `nil` if the body is chunked.
    let length: Int?

    /// - Throws: `Problem` 415, or 400 where CloudEvents' headers are wrong.
    init(_ headers: HTTPFields) throws(Problem) {
        mode = try ContentMode(headers)
        coding = try headers.value(.contentEncoding).flatMap { value throws(Problem) in try Self.coding(value) }
        length = headers.value(.contentLength).flatMap { Int($0) }
    }

    /// - Parameter encoding: a list of codings in the order in which they were applied. `identity`, which stands for
    ///   none, has no business there, but clients send it.
    private static func coding(_ encoding: String) throws(Problem) -> ContentCoding? {
        var found: ContentCoding?
        for part in encoding.split(separator: ",") {
            let name = part.trimming { $0 == " " || $0 == "\t" }
            if name.isEmpty || name.lowercased() == "identity" { continue }
            guard let coding = ContentCoding(name: name) else {
                throw .unsupportedEncoding(
                    "the content encoding \"\(name)\" is not supported: send gzip, deflate, zstd, or the body as it is")
            }
            guard found == nil else {
                throw .unsupportedEncoding("the body is compressed more than once, \"\(encoding)\": compress it once")
            }
            found = coding
        }
        return found
    }
}

/// How a request carries its events.
enum ContentMode: Equatable {
    case events(BodyFormat)
    /// CloudEvents' binary mode: the body is the data of one event, its attributes are headers. Of them the id is used
    /// and the others are not kept.
    case binaryCloudEvent(id: [UInt8])
    /// CloudEvents' structured mode: the body is one event with its attributes.
    case structuredCloudEvent
    /// CloudEvents' batched mode: an array of such events, which may be empty.
    case cloudEventBatch

    /// - Throws: `Problem` 415, or 400 where CloudEvents' headers are wrong.
    init(_ headers: HTTPFields) throws(Problem) {
        let contentType = headers.value(.contentType)
        // Almost all requests: known as it stands, and no CloudEvent.
        if !BinaryCloudEvent.isMeant(by: headers) {
            self = try contentType.map { type throws(Problem) in try Self.mode(contentType: type) } ?? .events(.detect)
            return
        }
        let type = Self.essence(of: contentType ?? "")
        // A content type that says so comes first (HTTP binding of CloudEvents 1.0.2, section 3).
        if type.hasPrefix("application/cloudevents") {
            self = try Self.mode(contentType: type)
            return
        }
        guard type.isEmpty || type == "application/json" || type.hasSuffix("+json") else {
            throw .unsupported(
                "the type \"\(type)\" is not supported: a CloudEvent in binary mode carries a JSON object, "
                    + "application/json")
        }
        self = .binaryCloudEvent(id: try BinaryCloudEvent.id(headers))
    }

    private static func mode(contentType: String) throws(Problem) -> ContentMode {
        if let mode = mode(ofType: contentType) { return mode }
        let type = essence(of: contentType)
        guard let mode = mode(ofType: type) else {
            throw .unsupported(
                "the type \"\(type)\" is not supported: send application/json (an object or an array of objects), "
                    + "application/x-ndjson (an object a line), application/cloudevents+json or "
                    + "application/cloudevents-batch+json")
        }
        return mode
    }

    /// The type in lower case, without parameters.
    private static func essence(of contentType: String) -> String {
        let end = contentType.utf8.firstIndex(of: UInt8(ascii: ";")) ?? contentType.endIndex
        return contentType[..<end].filter { $0 != " " && $0 != "\t" }.lowercased()
    }

    /// - Parameter type: in lower case, without parameters.
    private static func mode(ofType type: String) -> ContentMode? {
        switch type {
        case "application/json": .events(.json)
        case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/jsonlines",
            "application/x-jsonlines", "application/json-lines":
            .events(.ndjson)
        // The last is what `curl -d` says unless it is told otherwise. What is no JSON is refused all the same.
        case "", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded": .events(.detect)
        case "application/cloudevents+json": .structuredCloudEvent
        case "application/cloudevents-batch+json": .cloudEventBatch
        default: nil
        }
    }

    /// How the body holds events.
    var format: BodyFormat {
        switch self {
        case .events(let format): format
        case .binaryCloudEvent, .structuredCloudEvent: .object
        case .cloudEventBatch: .json
        }
    }

    /// Whether each event in the body must be a CloudEvent.
    var holdsCloudEvents: Bool { self == .structuredCloudEvent || self == .cloudEventBatch }

    /// Calls `body` with the id of an event that has none of its own.
    func withDefaultID<Result>(_ body: (UnsafeRawBufferPointer?) -> Result) -> Result {
        guard case .binaryCloudEvent(let id) = self else { return body(nil) }
        return id.withUnsafeBytes { body($0) }
    }
}

extension Substring {
    fileprivate func trimming(_ isSpace: (Character) -> Bool) -> Substring {
        var text = drop(while: isSpace)
        while let last = text.last, isSpace(last) { text.removeLast() }
        return text
    }
}
