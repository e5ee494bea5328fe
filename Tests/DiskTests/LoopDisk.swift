import Foundation
import Glibc
import TestSupport

/// A small file system of its own, in a file. Mounting needs root.
///
/// A shell mounts it, does what it is told, and unmounts it at the end of its input: so it also goes when the test
/// process is killed.
final class LoopDisk {
    private static let script = """
        trap '' INT TERM
        set -e
        mkdir "$1/disk"
        truncate -s "$2" "$1/image"
        mkfs.ext4 -q -F -b 4096 -m 0 "$1/image" >&2
        mount -o loop "$1/image" "$1/disk"
        echo mounted
        while read -r command; do
            eval "$command"
            echo done
        done
        # Lazily: a process that is about to end may have files open.
        umount -l "$1/disk"
        rm -rf "$1/image" "$1/disk"
        """

    /// Whether this process may mount file systems.
    static let isPossible: Bool = {
        guard geteuid() == 0 else { return false }
        return (try? LoopDisk(bytes: 16 << 20)) != nil
    }()

    private let folder: TemporaryDirectory
    private let shell: ChildProcess
    let path: String

    init(bytes: Int) throws {
        folder = try TemporaryDirectory("disk")
        path = folder.appending("disk")
        let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
        shell = try ChildProcess(
            ["/bin/sh", "-c", Self.script, "sh", folder.path, "\(bytes)"],
            environment: ["PATH": path + ":/usr/sbin:/sbin"])
        guard try shell.receive() == "mounted" else { throw Problem("no file system was mounted") }
    }

    deinit { shell.end() }

    /// A path on it.
    func appending(_ name: String) -> String { path + "/" + name }

    /// Bytes that are free.
    func freeBytes() throws -> Int {
        var statistics = statvfs()
        guard statvfs(path, &statistics) == 0 else { throw Problem("statvfs: errno \(errno)") }
        return Int(statistics.f_bavail) * Int(statistics.f_frsize)
    }

    /// Makes a file that takes room: `bytes`, or all that is left.
    func makeBallast(_ name: String, bytes: Int? = nil) throws {
        let descriptor = open(appending(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Problem("can't make \(name): errno \(errno)") }
        defer { close(descriptor) }
        if let bytes {
            guard posix_fallocate(descriptor, 0, bytes) == 0 else { throw Problem("there is no room for \(name)") }
            return
        }
        // Ever smaller pieces, until not a single block is left. ext4 finds the last ones when others are written out.
        let block = [UInt8](repeating: 0x42, count: 1 << 20)
        for _ in 0..<10 {
            var size = block.count
            while size >= 512 {
                if write(descriptor, block, size) != size { size /= 2 }
            }
            guard fsync(descriptor) == 0 || errno == ENOSPC else { throw Problem("fsync: errno \(errno)") }
            if try freeBytes() == 0 { return }
        }
    }

    /// Makes it read-only; nobody may have a file open for writing.
    func makeReadOnly() throws {
        try shell.send("mount -o remount,ro \"$1/disk\"")
        guard try shell.receive() == "done" else { throw Problem("the file system was not remounted") }
    }

    func remove(_ name: String) throws { try FileManager.default.removeItem(atPath: appending(name)) }
}
