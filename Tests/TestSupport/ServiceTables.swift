internal import IngestCore

extension ClickHouseServer {
    /// Whether a retried batch adds no row: version 18.16 can't be told a deduplication token, and keeps what it got of
    /// a body that was cut off.
    public var deduplicatesRetries: Bool { engine == .chdb }

    /// The table `events` that the project's users have, or what comes nearest in version 18.16.
    public func applySchema() async throws {
        guard engine == .chdb else { return try await makeEnvelopeTable("events") }
        let (exit, output) = try await ServiceProcess.run(
            executable: ServiceProcess.projectPath("tools/migrate"), [], environment: ["CLICKHOUSE_URL": url])
        guard exit == .code(0) else { throw Failure(description: "tools/migrate: \(output)") }
    }

    /// A table for envelopes, as `schema/001_events.sql` makes it but for what version 18.16 does not know: DateTime64,
    /// codecs, comments, indexes, deduplication.
    public func makeEnvelopeTable(_ name: String) async throws {
        let time = engine == .chdb ? "DateTime64(3, 'UTC')" : "DateTime('UTC')"
        let settings = engine == .chdb ? "SETTINGS non_replicated_deduplication_window = 1000" : ""
        try await query(
            """
            CREATE TABLE \(name) (event_id String, payload String, source String, topic String, \
            partition Int32 DEFAULT -1, offset Int64 DEFAULT -1, key String, received_at \(time)) \
            ENGINE = ReplacingMergeTree(received_at) ORDER BY event_id \(settings)
            """)
    }

    /// A number that a query answers.
    public func number(_ sql: String) async throws -> Int {
        let text = try await query(sql)
        guard let number = Int(text) else { throw Failure(description: "\(sql): \(text) is not a number") }
        return number
    }

    /// Starts it again on a thread that may block.
    public func restartInBackground() async throws {
        try await withCheckedThrowingContinuation { continuation in
            _ = DedicatedThread(name: "clickhouse-start") {
                continuation.resume(with: Result { try self.restart() })
            }
        }
    }
}
