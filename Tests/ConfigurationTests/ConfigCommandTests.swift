import CoreMetrics
import Foundation
import Logging
import Observability
import Testing

@testable import ingestd

/// The built program, as users start it.
@Suite struct ConfigCommandTests {
    @Test func checkPrintsTheEffectiveConfiguration() throws {
        let result = try run(["config", "check", "--http-port", "0"], ["HTTP_TOKEN": "hunter2"])
        #expect(result.status == 0)
        #expect(result.errors == "")
        let lines = result.output.split(separator: "\n")
        #expect(lines.count == SettingTable.all.count)
        #expect(lines.contains("HTTP_PORT=0  # flag --http-port"))
        #expect(lines.contains("HTTP_TOKEN=<redacted>  # environment"))
        #expect(lines.contains("CLICKHOUSE_URL=http://127.0.0.1:8123  # default"))
    }

    @Test func checkPrintsEveryErrorAndWarning() throws {
        let result = try run(["config", "check"], ["HTTP_PORT": "x", "BATCH_MAX_AGE": "1", "KAFKA_TOPIC": "y"])
        #expect(result.status == 1)
        #expect(result.output == "")
        let lines = result.errors.split(separator: "\n")
        #expect(lines.count == 3)
        #expect(lines[0].hasPrefix("warning: environment variable KAFKA_TOPIC "))
        #expect(lines[1].hasPrefix("error: HTTP_PORT: "))
        #expect(lines[2].hasPrefix("error: BATCH_MAX_AGE: "))
    }

    @Test(arguments: [
        ["config", "check", "--no-such-flag", "1"], ["config", "check", "stray"], ["config", "check", "--config"],
        ["config", "no-such-command"],
    ])
    func wrongUsageEndsWith64(arguments: [String]) throws {
        let result = try run(arguments)
        #expect(result.status == 64)
        #expect(!result.errors.isEmpty && result.output.isEmpty)
    }

    @Test func helpListsTheSettings() throws {
        let result = try run(["config", "check", "--help"])
        #expect(result.status == 0)
        for setting in SettingTable.all { #expect(result.output.contains("  \(setting.key.flag) [")) }
        #expect(try !run(["config", "--help"]).output.contains("reference"))
    }

    @Test func referencePrintsThePage() throws {
        #expect(try run(["config", "reference"]).output == ConfigurationReference.markdown)
    }

    private func run(
        _ arguments: [String], _ environment: [String: String] = [:]
    ) throws -> (status: Int32, output: String, errors: String) {
        let process = Process()
        // Test bundle and program are built into one folder.
        process.executableURL = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
            .appending(path: "ingestd")
        process.arguments = arguments
        process.environment = environment
        let output = Pipe()
        let errors = Pipe()
        process.standardOutput = output
        process.standardError = errors
        try process.run()
        // Both fit into a pipe, so that reading one after the other cannot block the program.
        let texts = try [output, errors].map {
            String(decoding: try $0.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        }
        process.waitUntilExit()
        return (process.terminationStatus, texts[0], texts[1])
    }
}

@Suite struct TelemetryTests {
    /// In a process of its own: both systems can be set up only once.
    @Test func bootstrapSetsUpMetricsAndLogs() async throws {
        let result = try await #require(processExitsWith: .success, observing: [\.standardErrorContent]) {
            var configuration = ServiceConfiguration()
            configuration.log.level = .warning
            configuration.log.format = .json
            let registry = Telemetry.bootstrap(configuration)
            Counter(label: "ingest_events_total", dimensions: [("stream", "s")]).increment()
            Timer(label: "ingest_journal_commit_seconds").recordMilliseconds(2)
            let logger = Logger(label: "test")
            logger.info("not written")
            logger.warning("written")
            let text = String(decoding: registry.render(), as: UTF8.self)
            precondition(text.contains("ingest_events_total{stream=\"s\"} 1\n"))
            precondition(text.contains("# HELP ingest_events_total Events "))
            precondition(text.contains("ingest_journal_commit_seconds_bucket{le=\"0.0025\"} 1\n"))
            precondition(text.contains("process_open_fds "))
        }
        let lines = String(decoding: result.standardErrorContent, as: UTF8.self).split(separator: "\n")
            .filter { $0.hasPrefix("{") }
        #expect(lines.count == 1)
        #expect(lines.first?.contains(#""level":"warning","logger":"test","#) == true)
        #expect(lines.first?.contains(#""msg":"written""#) == true)
    }

    @Test func metricsHaveLegalNamesAndHelp() {
        #expect(Set(Telemetry.metrics.map(\.name)).count == Telemetry.metrics.count)
        for metric in Telemetry.metrics {
            #expect(metric.name.hasPrefix("ingest_") && metric.help.hasSuffix("."), "\(metric.name)")
        }
    }
}
