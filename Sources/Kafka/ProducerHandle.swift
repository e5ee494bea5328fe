// The producing client. Each C object has one owner here, which destroys it.

internal import CKafka
internal import IngestCore

/// Who serves the callbacks of a producer; always on the thread that calls `ProducerHandle.serve`.
protocol ProducerHandler: ClientHandler {
    /// What became of the message that was produced with this number; once for each message.
    func delivered(_ number: UInt64, _ code: rd_kafka_resp_err_t)
}

/// What a producer's callbacks find behind their opaque pointer.
///
/// `@unchecked Sendable`: `handler` is set before the first `serve` and read on the thread that calls it only.
final class ProducerCallbacks: ClientCallbacks, @unchecked Sendable {
    weak var handler: (any ProducerHandler)?

    override var clientHandler: (any ClientHandler)? { handler }

    override func register(in properties: borrowing PropertiesHandle) {
        super.register(in: properties)
        rd_kafka_conf_set_dr_msg_cb(properties.pointer) { _, message, context in
            guard let message, let handler = ProducerCallbacks.borrow(context!).handler else { return }
            handler.delivered(UInt64(UInt(bitPattern: message.pointee._private)), message.pointee.err)
        }
    }
}

/// Owns a client that produces to one topic. Except for creation, used by one thread.
struct ProducerHandle: ~Copyable {
    private let base: ClientHandle
    private let topic: OpaquePointer

    /// Makes the client. It connects by itself, in the background.
    /// - Throws: `KafkaConfigurationError` for settings that don't go together, or files that can't be read.
    init(
        properties: consuming PropertiesHandle, topic name: String, callbacks: ProducerCallbacks?
    ) throws(KafkaConfigurationError) {
        let base = try ClientHandle(RD_KAFKA_PRODUCER, properties: properties, callbacks: callbacks)
        guard let topic = rd_kafka_topic_new(base.pointer, name, nil) else {
            throw KafkaConfigurationError(property: "topic", reason: words(for: rd_kafka_last_error()))
        }
        self.base = base
        self.topic = topic
    }

    // The client goes after it, with `base`.
    deinit { rd_kafka_topic_destroy(topic) }

    /// Why the client can only be destroyed, after it has raised a fatal error.
    var fatalReason: String { base.fatalReason }

    /// Puts a message, which is copied, into the local queue; the key decides about the partition.
    /// - Returns: no error if `ProducerHandler.delivered` will be called with `number`, else why it will not.
    func produce(key: [UInt8], value: [UInt8], number: UInt64) -> rd_kafka_resp_err_t {
        let result = key.withUnsafeBytes { key in
            value.withUnsafeBytes { value in
                rd_kafka_produce(
                    topic, RD_KAFKA_PARTITION_UA, Int32(RD_KAFKA_MSG_F_COPY),
                    UnsafeMutableRawPointer(mutating: value.baseAddress), value.count, key.baseAddress, key.count,
                    UnsafeMutableRawPointer(bitPattern: UInt(number)))
            }
        }
        return result == 0 ? RD_KAFKA_RESP_ERR_NO_ERROR : rd_kafka_last_error()
    }

    /// Calls the callbacks for all that has happened. Never waits.
    func serve() { rd_kafka_poll(base.pointer, 0) }

    /// Asks a broker about the topic, and so also makes librdkafka look again at one that it took for missing.
    /// Blocks until the answer or for `timeoutMilliseconds`.
    func askForTopic(timeoutMilliseconds: Int32) -> TopicAnswer {
        var metadata: UnsafePointer<rd_kafka_metadata>?
        let code = rd_kafka_metadata(base.pointer, 0, topic, &metadata, timeoutMilliseconds)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR, let metadata else { return .none }
        defer { rd_kafka_metadata_destroy(metadata) }
        guard metadata.pointee.topic_cnt == 1 else { return .none }
        return .some(metadata.pointee.topics[0].err)
    }

    /// What brokers say about the topic.
    enum TopicAnswer {
        /// Nothing: none can be reached.
        case none
        case some(rd_kafka_resp_err_t)
    }
}
