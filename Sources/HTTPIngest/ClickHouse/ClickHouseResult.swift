internal import HTTPTypes
internal import NIOCore

/// The answer to a SELECT, in the format that was asked for.
struct ClickHouseResult {
    /// What functions such as `currentUser()` say.
    struct Environment {
        let user: String
        let database: String
    }

    private struct Column {
        let name: String
        let type: String
        let value: ClickHouseSelect.Column.Value
    }

    private let columns: [Column]
    private let isEmpty: Bool

    init(_ select: ClickHouseSelect, _ environment: Environment) {
        columns = select.columns.map { column in
            let value = Self.value(of: column.value, environment)
            return Column(name: column.name, type: Self.type(of: value), value: value)
        }
        isEmpty = select.isEmpty
    }

    /// - Parameter format: any case; `nil` for TabSeparated.
    /// - Throws: code 73.
    func answer(as format: String?) throws(ClickHouseError) -> Answer {
        let name = format ?? "TabSeparated"
        guard let kind = Self.formats[name.lowercased()] else {
            throw ClickHouseError(
                .UNKNOWN_FORMAT,
                "ingestd can't answer in the format \(ClickHouseTokens.printable(name)): ask for TabSeparated, CSV, "
                    + "JSON, JSONCompact, JSONEachRow, Native or RowBinary")
        }
        var answer = Answer(status: .ok, body: body(kind))
        answer.headers[.contentType] = kind.contentType
        answer.headers[.clickHouseFormat] = kind.name
        answer.headers[.clickHouseTimeZone] = ClickHouseDialect.timeZone
        return answer
    }

    // MARK: Values

    private static func value(
        of value: ClickHouseSelect.Column.Value, _ environment: Environment
    ) -> ClickHouseSelect.Column.Value {
        guard case .function(let name) = value else { return value }
        return switch name {
        case "version": .text(ClickHouseDialect.version)
        case "timezone", "servertimezone": .text(ClickHouseDialect.timeZone)
        case "currentdatabase", "database": .text(environment.database)
        case "currentuser", "user": .text(environment.user)
        case "revision": .number(UInt64(ClickHouseDialect.revision))
        default: .text(ClickHouseDialect.displayName)
        }
    }

    private static func type(of value: ClickHouseSelect.Column.Value) -> String {
        switch value {
        case .number(let number):
            switch number {
            case 0...0xff: "UInt8"
            case 0...0xffff: "UInt16"
            case 0...0xffff_ffff: "UInt32"
            default: "UInt64"
            }
        case .absent(let type): type
        case .text, .function: "String"
        }
    }

    // MARK: Formats

    /// [ClickHouse: docs/en/interfaces/formats.md]
    private enum Format {
        case tabSeparated(names: Bool, types: Bool)
        case csv(names: Bool)
        case json
        case jsonCompact
        case jsonEachRow
        case jsonCompactEachRow
        case native
        case rowBinary(names: Bool)
        case values
        case null

        var name: String {
            switch self {
            case .tabSeparated(false, _): "TabSeparated"
            case .tabSeparated(_, false): "TabSeparatedWithNames"
            case .tabSeparated: "TabSeparatedWithNamesAndTypes"
            case .csv(let names): names ? "CSVWithNames" : "CSV"
            case .json: "JSON"
            case .jsonCompact: "JSONCompact"
            case .jsonEachRow: "JSONEachRow"
            case .jsonCompactEachRow: "JSONCompactEachRow"
            case .native: "Native"
            case .rowBinary(let names): names ? "RowBinaryWithNamesAndTypes" : "RowBinary"
            case .values: "Values"
            case .null: "Null"
            }
        }

        var contentType: String {
            switch self {
            case .tabSeparated: "text/tab-separated-values; charset=UTF-8"
            case .csv(let names): "text/csv; charset=UTF-8; header=\(names ? "present" : "absent")"
            case .json, .jsonCompact: "application/json; charset=UTF-8"
            case .jsonEachRow, .jsonCompactEachRow: "application/x-ndjson; charset=UTF-8"
            case .native, .rowBinary: "application/octet-stream"
            case .values, .null: "text/plain; charset=UTF-8"
            }
        }
    }

    private static let formats: [String: Format] = [
        "tabseparated": .tabSeparated(names: false, types: false), "tsv": .tabSeparated(names: false, types: false),
        "tabseparatedraw": .tabSeparated(names: false, types: false),
        "tsvraw": .tabSeparated(names: false, types: false),
        "tabseparatedwithnames": .tabSeparated(names: true, types: false),
        "tsvwithnames": .tabSeparated(names: true, types: false),
        "tabseparatedwithnamesandtypes": .tabSeparated(names: true, types: true),
        "tsvwithnamesandtypes": .tabSeparated(names: true, types: true),
        "csv": .csv(names: false), "csvwithnames": .csv(names: true), "json": .json, "jsoncompact": .jsonCompact,
        "jsoneachrow": .jsonEachRow, "jsonlines": .jsonEachRow, "jsonl": .jsonEachRow, "ndjson": .jsonEachRow,
        "jsoncompacteachrow": .jsonCompactEachRow, "native": .native, "rowbinary": .rowBinary(names: false),
        "rowbinarywithnamesandtypes": .rowBinary(names: true), "values": .values, "null": .null,
    ]

