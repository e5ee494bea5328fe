import CLMDB
import Glibc
import IngestCore

// The few LMDB calls that the journal needs, each with one owner for its handle. Facts about LMDB 0.9.24 are from
// lmdb.h and mdb.c.

/// An error of LMDB or of the system call below it.
struct LMDBError: Error, CustomStringConvertible {
    /// LMDB's code (negative) or errno.
    let code: Int32
    /// What was tried.
    let operation: StaticString

    /// The map is used up: no free page, and the file has reached the map's size.
    var isMapFull: Bool { code == MDB_MAP_FULL }
    /// The disk or the quota is used up.
    var isDiskFull: Bool { code == ENOSPC || code == EDQUOT }
    /// The file is no LMDB file of this version and word size.
    var isForeign: Bool { code == MDB_INVALID || code == MDB_VERSION_MISMATCH }
    /// The environment can't go on: close and reopen it.
    var isFatal: Bool { code == MDB_PANIC || code == MDB_CORRUPTED || code == MDB_PAGE_NOTFOUND }

    var description: String { "\(operation): \(String(cString: mdb_strerror(code)))" }
}

private func check(_ code: Int32, _ operation: StaticString) throws(LMDBError) {
    guard code == 0 else { throw LMDBError(code: code, operation: operation) }
}

/// An open LMDB environment. LMDB environments may be used from any thread; transactions have rules of their own.
final class Environment: @unchecked Sendable {
    fileprivate let handle: OpaquePointer

    /// - Parameters:
    ///   - directory: must exist. Never open one twice in a process: closing one would drop the other's file locks.
    ///   - mapSize: ceiling of the file's size in bytes; address space, not memory.
    convenience init(directory: String, mapSize: Int?, tableCount: Int, readOnly: Bool) throws(LMDBError) {
        try self.init(path: directory, mapSize: mapSize, tableCount: tableCount, flags: readOnly ? MDB_RDONLY : 0)
    }

    /// Opens a file that no other process knows of, so that it needs no locks.
    /// - Parameter mapSize: as above; `nil` for reading only.
    convenience init(privateFile path: String, mapSize: Int?, tableCount: Int) throws(LMDBError) {
        try self.init(
            path: path, mapSize: mapSize, tableCount: tableCount,
            flags: MDB_NOSUBDIR | MDB_NOLOCK | (mapSize == nil ? MDB_RDONLY : 0))
    }

    private init(path: String, mapSize: Int?, tableCount: Int, flags: Int32) throws(LMDBError) {
        var environment: OpaquePointer?
        try check(mdb_env_create(&environment), "mdb_env_create")
        handle = environment!
        // From here on `deinit` closes the handle, also when one of these throws.
        try check(mdb_env_set_maxdbs(handle, UInt32(tableCount)), "mdb_env_set_maxdbs")
        // Without a size LMDB takes the one that the file was last opened with.
        if let mapSize { try check(mdb_env_set_mapsize(handle, mapSize), "mdb_env_set_mapsize") }
        // NOTLS: a read transaction belongs to its object, not to the thread that began it.
        // NORDAHEAD: a backlog larger than memory is read once, in order; read-ahead would push out pages in use.
        // Neither NOSYNC, NOMETASYNC nor WRITEMAP: an acknowledged event is on stable storage.
        try check(mdb_env_open(handle, path, UInt32(flags | MDB_NOTLS | MDB_NORDAHEAD), 0o640), "mdb_env_open")
    }

    deinit { mdb_env_close(handle) }

    /// Frees the reader slots of processes that died.
    func clearDeadReaders() throws(LMDBError) {
        try check(mdb_reader_check(handle, nil), "mdb_reader_check")
    }

    /// The flags that are in force.
    var flags: UInt32 {
        var flags: UInt32 = 0
        mdb_env_get_flags(handle, &flags)
        return flags
    }

    /// Size of a page, and the number of pages that the file has.
    var pages: (size: Int, count: Int) {
        var info = MDB_envinfo()
        mdb_env_info(handle, &info)
        var stat = MDB_stat()
        mdb_env_stat(handle, &stat)
        return (Int(stat.ms_psize), info.me_last_pgno + 1)
    }

    /// Opens tables for reading; `nil` for those that don't exist.
    func openTables(_ names: [String]) throws(LMDBError) -> [Table?] {
        var transaction: OpaquePointer?
        try check(mdb_txn_begin(handle, nil, UInt32(MDB_RDONLY), &transaction), "begin read transaction")
        var tables: [Table?] = []
        for name in names {
            var table = MDB_dbi()
            let code = mdb_dbi_open(transaction, name, 0, &table)
            guard code == 0 || code == MDB_NOTFOUND else {
                mdb_txn_abort(transaction)
                throw LMDBError(code: code, operation: "open table")
            }
            tables.append(code == 0 ? Table(handle: table) : nil)
        }
        // Aborting would close the tables again.
        try check(mdb_txn_commit(transaction), "commit")
        return tables
    }

