import Foundation
import Glibc
import TestSupport

/// A folder in which the fault shim of a process records what is done and makes it fail as ordered. Its log and the
/// orders lie beside it.
final class FaultyFolder {
    /// What can fail.
    enum Operation: String, CaseIterable, Sendable {
        /// A write of data.
        case write
        /// A sync of what was written.
        case sync
        /// A write that syncs itself: LMDB's meta pages.
        case meta
    }

    let path: String
    let log: String
    let control: String
    private var generation = 0

    init(in parent: TemporaryDirectory) throws {
        // Without links and doubled slashes: the shim compares paths as they are.
        guard let real = realpath(parent.path, nil) else { throw Problem("realpath: errno \(errno)") }
        defer { free(real) }
        let parent = String(cString: real)
        path = parent + "/disk"
        log = parent + "/log"
        control = parent + "/faults"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }

    /// A path inside of it.
    func appending(_ name: String) -> String { path + "/" + name }

    /// Puts faults in force, as lines of the shim's control file; those of before are over.
    func order(_ lines: [String]) throws {
        try (lines.joined(separator: "\n") + "\n").write(toFile: control, atomically: true, encoding: .utf8)
    }

    /// Lets operations of this kind fail until the next order.
    /// - Parameters:
    ///   - error: errno; 0 writes only half of the bytes.
    ///   - skip: how many pass first.
    ///   - count: how many fail; all without it.
    func fail(_ operation: Operation, error: Int32, skip: Int = 0, count: Int = -1) throws {
        generation += 1
        try order(["\(generation) \(operation.rawValue) \(error) \(skip) \(count)"])
    }

    /// Nothing fails any more.
    func heal() throws { try order([]) }
}
