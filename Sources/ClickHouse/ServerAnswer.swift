import IngestCore

/// The answer of a server to one request, as much of it as decides what became of an INSERT.
struct ServerAnswer {
    /// Bytes of a body that are kept. Exceptions stand in the first few hundred.
    static let keptBodyBytes = 16 << 10

    private static let exceptionHeader = "x-clickhouse-exception-code"

    /// HTTP status; 0 as long as there is none.
    var status = 0
    /// Whether the header arrived whole. curl takes a connection that ends within it for the end of an answer (7.88,
    /// tried), so success is decided only behind the empty line. That a body is whole is curl's business.
    private(set) var isComplete = false
    /// What `X-ClickHouse-Exception-Code` says. Servers before 20 do not send it.
    private(set) var headerCode: Int?
    /// The body, cut after `keptBodyBytes`.
    private(set) var body: [UInt8] = []

    /// Forgets the answer and keeps the memory.
    mutating func reset() {
        status = 0
        isComplete = false
        headerCode = nil
        body.removeAll(keepingCapacity: true)
    }

    /// Takes one header line. A status line begins a new answer (after `100 Continue`).
    mutating func appendHeader(_ line: UnsafeRawBufferPointer) {
        let text = String(decoding: line, as: UTF8.self)
        if text.hasPrefix("HTTP/") {
            reset()
            status = text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        } else if let colon = text.firstIndex(of: ":"), text[..<colon].lowercased() == Self.exceptionHeader {
            // An unreadable code still is an exception: 0 is in no table.
            headerCode = Int(text[text.index(after: colon)...].filter { !$0.isWhitespace }) ?? 0
        } else if text == "\r\n" || text == "\n" {
            isComplete = true
        }
    }

    /// Takes the next bytes of the body.
    mutating func appendBody(_ bytes: UnsafeRawBufferPointer) {
        let room = Self.keptBodyBytes - body.count
        if room > 0 { body.append(contentsOf: bytes.prefix(room)) }
    }

    /// Whether the answer says that the INSERT was done: status 200, no exception in the header, and nothing
    /// in the body. A plain INSERT has answered 200 with an exception in the header [ClickHouse issue 65117], and an
    /// exception behind the header stands in the body.
    var isInsertSuccess: Bool { isComplete && status == 200 && headerCode == nil && body.isEmpty }

    /// What an answer that is no success means.
    func failure(_ classes: ErrorClasses) -> InsertFailure {
        let text = String(decoding: body, as: UTF8.self)
        let rowHint = Self.rowHint(in: text)
        let code = headerCode ?? Self.exceptionCode(in: text)
        let failureClass: FailureClass
        if let code {
            failureClass = classes.failureClass(code: code, httpStatus: status, namesRow: rowHint != nil)
        } else {
            failureClass = classes.failureClass(httpStatus: status)
        }
        var message = Self.trimmed(text)
        if message.isEmpty {
            message = code.map { "exception \(ErrorClasses.name(of: $0) ?? String($0)) without a text" } ?? "no text"
        } else if status == 200 && code == nil {
            message = "unexpected text in the answer to an INSERT: \(message)"
        }
        return InsertFailure(
            failureClass: failureClass, clickHouseCode: code, httpStatus: status, message: Self.bounded(message),
            rowHint: rowHint)
    }

    /// The code of an exception in an answer's body: `Code: 27. DB::Exception: ...`, or from servers before 20
    /// `Code: 27, e.displayText() = DB::Exception: ...`.
    static func exceptionCode(in text: String) -> Int? {
        var rest = text[...]
        while let start = rest.firstRange(of: "Code: ") {
            rest = rest[start.upperBound...]
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            let behind = rest[digits.endIndex...]
            if let code = Int(digits), behind.hasPrefix(". ") || behind.hasPrefix(", e.") { return code }
        }
        return nil
    }

    /// The number in the first `(at row N)`; counted from 1.
    static func rowHint(in text: String) -> Int? {
        guard let start = text.firstRange(of: "(at row ") else { return nil }
        let rest = text[start.upperBound...]
        let digits = rest.prefix { $0.isASCII && $0.isNumber }
        guard rest[digits.endIndex...].hasPrefix(")"), let row = Int(digits), row > 0 else { return nil }
        return row
    }

    /// At most `Limits.errorMessageBytes` of `text`, cut between characters.
    static func bounded(_ text: String) -> String {
        guard text.utf8.count > Limits.errorMessageBytes else { return text }
        var end = text.utf8.index(text.startIndex, offsetBy: Limits.errorMessageBytes)
        while end.samePosition(in: text.unicodeScalars) == nil { end = text.utf8.index(before: end) }
        return String(text[..<end])
    }

    private static func trimmed(_ text: String) -> String {
        guard let first = text.firstIndex(where: { !$0.isWhitespace }),
            let last = text.lastIndex(where: { !$0.isWhitespace })
        else { return "" }
        return String(text[first...last])
    }
}
