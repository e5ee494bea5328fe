import IngestCore
import Kafka

/// Every setting, once. Parsing, flags, `config check`, help and `docs/configuration.md` all come from here; defaults
/// come from `ServiceConfiguration`.
enum SettingTable {
    struct Group: Sendable {
        let title: String
        let settings: [Setting]
    }

    static let groups: [Group] = [
        Group(title: "HTTP", settings: http), Group(title: "Kafka", settings: kafka),
        Group(title: "ClickHouse", settings: clickHouse), Group(title: "Events", settings: events),
        Group(title: "Journal", settings: journal), Group(title: "Batches", settings: batching),
        Group(title: "Retries", settings: retries), Group(title: "Shutdown", settings: shutdown),
        Group(title: "Logging", settings: log),
    ]

    static let all: [Setting] = groups.flatMap(\.settings)

    private static let http: [Setting] = [
        Setting("HTTP_HOST", \.http.host, .host, "Address to listen on; 0.0.0.0 is every IPv4 interface."),
        Setting("HTTP_PORT", \.http.port, .port, "Port to listen on; 0 takes a free one."),
        Setting(
            "HTTP_MAX_BODY_BYTES", \.http.maxBodyBytes, .size(1_024...Limits.queuedBytes),
            "Largest request body, after decompression. At most a quarter of JOURNAL_MAX_BYTES."),
        Setting(
            "HTTP_MAX_BUFFERED_BYTES", \.http.maxBufferedBytes, .size(1_024...1 << 40),
            "Bytes of request bodies held in memory at one time, over all connections; more is answered with 503. At"
                + " least HTTP_MAX_BODY_BYTES."),
        Setting(
            "HTTP_MAX_REQUEST_EVENTS", \.http.maxRequestEvents, .integer(1...100_000_000),
            "Events in one request; more is answered with 413."),
        Setting(
            "HTTP_MAX_EVENT_BYTES", \.http.maxEventBytes, .size(64...Limits.eventBytes),
            "Largest event in a request; a larger one is a bad event."),
        Setting(
            "HTTP_MAX_COMPRESSION_RATIO", \.http.maxCompressionRatio, .integer(1...1_000_000),
            "How many times as large as it was sent a compressed body may become; more is answered with 413. Not"
                + " applied below 1 MiB."),
        Setting(
            "HTTP_MAX_CONNECTIONS", \.http.maxConnections, .integer(1...1_000_000),
            "Open connections; further ones wait until one is closed."),
        Setting(
            "HTTP_HEADER_TIMEOUT", \.http.headerTimeout, .duration(.milliseconds(100) ... .seconds(3_600)),
            "How long the TLS handshake, and the head of a request, may take to arrive."),
        Setting(
            "HTTP_IDLE_TIMEOUT", \.http.idleTimeout, .duration(.milliseconds(100) ... .seconds(86_400)),
            "After how long a connection is closed on which nothing moves."),
        Setting(
            "HTTP_REQUEST_TIMEOUT", \.http.requestTimeout, .duration(.milliseconds(100) ... .seconds(86_400)),
            "How long a whole request may take to arrive. At least HTTP_HEADER_TIMEOUT."),
        Setting(
            "HTTP_IDEMPOTENCY_WINDOW", \.http.idempotencyWindow, .duration(.zero ... .seconds(366 * 86_400)),
            "How long the answer to a request with an Idempotency-Key is remembered, also across restarts. 0s: such"
                + " requests are treated like others."),
        Setting(
            "HTTP_IDEMPOTENCY_MAX_KEYS", \.http.idempotencyMaxKeys, .integer(1...1_000_000_000),
            "How many such answers are remembered; the oldest are forgotten first."),
        Setting(
            "HTTP_TOKEN", \.http.token, SettingType.token.optional(),
            "Bearer token that requests must carry. Without it everyone who reaches the port may send events, and read and"
                + " delete dead letters."),
        Setting(
            "HTTP_TOKENS_PATH", \.http.tokensPath, SettingType.path.emptyIsNone(),
            "File with further tokens, one a line, each followed by what it allows: ingest, ingest:STREAM,... or"
                + " operations. It is read again when it changes."),
        Setting(
            "HTTP_OPERATIONS_TOKEN", \.http.operationsToken, SettingType.token.optional(),
            "Bearer token for dead letters, retries, status and metrics; other tokens no longer open these."),
        Setting(
            "HTTP_TLS_CERTIFICATE", \.http.tlsCertificate, SettingType.path.emptyIsNone(),
            "PEM file with the certificate chain to serve HTTPS with. It is read again when it changes."),
        Setting(
            "HTTP_TLS_KEY", \.http.tlsKey, SettingType.path.emptyIsNone(),
            "PEM file with the private key of HTTP_TLS_CERTIFICATE, not encrypted."),
        Setting(
            "HTTP_TLS_CLIENT_CA", \.http.tlsClientCA, SettingType.path.emptyIsNone(),
            "PEM file with authorities; clients must show a certificate of one of them."),
        Setting(
            "HTTP_CORS_ORIGINS", \.http.corsOrigins, .list(of: .origin),
            "Web pages that may send events from a browser: their origins, or * for all. Empty allows none."),
    ]

