import Foundation
import Testing

@testable import ingestd

/// A folder that goes away with the test.
final class TemporaryFolder {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.appending(path: "ingestd-configuration-\(UUID())").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }

    deinit {
        do { try FileManager.default.removeItem(atPath: path) } catch { Issue.record(error) }
    }

    /// Writes a file and returns its path.
    func file(_ name: String, _ text: String) throws -> String {
        let file = "\(path)/\(name)"
        try Data(text.utf8).write(to: URL(fileURLWithPath: file))
        return file
    }
}

/// What loading gave.
func load(
    _ flags: [String] = [], environment: [String: String] = [:], file: String? = nil
) -> Result<LoadedConfiguration, ConfigurationError> {
    Result { () throws(ConfigurationError) in
        try ConfigurationLoader(flags: flags, environment: environment, filePath: file).load()
    }
}

/// The problems that loading found; none is a failure of the test.
func problems(
    _ flags: [String] = [], environment: [String: String] = [:], file: String? = nil,
    location: SourceLocation = #_sourceLocation
) -> [ConfigurationProblem] {
    guard case .failure(let error) = load(flags, environment: environment, file: file) else {
        Issue.record("no problems", sourceLocation: location)
        return []
    }
    return error.problems
}

@Suite struct ConfigurationLoaderTests {
    @Test func flagsWinOverEnvironmentOverFileOverDefaults() throws {
        let folder = try TemporaryFolder()
        let file = try folder.file(
            "c.yaml",
            """
            http: {port: 1, host: file.example, maxBodyBytes: 1MiB}
            kafka: {topics: [from, file]}
            """)
        let loaded = try load(
            ["--http-port", "3"], environment: ["HTTP_PORT": "2", "HTTP_HOST": "environment.example"], file: file
        ).get()
        #expect(loaded.configuration.http.port == 3)
        #expect(loaded.configuration.http.host == "environment.example")
        #expect(loaded.configuration.http.maxBodyBytes == 1 << 20)
        #expect(loaded.configuration.kafka.topics == ["from", "file"])
        #expect(loaded.configuration.kafka.groupID == "ingestion-service")
        let lines = loaded.effectiveLines
        #expect(lines.contains("HTTP_PORT=3  # flag --http-port"))
        #expect(lines.contains("HTTP_HOST=environment.example  # environment"))
        #expect(lines.contains("HTTP_MAX_BODY_BYTES=1MiB  # file \(file)"))
        #expect(lines.contains("KAFKA_TOPICS=from,file  # file \(file)"))
        #expect(lines.contains("KAFKA_GROUP_ID=ingestion-service  # default"))
        #expect(lines.count == SettingTable.all.count)
    }

