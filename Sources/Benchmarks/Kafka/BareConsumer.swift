import CKafka
import IngestCore
import Kafka

/// What the Kafka source is measured against: librdkafka alone, whose messages are counted and thrown away.
struct BareConsumer {
    private static let patience: UInt64 = 60_000_000_000
    private static let batch = 1_000

    let address: KafkaAddress
    let topic: String

    /// Reads the topic from its beginning until so many messages have come.
    func run(_ count: Int) throws(BenchmarkFailure) -> ReadingProgress {
        // As the source has them: what is compared is the work, not the room in queues.
        let client = try KafkaClient(
            RD_KAFKA_CONSUMER,
            [("bootstrap.servers", address.bootstrapServers), ("group.id", "ingestd-bench-bare"), ("log_level", "3")]
                + KafkaSourceConfiguration.consumerProperties + address.properties)
        rd_kafka_poll_set_consumer(client.handle)
        let partitions = rd_kafka_topic_partition_list_new(8)!
        defer { rd_kafka_topic_partition_list_destroy(partitions) }
        for partition in 0..<(try client.partitionCount(topic)) {
            rd_kafka_topic_partition_list_add(partitions, topic, partition)!.pointee.offset = -2  // the beginning
        }
        let queue = rd_kafka_queue_get_consumer(client.handle)
        defer { rd_kafka_queue_destroy(queue) }
        try KafkaClient.check(rd_kafka_assign(client.handle, partitions), "can't assign \(topic)")
        var messages = [UnsafeMutablePointer<rd_kafka_message_t>?](repeating: nil, count: Self.batch)
        var progress = ReadingProgress()
        let deadline = MonotonicClock.now + Self.patience
        while progress.count < count {
            let received = rd_kafka_consume_batch_queue(queue, 100, &messages, messages.count)
            var good = 0
            for index in 0..<max(0, received) {
                if messages[index]!.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR { good += 1 }
                rd_kafka_message_destroy(messages[index])
            }
            if good > 0 { progress.add(good) }
            guard MonotonicClock.now < deadline else {
                throw BenchmarkFailure("a bare consumer got \(progress.count) of \(count) messages within a minute")
            }
        }
        rd_kafka_assign(client.handle, nil)
        return progress
    }
}
