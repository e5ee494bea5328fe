import Glibc

/// The journal's folder: `data.mdb` and `lock.mdb` are LMDB's, `ingestd.lock` is held by the process that writes.
///
/// The lock is `flock`: it goes with the process however it dies, so a crash never leaves a stale one.
final class JournalDirectory: Sendable {
    let path: String
    private let lock: CInt
    private static let ownerLength = 32

    /// Makes the folder where it is missing, and locks it.
    init(exclusive path: String) throws(JournalError) {
        self.path = path
        try Self.makeFolders(path)
        let lockPath = path + "/ingestd.lock"
        let descriptor = Glibc.open(lockPath, O_RDWR | O_CREAT | O_CLOEXEC, 0o640)
        guard descriptor >= 0 else {
            throw .io("can't open \(lockPath): \(Self.errnoText). \(Self.accessHelp(path))")
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let holder = Self.content(of: descriptor)
            close(descriptor)
            throw .inUse(path: path, holder: holder.isEmpty ? "another process" : "process \(holder)")
        }
        lock = descriptor
        // Only for the message to a second process. Over what is there, as a full disk has no block for it;
        // where even that fails no other process's id must stand there.
        let owner = Array("\(getpid())\n".utf8)
        let padded = owner + Array(repeating: UInt8(ascii: " "), count: Self.ownerLength - owner.count)
        if pwrite(descriptor, padded, padded.count, 0) != padded.count { ftruncate(descriptor, 0) }
    }

    deinit {
        // Not by closing alone: a process that is being started has a copy of the descriptor for a moment.
        flock(lock, LOCK_UN)
        close(lock)
    }

    /// Makes the names of files and folders durable: they must survive a power cut as well as what is in the files.
    /// To be called when LMDB has made its files, before anything is acknowledged.
    func sync() throws(JournalError) {
        let parts = path.split(separator: "/")
        for count in 0...parts.count {
            let folder = (path.hasPrefix("/") ? "/" : "./") + parts[..<count].joined(separator: "/")
            let descriptor = Glibc.open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            // A folder above that may not be read was not made by this process.
            if descriptor < 0, errno == EACCES { continue }
            guard descriptor >= 0, fsync(descriptor) == 0 || errno == EINVAL || errno == EROFS else {
                throw .io("can't sync \(folder): \(Self.errnoText)")
            }
            close(descriptor)
        }
    }

    /// Removes files that a crash left in the making.
    func removeLeftovers() throws(JournalError) {
        for name in [JournalFile.newName, JournalFile.copyName] { try remove(name) }
    }

    /// Removes a file of the folder, if it is there.
    func remove(_ name: String) throws(JournalError) {
        guard unlink(path + "/" + name) == 0 || errno == ENOENT else {
            throw .io("can't remove \(path)/\(name): \(Self.errnoText)")
        }
    }

    /// Renames a file of the folder.
    func rename(_ name: String, to newName: String) throws(JournalError) {
        guard Glibc.rename(path + "/" + name, path + "/" + newName) == 0 else {
            throw .io("can't rename \(path)/\(name): \(Self.errnoText)")
        }
    }

    /// Puts the finished file `name` in the place of `data.mdb`, which nobody may have open. Either of the two is there
    /// at every moment, and the new one when this returns, whatever happens to the machine.
    func replaceData(by name: String) throws(JournalError) {
        // The lock file belongs to the file that it was made for: a reader of the old one that still has it open would
        // make LMDB take the new file's commits for the old one's.
        try remove("lock.mdb")
        try rename(name, to: JournalFile.name)
        try sync()
    }

    /// What helps when the folder can't be used for lack of permission.
    static func accessHelp(_ path: String) -> String {
        "The user that runs ingestd (id \(geteuid())) must own it: chown -R \(geteuid()) \(path)"
    }

    /// Whether the folder holds LMDB's file already.
    static func hasData(_ path: String) -> Bool { access(path + "/data.mdb", F_OK) == 0 }

    /// Bytes that an unprivileged process may still write to the file system of `path`; `nil` if it won't say.
    static func freeDiskBytes(_ path: String) -> UInt64? {
        var statistics = statvfs()
        guard statvfs(path, &statistics) == 0 else { return nil }
        return UInt64(statistics.f_bavail) * UInt64(statistics.f_frsize)
    }

    private static func makeFolders(_ path: String) throws(JournalError) {
        var prefix = path.hasPrefix("/") ? "" : "."
        for part in path.split(separator: "/") {
            prefix += "/" + part
            guard mkdir(prefix, 0o750) == 0 || errno == EEXIST else {
                throw .io("can't make the folder \(prefix): \(errnoText). \(accessHelp(path))")
            }
        }
    }

    private static func content(of descriptor: CInt) -> String {
        var buffer = [UInt8](repeating: 0, count: ownerLength)
        let count = pread(descriptor, &buffer, buffer.count, 0)
        guard count > 0 else { return "" }
        return String(decoding: buffer[..<count].prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    }

    private static var errnoText: String { String(cString: strerror(errno)) }
}

/// Keeps the file in its place while it is read by a process that does not hold `ingestd.lock`: whoever replaces it asks
/// for the same lock alone. The lock is `flock` on the folder itself, so that reading needs no right to write.
final class JournalReadLock: Sendable {
    private let descriptor: CInt

    /// Waits while the file is being replaced, which is seldom and short.
    init(shared path: String) throws(JournalError) {
        descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw .io("can't open \(path): \(String(cString: strerror(errno))). \(JournalDirectory.accessHelp(path))")
        }
        while flock(descriptor, LOCK_SH) != 0 {
            guard errno == EINTR else { throw .io("can't lock \(path): \(String(cString: strerror(errno)))") }
        }
    }

    /// For replacing the file; `nil` while another process reads it.
    init?(exclusive directory: JournalDirectory) {
        descriptor = open(directory.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0, flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            if descriptor >= 0 { close(descriptor) }
            return nil
        }
    }

    deinit {
        // See JournalDirectory.
        flock(descriptor, LOCK_UN)
        close(descriptor)
    }
}
