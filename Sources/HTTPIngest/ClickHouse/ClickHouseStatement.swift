/// A statement of those that are answered.
enum ClickHouseStatement: Equatable {
    case insert(Insert)
    case select(ClickHouseSelect)

    /// `INSERT INTO [TABLE] [database.]table [(columns)] [SETTINGS ...] FORMAT JSONEachRow`, whose rows follow.
    struct Insert: Equatable {
        var database: String?
        var table: String
        /// `nil` for all.
        var columns: [String]?
        var settings: [ClickHouseSetting] = []
        /// Where the rows start, in the text that was parsed.
        var dataOffset = 0
    }

    /// - Parameters:
    ///   - text: starts with the statement; behind an INSERT its rows may follow. At most
    ///     `ClickHouseDialect.statementBytes` of it are read.
    ///   - parameters: values of `{name:Identifier}`.
    /// - Throws: `isIncomplete` if the statement goes on behind the text's end.
    init(
        _ text: UnsafeRawBufferPointer, parameters: [String: String] = [:]
    ) throws(ClickHouseError) {
        let bounded = UnsafeRawBufferPointer(rebasing: text.prefix(ClickHouseDialect.statementBytes))
        var parser = ClickHouseParser(tokens: ClickHouseTokens(bounded), parameters: parameters)
        let result = Result { () throws(ClickHouseError) in try Self.parse(&parser) }
        // What touches the bound may be half a word.
        guard bounded.count == text.count || parser.tokens.position < bounded.count else {
            throw ClickHouseError(
                .SYNTAX_ERROR, "the statement is longer than \(ClickHouseDialect.statementBytes) bytes")
        }
        self = try result.get()
    }

    private static func parse(
        _ parser: inout ClickHouseParser
    ) throws(ClickHouseError) -> ClickHouseStatement {
        switch try parser.tokens.next() {
        case .word(let word):
            switch word.uppercased() {
            case "INSERT": return .insert(try parser.insert())
            case "SELECT": return .select(try parser.select())
            default:
                throw ClickHouseError(
                    .NOT_IMPLEMENTED,
                    "ingestd is no database and does not know \(ClickHouseTokens.printable(word)): "
                        + ClickHouseParser.whatIsKnown)
            }
        case .end:
            throw .incomplete("INSERT INTO or SELECT")
        default:
            throw parser.tokens.error("a statement begins with a word: " + ClickHouseParser.whatIsKnown)
        }
    }
}

/// One setting or parameter of a request.
struct ClickHouseSetting: Equatable {
    let name: String
    let value: String
}

/// Parses statements, token by token.
struct ClickHouseParser {
    var tokens: ClickHouseTokens
    let parameters: [String: String]

    static let whatIsKnown =
        "it takes INSERT INTO table FORMAT JSONEachRow, and answers SELECT of literals, version(), timezone() and the "
        + "like; ask ClickHouse itself for all else"

    // MARK: INSERT

    mutating func insert() throws(ClickHouseError) -> ClickHouseStatement.Insert {
        _ = try tokens.take("INTO")
        _ = try tokens.take("TABLE")
        if case .word(let word) = try tokens.peek(), word.uppercased() == "FUNCTION" {
            _ = try tokens.next()
            if try tokens.peek() == .symbol(".") { return try insert(into: word) }
            guard try startsClause() else {
                throw ClickHouseError(.NOT_IMPLEMENTED, "ingestd inserts into tables, not into table functions")
            }
            return try insert(into: word)
        }
        return try insert(into: try identifier("a table"))
    }

    private mutating func insert(into first: String) throws(ClickHouseError) -> ClickHouseStatement.Insert {
        var insert = ClickHouseStatement.Insert(table: first)
        if try tokens.take(symbol: ".") {
            insert.database = first
            insert.table = try identifier("a table")
        }
        if try tokens.take(symbol: "(") { insert.columns = try columns() }
        if try tokens.take("SETTINGS") { insert.settings = try settings() }
        switch try tokens.next() {
        case .end: throw .incomplete("FORMAT")
        case .word(let word):
            switch word.uppercased() {
            case "FORMAT": break
            case "VALUES": throw Self.unknownFormat("Values")
            case "SELECT", "WITH", "FROM", "WATCH":
                throw ClickHouseError(
                    .NOT_IMPLEMENTED,
                    "ingestd inserts rows that the request holds, not those of \(word.uppercased()): "
                        + "use FORMAT JSONEachRow")
            default: throw tokens.error("FORMAT JSONEachRow was expected")
            }
        default: throw tokens.error("FORMAT JSONEachRow was expected")
        }
        let format = try identifier("a format")
        guard Self.rowFormats.contains(format.lowercased()) else { throw Self.unknownFormat(format) }
        // One semicolon is pardoned, where ClickHouse complains.
        tokens.takeAtOnce(UInt8(ascii: ";"))
        insert.dataOffset = tokens.position
        return insert
    }