    private func body(_ format: Format) -> ByteBuffer {
        switch format {
        case .tabSeparated(let names, let types):
            let head = (names ? [columns.map { Self.tabEscaped($0.name) }] : []) + (types ? [columns.map(\.type)] : [])
            return lines(head) { Self.tabEscaped(Self.plain($0.value)) }
        case .csv(let names):
            return lines(names ? [columns.map { Self.csvQuoted($0.name) }] : [], separator: ",") { column in
                column.type == "String" ? Self.csvQuoted(Self.plain(column.value)) : Self.plain(column.value)
            }
        case .json, .jsonCompact: return ByteBuffer(string: json(isCompact: format.name == "JSONCompact"))
        case .jsonEachRow: return ByteBuffer(string: isEmpty ? "" : jsonObject + "\n")
        case .jsonCompactEachRow: return ByteBuffer(string: isEmpty ? "" : jsonArray + "\n")
        case .values:
            let values = columns.map {
                $0.type == "String" ? Self.sqlQuoted(Self.plain($0.value)) : Self.plain($0.value)
            }
            return ByteBuffer(string: isEmpty ? "" : "(\(values.joined(separator: ",")))")
        case .native: return native
        case .rowBinary(let names): return rowBinary(names: names)
        case .null: return ByteBuffer()
        }
    }

    private func lines(
        _ head: [[String]], separator: String = "\t", _ value: (Column) -> String
    ) -> ByteBuffer {
        let rows = head + (isEmpty ? [] : [columns.map(value)])
        return ByteBuffer(string: rows.map { $0.joined(separator: separator) + "\n" }.joined())
    }

    private func json(isCompact: Bool) -> String {
        let meta = columns.map { #"{"name":\#(Self.jsonQuoted($0.name)),"type":"\#($0.type)"}"# }
        let data = isEmpty ? "" : isCompact ? jsonArray : jsonObject
        return #"{"meta":[\#(meta.joined(separator: ","))],"data":[\#(data)],"rows":\#(isEmpty ? 0 : 1),"#
            + #""statistics":{"elapsed":0,"rows_read":0,"bytes_read":0}}"# + "\n"
    }

    private var jsonObject: String {
        "{" + columns.map { Self.jsonQuoted($0.name) + ":" + Self.json($0) }.joined(separator: ",") + "}"
    }

    private var jsonArray: String { "[" + columns.map(Self.json).joined(separator: ",") + "]" }

    /// One block, also of no rows.
    private var native: ByteBuffer {
        var buffer = ByteBuffer()
        Self.writeLength(columns.count, to: &buffer)
        Self.writeLength(isEmpty ? 0 : 1, to: &buffer)
        for column in columns {
            Self.writeString(column.name, to: &buffer)
            Self.writeString(column.type, to: &buffer)
            if !isEmpty { Self.writeBinary(column, to: &buffer) }
        }
        return buffer
    }

    private func rowBinary(names: Bool) -> ByteBuffer {
        var buffer = ByteBuffer()
        if names {
            Self.writeLength(columns.count, to: &buffer)
            for column in columns { Self.writeString(column.name, to: &buffer) }
            for column in columns { Self.writeString(column.type, to: &buffer) }
        }
        if !isEmpty { for column in columns { Self.writeBinary(column, to: &buffer) } }
        return buffer
    }

    // MARK: Parts of formats

    private static func plain(_ value: ClickHouseSelect.Column.Value) -> String {
        switch value {
        case .number(let number): String(number)
        case .text(let text): text
        case .function, .absent: ""
        }
    }

    private static func tabEscaped(_ text: String) -> String {
        escaped(text) { ["\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "'": "\\'"][$0] }
    }

    private static func csvQuoted(_ text: String) -> String {
        "\"" + escaped(text) { $0 == "\"" ? "\"\"" : nil } + "\""
    }

    private static func sqlQuoted(_ text: String) -> String {
        "'" + escaped(text) { ["\\": "\\\\", "'": "\\'"][$0] } + "'"
    }

    private static func json(_ column: Column) -> String {
        let text = plain(column.value)
        // Numbers of 64 bits are strings, lest JavaScript rounds them.
        return column.type == "String" || column.type == "UInt64" ? jsonQuoted(text) : text
    }

    private static func jsonQuoted(_ text: String) -> String {
        "\""
            + escaped(text) { scalar in
                switch scalar {
                case "\"": "\\\""
                case "\\": "\\\\"
                case _ where scalar.value < 0x20:
                    "\\u00\(scalar.value < 16 ? "0" : "")\(String(scalar.value, radix: 16))"
                default: nil
                }
            } + "\""
    }

    private static func escaped(_ text: String, _ escape: (Unicode.Scalar) -> String?) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            if let escape = escape(scalar) { result += escape } else { result.unicodeScalars.append(scalar) }
        }
        return result
    }

    private static func writeBinary(_ column: Column, to buffer: inout ByteBuffer) {
        guard case .number(let number) = column.value else { return writeString(plain(column.value), to: &buffer) }
        switch column.type {
        case "UInt8": buffer.writeInteger(UInt8(truncatingIfNeeded: number))
        case "UInt16": buffer.writeInteger(UInt16(truncatingIfNeeded: number), endianness: .little)
        case "UInt32": buffer.writeInteger(UInt32(truncatingIfNeeded: number), endianness: .little)
        default: buffer.writeInteger(number, endianness: .little)
        }
    }

    private static func writeString(_ text: String, to buffer: inout ByteBuffer) {
        writeLength(text.utf8.count, to: &buffer)
        buffer.writeString(text)
    }

    /// LEB128.
    private static func writeLength(_ length: Int, to buffer: inout ByteBuffer) {
        var rest = UInt64(length)
        while rest >= 0x80 {
            buffer.writeInteger(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        buffer.writeInteger(UInt8(truncatingIfNeeded: rest))
    }
}
