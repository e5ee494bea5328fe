import IngestCore

/// Statements, settings and URLs of requests.
enum InsertStatement {
    /// A table that can't be named in a statement.
    struct InvalidTable: Error {
        let message: String
    }

    /// `INSERT INTO ... FORMAT JSONEachRow`. Envelopes name their columns, so that a table without one of them is an
    /// error of the statement (code 16: the operator's business) and not of each row.
    ///
    /// Except for `traceparent`: a pattern stands for it, which a table without that column does not match. So tables
    /// from before it was introduced are as good, and it is filled from the first batch on after the column was added.
    /// - Parameters:
    ///   - table: `table` or `database.table`; a table whose own name has a dot needs its database in front.
    ///   - database: where a table without one is.
    ///   - takesPatterns: whether the server knows patterns for columns in an INSERT.
    static func text(
        table: String, database: String, rowMode: RowMode, takesPatterns: Bool
    ) throws(InvalidTable) -> String {
        let name = try qualifiedName(table: table, database: database)
        let columns =
            switch rowMode {
            case .envelope:
                " (\(RowEncoder.envelopeColumns.map(quoted).joined(separator: ", "))"
                    + (takesPatterns ? ", COLUMNS('^traceparent$'))" : ")")
            case .flat: ""
            }
        return "INSERT INTO \(quoted(name.database)).\(quoted(name.table))\(columns) FORMAT JSONEachRow"
    }

    /// The two parts of a table's name.
    static func qualifiedName(
        table: String, database: String
    ) throws(InvalidTable) -> (database: String, table: String) {
        let parts = table.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let name = parts.count == 2 ? (parts[0], parts[1]) : (database, table)
        guard isIdentifier(name.0), isIdentifier(name.1) else {
            throw InvalidTable(
                message: "'\(table)' in database '\(database)' is no table's name; expected table or database.table")
        }
        return name
    }

    /// Whether `name` can be quoted: not empty, no control characters.
    static func isIdentifier(_ name: String) -> Bool {
        !name.isEmpty && name.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F }
    }

    /// An identifier in backticks; ClickHouse takes backslash escapes inside of them.
    static func quoted(_ identifier: String) -> String {
        var result = "`"
        for scalar in identifier.unicodeScalars {
            if scalar == "`" || scalar == "\\" { result.unicodeScalars.append("\\") }
            result.unicodeScalars.append(scalar)
        }
        return result + "`"
    }

    /// Asks for the server's version and which of our settings it knows, as lines `version\t...` and `setting\t...`.
    static let capabilityQuery: String = {
        let names = InsertSettings.asked.map { "'\($0)'" }.joined(separator: ", ")
        return """
            SELECT 'version', version() UNION ALL \
            SELECT 'setting', name FROM system.settings WHERE name IN (\(names)) FORMAT TabSeparated
            """
    }()

    /// `text` for the query part of a URL: all but letters, digits and `-._~` percent-encoded.
    static func percentEncoded(_ text: String) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var result: [UInt8] = []
        result.reserveCapacity(text.utf8.count + 32)
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F, 0x7E: result.append(byte)
            default: result += [0x25, digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: result, as: UTF8.self)
    }
}

/// The settings sent with every INSERT, where the server knows them. Identical for every attempt at a batch.
enum InsertSettings {
    /// Names the batch to the server's deduplication; came with version 22.
    static let token = "insert_deduplication_token"

    /// In flat mode an unknown field is an error; the default became to drop it silently. Of an envelope all fields are
    /// named in the statement but `traceparent`, which is dropped where the table has no such column.
    private static let unknownFields = "input_format_skip_unknown_fields"

    /// Never among them: `input_format_allow_errors_num` above 0, which skips rows without telling.
    private static let fixed: [(name: String, value: String)] = [
        // Answer after the rows are in the table. Asynchronous inserts are on by default from 26.3.
        ("async_insert", "0"),
        // The same for Distributed tables, which otherwise only queue the rows; old and new name.
        ("distributed_foreground_insert", "1"),
        ("insert_distributed_sync", "1"),
        // Deduplication by token, whatever the user's profile says; old and new name.
        ("insert_deduplicate", "1"),
        ("deduplicate_insert", "enable"),
        ("deduplicate_blocks_in_dependent_materialized_views", "1"),
        // ISO 8601 times.
        ("date_time_input_format", "best_effort"),
        ("input_format_allow_errors_num", "0"),
        ("input_format_allow_errors_ratio", "0"),
        // Row numbers in errors are exact, and the batch is one block.
        ("input_format_parallel_parsing", "0"),
        // The status is decided when the outcome is known [ClickHouse issue 33205].
        ("send_progress_in_http_headers", "0"),
        ("http_write_exception_in_output_format", "0"),
    ]

    /// The names to ask a server for.
    static var asked: [String] { fixed.map(\.name) + [unknownFields, token] }

    /// The part of an INSERT's URL that is the same for a server: `&name=value` for each known setting.
    static func query(known: Set<String>, rowMode: RowMode) -> String {
        let unknownFields = (name: unknownFields, value: rowMode == .envelope ? "1" : "0")
        var settings = (fixed + [unknownFields]).filter { known.contains($0.name) }
        if known.contains("distributed_foreground_insert") {
            settings.removeAll { $0.name == "insert_distributed_sync" }
        }
        return settings.map { "&\($0.name)=\($0.value)" }.joined()
    }
}
