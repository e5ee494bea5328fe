import IngestCore
import ServiceLog

/// What happens between opening the file and using it: the format is checked before anything is changed, missing
/// tables are made, and the small tables are read. Entries are not.
enum JournalOpening {
    /// Opens the environment for writing: removes what a crash left in the making, makes a new file where there is none,
    /// looks whether an existing one is whole, and compacts it where that is worthwhile.
    static func environment(
        _ directory: JournalDirectory, _ configuration: JournalConfiguration, _ log: EventLog
    ) throws -> Environment {
        try directory.removeLeftovers()
        if let file = try JournalFile.examine(directory.path) {
            try Compactor.runIfWorthwhile(directory, file, configuration, log)
        } else {
            try make(directory, configuration)
        }
        let file = try JournalFile.examine(directory.path)
        let environment = try Environment(
            directory: directory.path, mapSize: configuration.mapSize, tableCount: JournalFormat.tableCount,
            readOnly: false)
        try directory.sync()
        try file?.confirmMetaPages(directory.path)
        // LMDB finds the last commit by its lock file, which outlives the file that it was made for.
        guard try environment.read({ $0.commitNumber }) == file?.commitNumber else {
            throw JournalError.io(
                "\(directory.path)/lock.mdb belongs to another \(JournalFile.name): stop what reads the journal (fuser "
                    + "\(directory.path)/lock.mdb names it), then start again")
        }
        return environment
    }

    /// Makes a new journal under another name: `data.mdb` is there as a whole, or it is not there.
    private static func make(_ directory: JournalDirectory, _ configuration: JournalConfiguration) throws {
        do {
            let environment = try Environment(
                privateFile: directory.path + "/" + JournalFile.newName, mapSize: configuration.mapSize,
                tableCount: JournalFormat.tableCount)
            _ = try prepare(environment, configuration, LoggedGroups())
        }
        // LMDB has synced the file; not its name.
        try directory.replaceData(by: JournalFile.newName)
    }

    /// What is known of an open journal.
    struct Prepared {
        let tables: Tables
        let identity: String
        let state: JournalState
        let holds: CommitHolds
        /// Events that came from the commit log.
        let takenIn: Int
    }

    /// - Parameter logged: appended as far as the journal does not have it, if it belongs to this journal.
    /// - Throws: `JournalError`, `LMDBError`, `MalformedEntry`.
    static func prepare(
        _ environment: Environment, _ configuration: JournalConfiguration, _ logged: LoggedGroups
    ) throws -> Prepared {
        // A file that never saw a commit is one whose making was interrupted.
        let isNew = try environment.read { try $0.tableCount() == 0 && $0.commitNumber == 0 }
        if !isNew { try environment.read { try checkFormat($0, configuration.path) } }
        return try environment.write { transaction in
            let tables = try Tables(
                JournalFormat.tableNames.map { try transaction.openTable($0) },
                requests: RequestTables(RequestTables.names.map { try transaction.openTable($0) }))
            let identity = try identity(tables, isNew: isNew, in: transaction)
            var state = try readState(tables, pageSize: environment.pages.size, in: transaction)
            let takenIn =
                logged.identity == identity
                ? try takeIn(logged, to: &state, tables, pageSize: environment.pages.size, in: transaction) : 0
            try addStreams(configuration.tables, to: &state, tables, in: transaction)
            // Where forwarding is off the table is left for when it is on again.
            guard configuration.forwardsDeadLetters else {
                state.unforwardedCount = 0
                return Prepared(
                    tables: tables, identity: identity, state: state, holds: CommitHolds(), takenIn: takenIn)
            }
            let holds = try readHolds(tables, in: transaction)
            for partition in holds.partitions {
                state.partitions[partition, default: PartitionCheckpoint()].hold(at: holds[partition])
            }
            return Prepared(tables: tables, identity: identity, state: state, holds: holds, takenIn: takenIn)
        }
    }

    /// Appends the entries that were logged, and acknowledged, and that the journal does not have. Where some are
    /// missing before one, they are found missing like those of a damaged entry.
    /// - Returns: number of events appended.
    private static func takeIn(
        _ logged: LoggedGroups, to state: inout JournalState, _ tables: Tables, pageSize: Int,
        in transaction: borrowing WriteTransaction
    ) throws -> Int {
        var count = 0
        try logged.forEachEntry { id, entry in
            guard var stream = state.streams[id] else {
                throw JournalError.damaged("\(CommitLog.name) has events of \(id), which the journal does not know")
            }
            // Those that the journal has; or whose write failed, and others got their sequences.
            guard entry.sequences.lowerBound >= stream.nextSequence else { return }
            try transaction.reserve(
                tables.entries, SequenceKey(id, entry.sequences.lowerBound), entry.bytes.count
            ).copyMemory(from: entry.bytes)
            stream.nextSequence = entry.sequences.upperBound
            stream.storedBytes += UInt64(JournalFormat.storedLength(entry.bytes.count, pageSize: pageSize))
            state.streams[id] = stream
            try stream.record.withUnsafeBytes { try transaction.put(tables.streams, id.key, $0) }
            count += entry.sequences.count
        }
        return count
    }

