import Configuration
import Foundation
import Testing

@testable import ingestd

@Suite struct SettingTableTests {
    /// The names and defaults that users and their scripts rely on.
    static let promised: [(name: String, value: String)] = [
        ("HTTP_HOST", "127.0.0.1"), ("HTTP_PORT", "8080"), ("HTTP_MAX_BODY_BYTES", "33554432"),
        ("HTTP_TLS_CERTIFICATE", ""), ("HTTP_TLS_KEY", ""), ("KAFKA_CONSUMER_ENABLED", "true"),
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092"), ("KAFKA_TOPICS", "events"),
        ("KAFKA_GROUP_ID", "ingestion-service"), ("KAFKA_DLQ_TOPIC", "events.dlq"), ("KAFKA_PROPERTIES", ""),
        ("CLICKHOUSE_URL", "http://127.0.0.1:8123"), ("CLICKHOUSE_DATABASE", "default"),
        ("CLICKHOUSE_TABLE", "events"), ("CLICKHOUSE_USER", "default"), ("CLICKHOUSE_PASSWORD", ""),
        ("EVENT_ID_FIELD", "event_id"), ("ROW_MODE", "envelope"), ("STREAMS", ""), ("JOURNAL_PATH", "./journal"),
        ("JOURNAL_MAX_BYTES", "8589934592"), ("JOURNAL_RETAIN", "0s"), ("BATCH_MAX_ROWS", "50000"),
        ("BATCH_MAX_BYTES", "16777216"), ("BATCH_MAX_AGE", "1s"), ("INSERT_PARALLELISM", "2"),
        ("SHUTDOWN_TIMEOUT", "30s"), ("LOG_LEVEL", "info"), ("LOG_FORMAT", "auto"),
        ("CLICKHOUSE_COMPRESSION", "auto"), ("CLICKHOUSE_REQUEST_TIMEOUT", "60s"),
        ("CLICKHOUSE_CONNECT_TIMEOUT", "5s"), ("CLICKHOUSE_ERROR_CLASSES", ""), ("KAFKA_COMMIT_INTERVAL", "1s"),
        ("RETRY_BACKOFF_MIN", "100ms"), ("RETRY_BACKOFF_MAX", "30s"), ("HOLD_RETRY_INTERVAL", "15s"),
        ("JOURNAL_MIN_FREE_DISK_BYTES", "256MiB"), ("KAFKA_DLQ_FORWARDING", "auto"), ("JOURNAL_RETAIN_BYTES", "0"),
        ("JOURNAL_HIGH_WATERMARK_PERCENT", "100"), ("JOURNAL_LOW_WATERMARK_PERCENT", "90"),
        ("JOURNAL_DEAD_LETTERS_MAX_BYTES", "1GiB"), ("HOLD_AFTER_REJECTED", "10000"),
        ("HTTP_MAX_BUFFERED_BYTES", "256MiB"), ("HTTP_MAX_REQUEST_EVENTS", "1000000"),
        ("HTTP_MAX_EVENT_BYTES", "32MiB"), ("HTTP_MAX_COMPRESSION_RATIO", "200"), ("HTTP_MAX_CONNECTIONS", "4096"),
        ("HTTP_HEADER_TIMEOUT", "10s"), ("HTTP_IDLE_TIMEOUT", "60s"), ("HTTP_REQUEST_TIMEOUT", "5m"),
        ("HTTP_IDEMPOTENCY_WINDOW", "1h"), ("HTTP_IDEMPOTENCY_MAX_KEYS", "1000000"), ("HTTP_TOKENS_PATH", ""),
        ("HTTP_TLS_CLIENT_CA", ""), ("HTTP_CORS_ORIGINS", ""), ("KAFKA_GROUP_INSTANCE_ID", ""),
        ("KAFKA_REVOKE_TIMEOUT", "10s"), ("KAFKA_MAX_IN_FLIGHT_BYTES", "32MiB"),
        ("KAFKA_SECURITY_PROTOCOL", ""), ("KAFKA_SASL_MECHANISM", ""), ("KAFKA_SASL_USERNAME", ""),
        ("KAFKA_SASL_PASSWORD", ""), ("KAFKA_TLS_CA", ""), ("KAFKA_TLS_CERTIFICATE", ""), ("KAFKA_TLS_KEY", ""),
        ("KAFKA_TLS_KEY_PASSWORD", ""), ("KAFKA_TOPIC_PARTITIONS", "6"), ("KAFKA_TOPIC_REPLICATION", "1"),
        ("KAFKA_TOPIC_RETENTION", "7d"), ("KAFKA_DLQ_PARTITIONS", "1"), ("KAFKA_DLQ_RETENTION", "30d"),
        ("KAFKA_INIT_TIMEOUT", "1m"), ("EVENT_ID_SOURCES", ""),
    ]

