import IngestCore

/// Looks whether the rows of a batch are in its table: for batches that were sent more than once.
///
/// ClickHouse writes a token into a table's deduplication log before it renames the new part to its final name
/// [MergeTreeSink::commitPart; the order is the same in 26.9, tried with SIGKILL and with ENOSPC at that rename]. A
/// server that is killed between the two, or fails in the second, knows the token and does not have the rows. It then
/// answers the retry with success and drops it. So the success of a retry is believed only after its rows were seen.
///
/// They are found by their ids, in one question about a sample: a batch is one block, so in a table without partitions
/// all of its rows are there or none. Not asked about: flat rows, which need not hold the id; and tables other than
/// plain MergeTree and ReplacingMergeTree ordered by the id. In others rows may disappear by design (Null, Summing),
/// and replicated ones know a token only together with its part.
struct RowLookup {
    /// What a server answered.
    enum Finding: Equatable {
        /// The rows are there, or the table is none in which they have to be.
        case believed
        case missing(Int)
        /// The answer can't be read.
        case unclear
    }

    /// Ids asked for, and bytes for them in a statement (`max_query_size` is 262,144 by default).
    private static let sampleSize = 256
    private static let idBytes = 200_000
    private static let idColumn = "event_id"

    /// The question, of printable ASCII characters.
    let statement: String
    /// Number of different ids in it.
    private let idCount: Int

    /// Chooses ids of a batch, from its first to its last event and evenly between them.
    /// - Throws: `InsertStatement.InvalidTable`, or what the batch's reader throws.
    init(_ request: InsertRequest, database: String) throws {
        let name = try InsertStatement.qualifiedName(table: request.table, database: database)
        let size = min(request.rowCount, Self.sampleSize)
        var literals: Set<String> = []
        var row = 0
        var chosen = 0
        var bytes = 0
        let reader = try request.makeReader()
        while bytes < Self.idBytes,
            try reader.read({ run in
                while bytes < Self.idBytes, let event = try run.next() {
                    if row == (size > 1 ? chosen * (request.rowCount - 1) / (size - 1) : 0) {
                        chosen += 1
                        let literal = Self.id(of: event)
                        if literals.insert(literal).inserted { bytes += literal.utf8.count + 2 }
                    }
                    row += 1
                }
            })
        {}
        idCount = literals.count
        statement = """
            SELECT uniqExact(\(Self.idColumn)), (SELECT count() FROM system.tables WHERE \
            database = \(Self.literal(name.database.utf8)) AND name = \(Self.literal(name.table.utf8)) AND \
            (engine = 'MergeTree' OR (engine = 'ReplacingMergeTree' AND \
            has(splitByString(', ', sorting_key), '\(Self.idColumn)')))) \
            FROM \(InsertStatement.quoted(name.database)).\(InsertStatement.quoted(name.table)) \
            WHERE \(Self.idColumn) IN (\(literals.sorted().joined(separator: ", "))) FORMAT TabSeparated
            """
    }

    /// Reads the answer to `statement`.
    func finding(_ answer: [UInt8]) -> Finding {
        let fields = String(decoding: answer, as: UTF8.self).split { $0 == "\t" || $0 == "\n" }.map { Int($0) }
        guard fields.count == 2, let found = fields[0], let tables = fields[1] else { return .unclear }
        return found >= idCount || tables == 0 ? .believed : .missing(idCount - found)
    }

    private static func id(of event: EventView) -> String {
        if let id = event.explicitID { return literal(id) }
        return withUnsafeTemporaryAllocation(byteCount: EventID.derivedLength, alignment: 1) { buffer in
            EventID.derive(from: event.payload, into: buffer)
            return literal(UnsafeRawBufferPointer(buffer))
        }
    }

    /// A string literal; ids can hold any bytes.
    private static func literal(_ bytes: some Sequence<UInt8>) -> String {
        var text = "'"
        for byte in bytes {
            switch byte {
            case 0x27, 0x5C, ..<0x20, 0x7F...:
                text += byte < 0x10 ? "\\x0" : "\\x"
                text += String(byte, radix: 16)
            default: text.unicodeScalars.append(Unicode.Scalar(byte))
            }
        }
        return text + "'"
    }
}
