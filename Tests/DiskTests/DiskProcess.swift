import Foundation
import Glibc
import IngestCore

@testable import DiskWriter

/// A `DiskWriter` in a process of its own, perhaps under the fault shim. It ends when this object does, or the test.
final class DiskProcess {
    /// What is built beside the test bundle.
    static func built(_ name: String) throws -> String {
        let bundle = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
        let path = bundle.deletingLastPathComponent().appending(path: name).path
        guard access(path, R_OK) == 0 else {
            throw Problem("\(path) is missing: build all products (swift build --build-tests)")
        }
        return path
    }

    /// What puts a process under the fault shim.
    static func shim(on folder: FaultyFolder) throws -> [String: String] {
        [
            "LD_PRELOAD": try built("libFaultShim.so"), "FAULT_SHIM_FOLDER": folder.path,
            "FAULT_SHIM_LOG": folder.log, "FAULT_SHIM_CONTROL": folder.control,
        ]
    }

    private let child: ChildProcess

    /// Starts a writer and waits until its journal is open.
    /// - Parameter folder: what the fault shim watches; without it there is no shim.
    init(
        journal: String, maxBytes: Int = 64 << 20, minFreeDiskBytes: Int = 0, commitDelayMilliseconds: Int = 0,
        ledger: String = "", on folder: FaultyFolder? = nil
    ) throws {
        child = try ChildProcess(
            [
                try Self.built("DiskWriter"), journal, "\(maxBytes)", "\(minFreeDiskBytes)",
                "\(commitDelayMilliseconds)", ledger,
            ],
            environment: try folder.map { try Self.shim(on: $0) } ?? [:])
        let answer = try child.receive()
        guard answer == "open" else { throw Problem(answer) }
    }

    /// Sends a command and returns its answer.
    @discardableResult
    func ask(_ command: String) throws -> String {
        try child.send(command)
        return try child.receive()
    }

    /// Appends events.
    /// - Returns: their sequences, or why they were refused.
    func append(
        _ table: String = Workload.tables[0], count: Int = 1, bytes: Int
    ) throws -> Result<Range<UInt64>, Problem> {
        let answer = try ask("append \(table) \(count) \(bytes)")
        let words = answer.split(separator: " ")
        if words.first == "accepted", words.count == 3, let lower = UInt64(words[1]), let upper = UInt64(words[2]) {
            return .success(lower..<upper)
        }
        return .failure(Problem(answer))
    }

    /// Lets the writer close its journal, and waits for its end.
    /// - Throws: `Problem` if it does not end well.
    func close() throws {
        let status = child.end()
        guard status == 0 else { throw Problem("the writer ended with status \(status)") }
    }
}