    private static let kafka: [Setting] = [
        Setting(
            "KAFKA_CONSUMER_ENABLED", \.kafka.isConsumerEnabled, .bool,
            "Whether to consume from Kafka. HTTP works without."),
        Setting(
            "KAFKA_BOOTSTRAP_SERVERS", \.kafka.bootstrapServers, .list(of: .server), "Brokers to ask for the others."),
        Setting(
            "KAFKA_TOPICS", \.kafka.topics, .list(of: .topicOrPattern),
            "Topics to consume. One that begins with ^ is a pattern (a POSIX regular expression); topics that match it are"
                + " found also when they are made later."),
        Setting(
            "KAFKA_GROUP_ID", \.kafka.groupID, .line,
            "Consumer group; replicas of the service with the same group share the partitions."),
        Setting(
            "KAFKA_GROUP_INSTANCE_ID", \.kafka.groupInstanceID, SettingType.line.emptyIsNone(),
            "Name of this replica in the group, different for each: a restart within session.timeout.ms then keeps its"
                + " partitions (static membership)."),
        Setting(
            "KAFKA_REVOKE_TIMEOUT", \.kafka.revokeTimeout, .duration(.zero ... .seconds(300)),
            "How long giving up a partition waits until its events are in ClickHouse, so that the next owner does not"
                + " send them again."),
        Setting(
            "KAFKA_MAX_IN_FLIGHT_BYTES", \.kafka.maxInFlightBytes, .size(4 << 20...1 << 30),
            "Bytes of messages taken from Kafka and not yet in the journal; beyond it partitions are paused."),
        Setting(
            "KAFKA_DLQ_TOPIC", \.kafka.deadLetterTopic, SettingType.topic.emptyIsNone(),
            "Topic for dead letters. It can be empty only if nothing is forwarded to it."),
        Setting(
            "KAFKA_DLQ_FORWARDING", \.kafka.forwarding, .choice(),
            "Whether dead letters are sent to KAFKA_DLQ_TOPIC as well as kept in the journal; auto does so if the"
                + " consumer is enabled. Where it is on, offsets of dead letters are committed only after the topic has"
                + " them."),
        Setting(
            "KAFKA_PROPERTIES", \.kafka.properties, .kafkaProperties,
            "Further librdkafka properties for consumer and producer, such as security.protocol and sasl.password."),
        Setting(
            "KAFKA_COMMIT_INTERVAL", \.kafka.commitInterval, .duration(.milliseconds(10) ... .seconds(3_600)),
            "How often offsets of delivered events are committed."),
        Setting(
            "KAFKA_SECURITY_PROTOCOL", \.kafka.securityProtocol,
            SettingType<KafkaSecurity.SecurityProtocol>.choice().emptyIsNone(),
            "How connections to the brokers are protected; without it security.protocol of KAFKA_PROPERTIES decides, or"
                + " else they are not."),
        Setting(
            "KAFKA_SASL_MECHANISM", \.kafka.saslMechanism,
            SettingType<KafkaSecurity.Mechanism>.choice().emptyIsNone(),
            "How the service shows the brokers who it is, where KAFKA_SECURITY_PROTOCOL has SASL."),
        Setting(
            "KAFKA_SASL_USERNAME", \.kafka.saslUsername, SettingType.line.emptyIsNone(), "User for SASL."),
        Setting(
            "KAFKA_SASL_PASSWORD", \.kafka.saslPassword, SettingType.password.emptyIsNone(), "Password for SASL."),
        Setting(
            "KAFKA_TLS_CA", \.kafka.tlsCA, SettingType.path.emptyIsNone(),
            "PEM file with the authorities of the brokers' certificates; without it the system's."),
        Setting(
            "KAFKA_TLS_CERTIFICATE", \.kafka.tlsCertificate, SettingType.path.emptyIsNone(),
            "PEM file with the service's own certificate, where brokers ask for one."),
        Setting(
            "KAFKA_TLS_KEY", \.kafka.tlsKey, SettingType.path.emptyIsNone(),
            "PEM file with the private key of KAFKA_TLS_CERTIFICATE."),
        Setting(
            "KAFKA_TLS_KEY_PASSWORD", \.kafka.tlsKeyPassword, SettingType.password.emptyIsNone(),
            "Password of KAFKA_TLS_KEY."),
        Setting(
            "KAFKA_TOPIC_PARTITIONS", \.kafka.topicPartitions, .integer(1...100_000),
            "Partitions of topics that `ingestd kafka init` creates."),
        Setting(
            "KAFKA_TOPIC_REPLICATION", \.kafka.topicReplication, .integer(1...100),
            "Copies of each partition of topics that `ingestd kafka init` creates."),
        Setting(
            "KAFKA_TOPIC_RETENTION", \.kafka.topicRetention, .duration(.seconds(1) ... .seconds(3_660 * 86_400)),
            "How long event topics that `ingestd kafka init` creates keep messages."),
        Setting(
            "KAFKA_DLQ_PARTITIONS", \.kafka.deadLetterPartitions, .integer(1...100_000),
            "Partitions of the DLQ topic that `ingestd kafka init` creates."),
        Setting(
            "KAFKA_DLQ_RETENTION", \.kafka.deadLetterRetention, .duration(.seconds(1) ... .seconds(3_660 * 86_400)),
            "How long the DLQ topic that `ingestd kafka init` creates keeps messages."),
        Setting(
            "KAFKA_INIT_TIMEOUT", \.kafka.initTimeout, .duration(.seconds(1) ... .seconds(3_600)),
            "How long `ingestd kafka init` waits for the brokers."),
    ]

