import CKafka

/// A client of librdkafka without anything between: what measures our consumer must not be its code. For one thread.
final class KafkaClient {
    let handle: OpaquePointer

    /// - Parameter configure: sets callbacks.
    init(
        _ type: rd_kafka_type_t, _ properties: [(name: String, value: String)],
        configure: (OpaquePointer) -> Void = { _ in }
    ) throws(BenchmarkFailure) {
        let configuration = rd_kafka_conf_new()!
        var text = [CChar](repeating: 0, count: 512)
        for (name, value) in properties {
            guard rd_kafka_conf_set(configuration, name, value, &text, text.count) == RD_KAFKA_CONF_OK else {
                rd_kafka_conf_destroy(configuration)
                throw BenchmarkFailure(Self.message(text))
            }
        }
        configure(configuration)
        guard let handle = rd_kafka_new(type, configuration, &text, text.count) else {
            rd_kafka_conf_destroy(configuration)
            throw BenchmarkFailure(Self.message(text))
        }
        self.handle = handle
    }

    deinit { rd_kafka_destroy(handle) }

    private static func message(_ text: [CChar]) -> String {
        String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Throws what librdkafka says about a failed call.
    static func check(_ code: rd_kafka_resp_err_t, _ action: String) throws(BenchmarkFailure) {
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw BenchmarkFailure("\(action): \(String(cString: rd_kafka_err2str(code)))")
        }
    }

    /// Partitions of a topic; a broker that makes topics by first use makes it.
    func partitionCount(_ topic: String) throws(BenchmarkFailure) -> Int32 {
        let topicHandle = rd_kafka_topic_new(handle, topic, nil)
        defer { rd_kafka_topic_destroy(topicHandle) }
        var metadata: UnsafePointer<rd_kafka_metadata>?
        try Self.check(rd_kafka_metadata(handle, 0, topicHandle, &metadata, 30_000), "can't reach Kafka")
        defer { rd_kafka_metadata_destroy(metadata) }
        guard let metadata, metadata.pointee.topic_cnt == 1 else { throw BenchmarkFailure("no topic \(topic)") }
        try Self.check(metadata.pointee.topics[0].err, "topic \(topic)")
        return metadata.pointee.topics[0].partition_cnt
    }

    /// Messages that a topic holds.
    func messageCount(_ topic: String) throws(BenchmarkFailure) -> Int {
        var count = 0
        for partition in 0..<(try partitionCount(topic)) {
            var first: Int64 = 0
            var end: Int64 = 0
            try Self.check(
                rd_kafka_query_watermark_offsets(handle, topic, partition, &first, &end, 30_000),
                "can't read the end of \(topic)/\(partition)")
            count += Int(end - first)
        }
        return count
    }
}

/// Where Kafka is, for measurements.
public struct KafkaAddress: Sendable {
    /// `host:port`, several separated by commas.
    public var bootstrapServers: String
    /// librdkafka's, with those that security needs.
    public var properties: [(name: String, value: String)]

    /// Collects the parts.
    public init(bootstrapServers: String, properties: [(name: String, value: String)]) {
        self.bootstrapServers = bootstrapServers
        self.properties = properties
    }

    var clientProperties: [(name: String, value: String)] {
        [("bootstrap.servers", bootstrapServers), ("client.id", "ingestd-bench"), ("log_level", "3")] + properties
    }
}
