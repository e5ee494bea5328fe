import Glibc

// `data.mdb` as plain reads see it. LMDB maps the file and believes what it finds: it reads beyond the end of one that
// was cut short, which ends the process (SIGBUS). So before it may map a file, this looks whether the file can be one.
//
//     page     0 u64 number   10 u16 flags   12 u16 behind the pointers   16 pointers (u16 each) to nodes
//     meta     pages 0 and 1: 16 u32 magic   20 u32 version   32 u64 map size   40 u32 page size   80 u64 root of the free list
//              128 u64 root of the table of tables   136 u64 last page   144 u64 commit number; the higher one counts
//     node     0 u16, u16, u16: leaf: value's length (32 bits) and flags; branch: page number (48 bits)
//              6 u16 key length   8 key, value (or the number of its first page; or a table: root at 40)
//
// [mdb.c of 0.9.24: MDB_page, MDB_meta, MDB_db, MDB_node]

/// What the two meta pages say of the file.
struct JournalFile {
    /// LMDB's name for it within the folder.
    static let name = "data.mdb"
    /// A new journal in the making.
    static let newName = "data.mdb.new"
    /// A compacted copy in the making.
    static let copyName = "data.mdb.copy"

    /// Bytes.
    let length: Int
    /// Number of the last commit.
    let commitNumber: UInt64
    private let pageSize: Int
    private let lastPage: UInt64
    private let mapSize: UInt64
    private let roots: [UInt64]

    private static let magic: UInt32 = 0xBEEF_C0DE
    private static let metaLength = 152
    private static let noPage = UInt64.max