    private static let clickHouse: [Setting] = [
        Setting(
            "CLICKHOUSE_URL", \.clickHouse.urls, .list(of: .url, count: 1...100),
            "HTTP endpoints of ClickHouse, tried in turn."),
        Setting("CLICKHOUSE_DATABASE", \.clickHouse.database, .identifier, "Database of tables named without one."),
        Setting(
            "CLICKHOUSE_TABLE", \.clickHouse.table, .table, "Table of events that no route of STREAMS matches."),
        Setting("CLICKHOUSE_USER", \.clickHouse.user, .line, "User to insert as."),
        Setting("CLICKHOUSE_PASSWORD", \.clickHouse.password, .password, "The user's password."),
        Setting(
            "CLICKHOUSE_COMPRESSION", \.clickHouse.compression, .choice(),
            "Compression of request bodies; auto uses zstd where it pays."),
        Setting(
            "CLICKHOUSE_REQUEST_TIMEOUT", \.clickHouse.requestTimeout,
            .duration(.milliseconds(100) ... .seconds(3_600)),
            "How long one INSERT may take before it counts as failed and is repeated."),
        Setting(
            "CLICKHOUSE_CONNECT_TIMEOUT", \.clickHouse.connectTimeout, .duration(.milliseconds(10) ... .seconds(600)),
            "How long connecting may take. At most CLICKHOUSE_REQUEST_TIMEOUT."),
        Setting(
            "CLICKHOUSE_ERROR_CLASSES", \.clickHouse.errorClasses, .errorClasses,
            "ClickHouse exception codes to treat otherwise than built in: row_data makes dead letters, configuration"
                + " holds the stream, batch_shape sends smaller batches, transient repeats."),
        Setting(
            "INSERT_PARALLELISM", \.clickHouse.insertParallelism, .integer(1...64),
            "INSERTs in flight for each stream."),
    ]

    private static let events: [Setting] = [
        Setting(
            "EVENT_ID_FIELD", \.events.idField,
            .text("a field name", maximumBytes: 256, where: Syntax.hasNoControlCharacters),
            "Top-level field that holds an event's id; events without it get the SHA-256 of their payload."),
        Setting(
            "EVENT_ID_SOURCES", \.events.idSources, .eventIDSources,
            "Where events of some Kafka topics have their ids instead: a field of the payload, or a header."),
        Setting(
            "ROW_MODE", \.events.rowMode, .choice(),
            "What a row consists of: envelope is id, payload and origin; flat is the event's own fields."),
        Setting(
            "STREAMS", \.events.routes, .routes,
            "Tables by Kafka topic or HTTP path; what matches none goes to CLICKHOUSE_TABLE. A name that begins with ^ is a"
                + " pattern of topics; exact names come first, then the first pattern that matches."),
    ]