    /// Names are not case-sensitive.
    private static let rowFormats: Set = ["jsoneachrow", "jsonlines", "jsonl", "ndjson"]

    private static func unknownFormat(_ name: String) -> ClickHouseError {
        ClickHouseError(
            .NOT_IMPLEMENTED,
            "ingestd takes rows in FORMAT JSONEachRow (or JSONLines, NDJSON), which it delivers unchanged; it can't "
                + "carry \(ClickHouseTokens.printable(name))")
    }

    /// Whether a clause of an INSERT follows, so that the word before it was the table's name.
    private func startsClause() throws(ClickHouseError) -> Bool {
        guard case .word(let word) = try tokens.peek() else { return false }
        return ["FORMAT", "SETTINGS", "VALUES"].contains(word.uppercased())
    }

    /// Up to the closing parenthesis.
    private mutating func columns() throws(ClickHouseError) -> [String]? {
        if try tokens.take(symbol: "*") {
            guard try tokens.take(symbol: ")") else {
                throw ClickHouseError(.NOT_IMPLEMENTED, "in a list of columns, * stands alone")
            }
            return nil
        }
        var columns: [String] = []
        repeat {
            var name = try identifier("a column")
            // `n.a`: a column of a Nested.
            while try tokens.take(symbol: ".") { name += "." + (try identifier("a column")) }
            columns.append(name)
        } while try tokens.take(symbol: ",")
        if try tokens.peek() == .end { throw .incomplete("a closing parenthesis") }
        guard try tokens.take(symbol: ")") else {
            _ = try tokens.next()
            throw tokens.error("a closing parenthesis was expected; columns are named one by one, or all by *")
        }
        return columns
    }

    // MARK: Parts

    /// `name = literal, ...`
    mutating func settings() throws(ClickHouseError) -> [ClickHouseSetting] {
        var settings: [ClickHouseSetting] = []
        repeat {
            let name = try identifier("a setting")
            if try tokens.peek() == .end { throw .incomplete("= and a value") }
            guard try tokens.take(symbol: "=") else {
                _ = try tokens.next()
                throw tokens.error("= and a value were expected")
            }
            let sign = try tokens.take(symbol: "-") ? "-" : ""
            switch try tokens.next() {
            case .number(let value): settings.append(ClickHouseSetting(name: name, value: sign + value))
            case .string(let value) where sign.isEmpty: settings.append(ClickHouseSetting(name: name, value: value))
            case .word(let value) where sign.isEmpty && ["TRUE", "FALSE"].contains(value.uppercased()):
                settings.append(ClickHouseSetting(name: name, value: value.lowercased()))
            case .end: throw .incomplete("a value")
            default: throw tokens.error("a number or a string was expected")
            }
        } while try tokens.take(symbol: ",")
        return settings
    }

    /// A name, bare, in quotes or as a parameter: `{name:Identifier}`, as Vector sends it.
    mutating func identifier(_ what: String) throws(ClickHouseError) -> String {
        switch try tokens.next() {
        case .word(let name): return name
        case .name(let name):
            guard !name.isEmpty else { throw tokens.error("the name of \(what) is empty") }
            return name
        case .symbol("{"): return try substitution()
        case .end: throw .incomplete(what)
        default: throw tokens.error("\(what) was expected")
        }
    }

    private mutating func substitution() throws(ClickHouseError) -> String {
        let name = try identifier("a parameter")
        guard try tokens.take(symbol: ":"), try tokens.take("IDENTIFIER"), try tokens.take(symbol: "}") else {
            if try tokens.peek() == .end { throw .incomplete("{name:Identifier}") }
            _ = try tokens.next()
            throw tokens.error("ingestd knows parameters of the form {name:Identifier}")
        }
        guard let value = parameters[name] else {
            throw ClickHouseError(
                .UNKNOWN_QUERY_PARAMETER,
                "Substitution `\(ClickHouseTokens.printable(name))` is not set: send param_"
                    + "\(ClickHouseTokens.printable(name))")
        }
        guard !value.isEmpty else { throw tokens.error("a parameter is empty") }
        return value
    }
}
