import Foundation
import TestSupport
import Testing

/// A command that has ended.
struct Command {
    let code: CInt
    /// Standard output and standard error.
    let output: String

    /// Runs `ingestd` with these arguments.
    static func run(_ arguments: [String], _ environment: [String: String]) async throws -> Command {
        let (exit, output) = try await ServiceProcess.run(arguments, environment: environment)
        let code: CInt? = if case .code(let code) = exit { code } else { nil }
        return Command(code: try #require(code, "\(arguments) ended with \(exit): \(output)"), output: output)
    }

    var lines: [String] { output.split(separator: "\n").map(String.init) }

    /// The output, which is one JSON document.
    func json<Document: Decodable>(_ type: Document.Type) throws -> Document {
        try #require(code == 0 || code == 1, "\(output)")
        return try Self.decode(type, output)
    }

    /// The output, of which each line is a JSON document.
    func documents<Document: Decodable>(_ type: Document.Type) throws -> [Document] {
        try lines.map { try Self.decode(type, $0) }
    }

    static func decode<Document: Decodable>(_ type: Document.Type, _ text: String) throws -> Document {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(type, from: Data(text.utf8))
    }
}

/// A service and its ClickHouse, with the table `coded`, which takes codes of at most 4 bytes and remembers batches.
struct CommandScene {
    let clickHouse: ClickHouseServer
    let service: ServiceInstance

    /// Runs `body` when no other whole-process test runs; the service is started, and ended after it.
    static func run(_ environment: [String: String] = [:], _ body: (CommandScene) async throws -> Void) async throws {
        try await ServiceTurn.take {
            let clickHouse = try ClickHouseServer(.chdb)
            try await clickHouse.query(
                """
                CREATE TABLE coded (event_id String, code FixedString(4)) ENGINE = MergeTree ORDER BY event_id \
                SETTINGS non_replicated_deduplication_window = 1000
                """)
            let settings = [
                "CLICKHOUSE_URL": clickHouse.url, "CLICKHOUSE_TABLE": "coded", "ROW_MODE": "flat",
                "BATCH_MAX_ROWS": "100",
            ]
            let service = try ServiceInstance(settings.merging(environment) { $1 })
            try await service.start()
            try await body(CommandScene(clickHouse: clickHouse, service: service))
            try await service.process.kill()
        }
    }

    /// Runs a command with the service's settings.
    func command(_ arguments: String..., setting changes: [String: String?] = [:]) async throws -> Command {
        var environment = service.environment
        for (name, value) in changes { environment[name] = value }
        return try await Command.run(arguments, environment)
    }

    func post(_ events: [String], _ query: String = "") async throws {
        let answer = try await service.post(events.joined(separator: "\n"), to: "/v1/events\(query)")
        try #require(answer.status == 202, "\(answer.text)")
    }

    static func event(_ id: String, isBad: Bool = false) -> String {
        #"{"event_id":"\#(id)","code":"\#(isBad ? "too wide" : "good")"}"#
    }

    func awaitFlush() async throws {
        try await eventually("everything is flushed") { try await service.status().pendingEvents == 0 }
    }

    var rows: Int { get async throws { try await clickHouse.number("SELECT count() FROM coded") } }
}