    /// Writes a copy of what the file holds to `descriptor`, without its free pages.
    func copyCompacted(to descriptor: CInt) throws(LMDBError) {
        try check(mdb_env_copyfd2(handle, descriptor, UInt32(MDB_CP_COMPACT)), "copy")
    }

    /// Runs `body` in the write transaction: commits when it returns, aborts when it throws. Blocks while another
    /// thread or process writes. The transaction belongs to the calling thread, so there is no `await` in here.
    @available(*, noasync)
    func write<Result>(_ body: (borrowing WriteTransaction) throws -> Result) throws -> Result {
        var transaction: OpaquePointer?
        try check(mdb_txn_begin(handle, nil, 0, &transaction), "begin write transaction")
        let result: Result
        do {
            result = try body(WriteTransaction(handle: transaction!))
        } catch {
            mdb_txn_abort(transaction)
            throw error
        }
        // A failed commit has aborted the transaction: nothing of it is in the file.
        try check(mdb_txn_commit(transaction), "commit")
        return result
    }

    /// Runs `body` with a read transaction. Keep it short: pages freed meanwhile can't be reused.
    func read<Result>(_ body: (borrowing ReadTransaction) throws -> Result) throws -> Result {
        let transaction = try ReadTransaction(self)
        return try body(transaction)
    }
}

/// A table (LMDB: named database) within the environment.
struct Table {
    fileprivate let handle: MDB_dbi
}

/// What read and write transactions have in common.
protocol Transaction: ~Copyable {
    var handle: OpaquePointer { get }
}

extension Transaction where Self: ~Copyable {
    /// The value under `key`, pointing into the map: valid until the transaction ends, or writes.
    func get(_ table: Table, _ key: some Key) throws(LMDBError) -> UnsafeRawBufferPointer? {
        try key.withValue { keyValue throws(LMDBError) in
            var keyValue = keyValue
            var value = MDB_val()
            let code = mdb_get(handle, table.handle, &keyValue, &value)
            if code == MDB_NOTFOUND { return nil }
            try check(code, "get")
            return value.bytes
        }
    }

    /// A cursor over the table.
    func cursor(_ table: Table) throws(LMDBError) -> Cursor {
        var cursor: OpaquePointer?
        try check(mdb_cursor_open(handle, table.handle, &cursor), "open cursor")
        return Cursor(handle: cursor!)
    }

    /// Number of records in the table.
    func count(_ table: Table) throws(LMDBError) -> Int {
        var stat = MDB_stat()
        try check(mdb_stat(handle, table.handle, &stat), "stat")
        return stat.ms_entries
    }

    /// Pages of the file that the table takes.
    func pageCount(_ table: Table) throws(LMDBError) -> Int {
        var stat = MDB_stat()
        try check(mdb_stat(handle, table.handle, &stat), "stat")
        return stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages
    }

    /// Pages that the tables' own table takes.
    func rootPageCount() throws(LMDBError) -> Int { try pageCount(Table(handle: 1)) }

    /// Pages that LMDB's list of free pages takes.
    func freeListPageCount() throws(LMDBError) -> Int { try pageCount(Table(handle: 0)) }
}

/// A read transaction: a view of the last commit before it began.
struct ReadTransaction: ~Copyable, Transaction {
    let handle: OpaquePointer
    // The environment must outlive its transactions.
    private let environment: Environment

    init(_ environment: Environment) throws(LMDBError) {
        var transaction: OpaquePointer?
        try check(
            mdb_txn_begin(environment.handle, nil, UInt32(MDB_RDONLY), &transaction), "begin read transaction")
        handle = transaction!
        self.environment = environment
    }

    deinit { mdb_txn_abort(handle) }

    /// Lets go of the view but keeps the reader slot, so that `renew` is cheap.
    func reset() { mdb_txn_reset(handle) }

    /// Takes a view of the last commit again, after `reset`.
    func renew() throws(LMDBError) { try check(mdb_txn_renew(handle), "renew read transaction") }

    /// Number of the commit that is seen.
    var commitNumber: UInt64 { UInt64(mdb_txn_id(handle)) }

    /// Number of tables.
    func tableCount() throws(LMDBError) -> Int { try count(Table(handle: 1)) }

    /// Opens a table that exists.
    func openTable(_ name: String) throws(LMDBError) -> Table? {
        var table = MDB_dbi()
        let code = mdb_dbi_open(handle, name, 0, &table)
        if code == MDB_NOTFOUND { return nil }
        try check(code, "open table")
        return Table(handle: table)
    }
}

/// The write transaction; only `Environment.write` makes one, and ends it.
struct WriteTransaction: ~Copyable, Transaction {
    let handle: OpaquePointer

