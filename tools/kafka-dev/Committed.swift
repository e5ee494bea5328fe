import CKafka

/// Prints a group's committed offset and the end of each partition of a topic.
func printCommitted(bootstrapServers: String, group: String, topic: String) throws {
    let timeout: Int32 = 10_000
    let client = try makeClient(
        RD_KAFKA_CONSUMER,
        [
            ("bootstrap.servers", bootstrapServers), ("group.id", group), ("enable.auto.commit", "false"),
            ("client.id", "kafka-dev"), ("log_level", "4"),
        ])
    defer { rd_kafka_destroy(client) }
    let list = rd_kafka_topic_partition_list_new(8)!
    defer { rd_kafka_topic_partition_list_destroy(list) }
    for partition in 0..<(try partitionCount(of: topic, client, timeout)) {
        rd_kafka_topic_partition_list_add(list, topic, partition)
    }
    try check(rd_kafka_committed(client, list, timeout), "can't read committed offsets")
    for index in 0..<Int(list.pointee.cnt) {
        let element = list.pointee.elems[index]
        try check(element.err, "can't read the committed offset of partition \(element.partition)")
        var first: Int64 = 0
        var end: Int64 = 0
        try check(
            rd_kafka_query_watermark_offsets(client, topic, element.partition, &first, &end, timeout),
            "can't read the end of partition \(element.partition)")
        print(element.partition, max(element.offset, -1), end)
    }
}

private func partitionCount(of topic: String, _ client: OpaquePointer, _ timeout: Int32) throws -> Int32 {
    let handle = rd_kafka_topic_new(client, topic, nil)
    defer { rd_kafka_topic_destroy(handle) }
    var metadata: UnsafePointer<rd_kafka_metadata>?
    try check(rd_kafka_metadata(client, 0, handle, &metadata, timeout), "can't reach \(topic)'s brokers")
    defer { rd_kafka_metadata_destroy(metadata) }
    let description = metadata!.pointee.topics[0]
    try check(description.err, "topic \(topic)")
    return description.partition_cnt
}
