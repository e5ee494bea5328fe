internal import HTTPTypes

/// What a client may ask for beside its rows, and what becomes of it. Ignoring a setting is fine only where the client
/// gets what it was promised all the same; all else is refused by name.
enum ClickHouseSettings {
    private enum Rule {
        /// Whatever its value: it does not change which rows are inserted, or the promise is kept anyway.
        case harmless
        /// These values say what the service does anyway.
        case only([String], because: String)
    }

    private static let deduplicationToken = "insert_deduplication_token"

    private static let off = ["0", "false", ""]

    private static let rules: [String: Rule] = [
        // Parameters of ClickHouse's HTTP interface that are no settings [src/Server/HTTPHandler.cpp].
        "session_id": .harmless, "session_timeout": .harmless, "session_check": .harmless, "close_session": .harmless,
        "stacktrace": .harmless, "buffer_size": .harmless, "wait_end_of_query": .harmless, "quota_key": .harmless,
        "client_protocol_version": .harmless, "role": .harmless,
        "decompress": .only(
            off, because: "the body can't be in ClickHouse's own compression: use Content-Encoding gzip or zstd"),

        // When the answer comes: here always once the rows are on stable storage, which is what waiting is for.
        "async_insert": .harmless, "wait_for_async_insert": .harmless, "insert_distributed_sync": .harmless,
        "distributed_foreground_insert": .harmless,
        "insert_allow_materialized_columns": .only(
            off, because: "a field of a MATERIALIZED column would be refused by ClickHouse"),
        "insert_quorum": .only(
            off, because: "the rows are on this machine's storage when the answer comes, not on replicas"),
        "insert_quorum_parallel": .harmless, "insert_quorum_timeout": .harmless,
        "select_sequential_consistency": .harmless, "insert_distributed_one_random_shard": .harmless,
        // Batches have tokens of their own, so that a repeated batch adds no row.
        "insert_deduplicate": .harmless, "deduplicate_insert": .harmless,
        "deduplicate_blocks_in_dependent_materialized_views": .harmless,
        // Carried as the request's Idempotency-Key.
        deduplicationToken: .harmless,

        // How rows are read: as the service asks ClickHouse to (docs/clickhouse-interface.md).
        "date_time_input_format": .only(
            ["best_effort", "basic"], because: "times are read with date_time_input_format=best_effort"),
        "input_format_skip_unknown_fields": .only(
            off, because: "a field without a column makes its row a dead letter, and is not dropped"),
        "input_format_allow_errors_num": .only(off, because: "bad rows are never skipped silently"),
        "input_format_allow_errors_ratio": .only(
            off + ["0.0"], because: "bad rows are never skipped silently"),
        "input_format_defaults_for_omitted_fields": .only(
            ["1", "2", "true"], because: "columns without a field get their defaults"),
        "input_format_null_as_default": .only(["1", "true"], because: "null becomes the column's default"),
        "input_format_parallel_parsing": .harmless, "input_format_import_nested_json": .harmless,
        "input_format_with_names_use_header": .harmless, "input_format_with_types_use_header": .harmless,

        "readonly": .only(["0"], because: "an INSERT is not allowed in readonly mode"),
        "enable_http_compression": .harmless, "cancel_http_readonly_queries_on_client_close": .harmless,
        "cast_string_to_dynamic_use_inference": .harmless, "load_balancing": .harmless, "priority": .harmless,
        "use_client_time_zone": .harmless, "query_cache": .harmless, "workload": .harmless,
        "allow_experimental_object_type": .harmless, "network_compression_method": .harmless,
        "connect_timeout": .harmless, "idle_connection_timeout": .harmless, "final": .harmless,
    ]

    /// Families of settings about resources, logs and results, none of which changes what is inserted.
    private static let harmlessPrefixes = [
        "async_insert_", "wait_for_async_insert_", "max_", "min_", "http_", "log_", "send_", "receive_",
        "output_format_",
        "timeout_", "connections_", "os_thread_", "query_profiler_", "opentelemetry_", "optimize_", "parallel_",
    ]

    /// - Throws: code 115 with the setting's name and what to do.
    static func check(_ setting: ClickHouseSetting) throws(ClickHouseError) {
        let name = ClickHouseTokens.printable(setting.name)
        switch rules[setting.name] {
        case .harmless: return
        case .only(let values, let reason):
            guard !values.contains(setting.value.lowercased()) else { return }
            throw ClickHouseError(
                .UNKNOWN_SETTING,
                "ingestd can't do \(name)=\(ClickHouseTokens.printable(setting.value)): \(reason)")
        case nil:
            guard !harmlessPrefixes.contains(where: setting.name.hasPrefix) else { return }
            throw ClickHouseError(
                .UNKNOWN_SETTING,
                "ingestd does not know the setting \(name) and can't tell whether it may be ignored: leave it out")
        }
    }

    /// By which the client recognizes a repeated INSERT; `nil` if it does not say.
    static func deduplicationToken(in settings: [ClickHouseSetting]) -> String? {
        settings.last { $0.name == deduplicationToken }.flatMap { $0.value.isEmpty ? nil : $0.value }
    }
}

extension IngestRoute {
    /// The token of ClickHouse that means what an Idempotency-Key does, as one.
    /// - Throws: `ClickHouseError` if it can't be one, or while keys are not looked at.
    func idempotencyKey(deduplicationToken token: String?) throws -> IdempotencyKey? {
        guard let token else { return nil }
        // A string, as the header has it (RFC 8941, section 3.3.3).
        let escaped = token.flatMap { $0 == "\"" || $0 == "\\" ? "\\\($0)" : "\($0)" }
        guard token.utf8.allSatisfy({ (0x21...0x7e).contains($0) }),
            let key = try idempotencyKey([IdempotencyKey.header: "\"\(String(escaped))\""])
        else {
            throw ClickHouseError(
                .UNKNOWN_SETTING,
                "ingestd can't do insert_deduplication_token: it is of visible ASCII characters, and the service has "
                    + "to remember keys (HTTP_IDEMPOTENCY_WINDOW above 0)")
        }
        return key
    }
}