    @Test func everySettingCanComeFromEverySource() throws {
        let folder = try TemporaryFolder()
        let certificate = try folder.file("tls.pem", "")
        let texts: [String: String] = [
            "HTTP_HOST": "localhost", "HTTP_PORT": "9", "HTTP_MAX_BODY_BYTES": "2MiB", "HTTP_TOKEN": "t",
            "HTTP_TLS_CERTIFICATE": certificate, "HTTP_TLS_KEY": certificate, "KAFKA_CONSUMER_ENABLED": "false",
            "KAFKA_BOOTSTRAP_SERVERS": "a:1,b:2", "KAFKA_TOPICS": "x,y", "KAFKA_GROUP_ID": "g",
            "KAFKA_DLQ_TOPIC": "d", "KAFKA_PROPERTIES": "client.id=c", "KAFKA_COMMIT_INTERVAL": "2s",
            "CLICKHOUSE_URL": "https://c", "CLICKHOUSE_DATABASE": "db", "CLICKHOUSE_TABLE": "tb",
            "CLICKHOUSE_USER": "u", "CLICKHOUSE_PASSWORD": "p", "CLICKHOUSE_COMPRESSION": "zstd",
            "CLICKHOUSE_REQUEST_TIMEOUT": "9s", "CLICKHOUSE_CONNECT_TIMEOUT": "8s",
            "CLICKHOUSE_ERROR_CLASSES": "1=transient", "INSERT_PARALLELISM": "3", "EVENT_ID_FIELD": "id",
            "ROW_MODE": "flat", "STREAMS": "a=b,c=d", "JOURNAL_PATH": "/j", "JOURNAL_MAX_BYTES": "1GiB",
            "JOURNAL_RETAIN": "1h", "JOURNAL_MIN_FREE_DISK_BYTES": "1MiB", "BATCH_MAX_ROWS": "7",
            "BATCH_MAX_BYTES": "7KiB", "BATCH_MAX_AGE": "7s", "RETRY_BACKOFF_MIN": "7ms", "RETRY_BACKOFF_MAX": "7s",
            "HOLD_RETRY_INTERVAL": "7s", "SHUTDOWN_TIMEOUT": "7s", "LOG_LEVEL": "error", "LOG_FORMAT": "text",
            "KAFKA_DLQ_FORWARDING": "on", "JOURNAL_RETAIN_BYTES": "7MiB", "JOURNAL_HIGH_WATERMARK_PERCENT": "70",
            "JOURNAL_LOW_WATERMARK_PERCENT": "60", "JOURNAL_DEAD_LETTERS_MAX_BYTES": "7MiB",
            "HOLD_AFTER_REJECTED": "7",
            "HTTP_MAX_BUFFERED_BYTES": "70MiB", "HTTP_MAX_REQUEST_EVENTS": "7", "HTTP_MAX_EVENT_BYTES": "7KiB",
            "HTTP_MAX_COMPRESSION_RATIO": "7", "HTTP_MAX_CONNECTIONS": "7", "HTTP_HEADER_TIMEOUT": "7s",
            "HTTP_IDLE_TIMEOUT": "7s", "HTTP_REQUEST_TIMEOUT": "7m", "HTTP_IDEMPOTENCY_WINDOW": "7m",
            "HTTP_IDEMPOTENCY_MAX_KEYS": "7", "HTTP_TOKENS_PATH": certificate, "HTTP_OPERATIONS_TOKEN": "o",
            "HTTP_TLS_CLIENT_CA": certificate, "HTTP_CORS_ORIGINS": "https://a.example,http://b:8080",
            "KAFKA_GROUP_INSTANCE_ID": "i", "KAFKA_REVOKE_TIMEOUT": "7s", "KAFKA_MAX_IN_FLIGHT_BYTES": "7MiB",
            "KAFKA_SECURITY_PROTOCOL": "sasl_ssl", "KAFKA_SASL_MECHANISM": "scram-sha-256",
            "KAFKA_SASL_USERNAME": "u", "KAFKA_SASL_PASSWORD": "p", "KAFKA_TLS_CA": certificate,
            "KAFKA_TLS_CERTIFICATE": certificate, "KAFKA_TLS_KEY": certificate, "KAFKA_TLS_KEY_PASSWORD": "p",
            "KAFKA_TOPIC_PARTITIONS": "7", "KAFKA_TOPIC_REPLICATION": "3", "KAFKA_TOPIC_RETENTION": "1d",
            "KAFKA_DLQ_PARTITIONS": "7", "KAFKA_DLQ_RETENTION": "1d", "KAFKA_INIT_TIMEOUT": "7s",
            "EVENT_ID_SOURCES": "a=field:f,b=header:x-id",
        ]
        #expect(Set(texts.keys) == Set(SettingTable.all.map(\.name)))
        let fromEnvironment = try load(environment: texts).get().configuration
        for setting in SettingTable.all {
            #expect(setting.text(fromEnvironment) != setting.defaultText, "\(setting.name) took effect")
        }
        let flags = texts.sorted { $0.key < $1.key }.flatMap { [SettingKey(name: $0.key).flag, $0.value] }
        #expect(try load(flags).get().configuration == fromEnvironment)
        let joined = texts.sorted { $0.key < $1.key }.map { "\(SettingKey(name: $0.key).flag)=\($0.value)" }
        #expect(try load(joined).get().configuration == fromEnvironment)
        let sections = Dictionary(grouping: texts.keys.map(SettingKey.init(name:)), by: \.section)
        let yaml = sections.map { section, keys in
            let lines = keys.map { key in
                let value = "\"\(texts[key.name]!)\""
                return key.components.count == 1 ? value : "\n  \(key.components[1]): \(value)"
            }
            return "\(section): \(lines.joined())\n"
        }
        let file = try folder.file("c.yaml", yaml.joined())
        #expect(try load(file: file).get().configuration == fromEnvironment)
        #expect(try load(environment: ["INGESTD_CONFIG": file]).get().configuration == fromEnvironment)
    }

