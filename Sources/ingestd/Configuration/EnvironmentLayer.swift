import Configuration

/// Settings in environment variables.
struct EnvironmentLayer {
    private let snapshot: any ConfigSnapshot
    /// Variables that look like typing errors.
    let warnings: [String]

    init(_ environment: [String: String]) {
        snapshot = EnvironmentVariablesProvider(environmentVariables: environment, secretsSpecifier: .all).snapshot()
        warnings = environment.sorted { $0.key < $1.key }.compactMap { Self.warning(name: $0.key, value: $0.value) }
    }

    /// The text of a setting, if its variable is set, even if it is empty.
    func text(_ key: SettingKey) throws -> String? {
        let result = try snapshot.value(forKey: AbsoluteConfigKey(key.components), type: .string)
        guard case .string(let text)? = result.value?.content else { return nil }
        return text
    }

    /// Variables of other programs that share a prefix with ours.
    private static let wellKnown: Set = [
        "HTTP_PROXY", "HTTP_PROXY_HOST", "HTTP_PROXY_PORT", "HTTP_USER_AGENT",
        // systemd.exec(5): set in every unit whose output goes to the journal.
        "JOURNAL_STREAM",
        // Kafka's own scripts.
        "KAFKA_HOME", "KAFKA_OPTS", "KAFKA_DEBUG", "KAFKA_HEAP_OPTS", "KAFKA_JMX_OPTS", "KAFKA_LOG4J_OPTS",
        "KAFKA_GC_LOG_OPTS", "KAFKA_JVM_PERFORMANCE_OPTS", "KAFKA_VERSION", "KAFKA_MODE",
        // ClickHouse's Docker image and client.
        "CLICKHOUSE_CONFIG", "CLICKHOUSE_DB", "CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT", "CLICKHOUSE_HOST",
        "CLICKHOUSE_PORT", "CLICKHOUSE_UID", "CLICKHOUSE_GID", "CLICKHOUSE_WATCHDOG_ENABLE", "LOG_DIR", "LOG_FILE",
    ]

    private static func warning(name: String, value: String) -> String? {
        guard !SettingTable.variables.contains(name), !wellKnown.contains(name), !isServiceLink(name, value) else {
            return nil
        }
        let prefix = name.prefix { $0 != "_" }
        let hasOurPrefix = prefix.count < name.count && SettingTable.prefixes.contains(String(prefix))
        if hasOurPrefix {
            let hint = NearestName.hint(name, among: SettingTable.variables.sorted())
            return "environment variable \(name) looks like a setting, but there is none of that name\(hint)"
        }
        // A typing error in the prefix itself. Short names resemble each other by chance.
        guard name.count >= 8, name.contains("_"),
            let nearest = SettingTable.variables.sorted().first(where: {
                NearestName.distance(Array(name.utf8), Array($0.utf8)) <= 2
            })
        else { return nil }
        return "environment variable \(name) is not a setting; did you mean \(nearest)?"
    }

    /// What Docker links and Kubernetes set for services named like our prefixes: `KAFKA_PORT_9092_TCP_ADDR`.
    private static func isServiceLink(_ name: String, _ value: String) -> Bool {
        let words = name.split(separator: "_")
        if words.suffix(2) == ["SERVICE", "HOST"] || name.contains("_SERVICE_PORT") { return true }
        if name.hasSuffix("_PORT") && value.contains("://") { return true }
        return zip(words, words.dropFirst()).contains { $0 == "PORT" && Units.digits($1) != nil }
            && words.contains { ["TCP", "UDP", "SCTP"].contains($0) }
    }
}
