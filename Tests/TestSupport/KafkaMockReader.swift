internal import CKafka

extension KafkaMock {
    /// All messages of a partition in order, without their headers. Blocks.
    public func messages(in topic: String, partition: Int32 = 0) throws -> [Message] {
        let conf = rd_kafka_conf_new()!
        for (name, value) in [
            ("log_level", "0"), ("bootstrap.servers", bootstrapServers), ("group.id", "reader"),
            ("enable.auto.commit", "false"), ("enable.partition.eof", "true"), ("fetch.wait.max.ms", "10"),
        ] {
            rd_kafka_conf_set(conf, name, value, nil, 0)
        }
        let client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, nil, 0)!
        defer { rd_kafka_destroy(client) }
        let list = rd_kafka_topic_partition_list_new(1)!
        defer { rd_kafka_topic_partition_list_destroy(list) }
        rd_kafka_topic_partition_list_add(list, topic, partition).pointee.offset = Int64(RD_KAFKA_OFFSET_BEGINNING)
        rd_kafka_assign(client, list)
        var messages: [Message] = []
        let deadline = ContinuousClock.now + .seconds(20)
        while ContinuousClock.now < deadline {
            guard let message = rd_kafka_consumer_poll(client, 100) else { continue }
            defer { rd_kafka_message_destroy(message) }
            switch message.pointee.err {
            case RD_KAFKA_RESP_ERR_NO_ERROR:
                messages.append(
                    Message(
                        message.pointee.payload.map {
                            Array(UnsafeRawBufferPointer(start: $0, count: message.pointee.len))
                        },
                        key: message.pointee.key.map {
                            Array(UnsafeRawBufferPointer(start: $0, count: message.pointee.key_len))
                        }, timestamp: rd_kafka_message_timestamp(message, nil)))
            case RD_KAFKA_RESP_ERR__PARTITION_EOF:
                return messages
            default:
                throw Failure(description: "read \(topic): \(String(cString: rd_kafka_message_errstr(message)))")
            }
        }
        throw Failure(description: "read \(topic): no end in time")
    }
}
