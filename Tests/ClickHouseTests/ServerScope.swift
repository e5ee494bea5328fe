import IngestCore
import Logging
import TestSupport
import Testing

@testable import ClickHouse

/// The servers of a suite: one of each installed engine, started before its first test and gone after its last.
enum ServerScope {
    static let password = "s3cret"

    @TaskLocal static var servers: [ClickHouseServer.Engine: ClickHouseServer] = [:]

    static func server(_ engine: ClickHouseServer.Engine) throws -> ClickHouseServer { try #require(servers[engine]) }

    static func client(
        _ endpoints: [String], password: String = password, rowMode: RowMode = .flat,
        compression: ClickHouseConfiguration.Compression = .auto, requestTimeout: Duration = .seconds(30),
        maximumConnections: Int = 8
    ) throws -> ClickHouseClient {
        try ClickHouseClient(
            configuration: ClickHouseConfiguration(
                endpoints: endpoints, password: password, rowMode: rowMode, compression: compression,
                connectTimeout: .seconds(2), requestTimeout: requestTimeout, maximumConnections: maximumConnections),
            logger: Logger(label: "test"))
    }
}

/// Everything that is tried on real engines: an old server and today's.
@Suite(.clickHouse)
enum RealServerTests {}

/// Runs a suite with `ServerScope.servers`.
struct ServerTrait: SuiteTrait, TestScoping {
    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        var servers: [ClickHouseServer.Engine: ClickHouseServer] = [:]
        for engine in ClickHouseServer.installedEngines {
            servers[engine] = try ClickHouseServer(engine, password: ServerScope.password)
        }
        try await ServerScope.$servers.withValue(servers) { try await function() }
        for server in servers.values { server.kill() }
    }
}

extension Trait where Self == ServerTrait {
    static var clickHouse: Self { Self() }
}

extension ClickHouseServer {
    /// Makes a table for flat rows `(id, text)`; deduplicates by token where the engine can.
    func makeFlatTable(_ name: String) async throws {
        let window = engine == .chdb ? " SETTINGS non_replicated_deduplication_window = 1000" : ""
        try await query("CREATE TABLE \(name) (id UInt64, text String) ENGINE = MergeTree ORDER BY id\(window)")
    }

    func count(_ table: String) async throws -> Int {
        try #require(Int(try await query("SELECT count() FROM \(table)")))
    }

    /// Waits until the server works on no INSERT into a table any more.
    func settle(_ table: String) async throws {
        try await eventually("no INSERT into \(table) runs") {
            try await query(
                "SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO%' AND query LIKE '%\(table)%'")
                == "0"
        }
    }
}
