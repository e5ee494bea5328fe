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

@Suite struct RateLimitedLogTests {
    @Test func firstAtOnceThenOnePerIntervalWithTheCount() throws {
        let capture = LogCapture()
        let start = ContinuousClock.now
        let offset = Mutex(Duration.zero)
        let log = RateLimitedLog(logger: capture.jsonLogger(label: "l"), interval: .seconds(10)) {
            start.advanced(by: offset.withLock { $0 })
        }
        func at(_ seconds: Int) throws -> [[String: Any]] {
            offset.withLock { $0 = .seconds(seconds) }
            log.log(level: .warning, "refused", metadata: ["at": .stringConvertible(seconds)])
            return try capture.objects()
        }
        let first = try #require(try at(0).first)
        #expect(first["msg"] as? String == "refused" && first["suppressed"] == nil)
        #expect(try at(0).isEmpty)
        #expect(try at(5).isEmpty)
        #expect(try at(9).isEmpty)
        let second = try #require(try at(10).first)
        #expect(second["suppressed"] as? Int == 3 && second["at"] as? Int == 10)
        #expect(try at(19).isEmpty)
        #expect(try at(20).first?["suppressed"] as? Int == 1)
        let late = try #require(try at(100).first)
        #expect(late["suppressed"] == nil)
    }

    @Test func suppressedEventsCostNoFormatting() {
        let capture = LogCapture()
        let log = RateLimitedLog(logger: capture.jsonLogger(label: "l"), interval: .seconds(3_600))
        var formatted = 0
        func message() -> Logger.Message {
            formatted += 1
            return "m"
        }
        for _ in 0..<100 { log.log(level: .info, message()) }
        for _ in 0..<100 { log.log(level: .debug, message()) }
        #expect(formatted == 1)
        #expect(capture.writes().count == 1)
    }

    @Test func manyThreadsLogOnce() async {
        let capture = LogCapture()
        let log = RateLimitedLog(logger: capture.jsonLogger(label: "l"), interval: .seconds(3_600))
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 { group.addTask { for _ in 0..<1_000 { log.log(level: .info, "m") } } }
        }
        #expect(capture.writes().count == 1)
    }
}
