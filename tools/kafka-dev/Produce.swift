import CKafka
import FoundationEssentials
import Glibc

/// Sends lines as messages: idempotent, acknowledged by all replicas, each answer awaited.
final class Producer {
    /// What became of the messages.
    final class Deliveries {
        fileprivate(set) var acknowledged = 0
        fileprivate(set) var failed = 0
        fileprivate(set) var lastError = ""

        fileprivate func add(_ code: rd_kafka_resp_err_t) {
            if code == RD_KAFKA_RESP_ERR_NO_ERROR {
                acknowledged += 1
            } else {
                failed += 1
                lastError = String(cString: rd_kafka_err2str(code))
            }
        }
    }

    private let client: OpaquePointer
    private let topic: OpaquePointer
    private let partition: Int32
    private let keyField: String?
    private let deliveries: Deliveries

    init(bootstrapServers: String, topic: String, partition: Int32?, keyField: String?) throws {
        let deliveries = Deliveries()
        self.deliveries = deliveries
        client = try makeClient(
            RD_KAFKA_PRODUCER,
            [
                ("bootstrap.servers", bootstrapServers), ("client.id", "kafka-dev"), ("enable.idempotence", "true"),
                ("acks", "all"), ("linger.ms", "5"), ("queue.buffering.max.messages", "500000"),
                ("message.timeout.ms", "30000"),
                ("log_level", "4"),
            ]
        ) { conf in
            // Called from `rd_kafka_poll` and `rd_kafka_flush`, so on our thread, while `self.deliveries` lives.
            rd_kafka_conf_set_opaque(conf, Unmanaged.passUnretained(deliveries).toOpaque())
            rd_kafka_conf_set_dr_msg_cb(conf) { _, message, opaque in
                Unmanaged<Deliveries>.fromOpaque(opaque!).takeUnretainedValue().add(message!.pointee.err)
            }
        }
        guard let handle = rd_kafka_topic_new(client, topic, nil) else {
            rd_kafka_destroy(client)
            throw Failure("can't use topic \(topic)")
        }
        self.topic = handle
        self.partition = partition ?? -1
        self.keyField = keyField
    }

    deinit {
        rd_kafka_topic_destroy(topic)
        rd_kafka_destroy(client)
    }

    /// Sends the lines of standard input, and returns when all are answered.
    func sendStandardInput() throws -> Deliveries {
        var pending: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            let count = read(STDIN_FILENO, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw Failure("can't read standard input: \(String(cString: strerror(errno)))") }
            guard count > 0 else { break }
            var start = 0
            while let end = chunk[start..<count].firstIndex(of: 0x0A) {
                if pending.isEmpty {
                    try chunk[start..<end].withUnsafeBytes(send)
                } else {
                    pending += chunk[start..<end]
                    try pending.withUnsafeBytes(send)
                    pending.removeAll(keepingCapacity: true)
                }
                start = end + 1
            }
            pending += chunk[start..<count]
            rd_kafka_poll(client, 0)
        }
        if !pending.isEmpty { try pending.withUnsafeBytes(send) }
        while rd_kafka_outq_len(client) > 0 { rd_kafka_flush(client, 1_000) }
        return deliveries
    }

    private func send(_ line: UnsafeRawBufferPointer) throws {
        let key = keyField.flatMap { Self.field($0, of: line) }
        while true {
            // An empty line is an empty message, not a tombstone: its address must not be null.
            let payload = UnsafeMutableRawPointer(mutating: line.baseAddress ?? UnsafeRawPointer(topic))
            let result = (key ?? []).withUnsafeBytes { key in
                rd_kafka_produce(
                    topic, partition, Int32(RD_KAFKA_MSG_F_COPY), payload, line.count, key.baseAddress, key.count, nil)
            }
            if result == 0 { return }
            let code = rd_kafka_last_error()
            guard code == RD_KAFKA_RESP_ERR__QUEUE_FULL else { return try check(code, "can't send a message") }
            rd_kafka_poll(client, 100)
        }
    }

    /// The value of a top-level field that is a string or an integer.
    private static func field(_ name: String, of line: UnsafeRawBufferPointer) -> [UInt8]? {
        struct Field: Decodable {
            let text: String?

            struct Key: CodingKey {
                let stringValue: String
                var intValue: Int? { nil }
                init(stringValue: String) { self.stringValue = stringValue }
                init?(intValue: Int) { nil }
            }

            init(from decoder: any Decoder) throws {
                let container = try decoder.container(keyedBy: Key.self)
                let key = Key(stringValue: decoder.userInfo[.fieldName] as! String)
                text =
                    (try? container.decode(String.self, forKey: key))
                    ?? (try? container.decode(Int64.self, forKey: key)).map(String.init)
            }
        }
        let decoder = JSONDecoder()
        decoder.userInfo[.fieldName] = name
        // A line that is no JSON object has no key; whether it is an event is the consumer's business.
        return (try? decoder.decode(Field.self, from: Data(line)))?.text.map { Array($0.utf8) }
    }
}

extension CodingUserInfoKey {
    fileprivate static let fieldName = CodingUserInfoKey(rawValue: "fieldName")!
}
