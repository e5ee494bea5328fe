internal import Glibc

/// A file that is read again when it has changed. Whether it has is asked now and then, by `stat`: that works for
/// files that are replaced, for symbolic links (mounted secrets), and on every file system.
struct WatchedFile: Sendable {
    let path: String
    private var version: Version?

    /// What tells a file's versions apart.
    private struct Version: Equatable {
        let device: dev_t
        let inode: ino_t
        let size: off_t
        let seconds: time_t
        let nanoseconds: Int
    }

    init(_ path: String) { self.path = path }

    /// Whether the file is another one than at the last call. The first call says yes.
    ///
    /// Called before the file is read, so that a change while it is read is seen the next time.
    mutating func hasChanged() -> Bool {
        var status = stat()
        let current =
            stat(path, &status) == 0
            ? Version(
                device: status.st_dev, inode: status.st_ino, size: status.st_size, seconds: status.st_mtim.tv_sec,
                nanoseconds: status.st_mtim.tv_nsec)
            : Version(device: 0, inode: 0, size: -1, seconds: 0, nanoseconds: 0)
        defer { version = current }
        return version != current
    }

    /// The file's bytes.
    /// - Throws: `UnusableFile` if it can't be read or is larger than `limit`.
    func read(limit: Int) throws(UnusableFile) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure() }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = Glibc.read(descriptor, &piece, piece.count)
            guard count >= 0 else {
                if errno == EINTR { continue }
                throw failure()
            }
            if count == 0 { return bytes }
            bytes += piece[..<count]
            guard bytes.count <= limit else { throw UnusableFile(path, "is larger than \(limit) bytes") }
        }
    }

    private func failure() -> UnusableFile { UnusableFile(path, "can't be read: \(String(cString: strerror(errno)))") }
}

/// Why a file of tokens or certificates can't be used, in words for the operator; never with what is secret in it.
struct UnusableFile: Error, Equatable, CustomStringConvertible {
    let description: String

    init(_ path: String, _ reason: String) { description = "\(path) \(reason)" }
}
