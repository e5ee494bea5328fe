internal import IngestCore

/// The tables that can be inserted into: those of the service's streams.
struct ClickHouseTables: Sendable {
    private struct Name: Hashable {
        let database: String
        let table: String
    }

    private let database: String
    private let streams: [Name: Stream]

    /// - Parameter database: of streams whose table is named without one, and of statements that name none.
    init(_ streams: Set<Stream>, database: String) {
        self.database = database
        self.streams = Dictionary(
            streams.map { stream in
                let parts = stream.table.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
                let name =
                    parts.count == 2
                    ? Name(database: String(parts[0]), table: String(parts[1]))
                    : Name(database: database, table: stream.table)
                return (name, stream)
            },
            // `events` and `default.events` are one table; either queue leads there.
            uniquingKeysWith: { $0.id < $1.id ? $0 : $1 })
    }

    /// - Parameter current: the request's database; `nil` for the service's.
    /// - Throws: codes 60, 81, with what there is.
    func stream(
        _ insert: ClickHouseStatement.Insert, current: String?
    ) throws(ClickHouseError) -> Stream {
        let name = Name(database: insert.database ?? current ?? database, table: insert.table)
        if let stream = streams[name] { return stream }
        let tables = streams.keys.map { "\($0.database).\($0.table)" }.sorted()
        let list = tables.prefix(20).joined(separator: ", ") + (tables.count > 20 ? " and others" : "")
        guard streams.keys.contains(where: { $0.database == name.database }) else {
            throw ClickHouseError(
                .UNKNOWN_DATABASE,
                "Database \(ClickHouseTokens.printable(name.database)) has no table that ingestd fills; "
                    + "these are: \(list)")
        }
        throw ClickHouseError(
            .UNKNOWN_TABLE,
            "Table \(ClickHouseTokens.printable("\(name.database).\(name.table)")) is none that ingestd fills; "
                + "these are: \(list) (CLICKHOUSE_TABLE, STREAMS)")
    }
}
