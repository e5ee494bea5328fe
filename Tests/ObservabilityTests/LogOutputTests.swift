import Foundation
import Logging
import Observability
import Synchronization
import Testing

@Suite struct LogOutputTests {
    @Test func oneWritePerLine() {
        let log = LogCapture()
        let logger = log.jsonLogger(label: "l")
        for index in 0..<20 { logger.info("m", metadata: ["i": "\(index)"]) }
        let writes = log.writes()
        #expect(writes.count == 20)
        #expect(writes.allSatisfy { $0.hasPrefix("{") && $0.hasSuffix("}\n") })
    }

    /// Lines longer than a pipe takes at once: only the lock keeps them apart.
    @Test func linesOfThreadsNeverInterleave() async throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        let (reading, writing) = (ends[0], ends[1])
        let output = LogOutput(fileDescriptor: writing)
        async let text = onThread { Self.readAll(reading) }
        let perThread = 40
        await withTaskGroup(of: Void.self) { group in
            for writer in 0..<4 {
                let logger = Logger(label: "w") { JSONLogHandler(label: $0, logLevel: .info, output: output) }
                group.addTask {
                    await onThread {
                        let payload = String(repeating: "\(writer)", count: 150_000)
                        for _ in 0..<perThread { logger.info("m", metadata: ["payload": "\(payload)"]) }
                    }
                }
            }
        }
        close(writing)
        let lines = await text.split(separator: "\n")
        close(reading)
        #expect(lines.count == 4 * perThread)
        for line in lines {
            let object = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            let payload = try #require(object["payload"] as? String)
            #expect(Set(payload).count == 1)
        }
        #expect(output.lostLines == 0)
    }

    @Test func aFullDescriptorLosesWholeLinesOnly() throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0 && fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0)
        let (reading, writing) = (ends[0], ends[1])
        defer {
            close(reading)
            close(writing)
        }
        let output = LogOutput(fileDescriptor: writing, patienceMilliseconds: 1)
        let line = [UInt8](repeating: UInt8(ascii: "x"), count: 50_000) + [0x0a]
        output.write(line: line)
        output.write(line: line)
        #expect(output.lostLines == 1)
        var chunk = [UInt8](repeating: 0, count: 1 << 17)
        let first = read(reading, &chunk, chunk.count)
        try #require(first > line.count)
        output.write(line: Array("after\n".utf8))
        let second = read(reading, &chunk, chunk.count)
        #expect(
            String(decoding: chunk[..<max(second, 0)], as: UTF8.self) == "\nafter\n", "does not continue the torn line")
        #expect(output.lostLines == 1)
    }

    @Test func aClosedDescriptorOnlyCounts() {
        let output = LogOutput(fileDescriptor: -1)
        output.write(line: Array("x\n".utf8))
        #expect(output.lostLines == 1)
        #expect(!output.isTerminal)
    }

    /// Everything up to the end of the file.
    private static func readAll(_ descriptor: Int32) -> String {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = read(descriptor, &chunk, chunk.count)
            guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
            bytes += chunk[..<count]
        }
    }
}

/// Runs blocking work on a thread of its own: it has no business on the cooperative pool.
private func onThread<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
    await withCheckedContinuation { continuation in
        Thread { continuation.resume(returning: body()) }.start()
    }
}