    /// Looks at the journal's file.
    /// - Returns: `nil` if there is none.
    /// - Throws: `JournalError` if LMDB had better not open it.
    static func examine(_ path: String) throws(JournalError) -> JournalFile? {
        let file = path + "/" + name
        let descriptor = open(file, O_RDONLY | O_CLOEXEC)
        if descriptor < 0 {
            if errno == ENOENT { return nil }
            throw .io("can't open \(file): \(String(cString: strerror(errno))). \(JournalDirectory.accessHelp(path))")
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw .io("\(file): \(String(cString: strerror(errno)))") }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw .foreign(path: path, reason: "its \(name) is no regular file")
        }
        guard status.st_size > 0 else { throw .unusable(path: path, reason: "its \(name) is empty") }
        let found = try JournalFile(descriptor, path: path)
        guard found.lastPage < found.mapSize / UInt64(found.pageSize),
            found.roots.allSatisfy({ $0 == noPage || (2...max(2, found.lastPage)).contains($0) })
        else {
            throw .unusable(path: path, reason: "the first pages of its \(name) are damaged")
        }
        guard try found.isWhole(descriptor, path) else {
            throw .unusable(
                path: path,
                reason: "its \(name) is cut short: \(found.length) bytes are there, and pages in use lie behind them")
        }
        return found
    }

    /// Writes the meta pages of the journal's file to stable storage as they are read now.
    ///
    /// After a failed write of one, its content in memory and on the disk may differ in either direction, and the kernel
    /// does not write it again by itself. What is read now is built upon: it must not be gone after a power cut, and a
    /// commit that was taken back must not return once its pages are in use again. Needs no room on the disk.
    func confirmMetaPages(_ path: String) throws(JournalError) {
        let file = path + "/" + Self.name
        let descriptor = open(file, O_RDWR | O_DSYNC | O_CLOEXEC)
        guard descriptor >= 0 else { throw .io("can't open \(file): \(String(cString: strerror(errno)))") }
        defer { close(descriptor) }
        for offset in [0, pageSize] {
            let page = try Self.read(descriptor, at: offset, Self.metaLength, path)
            guard pwrite(descriptor, page, page.count, off_t(offset)) == page.count else {
                throw .io("can't write \(file): \(String(cString: strerror(errno)))")
            }
        }
    }

    private init(_ descriptor: CInt, path: String) throws(JournalError) {
        let first = try Self.read(descriptor, at: 0, Self.metaLength, path)
        // The first page tells where the second one is; if it can't, pages have the usual size.
        let size = Self.isMeta(first) ? Int(Self.number(first, 40, as: UInt32.self)) : 4_096
        let isPossible = size >= 512 && size <= 65_536 && size & (size - 1) == 0
        let second = try Self.read(descriptor, at: isPossible ? size : 4_096, Self.metaLength, path)
        guard Self.isMeta(first), Self.isMeta(second), isPossible, Self.number(second, 40, as: UInt32.self) == size
        else {
            guard Self.hasMagic(first) || Self.hasMagic(second) else {
                throw .foreign(path: path, reason: "its \(Self.name) does not begin like an LMDB file of version 1")
            }
            throw .unusable(path: path, reason: "the first pages of its \(Self.name) are damaged, or missing")
        }
        func commit(_ page: [UInt8]) -> UInt64 { Self.number(page, 144, as: UInt64.self) }
        let meta = commit(second) > commit(first) ? second : first
        // After the pages, so that it covers them when another process is writing.
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw .io("\(path): \(String(cString: strerror(errno)))") }
        length = Int(status.st_size)
        commitNumber = commit(meta)
        pageSize = size
        lastPage = Self.number(meta, 136, as: UInt64.self)
        mapSize = Self.number(meta, 32, as: UInt64.self)
        roots = [Self.number(meta, 80, as: UInt64.self), Self.number(meta, 128, as: UInt64.self)]
    }

    private static func hasMagic(_ page: [UInt8]) -> Bool {
        page.count >= 24 && number(page, 16, as: UInt32.self) == magic && number(page, 20, as: UInt32.self) == 1
    }

    private static func isMeta(_ page: [UInt8]) -> Bool {
        page.count == metaLength && number(page, 10, as: UInt16.self) & 0x08 != 0 && hasMagic(page)
    }

    private static func number<Number: FixedWidthInteger>(_ bytes: [UInt8], _ offset: Int, as: Number.Type) -> Number {
        bytes.withUnsafeBytes { Number(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Number.self)) }
    }

    private static func read(
        _ descriptor: CInt, at offset: Int, _ count: Int, _ path: String
    ) throws(JournalError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let read = pread(descriptor, &bytes, count, off_t(offset))
        guard read >= 0 else { throw .io("can't read \(path)/\(name): \(String(cString: strerror(errno)))") }
        return Array(bytes[..<read])
    }

    /// Whether all pages in use lie within the file. A file normally reaches to its last page; but when the last pages
    /// are free it may be shorter, so then every page in use is looked at.
    private func isWhole(_ descriptor: CInt, _ path: String) throws(JournalError) -> Bool {
        let pages = UInt64(length / pageSize)
        if lastPage < pages { return true }
        var seen: Set<UInt64> = []
        var waiting = roots.filter { $0 != Self.noPage }
        while let page = waiting.popLast() {
            guard page < pages, seen.insert(page).inserted else { return false }
            let bytes = try Self.read(descriptor, at: Int(page) * pageSize, pageSize, path)
            guard bytes.count == pageSize, let children = Self.children(of: bytes, pages) else { return false }
            waiting += children
        }
        return true
    }

    /// Pages below this one; `nil` if it makes no sense, or a value's pages lie behind the file's end.
    private static func children(of page: [UInt8], _ pages: UInt64) -> [UInt64]? {
        let flags = number(page, 10, as: UInt16.self)
        let isBranch = flags & 0x01 != 0
        guard isBranch || flags & 0x02 != 0 else { return nil }
        let end = Int(number(page, 12, as: UInt16.self))
        guard end >= 16, end <= page.count else { return nil }
        var children: [UInt64] = []
        for pointer in stride(from: 16, to: end - 1, by: 2) {
            let node = Int(number(page, pointer, as: UInt16.self))
            guard node >= end, node + 8 <= page.count else { return nil }
            let low = UInt64(number(page, node, as: UInt32.self))
            let high = number(page, node + 4, as: UInt16.self)
            if isBranch {
                children.append(low | UInt64(high) << 32)
                continue
            }
            let value = node + 8 + Int(number(page, node + 6, as: UInt16.self))
            if high & 0x01 != 0 {
                guard value + 8 <= page.count else { return nil }
                let first = number(page, value, as: UInt64.self)
                let count = (low + 16 + UInt64(page.count) - 1) / UInt64(page.count)
                guard first < pages, count <= pages - first else { return nil }
            } else if high & 0x02 != 0 {
                guard value + 48 <= page.count else { return nil }
                let root = number(page, value + 40, as: UInt64.self)
                if root != noPage { children.append(root) }
            }
        }
        return children
    }
}