    private static let journal: [Setting] = [
        Setting("JOURNAL_PATH", \.journal.path, .path, "Folder of the journal, on a local disk of its own replica."),
        Setting(
            "JOURNAL_MAX_BYTES", \.journal.maxBytes, .size(16 << 20...16 << 40),
            "Most that the journal may hold. When it is full, HTTP answers 503 and Kafka partitions are paused."),
        Setting(
            "JOURNAL_RETAIN", \.journal.retain, .duration(.zero ... .seconds(366 * 86_400)),
            "How long delivered events are kept for replay. 0s: not at all, unless JOURNAL_RETAIN_BYTES is set."),
        Setting(
            "JOURNAL_RETAIN_BYTES", \.journal.retainBytes, .size(0...16 << 40),
            "Bytes of delivered events that are kept for replay, the oldest go first. 0 sets no bound by size. They"
                + " make room whenever new events need it."),
        Setting(
            "JOURNAL_HIGH_WATERMARK_PERCENT", \.journal.highWatermarkPercent, .integer(1...100),
            "Fill level, in percent of JOURNAL_MAX_BYTES, from which new events are refused."),
        Setting(
            "JOURNAL_LOW_WATERMARK_PERCENT", \.journal.lowWatermarkPercent, .integer(1...100),
            "Fill level below which they are accepted again. At most JOURNAL_HIGH_WATERMARK_PERCENT."),
        Setting(
            "JOURNAL_DEAD_LETTERS_MAX_BYTES", \.journal.deadLettersMaxBytes, .size(1 << 20...16 << 40),
            "Most that dead letters may take in the journal. When it is reached, streams with further dead letters are"
                + " held: none is ever dropped."),
        Setting(
            "JOURNAL_MIN_FREE_DISK_BYTES", \.journal.minFreeDiskBytes, .size(0...16 << 40),
            "Free disk space below which no further events are accepted."),
    ]

    private static let batching: [Setting] = [
        Setting(
            "BATCH_MAX_ROWS", \.batching.maxRows, .integer(1...10_000_000), "Rows after which a batch is sent."),
        Setting(
            "BATCH_MAX_BYTES", \.batching.maxBytes, .size(1_024...1 << 30),
            "Bytes of payload after which a batch is sent. At most JOURNAL_MAX_BYTES."),
        Setting(
            "BATCH_MAX_AGE", \.batching.maxAge, .duration(.milliseconds(1) ... .seconds(3_600)),
            "Age of its first event after which a batch is sent."),
    ]

    private static let retries: [Setting] = [
        Setting(
            "RETRY_BACKOFF_MIN", \.retries.backoffMin, .duration(.milliseconds(1) ... .seconds(3_600)),
            "Wait before the first repetition of a failed INSERT; doubles from there, with jitter."),
        Setting(
            "RETRY_BACKOFF_MAX", \.retries.backoffMax, .duration(.milliseconds(1) ... .seconds(3_600)),
            "Longest wait between repetitions. At least RETRY_BACKOFF_MIN."),
        Setting(
            "HOLD_RETRY_INTERVAL", \.retries.holdInterval, .duration(.milliseconds(10) ... .seconds(3_600)),
            "How often a stream that is held tries again."),
        Setting(
            "HOLD_AFTER_REJECTED", \.retries.holdAfterRejected, .integer(0...1_000_000_000),
            "Events of a stream that may become dead letters in a row, without one that is inserted, before the stream"
                + " is held: then it is probably the table that is wrong. 0 sets no limit."),
    ]

    private static let shutdown: [Setting] = [
        Setting(
            "SHUTDOWN_TIMEOUT", \.shutdown.timeout, .duration(.zero ... .seconds(3_600)),
            "How long delivering may go on after SIGTERM; what is left stays in the journal.")
    ]

    private static let log: [Setting] = [
        Setting("LOG_LEVEL", \.log.level, .choice(), "Least severe level that is logged."),
        Setting(
            "LOG_FORMAT", \.log.format, .choice(), "Form of log lines; auto is text on a terminal, else json."),
    ]
}

// MARK: - Names

extension SettingTable {
    static let byName = Dictionary(uniqueKeysWithValues: all.map { ($0.name, $0) })

    /// Keys of all settings, and of files with secrets.
    private static let keys: [(key: SettingKey, setting: Setting)] = all.flatMap { setting in
        [(setting.key, setting)] + (setting.fileKey.map { [($0, setting)] } ?? [])
    }

    /// Settings by flag; files with secrets lead to the secret's setting.
    static let byFlag = Dictionary(uniqueKeysWithValues: keys.map { ($0.key.flag, $0.setting) })

    /// `http.port` and so on.
    static let yamlKeys = Set(keys.map(\.key.yamlKey))

    /// `http` and so on: what has settings below it.
    static let sections = Set(keys.filter { $0.key.components.count > 1 }.map(\.key.section))

    /// Environment variables that mean something.
    static let variables = Set(keys.map(\.key.name) + [ConfigurationLoader.fileVariable])

    /// `HTTP` and so on: how variables begin that are probably meant for us.
    static let prefixes = Set(variables.compactMap { $0.split(separator: "_").first.map(String.init) })
}