    @Test func promisedNamesAndDefaultsHold() throws {
        for (name, value) in Self.promised {
            let setting = try #require(SettingTable.byName[name], "\(name)")
            var configuration = ServiceConfiguration()
            try setting.apply(value, &configuration)
            #expect(configuration == ServiceConfiguration(), "\(name) has the promised default")
        }
        for name in ["HTTP_TOKEN", "HTTP_OPERATIONS_TOKEN"] {
            #expect(try #require(SettingTable.byName[name]).defaultText == nil)
        }
        #expect(ServiceConfiguration().http.token == nil && ServiceConfiguration().http.operationsToken == nil)
        #expect(SettingTable.all.count == Self.promised.count + 2, "every setting is in the list above")
    }

    @Test func defaultsAreLoadedFromNothing() throws {
        #expect(try ConfigurationLoader().load().configuration == ServiceConfiguration())
    }

    @Test func whatIsPrintedCanBeReadBack() throws {
        for setting in SettingTable.all {
            guard let text = setting.defaultText else { continue }
            var configuration = ServiceConfiguration()
            try setting.apply(text, &configuration)
            #expect(configuration == ServiceConfiguration(), "\(setting.name)=\(text)")
        }
    }

    /// The spellings are computed here and in swift-configuration; they must agree.
    @Test func spellingsAgreeWithTheProviders() throws {
        for setting in SettingTable.all {
            for key in [setting.key, setting.fileKey].compactMap({ $0 }) {
                let environment = EnvironmentVariablesProvider(environmentVariables: [key.name: "x"])
                let flags = CommandLineArgumentsProvider(arguments: ["", key.flag, "x"])
                let absolute = AbsoluteConfigKey(key.components)
                #expect(try environment.value(forKey: absolute, type: .string).encodedKey == key.name)
                #expect(try environment.value(forKey: absolute, type: .string).value?.content == .string("x"))
                #expect(try flags.value(forKey: absolute, type: .string).encodedKey == key.flag)
            }
        }
        #expect(SettingKey(name: "HTTP_MAX_BODY_BYTES").yamlKey == "http.maxBodyBytes")
        #expect(SettingKey(name: "STREAMS").yamlKey == "streams")
        #expect(SettingTable.byName["HTTP_TOKEN"]?.fileKey?.flag == "--http-token-file")
    }

    @Test func theCommittedPageIsUpToDate() throws {
        let page = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appending(path: "../../docs/configuration.md").standardizedFileURL
        let text = try String(contentsOf: page, encoding: .utf8)
        #expect(
            text == ConfigurationReference.markdown,
            "run: swift run ingestd config reference > docs/configuration.md")
    }

    /// Valid but for the file of the secret, which is not here.
    @Test func theExampleOnThePageWorks() throws {
        let parts = ConfigurationReference.markdown.components(separatedBy: "```")
        let example = try #require(parts.first { $0.hasPrefix("yaml\n") }).dropFirst(5)
        let folder = try TemporaryFolder()
        #expect(problems(file: try folder.file("c.yaml", String(example))).map(\.subject) == ["HTTP_TOKEN_FILE"])
    }

    @Test func thePageAndTheHelpNameEverySetting() {
        for setting in SettingTable.all {
            #expect(ConfigurationReference.markdown.contains("| `\(setting.name)` |"))
            #expect(ConfigurationReference.discussion.contains("  \(setting.key.flag) ["))
            #expect(setting.help.hasSuffix("."), "\(setting.name)")
        }
        let columns = ConfigurationReference.markdown.split(separator: "\n").filter { $0.hasPrefix("| `") }
            .map { $0.replacing("\\|", with: "").count { $0 == "|" } }
        #expect(Set(columns.suffix(SettingTable.all.count)) == [5])
    }
}
