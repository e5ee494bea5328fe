import Foundation
import Logging

@testable import Observability

/// Log lines in memory: the reading end of a socket that keeps the boundaries of writes, so that a test sees what
/// each single `write(2)` wrote. Room for a few hundred lines.
final class LogCapture: Sendable {
    let output: LogOutput
    private let writing: Int32
    private let reading: Int32

    init() {
        var ends: [Int32] = [0, 0]
        precondition(socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &ends) == 0, "socketpair")
        writing = ends[0]
        reading = ends[1]
        output = LogOutput(fileDescriptor: writing)
    }

    deinit {
        close(writing)
        close(reading)
    }

    /// What was written since the last call, one element a write.
    func writes() -> [String] {
        var result: [String] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 17)
        while true {
            let count = recv(reading, &chunk, chunk.count, Int32(MSG_DONTWAIT))
            guard count > 0 else { return result }
            result.append(String(decoding: chunk[..<count], as: UTF8.self))
        }
    }

    /// The same, as JSON objects.
    func objects() throws -> [[String: Any]] {
        try writes().map { line in
            guard let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any] else {
                throw NotAnObject(line: line)
            }
            return object
        }
    }

    struct NotAnObject: Error { let line: String }

    /// 2026-02-03T04:05:06.789Z
    static let instant: Int64 = 1_770_091_506_789

    static func wallClockSeconds() -> Int { time(nil) }

    func jsonLogger(label: String, level: Logger.Level = .info, provider: Logger.MetadataProvider? = nil) -> Logger {
        Logger(label: label) { [output] label in
            JSONLogHandler(
                label: label, logLevel: level, metadataProvider: provider, output: output, clock: { Self.instant })
        }
    }

    func textLogger(label: String, level: Logger.Level = .info) -> Logger {
        Logger(label: label) { [output] label in
            TextLogHandler(label: label, logLevel: level, output: output, clock: { Self.instant })
        }
    }
}

extension Logger {
    /// For tests that do not look at the log.
    static var silent: Logger { Logger(label: "silent") { _ in SwiftLogNoOpLogHandler() } }
}
