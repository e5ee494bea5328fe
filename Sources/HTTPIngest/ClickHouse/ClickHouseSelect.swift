/// A SELECT that can be answered without a database: what clients ask to see whether the server is there.
struct ClickHouseSelect: Equatable {
    /// One column of the result.
    struct Column: Equatable {
        enum Value: Equatable {
            case number(UInt64)
            case text(String)
            /// The name of a function without arguments, in lower case.
            case function(String)
            /// A column of a table without rows.
            case absent(type: String)
        }

        let name: String
        let value: Value
    }

    var columns: [Column]
    /// Of `FROM system.settings`, which is empty here: this server has no settings that a client could change.
    var isEmpty = false
    /// As written.
    var format: String?
    var settings: [ClickHouseSetting] = []

    /// Columns of `system.settings` that clients ask for.
    static let settingColumns = [
        "name": "String", "value": "String", "changed": "UInt8", "description": "String", "readonly": "UInt8",
        "type": "String", "default": "String",
    ]
    static let functions: Set = [
        "version", "timezone", "servertimezone", "currentdatabase", "database", "currentuser", "user", "hostname",
        "displayname", "fqdn", "revision",
    ]
}

extension ClickHouseParser {
    mutating func select() throws(ClickHouseError) -> ClickHouseSelect {
        var items: [Item] = []
        repeat { items.append(try item()) } while try tokens.take(symbol: ",")
        var select: ClickHouseSelect
        if try tokens.take("FROM") {
            select = try selectOfSettings(items)
        } else {
            var columns: [ClickHouseSelect.Column] = []
            for item in items {
                guard let value = item.value else { throw unknown("the column \(item.name)") }
                columns.append(ClickHouseSelect.Column(name: item.name, value: value))
            }
            select = ClickHouseSelect(columns: columns)
        }
        if try tokens.take("LIMIT") {
            guard case .number(let limit) = try tokens.next(), UInt64(digits: limit) != nil else {
                throw tokens.error("LIMIT takes a number here")
            }
            if UInt64(digits: limit) == 0 { select.isEmpty = true }
        }
        while true {
            if try tokens.take("SETTINGS") {
                select.settings += try settings()
            } else if select.format == nil, try tokens.take("FORMAT") {
                select.format = try identifier("a format")
            } else {
                break
            }
        }
        while try tokens.take(symbol: ";") {}
        guard try tokens.next() == .end else { throw unknown("this statement") }
        return select
    }

    private struct Item {
        var name: String
        /// `nil` for a bare name.
        let value: ClickHouseSelect.Column.Value?
    }

    private mutating func item() throws(ClickHouseError) -> Item {
        var item: Item
        switch try tokens.next() {
        case .number(let text):
            guard let number = UInt64(digits: text) else { throw unknown("the number \(text)") }
            item = Item(name: text, value: .number(number))
        case .string(let text):
            item = Item(name: "'\(text)'", value: .text(text))
        case .name(let name):
            item = Item(name: name, value: nil)
        case .word(let name):
            guard try tokens.take(symbol: "(") else {
                item = Item(name: name, value: nil)
                break
            }
            guard try tokens.take(symbol: ")"), ClickHouseSelect.functions.contains(name.lowercased()) else {
                throw unknown("\(name)(...)")
            }
            item = Item(name: name + "()", value: .function(name.lowercased()))
        case .end:
            throw .incomplete("what to select")
        default:
            throw unknown("this statement")
        }
        if try tokens.take("AS") {
            item.name = try identifier("a name")
        } else if case .name(let name) = try tokens.peek() {
            _ = try tokens.next()
            item.name = name
        }
        return item
    }

    /// The table is empty, so that conditions and orders change nothing: they are skipped.
    private mutating func selectOfSettings(_ items: [Item]) throws(ClickHouseError) -> ClickHouseSelect {
        let database = try identifier("a table")
        guard try tokens.take(symbol: "."), try identifier("a table") == "settings", database == "system" else {
            throw unknown("the table of this SELECT")
        }
        var columns: [ClickHouseSelect.Column] = []
        for item in items {
            guard item.value == nil, let type = ClickHouseSelect.settingColumns[item.name] else {
                throw unknown("\(item.name) of system.settings")
            }
            columns.append(ClickHouseSelect.Column(name: item.name, value: .absent(type: type)))
        }
        while true {
            switch try tokens.peek() {
            case .word(let word) where ["FORMAT", "SETTINGS", "LIMIT"].contains(word.uppercased()): break
            case .end, .symbol(";"): break
            default:
                _ = try tokens.next()
                continue
            }
            return ClickHouseSelect(columns: columns, isEmpty: true)
        }
    }

    private func unknown(_ what: String) -> ClickHouseError {
        ClickHouseError(
            .NOT_IMPLEMENTED,
            "ingestd is no database and can't answer \(ClickHouseTokens.printable(what)): " + Self.whatIsKnown)
    }
}