    @Test func allProblemsComeTogether() throws {
        let folder = try TemporaryFolder()
        let file = try folder.file("c.yaml", "http: {prot: 1}\nlog: {level: loud}\n")
        let found = problems(
            ["--batch-max-age", "5", "--batch-max-row", "1"],
            environment: ["HTTP_PORT": "eighty", "JOURNAL_MAX_BYTES": "8GB", "RETRY_BACKOFF_MIN": "1m"], file: file)
        let texts = found.map(\.description)
        #expect(
            texts == [
                "--batch-max-row: unknown flag; did you mean --batch-max-rows?",
                "http.prot: (file \(file)) unknown setting; did you mean http.port?",
                #"HTTP_PORT: "eighty" (environment) is not a whole number; allowed: a port from 0 to 65535"#,
                #"JOURNAL_MAX_BYTES: "8GB" (environment) has an unknown unit; allowed: a size from 16MiB to 16TiB, "#
                    + "in bytes or with a unit: 65536, 64KiB, 16MiB, 8GiB",
                #"BATCH_MAX_AGE: "5" (flag --batch-max-age) has no unit: add one, such as 5s or 5ms; "#
                    + "allowed: a duration from 1ms to 1h, with a unit: 500ms, 2s, 1m, 24h, 7d",
                #"LOG_LEVEL: "loud" (file \#(file)) is none of the choices; "#
                    + "allowed: one of trace, debug, info, notice, warning, error, critical",
                #"RETRY_BACKOFF_MIN: "1m" (environment), with RETRY_BACKOFF_MAX "30s" (default): "#
                    + "the first wait is longer than the longest; lower the first or raise the second",
            ])
    }

    @Test(arguments: [
        ("HTTP_MAX_BODY_BYTES", ["HTTP_MAX_BODY_BYTES": "5MiB", "JOURNAL_MAX_BYTES": "16MiB"]),
        ("BATCH_MAX_BYTES", ["BATCH_MAX_BYTES": "17MiB", "JOURNAL_MAX_BYTES": "16MiB", "HTTP_MAX_BODY_BYTES": "1MiB"]),
        ("RETRY_BACKOFF_MIN", ["RETRY_BACKOFF_MIN": "2s", "RETRY_BACKOFF_MAX": "1999ms"]),
        ("CLICKHOUSE_CONNECT_TIMEOUT", ["CLICKHOUSE_REQUEST_TIMEOUT": "4s"]),
        ("HTTP_TLS_CERTIFICATE", ["HTTP_TLS_CERTIFICATE": "/dev/null"]),
        ("HTTP_TLS_CERTIFICATE", ["HTTP_TLS_KEY": "/dev/null"]),
        ("HTTP_TLS_KEY", ["HTTP_TLS_CERTIFICATE": "/dev/null", "HTTP_TLS_KEY": "/nowhere/key.pem"]),
        ("KAFKA_TOPICS", ["KAFKA_TOPICS": ""]),
        ("KAFKA_BOOTSTRAP_SERVERS", ["KAFKA_BOOTSTRAP_SERVERS": ""]),
        ("KAFKA_DLQ_TOPIC", ["KAFKA_DLQ_TOPIC": ""]),
        ("KAFKA_DLQ_TOPIC", ["KAFKA_TOPICS": "a,events.dlq"]),
        ("HTTP_TLS_CLIENT_CA", ["HTTP_TLS_CLIENT_CA": "/dev/null"]),
        ("HTTP_TOKENS_PATH", ["HTTP_TOKENS_PATH": "/nowhere/tokens"]),
        ("HTTP_MAX_BUFFERED_BYTES", ["HTTP_MAX_BUFFERED_BYTES": "1MiB"]),
        ("HTTP_REQUEST_TIMEOUT", ["HTTP_REQUEST_TIMEOUT": "9s"]),
        ("KAFKA_SECURITY_PROTOCOL", ["KAFKA_TLS_CA": "/nowhere/ca.pem", "KAFKA_SECURITY_PROTOCOL": "ssl"]),
        ("KAFKA_SECURITY_PROTOCOL", ["KAFKA_TLS_CERTIFICATE": "/dev/null", "KAFKA_SECURITY_PROTOCOL": "ssl"]),
        ("KAFKA_SECURITY_PROTOCOL", ["KAFKA_SECURITY_PROTOCOL": "sasl_ssl", "KAFKA_SASL_USERNAME": "u"]),
    ])
    func relations(subject: String, environment: [String: String]) {
        #expect(problems(environment: environment).map(\.subject) == [subject])
    }

    @Test(arguments: [
        ["HTTP_MAX_BODY_BYTES": "4MiB", "JOURNAL_MAX_BYTES": "16MiB", "BATCH_MAX_BYTES": "16MiB"],
        ["RETRY_BACKOFF_MIN": "2s", "RETRY_BACKOFF_MAX": "2s"],
        ["CLICKHOUSE_REQUEST_TIMEOUT": "5s"],
        ["HTTP_TLS_CERTIFICATE": "/dev/null", "HTTP_TLS_KEY": "/dev/null"],
        ["HTTP_TLS_CERTIFICATE": "", "HTTP_TLS_KEY": ""],
        ["KAFKA_CONSUMER_ENABLED": "false", "KAFKA_TOPICS": "", "KAFKA_BOOTSTRAP_SERVERS": "", "KAFKA_DLQ_TOPIC": ""],
    ])
    func relationsThatHold(environment: [String: String]) throws {
        #expect(throws: Never.self) { try load(environment: environment).get() }
    }

    /// A wrong value is one problem, not also every relation that it takes part in.
    @Test func relationsOfWrongValuesAreNotChecked() {
        let found = problems(environment: [
            "JOURNAL_MAX_BYTES": "1KiB", "KAFKA_CONSUMER_ENABLED": "maybe", "KAFKA_TOPICS": "",
        ])
        #expect(found.map(\.subject) == ["KAFKA_CONSUMER_ENABLED", "JOURNAL_MAX_BYTES"])
    }

    @Test(arguments: [
        ("HTTP_TOKEN_FILE", "s3cret\n", "s3cret"), ("HTTP_TOKEN_FILE", "s3cret\r\n", "s3cret"),
        ("HTTP_TOKEN_FILE", "s3cret", "s3cret"),
    ])
    func secretsComeFromFiles(name: String, content: String, expected: String) throws {
        let folder = try TemporaryFolder()
        let path = try folder.file("token", content)
        let loaded = try load(environment: [name: path]).get()
        #expect(loaded.configuration.http.token == Secret(expected))
        #expect(loaded.effectiveLines.contains("HTTP_TOKEN=<redacted>  # \(path), from HTTP_TOKEN_FILE, environment"))
        let yaml = try folder.file("c.yaml", "http: {tokenFile: \(path)}")
        #expect(try load(file: yaml).get().configuration.http.token == Secret(expected))
        #expect(try load(["--http-token-file", path]).get().configuration.http.token == Secret(expected))
    }

    @Test func onlyOneLineFeedIsTrimmed() throws {
        let folder = try TemporaryFolder()
        let spaces = try folder.file("spaces", " p w \n")
        #expect(
            try load(environment: ["CLICKHOUSE_PASSWORD_FILE": spaces]).get().configuration.clickHouse.password
                == Secret(" p w "))
        let lines = try folder.file("lines", "p\n\n")
        #expect(problems(environment: ["CLICKHOUSE_PASSWORD_FILE": lines]).map(\.subject) == ["CLICKHOUSE_PASSWORD"])
        let empty = try folder.file("empty", "\n")
        #expect(problems(environment: ["HTTP_TOKEN_FILE": empty]).map(\.subject) == ["HTTP_TOKEN"])
        let properties = try folder.file("properties", "sasl.username=u,sasl.password=p\n")
        #expect(
            try load(environment: ["KAFKA_PROPERTIES_FILE": properties]).get().configuration.kafka.properties
                == [
                    KafkaProperty(name: "sasl.username", value: Secret("u")),
                    KafkaProperty(name: "sasl.password", value: Secret("p")),
                ])
    }

    @Test func aSecretIsSetOnce() throws {
        let folder = try TemporaryFolder()
        let path = try folder.file("token", "a")
        let found = problems(["--http-token", "b"], environment: ["HTTP_TOKEN_FILE": path])
        #expect(
            found.map(\.description) == [
                "HTTP_TOKEN: is set (flag --http-token), and so is HTTP_TOKEN_FILE (environment); set one of them"
            ])
    }

    @Test func unreadableFilesAreProblems() throws {
        let folder = try TemporaryFolder()
        let missing = "\(folder.path)/missing"
        #expect(
            problems(environment: ["HTTP_TOKEN_FILE": missing]).map(\.description)
                == [#"HTTP_TOKEN_FILE: "\#(missing)" (environment) cannot be read: No such file or directory"#])
        #expect(problems(environment: ["HTTP_TOKEN_FILE": folder.path]).count == 1, "a folder")
        let large = try folder.file("large", String(repeating: "x", count: ConfigurationFile.maximumBytes + 1))
        #expect(problems(environment: ["HTTP_TOKEN_FILE": large]).first?.explanation.contains("1 MiB") == true)
        #expect(problems(file: missing).map(\.subject) == [missing])
    }

    @Test func aSecretOnTheCommandLineIsWarnedAbout() throws {
        #expect(try load(["--http-token", "t"]).get().warnings.count == 1)
        #expect(try load(environment: ["HTTP_TOKEN": "t"]).get().warnings.isEmpty)
    }

    @Test func anOpenServerIsWarnedAbout() throws {
        for host in ["0.0.0.0", "::", "ingest.example"] {
            #expect(try load(environment: ["HTTP_HOST": host]).get().warnings.count == 1, "\(host)")
            #expect(try load(environment: ["HTTP_HOST": host, "HTTP_TOKEN": "t"]).get().warnings.isEmpty)
        }
        for host in ["localhost", "127.0.0.1", "::1"] {
            #expect(try load(environment: ["HTTP_HOST": host]).get().warnings.isEmpty)
        }
    }

    @Test func typingErrorsInVariablesAreWarnedAbout() throws {
        let warnings = try load(environment: [
            "HTTP_PROT": "", "KAFKA_TOPIC": "", "KAFAK_TOPICS": "", "JOURNAL_SIZE": "", "CLICKHOUSE_PASSWORD_FIEL": "",
            "PATH": "/bin", "HOME": "/", "HTTP": "x", "STREAM": "x",
        ]).get().warnings
        #expect(warnings.count == 5)
        for (name, meant) in [
            ("HTTP_PROT", "HTTP_PORT"), ("KAFKA_TOPIC", "KAFKA_TOPICS"), ("KAFAK_TOPICS", "KAFKA_TOPICS"),
            ("CLICKHOUSE_PASSWORD_FIEL", "CLICKHOUSE_PASSWORD_FILE"),
        ] {
            #expect(
                warnings.contains { $0.contains(" \(name) ") && $0.hasSuffix("did you mean \(meant)?") }, "\(name)")
        }
    }

    @Test func variablesOfOtherProgramsAreLeftAlone() throws {
        let others = [
            "HTTP_PROXY": "http://proxy", "HTTPS_PROXY": "http://proxy", "JOURNAL_STREAM": "8:1", "KAFKA_OPTS": "-x",
            "KAFKA_HEAP_OPTS": "-Xmx1G", "KAFKA_PORT": "tcp://10.0.0.1:9092", "KAFKA_SERVICE_HOST": "10.0.0.1",
            "KAFKA_SERVICE_PORT": "9092", "KAFKA_PORT_9092_TCP_ADDR": "10.0.0.1",
            "KAFKA_PORT_9092_TCP": "tcp://10.0.0.1",
            "CLICKHOUSE_SERVICE_PORT_HTTP": "8123", "LOGNAME": "root", "EVENTS": "x", "INGESTD_CONFIG": "",
        ]
        #expect(try load(environment: others).get().warnings == [])
    }

    /// Whatever goes wrong, and wherever a secret stands: nothing that is printed repeats it.
    @Test func secretsAreNeverPrinted() throws {
        let folder = try TemporaryFolder()
        let marker = "hunter2"
        let secretFile = try folder.file("secret", "\(marker) \u{1}\n")
        var output: [String] = []
        func collect(_ flags: [String] = [], _ environment: [String: String] = [:], yaml: String? = nil) throws {
            let file = try yaml.map { try folder.file("\(UUID()).yaml", $0) }
            switch load(flags, environment: environment, file: file) {
            case .success(let loaded): output += loaded.effectiveLines + loaded.warnings
            case .failure(let error): output += error.problems.map(\.description) + error.warnings
            }
        }
        for name in SettingTable.all.filter(\.isSecret).map(\.name) {
            let flag = SettingKey(name: name).flag
            for text in [
                marker, "\(marker)\n", "\u{1}\(marker)", "x=\(marker)", "x.y=\(marker)", "\(marker)=x", "a,\(marker)",
                "sasl.password=a,\(marker)=b",
            ] {
                try collect([], [name: text])
                try collect([flag, text])
                try collect([flag, "x", text])
                try collect(["\(flag)=x", text])
                try collect([flag, "x", flag, text])
                try collect(["\(flag)s=\(text)"])
                try collect([], ["\(name)S": text])
            }
            try collect([], ["\(name)_FILE": secretFile])
            let components = SettingKey(name: name).components
            for value in [
                "[\(marker), x]", "{\(marker)x: y", "\"\(marker)", "*\(marker)", "\(marker): x: y", "{a: \(marker)}",
                "&\(marker) *\(marker)", "{\(marker)}",
                "{\(marker): 1, \(marker): 2}", "{\(marker): [[x]]}", "[[\(marker)]]", "!\(marker)!x y", "? \(marker)",
                "{[\(marker)]: x}", "'\(marker)' x", "%\(marker)", "@\(marker)", "|\(marker)",
            ] {
                try collect(yaml: "\(components[0]):\n  \(components[1]): \(value)\n")
            }
            try collect(yaml: "\(components[0]): \(marker)\n")
            try collect(yaml: "\(components[0]):\n  \(components[1])s: {\(marker): 1}\n")
            try collect(yaml: "\(components[0])\n  \(components[1]): \(marker)\n")
            try collect(yaml: "\(components[0]):\n  \(components[1]): \(marker)\n  \(components[1]): \(marker)\n")
            try collect(yaml: "\(components[0]):\n\t\(components[1]): \(marker)\n")
        }
        try collect([], ["CLICKHOUSE_URL": "http://user:\(marker)@host"])
        try collect([], ["CLICKHOUSE_URL": "user:\(marker)@host"])
        try collect([], ["CLICKHOUSE_URL": "http://host/?password=\(marker)"])
        #expect(!output.isEmpty)
        let leaks = Set(output.filter { $0.contains(marker) })
        #expect(leaks.isEmpty)
    }
}
