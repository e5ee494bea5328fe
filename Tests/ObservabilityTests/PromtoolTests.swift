import CoreMetrics
import Foundation
import Observability
import Testing

/// Prometheus's own judgment of the text.
@Suite struct PromtoolTests {
    static let promtool = ["/usr/bin/promtool", "/usr/local/bin/promtool"].first {
        FileManager.default.isExecutableFile(atPath: $0)
    }

    @Test(.enabled(if: promtool != nil, "promtool is not installed (Debian package prometheus)"))
    func promtoolAcceptsTheText() throws {
        let registry = PrometheusRegistry(
            descriptions: [
                MetricDescription(name: "ingest_events_total", help: "Events with \\ and\nline feed."),
                MetricDescription(name: "ingest_journal_commit_seconds", help: "Commits."),
                MetricDescription(name: "ingest_journal_bytes", help: "Bytes."),
            ], logger: .silent)
        for stream in ["a", "quote \" \\ \n", "ключ"] {
            Counter(label: "ingest_events_total", dimensions: [("stream", stream)], factory: registry).increment(by: 3)
            Timer(label: "ingest_journal_commit_seconds", dimensions: [("stream", stream)], factory: registry)
                .recordMilliseconds(3)
        }
        Meter(label: "ingest_journal_bytes", factory: registry).set(1e18)
        let result = try check(registry.render())
        #expect(result.status == 0, "\(result.output)")
        #expect(result.output.isEmpty, "no complaints")
    }

    @Test(.enabled(if: promtool != nil, "promtool is not installed (Debian package prometheus)"))
    func promtoolRefusesABrokenText() throws {
        #expect(try check(Array("# TYPE x counter\nx{a=\"1} 1\n".utf8)).status != 0)
    }

    private func check(_ text: [UInt8]) throws -> (status: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try #require(Self.promtool))
        process.arguments = ["check", "metrics"]
        let input = Pipe()
        let output = Pipe()
        process.standardInput = input
        process.standardOutput = output
        process.standardError = output
        try process.run()
        // Less than a pipe holds, so this does not block.
        try input.fileHandleForWriting.write(contentsOf: Data(text))
        try input.fileHandleForWriting.close()
        let answer = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: answer, as: UTF8.self))
    }
}
