import ArgumentParser
import IngestCore

/// A time on the command line.
struct TimeArgument: ExpressibleByArgument {
    /// Milliseconds since 1970-01-01 UTC.
    let milliseconds: Int64

    init?(argument: String) {
        if let number = Units.digits(argument) {
            milliseconds = Int64(number)
        } else if let time = Timestamp.milliseconds(iso8601: argument) {
            milliseconds = time
        } else {
            return nil
        }
    }
}

extension ArgumentHelp {
    /// Of an option that takes a time.
    static func time(_ text: String) -> ArgumentHelp {
        ArgumentHelp(
            "\(text): 2026-11-23T01:58:00Z, a date, or milliseconds since 1970.", valueName: "time")
    }
}

/// `--since` and `--until` where they are times of receipt.
struct ReceiptOptions: ParsableArguments {
    @Option(help: .time("Only events received at or after this time"))
    var since: TimeArgument?

    @Option(help: .time("Only events received before this time"))
    var until: TimeArgument?

    func validate() throws {
        guard since.map({ since in until.map { since.milliseconds < $0.milliseconds } ?? true }) ?? true else {
            throw ValidationError("--since is not before --until.")
        }
    }

    /// `nil` for all times.
    var range: Range<Int64>? {
        guard since != nil || until != nil else { return nil }
        return (since?.milliseconds ?? .min)..<(until?.milliseconds ?? .max)
    }
}

/// `--from` and `--to`: numbers of events.
struct SequenceOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Only events from this sequence on.", valueName: "sequence"))
    var from: UInt64?

    @Option(help: ArgumentHelp("Only events up to this sequence, which is included.", valueName: "sequence"))
    var to: UInt64?

    func validate() throws {
        guard (from ?? 0) <= to ?? .max else { throw ValidationError("--from is behind --to.") }
        guard (1..<UInt64.max).contains(to ?? 1) else { throw ValidationError("--to is no sequence.") }
    }

    /// `nil` for all sequences.
    var range: Range<UInt64>? {
        guard from != nil || to != nil else { return nil }
        // Sequences begin with 1.
        return max(1, from ?? 1)..<(to.map { $0 + 1 } ?? .max)
    }
}

/// Which dead letters are meant.
struct DeadLetterFilterOptions: ParsableArguments {
    @Option(help: "Only dead letters of this stream; a stream has the name of its table.")
    var stream: String?

    @Option(help: "Only dead letters of this kind: row_data, invalid_json, too_large, damaged_entry and so on.")
    var kind: String?

    @Option(help: .time("Only dead letters that failed at or after this time"))
    var since: TimeArgument?

    @Option(help: .time("Only dead letters that failed before this time"))
    var until: TimeArgument?

    var filter: DeadLetterFilter {
        DeadLetterFilter(stream: stream, kind: kind, since: since?.milliseconds, until: until?.milliseconds)
    }

    func validate() throws {
        // A variable that a script forgot to set.
        for (name, value) in [("--stream", stream), ("--kind", kind)] where value?.isEmpty == true {
            throw ValidationError("\(name) is empty.")
        }
    }
}

extension ConfigurationOptions {
    /// The ids among the arguments, which stand before the settings.
    /// - Throws: `ValidationError`.
    func ids() throws -> [UInt64] {
        try idTexts.map { text in
            guard let number = Units.digits(text).map(UInt64.init) else {
                throw ValidationError("\(Quoted.text(text)) is no dead letter's id; ids are numbers.")
            }
            return number
        }
    }

    /// These options without the ids.
    var withoutIDs: ConfigurationOptions {
        var options = self
        options.flags.removeFirst(idTexts.count)
        return options
    }

    private var idTexts: ArraySlice<String> { flags.prefix { !$0.hasPrefix("-") } }
}

/// Settings that commands need. What is wrong with the others is none of their business.
enum CommandSettings {
    static let journal: Set = ["JOURNAL_PATH"]
    /// No tokens: health is open to all.
    static let health: Set = ["HTTP_HOST", "HTTP_PORT", "HTTP_TLS_CERTIFICATE", "HTTP_TLS_KEY"]
    /// What a service is to be asked with that wants a token for operations.
    static let operating = health.union(["HTTP_TOKEN", "HTTP_OPERATIONS_TOKEN", "HTTP_TOKENS_PATH"])
    static let top = operating
    static let kafka: Set = [
        "KAFKA_BOOTSTRAP_SERVERS", "KAFKA_TOPICS", "KAFKA_DLQ_TOPIC", "KAFKA_PROPERTIES", "KAFKA_SECURITY_PROTOCOL",
        "KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD", "KAFKA_TLS_CA", "KAFKA_TLS_CERTIFICATE",
        "KAFKA_TLS_KEY", "KAFKA_TLS_KEY_PASSWORD", "KAFKA_TOPIC_PARTITIONS", "KAFKA_TOPIC_REPLICATION",
        "KAFKA_TOPIC_RETENTION", "KAFKA_DLQ_PARTITIONS", "KAFKA_DLQ_RETENTION", "KAFKA_INIT_TIMEOUT",
    ]
    static let clickHouse: Set = [
        "CLICKHOUSE_URL", "CLICKHOUSE_DATABASE", "CLICKHOUSE_USER", "CLICKHOUSE_PASSWORD",
    ]
    static let drain = clickHouse.union(["BATCH_MAX_ROWS", "BATCH_MAX_BYTES", "INSERT_PARALLELISM"])
    static let fill = journal.union(["JOURNAL_MAX_BYTES", "JOURNAL_MIN_FREE_DISK_BYTES", "CLICKHOUSE_TABLE", "STREAMS"])
    static let benchKafka: Set = ["KAFKA_BOOTSTRAP_SERVERS", "KAFKA_PROPERTIES"]
    static let deadLetters = journal.union(["KAFKA_CONSUMER_ENABLED", "KAFKA_DLQ_FORWARDING"])
    /// For changing a journal that no service has open, or asking the service that has.
    static let changingDeadLetters = deadLetters.union(operating).union([
        "JOURNAL_MAX_BYTES", "JOURNAL_HIGH_WATERMARK_PERCENT", "JOURNAL_LOW_WATERMARK_PERCENT",
        "JOURNAL_DEAD_LETTERS_MAX_BYTES", "JOURNAL_MIN_FREE_DISK_BYTES",
    ])
    static let replay = journal.union([
        "CLICKHOUSE_URL", "CLICKHOUSE_DATABASE", "CLICKHOUSE_USER", "CLICKHOUSE_PASSWORD", "CLICKHOUSE_COMPRESSION",
        "CLICKHOUSE_REQUEST_TIMEOUT", "CLICKHOUSE_CONNECT_TIMEOUT", "CLICKHOUSE_ERROR_CLASSES", "ROW_MODE",
        "BATCH_MAX_ROWS", "BATCH_MAX_BYTES", "RETRY_BACKOFF_MIN", "RETRY_BACKOFF_MAX",
    ])
}