    /// Opens the tables of a journal for reading, after a look at its format.
    static func existingTables(_ environment: Environment, _ path: String) throws -> Tables {
        try environment.read { try checkFormat($0, path) }
        return try Tables(
            zip(JournalFormat.tableNames, environment.openTables(JournalFormat.tableNames)).map { name, table in
                guard let table else { throw JournalError.damaged("\(path): table \(name) is missing") }
                return table
            },
            requests: RequestTables(environment.openTables(RequestTables.names)))
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
        var format = JournalFormat.marker
        format.appendLittleEndian(JournalFormat.version)
        // Nothing is written where nothing changes: a journal opens on a full disk.
        if try transaction.get(tables.meta, JournalFormat.formatKey).map({ !$0.elementsEqual(format) }) ?? true {
            try format.withUnsafeBytes { try transaction.put(tables.meta, JournalFormat.formatKey, $0) }
        }
        if isNew {
            let identity = (0..<16).map { _ in UInt8.random(in: .min ... .max) }
            try identity.withUnsafeBytes { try transaction.put(tables.meta, JournalFormat.identityKey, $0) }
        }
        return try readIdentity(tables, in: transaction)
    }

    static func readIdentity<T: Transaction & ~Copyable>(
        _ tables: Tables, in transaction: borrowing T
    ) throws -> String {
        guard let identity = try transaction.get(tables.meta, JournalFormat.identityKey), identity.count == 16 else {
            throw JournalError.damaged("its identity is missing from table meta")
        }
        let digits = Array("0123456789abcdef")
        return String(identity.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
    }

    static func readState<T: Transaction & ~Copyable>(
        _ tables: Tables, pageSize: Int, in transaction: borrowing T
    ) throws -> JournalState {
        var state = JournalState()
        state.streams = try readStreams(tables, in: transaction)
        state.partitions = try readPartitions(tables, in: transaction)
        if let number = try transaction.get(tables.meta, JournalFormat.nextDeadLetterKey) {
            guard number.count == 8 else { throw MalformedEntry("number of the next dead letter is not 8 bytes long") }
            state.nextDeadLetter = number.loadLittleEndian(0)
        }
        if let last = try transaction.cursor(tables.deadLetters).last() {
            guard try NumberKey(last.key).number < state.nextDeadLetter else {
                throw JournalError.damaged("a dead letter has a number that was not given yet")
            }
        }
        state.deadLetterCount = try transaction.count(tables.deadLetters)
        state.deadLetterBytes = try transaction.pageCount(tables.deadLetters) * pageSize
        state.unforwardedCount = try transaction.count(tables.forwarding)
        state.requests = try readRequests(tables.requests, in: transaction)
        return state
    }

    static func readStreams<T: Transaction & ~Copyable>(
        _ tables: Tables, in transaction: borrowing T
    ) throws -> [StreamID: StreamState] {
        var streams: [StreamID: StreamState] = [:]
        let cursor = try transaction.cursor(tables.streams)
        var found = try cursor.first()
        while let record = found {
            guard record.key.count == 4 else { throw MalformedEntry("stream key is not 4 bytes long") }
            let id = StreamID(rawValue: UInt32(bigEndian: record.key.loadUnaligned(as: UInt32.self)))
            streams[id] = try StreamState(id: id, record: record.value)
            found = try cursor.next()
        }
        return streams
    }

    static func readPartitions<T: Transaction & ~Copyable>(
        _ tables: Tables, in transaction: borrowing T
    ) throws -> [TopicPartition: PartitionCheckpoint] {
        var partitions: [TopicPartition: PartitionCheckpoint] = [:]
        let cursor = try transaction.cursor(tables.partitions)
        var found = try cursor.first()
        while let record = found {
            partitions[try TopicPartition(key: record.key)] = try PartitionCheckpoint(record: record.value)
            found = try cursor.next()
        }
        return partitions
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
            try stream.record.withUnsafeBytes { try transaction.put(tables.streams, stream.stream.id.key, $0) }
            state.streams[stream.stream.id] = stream
            next += 1
        }
    }
}

extension Tables {
    /// - Parameter tables: in the order of `JournalFormat.tableNames`.
    fileprivate init(_ tables: [Table], requests: RequestTables?) {
        self.init(
            meta: tables[0], streams: tables[1], entries: tables[2], seals: tables[3], partitions: tables[4],
            deadLetters: tables[5], forwarding: tables[6], requests: requests)
    }
}

extension RequestTables {
    /// - Parameter tables: in the order of `names`; nothing is made of one without the other.
    fileprivate init?(_ tables: [Table?]) {
        guard let requests = tables[0], let order = tables[1] else { return nil }
        self.init(requests: requests, order: order)
    }
}
