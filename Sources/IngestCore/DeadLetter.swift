/// An event that can never be inserted, with the reason. What a dead letter looks like outside (JSON, on the DLQ
/// topic and in exports) is the pipeline's business; this is what sources know.
public struct DeadLetter: Sendable, Equatable {
    /// Why.
    public struct Problem: Sendable, Equatable {
        /// `invalid_json`, `too_large`, `row_data` and so on: stable names, also used as a metric label.
        public let kind: String
        /// The parser's or server's words.
        public let message: String
        /// ClickHouse's exception code, if it was ClickHouse that refused.
        public let clickHouseCode: Int?
        /// HTTP status of that refusal.
        public let httpStatus: Int?
        /// How often the event was sent; 0 if it never was.
        public let attempts: Int

        /// Collects the parts.
        public init(
            kind: String, message: String, clickHouseCode: Int? = nil, httpStatus: Int? = nil, attempts: Int = 0
        ) {
            self.kind = kind
            self.message = message
            self.clickHouseCode = clickHouseCode
            self.httpStatus = httpStatus
            self.attempts = attempts
        }
    }

    /// The Kafka message that it was.
    public struct KafkaOrigin: Sendable, Equatable {
        /// Topic and partition.
        public let partition: TopicPartition
        /// Offset of the message.
        public let offset: Int64
        /// Milliseconds since 1970 UTC; -1 if the message had none.
        public let timestamp: Int64
        /// The message's key.
        public let key: [UInt8]?
        /// The message's headers, in order; a name can occur more than once.
        public let headers: [(name: String, value: [UInt8]?)]

        /// Collects the parts.
        public init(
            partition: TopicPartition, offset: Int64, timestamp: Int64, key: [UInt8]?,
            headers: [(name: String, value: [UInt8]?)]
        ) {
            self.partition = partition
            self.offset = offset
            self.timestamp = timestamp
            self.key = key
            self.headers = headers
        }

        /// Equal in every part; headers in the same order.
        public static func == (left: KafkaOrigin, right: KafkaOrigin) -> Bool {
            left.partition == right.partition && left.offset == right.offset && left.timestamp == right.timestamp
                && left.key == right.key
                && left.headers.elementsEqual(right.headers) { $0.name == $1.name && $0.value == $1.value }
        }
    }

    /// The event's id; the SHA-256 of the payload where it has none of its own.
    public let eventID: String
    /// When it was given up, milliseconds since 1970 UTC.
    public let failedAt: Int64
    /// The destination table, which is also the stream's name.
    public let table: String
    /// Why.
    public let problem: Problem
    /// The Kafka message that it was; `nil` for HTTP.
    public let kafka: KafkaOrigin?
    /// The event as received; need not be JSON or text.
    public let payload: [UInt8]

    /// Collects the parts.
    public init(
        eventID: String, failedAt: Int64, table: String, problem: Problem, kafka: KafkaOrigin?, payload: [UInt8]
    ) {
        self.eventID = eventID
        self.failedAt = failedAt
        self.table = table
        self.problem = problem
        self.kafka = kafka
        self.payload = payload
    }
}
