import Glibc
import Kafka

/// What must hold between settings. Each is checked only if all of its settings are valid by themselves.
struct ConfigurationRelation: Sendable {
    /// The settings it is about, the one to change first.
    let settings: [String]
    /// Whether it holds for the service only: commands get along without.
    var isForServiceOnly = false
    /// What is wrong and what to do; `nil` if nothing is.
    let problem: @Sendable (ServiceConfiguration) -> String?

    static let all: [ConfigurationRelation] = [
        ConfigurationRelation(settings: ["HTTP_MAX_BODY_BYTES", "JOURNAL_MAX_BYTES"]) {
            $0.http.maxBodyBytes > $0.journal.maxBytes / 4
                ? "one request could fill more than a quarter of the journal; lower the first or raise the second" : nil
        },
        ConfigurationRelation(settings: ["BATCH_MAX_BYTES", "JOURNAL_MAX_BYTES"]) {
            $0.batching.maxBytes > $0.journal.maxBytes
                ? "a batch could never become full; lower the first or raise the second" : nil
        },
        ConfigurationRelation(settings: ["RETRY_BACKOFF_MIN", "RETRY_BACKOFF_MAX"]) {
            $0.retries.backoffMin > $0.retries.backoffMax
                ? "the first wait is longer than the longest; lower the first or raise the second" : nil
        },
        ConfigurationRelation(settings: ["CLICKHOUSE_CONNECT_TIMEOUT", "CLICKHOUSE_REQUEST_TIMEOUT"]) {
            $0.clickHouse.connectTimeout > $0.clickHouse.requestTimeout
                ? "connecting is part of a request; lower the first or raise the second" : nil
        },
        ConfigurationRelation(settings: ["HTTP_TLS_CERTIFICATE", "HTTP_TLS_KEY"]) {
            ($0.http.tlsCertificate == nil) != ($0.http.tlsKey == nil)
                ? "TLS needs both; set the other one too, or neither" : nil
        },
        ConfigurationRelation(settings: ["HTTP_TLS_CLIENT_CA", "HTTP_TLS_CERTIFICATE"]) {
            $0.http.tlsClientCA != nil && $0.http.tlsCertificate == nil
                ? "clients can show certificates only where the server has one; set the second and HTTP_TLS_KEY too"
                : nil
        },
        ConfigurationRelation(settings: ["HTTP_MAX_BUFFERED_BYTES", "HTTP_MAX_BODY_BYTES"]) {
            $0.http.maxBufferedBytes < $0.http.maxBodyBytes
                ? "the largest body could never be received; raise the first or lower the second" : nil
        },
        ConfigurationRelation(settings: ["HTTP_REQUEST_TIMEOUT", "HTTP_HEADER_TIMEOUT"]) {
            $0.http.requestTimeout < $0.http.headerTimeout
                ? "the head is part of the request; raise the first or lower the second" : nil
        },
        ConfigurationRelation(settings: ["HTTP_TLS_CERTIFICATE"]) { unreadable($0.http.tlsCertificate) },
        ConfigurationRelation(settings: ["HTTP_TLS_KEY"]) { unreadable($0.http.tlsKey) },
        ConfigurationRelation(settings: ["HTTP_TLS_CLIENT_CA"]) { unreadable($0.http.tlsClientCA) },
        ConfigurationRelation(settings: ["HTTP_TOKENS_PATH"], isForServiceOnly: true) {
            unreadable($0.http.tokensPath)
        },
        ConfigurationRelation(settings: ["KAFKA_SECURITY_PROTOCOL"]) { configuration in
            do throws(KafkaConfigurationError) {
                try configuration.kafkaSecurity.validate(with: configuration.kafkaProperties)
                return nil
            } catch {
                return "\(error)"
            }
        },
        ConfigurationRelation(settings: ["KAFKA_TOPICS", "KAFKA_CONSUMER_ENABLED"]) {
            $0.kafka.isConsumerEnabled && $0.kafka.topics.isEmpty
                ? "there is nothing to consume; name topics or set KAFKA_CONSUMER_ENABLED=false" : nil
        },
        ConfigurationRelation(settings: ["KAFKA_BOOTSTRAP_SERVERS", "KAFKA_CONSUMER_ENABLED"]) {
            $0.kafka.isConsumerEnabled && $0.kafka.bootstrapServers.isEmpty
                ? "there is no broker; name one or set KAFKA_CONSUMER_ENABLED=false" : nil
        },
        ConfigurationRelation(settings: ["KAFKA_DLQ_TOPIC", "KAFKA_DLQ_FORWARDING", "KAFKA_CONSUMER_ENABLED"]) {
            $0.kafka.forwardsDeadLetters && $0.kafka.deadLetterTopic == nil
                ? "dead letters of Kafka events need a topic; name one, or set KAFKA_DLQ_FORWARDING=off" : nil
        },
        ConfigurationRelation(settings: ["JOURNAL_LOW_WATERMARK_PERCENT", "JOURNAL_HIGH_WATERMARK_PERCENT"]) {
            $0.journal.lowWatermarkPercent > $0.journal.highWatermarkPercent
                ? "the low mark is above the high one; lower the first or raise the second" : nil
        },
        ConfigurationRelation(settings: ["KAFKA_DLQ_TOPIC", "KAFKA_TOPICS"]) { configuration in
            configuration.kafka.isConsumerEnabled
                && configuration.kafka.deadLetterTopic.map(configuration.kafka.topics.contains) == true
                ? "dead letters would be consumed again, without end; choose another topic for one of them" : nil
        },
    ]

    private static func unreadable(_ path: String?) -> String? {
        guard let path, access(path, R_OK) != 0 else { return nil }
        return "the file cannot be read: \(String(cString: strerror(errno)))"
    }
}
