import IngestCore
import Kafka
import Logging

/// Everything that an operator can set, by room. Plain values: the wiring turns them into the rooms' own types.
///
/// The values here are the defaults. Names, types, bounds and help of the settings are in `SettingTable`; a new
/// setting is a property here and a line there.
struct ServiceConfiguration: Sendable, Equatable {
    var http = HTTP()
    var kafka = Kafka()
    var clickHouse = ClickHouse()
    var events = Events()
    var journal = Journal()
    var batching = Batching()
    var retries = Retries()
    var shutdown = Shutdown()
    var log = Log()

    /// The HTTP server.
    struct HTTP: Sendable, Equatable {
        var host = "127.0.0.1"
        /// 0 takes a free port.
        var port = 8_080
        var maxBodyBytes = 32 << 20
        /// At least `maxBodyBytes`.
        var maxBufferedBytes = 256 << 20
        var maxRequestEvents = 1_000_000
        var maxEventBytes = 32 << 20
        var maxCompressionRatio = 200
        var maxConnections = 4_096
        var headerTimeout = Duration.seconds(10)
        var idleTimeout = Duration.seconds(60)
        /// At least `headerTimeout`.
        var requestTimeout = Duration.seconds(300)
        /// Zero remembers no request.
        var idempotencyWindow = Duration.seconds(3_600)
        var idempotencyMaxKeys = 1_000_000
        /// The bearer token that requests must carry; `nil` accepts them without.
        var token: Secret?
        /// Path of a file with further tokens and their rights.
        var tokensPath: String?
        /// The token for operations; `nil` lets those in who may ingest everywhere.
        var operationsToken: Secret?
        /// Path of a PEM file; set together with `tlsKey`, or neither.
        var tlsCertificate: String?
        /// Path of a PEM file.
        var tlsKey: String?
        /// Path of a PEM file; clients must have a certificate of one of these authorities. Needs `tlsCertificate`.
        var tlsClientCA: String?
        /// `*`, or origins as browsers send them.
        var corsOrigins: [String] = []
    }

    /// The Kafka consumer and the dead-letter producer.
    struct Kafka: Sendable, Equatable {
        var isConsumerEnabled = true
        var bootstrapServers = ["127.0.0.1:9092"]
        /// Names, and patterns that begin with `^`. Not empty while the consumer is enabled.
        var topics = ["events"]
        var groupID = "ingestion-service"
        /// Makes this process a static member of the group.
        var groupInstanceID: String?
        var revokeTimeout = Duration.seconds(10)
        var maxInFlightBytes = 32 << 20
        /// `nil` only while nothing is forwarded.
        var deadLetterTopic: String? = "events.dlq"
        var forwarding = Forwarding.auto
        /// For librdkafka, in the order given; none of those that the service itself sets.
        var properties: [KafkaProperty] = []
        var commitInterval = Duration.seconds(1)
        /// `nil` leaves it to the properties, as does the next one.
        var securityProtocol: KafkaSecurity.SecurityProtocol?
        var saslMechanism: KafkaSecurity.Mechanism?
        var saslUsername: String?
        var saslPassword: Secret?
        /// Path of a PEM file, as are the next two.
        var tlsCA: String?
        var tlsCertificate: String?
        var tlsKey: String?
        var tlsKeyPassword: Secret?
        /// What `ingestd kafka init` creates topics with.
        var topicPartitions = 6
        var topicReplication = 1
        var topicRetention = Duration.seconds(7 * 86_400)
        var deadLetterPartitions = 1
        var deadLetterRetention = Duration.seconds(30 * 86_400)
        /// How long it waits for the brokers.
        var initTimeout = Duration.seconds(60)

        /// Whether dead letters go to the DLQ topic.
        var forwardsDeadLetters: Bool {
            switch forwarding {
            case .auto: isConsumerEnabled
            case .on: true
            case .off: false
            }
        }

        /// Whether dead letters go to the DLQ topic.
        enum Forwarding: String, Sendable, CaseIterable {
            /// If the consumer is enabled.
            case auto
            case on
            case off
        }
    }

    /// The destination.
    struct ClickHouse: Sendable, Equatable {
        /// At least one; tried in turn.
        var urls = [ServerURL(scheme: .http, host: "127.0.0.1", port: 8_123)]
        var database = "default"
        /// `table` or `database.table`.
        var table = "events"
        var user = "default"
        var password = Secret("")
        var compression = Compression.auto
        var requestTimeout = Duration.seconds(60)
        /// At most `requestTimeout`.
        var connectTimeout = Duration.seconds(5)
        /// Exception codes that are to be treated otherwise than built in.
        var errorClasses: [Int: FailureClass] = [:]
        /// INSERTs in flight for each stream.
        var insertParallelism = 2

        /// How request bodies are compressed.
        enum Compression: String, Sendable, CaseIterable {
            /// zstd, unless the server is on this machine or does not know it.
            case auto
            case none
            case zstd
        }
    }

    /// What an event is and where it goes.
    struct Events: Sendable, Equatable {
        var idField = "event_id"
        /// Where events of some Kafka topics have their ids. Topics are unique.
        var idSources: [EventIDSource] = []
        var rowMode = RowMode.envelope
        /// Names are unique.
        var routes: [StreamRoute] = []

        /// What a row consists of.
        enum RowMode: String, Sendable, CaseIterable {
            /// Id, payload and origin of the event.
            case envelope
            /// The event's own fields.
            case flat
        }
    }

    /// The journal on disk.
    struct Journal: Sendable, Equatable {
        var path = "./journal"
        var maxBytes = 8 << 30
        /// How long flushed entries are kept for replay.
        var retain = Duration.zero
        /// 0 sets no bound.
        var retainBytes = 0
        /// At least `lowWatermarkPercent`.
        var highWatermarkPercent = 100
        var lowWatermarkPercent = 90
        var minFreeDiskBytes = 256 << 20
        var deadLettersMaxBytes = 1 << 30
    }

    /// Where a batch ends, whichever comes first.
    struct Batching: Sendable, Equatable {
        var maxRows = 50_000
        var maxBytes = 16 << 20
        var maxAge = Duration.seconds(1)
    }

    /// How failed INSERTs are repeated.
    struct Retries: Sendable, Equatable {
        var backoffMin = Duration.milliseconds(100)
        /// At least `backoffMin`.
        var backoffMax = Duration.seconds(30)
        /// How often a held stream tries its destination.
        var holdInterval = Duration.seconds(15)
        /// 0 sets no limit.
        var holdAfterRejected = 10_000
    }

    /// The end of the process.
    struct Shutdown: Sendable, Equatable {
        var timeout = Duration.seconds(30)
    }

    /// The log on standard error.
    struct Log: Sendable, Equatable {
        var level = Logger.Level.info
        var format = Format.auto

        /// How a line looks.
        enum Format: String, Sendable, CaseIterable {
            /// `text` on a terminal, else `json`.
            case auto
            case json
            case text
        }
    }
}
