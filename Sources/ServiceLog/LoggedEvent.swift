/// Everything that the service logs. Names are public: people search and alert by them, so a name is never given to
/// something else, and docs/logs.md lists them (a test compares).
public enum LoggedEvent: String, Sendable, CaseIterable {
    case serviceReady = "service.ready"
    case serviceStopping = "service.stopping"
    case serviceStopped = "service.stopped"
    case serviceAborted = "service.aborted"
    case serviceFailed = "service.failed"
    case serviceManagerUnreachable = "service.manager_unreachable"

    case journalFailed = "journal.failed"
    case journalRefusing = "journal.refusing"
    case journalCompacted = "journal.compacted"
    case journalCompactionFailed = "journal.compaction_failed"
    case journalTookInLog = "journal.took_in_log"
    case journalLogFailed = "journal.log_failed"
    case journalLogSetAside = "journal.log_set_aside"
    case journalEntryDamaged = "journal.entry_damaged"
    case journalAdvanceFailed = "journal.advance_failed"

    case streamHeld = "stream.held"
    case streamResumed = "stream.resumed"

    case clickHouseConnected = "clickhouse.connected"
    case clickHouseInsertFailed = "clickhouse.insert_failed"
    case clickHouseEndpointChanged = "clickhouse.endpoint_changed"
    case clickHouseWithoutDeduplication = "clickhouse.without_deduplication"
    case clickHouseRowsMissing = "clickhouse.rows_missing"
    case clickHouseRowsUnchecked = "clickhouse.rows_unchecked"

    case deadLetterRefused = "dead_letter.refused"
    case deadLetterForwardingFailed = "dead_letter.forwarding_failed"
    case deadLetterUnreadable = "dead_letter.unreadable"
    case deadLetterNotDelivered = "dead_letter.not_delivered"

    case httpCertificateReloaded = "http.certificate_reloaded"
    case httpCertificateUnusable = "http.certificate_unusable"
    case httpCertificateExpired = "http.certificate_expired"
    case httpTokensReloaded = "http.tokens_reloaded"
    case httpTokensUnusable = "http.tokens_unusable"
    case httpConnectionsLimited = "http.connections_limited"

    case kafkaAssigned = "kafka.assigned"
    case kafkaRevoked = "kafka.revoked"
    case kafkaLost = "kafka.lost"
    case kafkaPaused = "kafka.paused"
    case kafkaResumed = "kafka.resumed"
    case kafkaRevokedUnflushed = "kafka.revoked_unflushed"
    case kafkaJournalSlow = "kafka.journal_slow"
    case kafkaEventsRefused = "kafka.events_refused"
    case kafkaOffsetMoved = "kafka.offset_moved"
    case kafkaCommitFailed = "kafka.commit_failed"
    case kafkaConsumerFailed = "kafka.consumer_failed"
    case kafkaConsumerError = "kafka.consumer_error"
    case kafkaClientError = "kafka.client_error"
    case kafkaLeftWithoutConsent = "kafka.left_without_consent"
    case kafkaProducerFailed = "kafka.producer_failed"
    case kafkaProducerError = "kafka.producer_error"
    case kafkaLibrary = "kafka.library"

    case metricsSeriesDropped = "metrics.series_dropped"
    case metricsNameTaken = "metrics.name_taken"

    /// What a library logs by itself.
    case library

    /// Under this key a log line has its event.
    public static let metadataKey = "event"

    /// What is said about an event.
    public struct Definition: Sendable {
        /// The level of its lines.
        public let severity: Severity
        /// What has happened, in a sentence.
        public let meaning: String
        /// Lines that are written in so many seconds at most, for each subject; further ones are counted.
        public let limit: (lines: Int, seconds: Int)

        init(_ severity: Severity, _ meaning: String, limit: (lines: Int, seconds: Int) = (10, 30)) {
            self.severity = severity
            self.meaning = meaning
            self.limit = limit
        }
    }

