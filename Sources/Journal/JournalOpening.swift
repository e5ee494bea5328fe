import IngestCore

/// What happens between opening the file and using it: the format is checked before anything is changed, missing
/// tables are made, and the small tables are read. Entries are not.
enum JournalOpening {
    /// - Throws: `JournalError`, `LMDBError`, `MalformedEntry`.
    static func prepare(
        _ environment: Environment, _ configuration: JournalConfiguration
    ) throws -> (Tables, identity: String, JournalState) {
        // A file without tables is one whose making was interrupted.
        let isNew = try environment.read { try $0.tableCount() == 0 }
        if !isNew { try environment.read { try checkFormat($0, configuration.path) } }
        return try environment.write { transaction in
            let names = JournalFormat.tableNames
            let tables = Tables(
                meta: try transaction.openTable(names[0]), streams: try transaction.openTable(names[1]),
                entries: try transaction.openTable(names[2]), seals: try transaction.openTable(names[3]),
                partitions: try transaction.openTable(names[4]), deadLetters: try transaction.openTable(names[5]))
            let identity = try identity(tables, isNew: isNew, in: transaction)
            var state = try readState(tables, in: transaction)
            try addStreams(configuration.tables, to: &state, tables, in: transaction)
            return (tables, identity, state)
        }
    }

    /// Reads the state of a journal that another process may be writing.
    static func inspect(_ environment: Environment, path: String) throws -> JournalState {
        try environment.read { transaction in
            try checkFormat(transaction, path)
            let names = JournalFormat.tableNames
            let tables = Tables(
                meta: try transaction.existingTable(names[0]), streams: try transaction.existingTable(names[1]),
                entries: try transaction.existingTable(names[2]), seals: try transaction.existingTable(names[3]),
                partitions: try transaction.existingTable(names[4]),
                deadLetters: try transaction.existingTable(names[5]))
            return try readState(tables, in: transaction)
        }
    }

    private static func checkFormat(_ transaction: borrowing ReadTransaction, _ path: String) throws {
        guard let meta = try transaction.openTable(JournalFormat.tableNames[0]),
            let format = try transaction.get(meta, JournalFormat.formatKey),
            format.count == JournalFormat.marker.count + 4, format.starts(with: JournalFormat.marker)
        else {
            throw JournalError.foreign(path: path, reason: "its data.mdb is the LMDB file of another program")
        }
        let version = format.loadLittleEndian(JournalFormat.marker.count, as: UInt32.self)
        guard version <= JournalFormat.version else {
            throw JournalError.newerFormat(path: path, found: version, supported: JournalFormat.version)
        }
    }

    private static func identity(
        _ tables: Tables, isNew: Bool, in transaction: borrowing WriteTransaction
    ) throws -> String {
        if isNew {
            var format = JournalFormat.marker
            format.appendLittleEndian(JournalFormat.version)
            try format.withUnsafeBytes { try transaction.put(tables.meta, JournalFormat.formatKey, $0) }
            let identity = (0..<16).map { _ in UInt8.random(in: .min ... .max) }
            try identity.withUnsafeBytes { try transaction.put(tables.meta, JournalFormat.identityKey, $0) }
        }
        guard let identity = try transaction.get(tables.meta, JournalFormat.identityKey), identity.count == 16 else {
            throw JournalError.damaged("its identity is missing from table meta")
        }
        let digits = Array("0123456789abcdef")
        return String(identity.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
    }

    private static func readState<T: Transaction & ~Copyable>(
        _ tables: Tables, in transaction: borrowing T
    ) throws -> JournalState {
        var state = JournalState(streams: [:], partitions: [:], nextDeadLetter: 1, deadLetterCount: 0)
        let streams = try transaction.cursor(tables.streams)
        var found = try streams.first()
        while let record = found {
            guard record.key.count == 4 else { throw MalformedEntry("stream key is not 4 bytes long") }
            let id = StreamID(rawValue: UInt32(bigEndian: record.key.loadUnaligned(as: UInt32.self)))
            state.streams[id] = try StreamState(id: id, record: record.value)
            found = try streams.next()
        }
        let partitions = try transaction.cursor(tables.partitions)
        found = try partitions.first()
        while let record = found {
            state.partitions[try TopicPartition(key: record.key)] = try PartitionCheckpoint(record: record.value)
            found = try partitions.next()
        }
        if let last = try transaction.cursor(tables.deadLetters).last() {
            guard last.key.count == 8 else { throw MalformedEntry("dead letter key is not 8 bytes long") }
            state.nextDeadLetter = UInt64(bigEndian: last.key.loadUnaligned(as: UInt64.self)) + 1
        }
        state.deadLetterCount = try transaction.count(tables.deadLetters)
        return state
    }

    private static func addStreams(
        _ names: [String], to state: inout JournalState, _ tables: Tables,
        in transaction: borrowing WriteTransaction
    ) throws {
        let known = Set(state.streams.values.map(\.stream.table))
        var next = (state.streams.keys.map(\.rawValue).max() ?? 0) + 1
        for name in names
        where !known.contains(name) && !state.streams.values.contains(where: { $0.stream.table == name }) {
            let stream = StreamState(stream: Stream(id: StreamID(rawValue: next), table: name))
            let key = BytesKey(withUnsafeBytes(of: next.bigEndian) { Array($0) })
            try stream.record.withUnsafeBytes { try transaction.put(tables.streams, key, $0) }
            state.streams[stream.stream.id] = stream
            next += 1
        }
    }
}

extension ReadTransaction {
    fileprivate func existingTable(_ name: String) throws -> Table {
        guard let table = try openTable(name) else { throw JournalError.damaged("table \(name) is missing") }
        return table
    }
}
