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
    /// The valid `traceparent` that an event from HTTP came with. A Kafka message's is among its headers.
    public let traceparent: String?

    /// Collects the parts.
    public init(
        eventID: String, failedAt: Int64, table: String, problem: Problem, kafka: KafkaOrigin?, payload: [UInt8],
        traceparent: String? = nil
    ) {
        self.eventID = eventID
        self.failedAt = failedAt
        self.table = table
        self.problem = problem
        self.kafka = kafka
        self.payload = payload
        self.traceparent = traceparent
    }
}

/// Which dead letters are meant. Every member that is set must fit.
public struct DeadLetterFilter: Sendable, Equatable {
    /// The stream's name: its table.
    public var stream: String?
    /// `row_data`, `invalid_json` and so on.
    public var kind: String?
    /// Given up at or after this time, milliseconds since 1970 UTC.
    public var since: Int64?
    /// Given up before this time, milliseconds since 1970 UTC.
    public var until: Int64?

    /// Collects the parts; without any it fits all.
    public init(stream: String? = nil, kind: String? = nil, since: Int64? = nil, until: Int64? = nil) {
        self.stream = stream
        self.kind = kind
        self.since = since
        self.until = until
    }
}

/// Dead letters that something is to be done with.
public enum DeadLetterSelection: Sendable, Equatable {
    /// The one with this number.
    case one(UInt64)
    /// All that fit.
    case matching(DeadLetterFilter)
}

/// What an operation on dead letters did.
public struct DeadLetterChange: Sendable, Equatable {
    /// Letters that were sent again or deleted.
    public var changed: Int
    /// Letters that fit but can't be sent again, because they are no valid events; they are kept.
    public var notRetryable: Int

    /// Collects the parts.
    public init(changed: Int = 0, notRetryable: Int = 0) {
        self.changed = changed
        self.notRetryable = notRetryable
    }
}

/// A dead letter in the journal's store.
public struct StoredDeadLetter: Sendable, Equatable {
    /// Its number; never reused. The API calls it `id`.
    public let number: UInt64
    /// The event's number in its stream; `nil` if a source refused it, so that it never had one. Only an event that
    /// had one is valid, and can be sent again.
    public let sequence: UInt64?
    /// Whether it was sent again and only waits for the DLQ topic.
    public let isRetried: Bool
    /// Whether the DLQ topic has not acknowledged it yet. Always false where forwarding is off.
    public let awaitsForwarding: Bool
    /// What it is.
    public let letter: DeadLetter

    /// Collects the parts.
    public init(number: UInt64, sequence: UInt64?, isRetried: Bool, awaitsForwarding: Bool, letter: DeadLetter) {
        self.number = number
        self.sequence = sequence
        self.isRetried = isRetried
        self.awaitsForwarding = awaitsForwarding
        self.letter = letter
    }
}

/// A dead letter on its way to the DLQ topic.
public struct DeadLetterMessage: Sendable {
    /// The letter's number in the store.
    public let number: UInt64
    /// The message's key: the event's id.
    public let key: [UInt8]
    /// The message's value: a JSON object.
    public let value: [UInt8]

    /// Collects the parts.
    public init(number: UInt64, key: [UInt8], value: [UInt8]) {
        self.number = number
        self.key = key
        self.value = value
    }
}

/// Why the DLQ topic did not take a message.
public struct DeadLetterFailure: Error, Sendable, Equatable, CustomStringConvertible {
    /// The client's or broker's words.
    public let description: String
    /// Whether this message alone is the matter (it is too large for the topic), so that others may pass it.
    public let isMessageAtFault: Bool

    /// Collects the parts.
    public init(_ description: String, isMessageAtFault: Bool) {
        self.description = description
        self.isMessageAtFault = isMessageAtFault
    }
}

/// Where dead letters are forwarded to. Implemented by the Kafka module. Callable from any thread.
public protocol DeadLetterDestination: Sendable {
    /// Sends a message and returns at once.
    /// - Parameter completion: called exactly once, on the destination's thread, with success only after the topic has
    ///   acknowledged the message (all replicas in sync); must not block.
    func send(
        _ message: DeadLetterMessage, completion: @escaping @Sendable (Result<Void, DeadLetterFailure>) -> Void)

    /// How the destination is doing.
    var health: ComponentHealth { get }
}
