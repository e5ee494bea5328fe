/// Splits a statement into tokens, as ClickHouse does [src/Parsers/Lexer.cpp]. Reads `text` only as far as it is asked.
struct ClickHouseTokens {
    enum Token: Equatable {
        /// A bare word: a keyword or a name.
        case word(String)
        /// A name in backquotes or double quotes.
        case name(String)
        /// A literal in single quotes.
        case string(String)
        /// Digits and what may follow them, as written.
        case number(String)
        case symbol(Unicode.Scalar)
        case end
    }

    private let text: UnsafeRawBufferPointer
    /// Behind the last token.
    private(set) var position = 0
    /// Where the last token starts.
    private(set) var start = 0

    /// - Parameter text: must stay in place while the tokens are used.
    init(_ text: UnsafeRawBufferPointer) { self.text = text }

    /// - Throws: code 62.
    mutating func next() throws(ClickHouseError) -> Token {
        try skipSpace()
        start = position
        guard let first = byte(0) else { return .end }
        switch first {
        case UInt8(ascii: "`"), UInt8(ascii: "\""): return .name(try quoted(first))
        case UInt8(ascii: "'"): return .string(try quoted(first))
        case UInt8(ascii: "0")...UInt8(ascii: "9"):
            repeat { position += 1 } while byte(0).map { isWordByte($0) || $0 == UInt8(ascii: ".") } ?? false
            return .number(try decoded(start..<position))
        case _ where isWordByte(first):
            repeat { position += 1 } while byte(0).map(isWordByte) ?? false
            return .word(try decoded(start..<position))
        default:
            position += 1
            guard first < 0x80 else { throw error("a byte outside of quotes that is not ASCII") }
            return .symbol(Unicode.Scalar(first))
        }
    }

    /// The next token, which stays the next one.
    func peek() throws(ClickHouseError) -> Token {
        var copy = self
        return try copy.next()
    }

    /// Takes the next token if it is this word, in upper or lower case.
    mutating func take(_ keyword: String) throws(ClickHouseError) -> Bool {
        guard case .word(let word) = try peek(), word.uppercased() == keyword else { return false }
        _ = try next()
        return true
    }

    mutating func take(symbol: Unicode.Scalar) throws(ClickHouseError) -> Bool {
        guard try peek() == .symbol(symbol) else { return false }
        _ = try next()
        return true
    }

    /// Takes a byte if it follows at once, but for spaces: what is behind a format's name is no longer a statement.
    mutating func takeAtOnce(_ wanted: UInt8) {
        var ahead = 0
        while let byte = byte(ahead), byte == 0x20 || byte == 0x09 { ahead += 1 }
        if byte(ahead) == wanted { position += ahead + 1 }
    }

    /// An error at the last token.
    func error(_ what: String) -> ClickHouseError {
        let rest = String(decoding: text[min(start, text.count)...].prefix(40), as: UTF8.self)
        return ClickHouseError(
            .SYNTAX_ERROR, "Syntax error: failed at position \(start + 1) (\(Self.printable(rest))): \(what)")
    }

    /// Text of a stranger, for one line of an error.
    static func printable(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.prefix(100).map { $0.value < 0x20 ? " " : $0 }))
    }

    private func byte(_ offset: Int) -> UInt8? { position + offset < text.count ? text[position + offset] : nil }

    private func isWordByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "$"):
            true
        default: false
        }
    }

    /// White space and comments: `-- ...`, `# ...`, `#! ...` and `/* ... */`.
    private mutating func skipSpace() throws(ClickHouseError) {
        while let first = byte(0) {
            switch (first, byte(1)) {
            case (0x09...0x0d, _), (0x20, _): position += 1
            case (UInt8(ascii: "-"), UInt8(ascii: "-")), (UInt8(ascii: "#"), UInt8(ascii: " ")),
                (UInt8(ascii: "#"), UInt8(ascii: "!")):
                while let byte = byte(0), byte != 0x0a { position += 1 }
            case (UInt8(ascii: "/"), UInt8(ascii: "*")):
                start = position
                position += 2
                while byte(0) != UInt8(ascii: "*") || byte(1) != UInt8(ascii: "/") {
                    guard byte(0) != nil else { throw unclosed("a comment") }
                    position += 1
                }
                position += 2
            default: return
            }
        }
    }

    /// What stands between quotes: backslash escapes, and a quote written twice.
    private mutating func quoted(_ quote: UInt8) throws(ClickHouseError) -> String {
        var bytes: [UInt8] = []
        position += 1
        while let byte = byte(0) {
            position += 1
            if byte == quote {
                guard self.byte(0) == quote else { return try decoded(bytes) }
                position += 1
            } else if byte == UInt8(ascii: "\\") {
                guard let escaped = self.byte(0) else { break }
                position += 1
                bytes.append(try unescaped(escaped))
                continue
            }
            bytes.append(byte)
        }
        throw unclosed("a quote")
    }

    private func unescaped(_ byte: UInt8) throws(ClickHouseError) -> UInt8 {
        switch byte {
        case UInt8(ascii: "n"): 0x0a
        case UInt8(ascii: "t"): 0x09
        case UInt8(ascii: "r"): 0x0d
        case UInt8(ascii: "\\"), UInt8(ascii: "'"), UInt8(ascii: "\""), UInt8(ascii: "`"), UInt8(ascii: "/"): byte
        default: throw error("an escape sequence that is not supported")
        }
    }

    private func unclosed(_ what: String) -> ClickHouseError {
        var error = error("\(what) is not closed")
        error.isIncomplete = true
        return error
    }

    private func decoded(_ range: Range<Int>) throws(ClickHouseError) -> String { try decoded(Array(text[range])) }

    private func decoded(_ bytes: [UInt8]) throws(ClickHouseError) -> String {
        guard let text = String(validating: bytes, as: UTF8.self) else { throw error("not UTF-8") }
        return text
    }
}
