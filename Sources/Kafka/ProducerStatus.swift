internal import CKafka

/// What is wrong with a producer that has not failed: librdkafka mends these by itself, or the operator does.
struct ProducerTroubles {
    private var brokers: String?
    private var isRefused = false
    private var topic: String?
    /// Why the last message was not delivered.
    private var delivery: String?
    /// Whether the topic is known to be there.
    private(set) var isConnected = false

    mutating func brokersAreAway(_ reason: String) {
        // After refused credentials librdkafka goes on to say that all brokers are down, which tells less.
        if !isRefused { brokers = "no Kafka broker can be reached: \(reason)" }
    }

    mutating func brokersRefuse(_ reason: String) {
        isRefused = true
        brokers = "Kafka refuses the connection: \(reason)"
    }

    mutating func topicFails(_ reason: String) {
        clearBrokers()
        topic = reason
    }

    mutating func deliveryFailed(_ reason: String) { delivery = reason }

    /// A broker knows the topic.
    mutating func topicIsThere() {
        clearBrokers()
        topic = nil
        isConnected = true
    }

    /// A message was acknowledged.
    mutating func delivered() {
        topicIsThere()
        delivery = nil
    }

    private mutating func clearBrokers() {
        brokers = nil
        isRefused = false
    }

    /// In words; `nil` if there are none.
    var description: String? { brokers ?? topic ?? delivery }
}

/// What an error code means for a message.
enum DeliveryFailure: Equatable {
    /// The message, or one that was sent with it, is not for this topic.
    case suspicious
    /// There is no such topic.
    case topicIsMissing
    /// It passes, or someone else can do something about it.
    case passing

    init(_ code: rd_kafka_resp_err_t) {
        switch code {
        case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE,
            RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE, RD_KAFKA_RESP_ERR_INVALID_RECORD:
            self = .suspicious
        case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
            RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
            self = .topicIsMissing
        default:
            self = .passing
        }
    }

    /// What is wrong and what to do.
    func explanation(_ code: rd_kafka_resp_err_t, topic: String) -> String {
        switch self {
        case .suspicious where code == RD_KAFKA_RESP_ERR_INVALID_RECORD:
            "the topic \"\(topic)\" refuses the message: \(words(for: code))"
        case .suspicious:
            "the message is too large for the topic \"\(topic)\" (its max.message.bytes): \(words(for: code))"
        case .topicIsMissing:
            "the topic \"\(topic)\" does not exist: create it, or name another one (\(words(for: code)))"
        case .passing:
            "the topic \"\(topic)\" has not taken the message: \(words(for: code))"
        }
    }
}
