internal import CKafka
internal import IngestCore

extension KafkaMock {
    /// Moves a group's committed offsets, as an operator's tool does while no member is there. The mock lets only members
    /// commit once a group had some, so this joins, commits and leaves, which takes about 3 s.
    /// - Parameter offsets: by partition; the others keep theirs.
    public func reset(_ offsets: [Int32: Int64], group: String, topic: String) async throws {
        try await withCheckedThrowingContinuation { continuation in
            _ = DedicatedThread(name: "kafka-reset") {
                continuation.resume(with: Result { try self.resetBlocking(offsets, group, topic) })
            }
        }
    }

    private func resetBlocking(_ offsets: [Int32: Int64], _ group: String, _ topic: String) throws {
        let conf = rd_kafka_conf_new()!
        for (name, value) in [
            ("log_level", "0"), ("bootstrap.servers", bootstrapServers), ("group.id", group),
            ("enable.auto.commit", "false"),
            // After its last member the mock keeps a group closed for nearly that member's session.
            ("session.timeout.ms", "4000"),
        ] {
            rd_kafka_conf_set(conf, name, value, nil, 0)
        }
        let client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, nil, 0)!
        defer {
            rd_kafka_consumer_close(client)
            rd_kafka_destroy(client)
        }
        let topics = rd_kafka_topic_partition_list_new(1)!
        defer { rd_kafka_topic_partition_list_destroy(topics) }
        rd_kafka_topic_partition_list_add(topics, topic, RD_KAFKA_PARTITION_UA)
        rd_kafka_subscribe(client, topics)
        let deadline = ContinuousClock.now + .seconds(20)
        while !isAssigned(client) {
            guard ContinuousClock.now < deadline else { throw Failure(description: "reset: no assignment") }
            if let message = rd_kafka_consumer_poll(client, 20) { rd_kafka_message_destroy(message) }
        }
        let list = rd_kafka_topic_partition_list_new(CInt(offsets.count))!
        defer { rd_kafka_topic_partition_list_destroy(list) }
        for (partition, offset) in offsets {
            rd_kafka_topic_partition_list_add(list, topic, partition).pointee.offset = offset
        }
        let code = rd_kafka_commit(client, list, 0)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw Failure(description: "reset: \(String(cString: rd_kafka_err2str(code)))")
        }
    }

    private func isAssigned(_ client: OpaquePointer) -> Bool {
        var list: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?
        guard rd_kafka_assignment(client, &list) == RD_KAFKA_RESP_ERR_NO_ERROR, let list else { return false }
        defer { rd_kafka_topic_partition_list_destroy(list) }
        return list.pointee.cnt > 0
    }
}