    /// What the event means.
    public var definition: Definition {
        switch self {
        case .serviceReady: Definition(.notice, "The service has started and takes events.")
        case .serviceStopping: Definition(.notice, "SIGTERM or SIGINT has come; delivering goes on for a while.")
        case .serviceStopped: Definition(.notice, "The service has ended in order.")
        case .serviceAborted:
            Definition(.warning, "A second signal ends the process at once; what was accepted is in the journal.")
        case .serviceFailed: Definition(.critical, "The service can't start or go on; the process ends with code 1.")
        case .serviceManagerUnreachable: Definition(.warning, "systemd can't be told how the service is.")
        case .journalFailed: Definition(.critical, "The journal can't go on; the process ends and must be restarted.")
        case .journalRefusing:
            Definition(.error, "The journal takes no new events: it or its disk is full, or broken.", limit: (1, 10))
        case .journalCompacted: Definition(.notice, "The journal's file was made smaller when it was opened.")
        case .journalCompactionFailed: Definition(.warning, "That was not possible; the file is as it was.")
        case .journalTookInLog:
            Definition(
                .notice, "What was acknowledged just before the process ended was in the commit log; it is kept.")
        case .journalLogFailed:
            Definition(.error, "The commit log can't be written; until a restart every group waits for a full commit.")
        case .journalLogSetAside:
            Definition(.warning, "The commit log belongs to another journal; it is kept under another name.")
        case .journalEntryDamaged: Definition(.critical, "An entry can't be read; it becomes a dead letter.")
        case .journalAdvanceFailed: Definition(.error, "What was delivered can't be noted; it is tried again.")
        case .streamHeld: Definition(.error, "Nothing of a stream is inserted until somebody mends something.")
        case .streamResumed: Definition(.notice, "A stream that was held or failed goes on.")
        case .clickHouseConnected: Definition(.info, "A server has answered with its version.")
        case .clickHouseInsertFailed: Definition(.warning, "An insert failed for a reason that passes; it is repeated.")
        case .clickHouseEndpointChanged: Definition(.warning, "Another server of CLICKHOUSE_URL is used from now on.")
        case .clickHouseWithoutDeduplication:
            Definition(.warning, "The server knows no deduplication tokens: retries can leave copies of rows.")
        case .clickHouseRowsMissing:
            Definition(.warning, "The server confirmed a repeated batch without having its rows; it is inserted again.")
        case .clickHouseRowsUnchecked:
            Definition(.warning, "The server does not let the service look for the rows of a repeated batch.")
        case .deadLetterRefused:
            Definition(.error, "The dead-letter topic will never take this letter; it is kept in the journal.")
        case .deadLetterForwardingFailed: Definition(.warning, "The topic can't be reached; letters are sent again.")
        case .deadLetterUnreadable: Definition(.error, "The store of dead letters can't be read; it is tried again.")
        case .deadLetterNotDelivered: Definition(.warning, "The Kafka producer could not deliver a dead letter.")
        case .httpCertificateReloaded: Definition(.notice, "A changed certificate is in force.")
        case .httpCertificateUnusable:
            Definition(.error, "A changed certificate can't be used; the one before stays in force.")
        case .httpCertificateExpired: Definition(.warning, "The certificate has expired; clients will refuse it.")
        case .httpTokensReloaded: Definition(.notice, "Changed tokens are in force.")
        case .httpTokensUnusable: Definition(.error, "A changed file of tokens can't be used; those before stay.")
        case .httpConnectionsLimited:
            Definition(.warning, "The limit of open files allows fewer connections than HTTP_MAX_CONNECTIONS.")
        case .kafkaAssigned: Definition(.info, "Partitions were assigned to this process.")
        case .kafkaRevoked: Definition(.info, "Partitions were given up in order.")
        case .kafkaLost: Definition(.warning, "Partitions were lost: the group has thrown this member out.")
        case .kafkaPaused: Definition(.debug, "Partitions are paused, as the journal has no room.")
        case .kafkaResumed: Definition(.debug, "Partitions are consumed again.")
        case .kafkaRevokedUnflushed:
            Definition(.warning, "Partitions are given up before all is delivered; their next owner delivers it again.")
        case .kafkaJournalSlow: Definition(.warning, "The journal has not answered before partitions had to go.")
        case .kafkaEventsRefused: Definition(.warning, "The journal refused events; they are kept and sent again.")
        case .kafkaOffsetMoved: Definition(.warning, "A partition goes on at an earlier offset: it was made anew.")
        case .kafkaCommitFailed: Definition(.warning, "An offset commit failed; it is repeated.")
        case .kafkaConsumerFailed: Definition(.error, "The consumer failed and is replaced after a pause.")
        case .kafkaConsumerError: Definition(.warning, "A topic or the group has an error; librdkafka goes on.")
        case .kafkaClientError: Definition(.warning, "The consumer has trouble with brokers; librdkafka goes on.")
        case .kafkaLeftWithoutConsent: Definition(.warning, "The group did not answer when the consumer left it.")
        case .kafkaProducerFailed: Definition(.error, "The producer of dead letters failed and is replaced.")
        case .kafkaProducerError: Definition(.warning, "The producer has trouble with brokers; librdkafka goes on.")
        case .kafkaLibrary:
            Definition(.warning, "A line of librdkafka, with its level and `facility`.", limit: (20, 10))
        case .metricsSeriesDropped: Definition(.warning, "A metric has too many labels; further ones are not exported.")
        case .metricsNameTaken: Definition(.error, "Two metrics want the same name; a mistake in the service.")
        case .library: Definition(.info, "A line that a library writes by itself, at its own level.")
        }
    }
}