    /// Opens a table, made if it is missing.
    func openTable(_ name: String) throws(LMDBError) -> Table {
        var table = MDB_dbi()
        try check(mdb_dbi_open(handle, name, UInt32(MDB_CREATE), &table), "open table")
        return Table(handle: table)
    }

    /// Stores a value, replacing one that is there.
    func put(_ table: Table, _ key: some Key, _ bytes: UnsafeRawBufferPointer) throws(LMDBError) {
        try key.withValue { keyValue throws(LMDBError) in
            var keyValue = keyValue
            var value = MDB_val(bytes)
            try check(mdb_put(handle, table.handle, &keyValue, &value, 0), "put")
        }
    }

    /// Makes room for a new value and returns it, to be filled before the transaction goes on.
    func reserve(_ table: Table, _ key: some Key, _ length: Int) throws(LMDBError) -> UnsafeMutableRawBufferPointer {
        try key.withValue { keyValue throws(LMDBError) in
            var keyValue = keyValue
            var value = MDB_val(mv_size: length, mv_data: nil)
            try check(
                mdb_put(handle, table.handle, &keyValue, &value, UInt32(MDB_RESERVE | MDB_NOOVERWRITE)), "put")
            return UnsafeMutableRawBufferPointer(start: value.mv_data, count: value.mv_size)
        }
    }

    /// Deletes the record under `key`; false if there was none.
    @discardableResult
    func delete(_ table: Table, _ key: some Key) throws(LMDBError) -> Bool {
        try key.withValue { keyValue throws(LMDBError) in
            var keyValue = keyValue
            let code = mdb_del(handle, table.handle, &keyValue, nil)
            if code == MDB_NOTFOUND { return false }
            try check(code, "delete")
            return true
        }
    }
}

/// A cursor. Must not outlive its transaction.
struct Cursor: ~Copyable {
    typealias Record = (key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer)

    fileprivate let handle: OpaquePointer

    deinit { mdb_cursor_close(handle) }

    func first() throws(LMDBError) -> Record? { try get(MDB_FIRST) }
    func last() throws(LMDBError) -> Record? { try get(MDB_LAST) }
    func next() throws(LMDBError) -> Record? { try get(MDB_NEXT) }
    func previous() throws(LMDBError) -> Record? { try get(MDB_PREV) }

    /// The first record at or behind `key`.
    func seek(_ key: some Key) throws(LMDBError) -> Record? {
        try key.withValue { keyValue throws(LMDBError) in try get(MDB_SET_RANGE, keyValue) }
    }

    /// Deletes the record that the cursor stands on; `next` then returns the one behind it.
    func delete() throws(LMDBError) { try check(mdb_cursor_del(handle, 0), "delete at cursor") }

    private func get(_ operation: MDB_cursor_op, _ start: MDB_val = MDB_val()) throws(LMDBError) -> Record? {
        var key = start
        var value = MDB_val()
        let code = mdb_cursor_get(handle, &key, &value, operation)
        if code == MDB_NOTFOUND { return nil }
        try check(code, "move cursor")
        return (key.bytes, value.bytes)
    }
}

/// Something that can be a table's key. LMDB compares keys byte by byte.
protocol Key {
    func withValue<Result>(_ body: (MDB_val) throws(LMDBError) -> Result) throws(LMDBError) -> Result
}

extension MDB_val {
    fileprivate init(_ bytes: UnsafeRawBufferPointer) {
        self.init(mv_size: bytes.count, mv_data: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
    }

    fileprivate var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: mv_data, count: mv_size) }
}

/// A key of up to 511 bytes, LMDB's limit.
struct BytesKey: Key {
    static let maximumLength = 511
    let bytes: [UInt8]

    init(_ bytes: some Collection<UInt8>) { self.bytes = Array(bytes) }

    func withValue<Result>(_ body: (MDB_val) throws(LMDBError) -> Result) throws(LMDBError) -> Result {
        // `withUnsafeBytes` rethrows untyped; the pointer does not leave this scope either way.
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
        defer { buffer.deallocate() }
        buffer.copyBytes(from: bytes)
        return try body(MDB_val(UnsafeRawBufferPointer(buffer)))
    }
}

/// A number as an 8-byte big-endian key, so that byte order is numeric order.
struct NumberKey: Key {
    let number: UInt64

    init(number: UInt64) { self.number = number }

    /// - Throws: `MalformedEntry` if `bytes` are no such key.
    init(_ bytes: UnsafeRawBufferPointer) throws(MalformedEntry) {
        guard bytes.count == 8 else { throw MalformedEntry("key is not 8 bytes long") }
        number = UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self))
    }

    func withValue<Result>(_ body: (MDB_val) throws(LMDBError) -> Result) throws(LMDBError) -> Result {
        var bigEndian = number.bigEndian
        return try withUnsafeMutablePointer(to: &bigEndian) { pointer throws(LMDBError) in
            try body(MDB_val(mv_size: 8, mv_data: pointer))
        }
    }
}
