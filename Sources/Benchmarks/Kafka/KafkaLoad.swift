import CKafka
import IngestCore

/// Sends events to a topic: idempotent, acknowledged by all replicas, each delivery report awaited.
public struct KafkaLoad: Sendable {
    /// What to send, and where.
    public struct Options: Sendable {
        /// The topic.
        public var topic = "events"
        /// Events, those not counted that are sent twice.
        public var events = 500_000
        /// Bytes of one event.
        public var eventBytes = 217
        /// How they differ in size.
        public var sizes = EventSizes.fixed
        /// Of the events' content and of what is sent twice.
        public var seed: UInt64 = 1
        /// Share of the events that are sent twice.
        public var duplicates = 0.0
        /// Prefix of all event ids.
        public var prefix = "bench-"
        /// File for the acknowledged ids; see `Ledger`.
        public var ledgerPath: String?

        /// The defaults.
        public init() {}
    }

    /// What came of it.
    public struct Result: Sendable, Encodable {
        /// Messages that were acknowledged.
        public var messages = 0
        /// Of these, messages that had been sent before.
        public var repeatedMessages = 0
        /// Bytes of all.
        public var bytes = 0
        /// Messages that were not acknowledged.
        public var failed = 0
        /// From the first message to the last report.
        public var seconds = 0.0
    }

    /// Neighbors in one partition: what a report acknowledges is then a range too.
    private static let runLength = 200

    private let address: KafkaAddress
    private let options: Options

    /// Nothing is sent before `run`.
    public init(_ address: KafkaAddress, _ options: Options) {
        self.address = address
        self.options = options
    }

    /// Sends everything and waits for the reports. Blocks.
    public func run() throws -> Result {
        let ledger = try options.ledgerPath.map { path throws(BenchmarkFailure) in
            try Ledger(path: path, prefix: options.prefix)
        }
        try Ledger.check(prefix: options.prefix)
        let reports = Reports(LedgerPage(ledger))
        let client = try KafkaClient(
            RD_KAFKA_PRODUCER,
            address.clientProperties + [
                ("enable.idempotence", "true"), ("acks", "all"), ("linger.ms", "5"),
                ("queue.buffering.max.messages", "500000"), ("queue.buffering.max.kbytes", "524288"),
                ("message.timeout.ms", "30000"),
            ]
        ) { configuration in
            // Called from `rd_kafka_poll` and `rd_kafka_flush`, so on this thread, while `reports` lives.
            rd_kafka_conf_set_opaque(configuration, Unmanaged.passUnretained(reports).toOpaque())
            rd_kafka_conf_set_dr_msg_cb(configuration) { _, message, opaque in
                Unmanaged<Reports>.fromOpaque(opaque!).takeUnretainedValue().add(message!.pointee)
            }
        }
        let partitions = Int(try client.partitionCount(options.topic))
        guard partitions <= EventNumber.lanes else { throw BenchmarkFailure("at most \(EventNumber.lanes) partitions") }
        guard let topic = rd_kafka_topic_new(client.handle, options.topic, nil) else {
            throw BenchmarkFailure("can't use the topic \(options.topic)")
        }
        defer { rd_kafka_topic_destroy(topic) }
        let start = MonotonicClock.now
        var sender = Sender(client: client.handle, topic: topic, random: Random(state: options.seed))
        var result = try send(&sender, reports, partitions)
        while rd_kafka_outq_len(client.handle) > 0 {
            rd_kafka_flush(client.handle, 100)
            try reports.page.write(at: MonotonicClock.now)
        }
        try reports.page.write()
        result.seconds = Double(MonotonicClock.now - start) / 1e9
        result.messages = reports.acknowledged
        result.failed = reports.failed
        guard reports.failed == 0 else {
            throw BenchmarkFailure("\(reports.failed) messages were not acknowledged: \(reports.lastError)")
        }
        return result
    }

    private func send(_ sender: inout Sender, _ reports: Reports, _ partitions: Int) throws -> Result {
        var generator = EventGenerator(
            sizes: options.sizes, eventBytes: options.eventBytes, prefix: options.prefix, seed: options.seed)
        // Other events than those of the last partition, but not others each time: making them takes longer than
        // sending them.
        var bodies = (0..<(options.sizes == .fixed ? 1 : 50)).map { _ in EventBody(generator.events(Self.runLength)) }
        var nextNumbers = (0..<partitions).map { UInt64($0) * EventNumber.laneSize }
        var result = Result()
        var left = options.events
        var turn = 0
        while left > 0 {
            let partition = turn % partitions
            let body = turn % bodies.count
            turn += 1
            if left < Self.runLength { bodies[body] = EventBody(generator.events(left)) }
            let first = nextNumbers[partition]
            bodies[body].renumber(from: first)
            nextNumbers[partition] += UInt64(bodies[body].eventCount)
            left -= bodies[body].eventCount
            sender.begin(Int32(partition), first)
            try bodies[body].forEachLine { line in
                let isRepeated = options.duplicates > 0 && sender.random.fraction() < options.duplicates
                for _ in 0...(isRepeated ? 1 : 0) {
                    try sender.send(line)
                    result.bytes += line.count
                }
                if isRepeated { result.repeatedMessages += 1 }
                sender.number += 1
            }
            rd_kafka_poll(sender.client, 0)
            try reports.page.write(at: MonotonicClock.now)
        }
        return result
    }

    /// Puts messages into librdkafka's queue.
    private struct Sender {
        let client: OpaquePointer
        let topic: OpaquePointer
        var random: Random
        var number: UInt64 = 0
        private var partition: Int32 = 0

        init(client: OpaquePointer, topic: OpaquePointer, random: Random) {
            self.client = client
            self.topic = topic
            self.random = random
        }

        mutating func begin(_ partition: Int32, _ number: UInt64) {
            self.partition = partition
            self.number = number
        }

        /// Sends an event, whose number comes back with its report; plus 1, as the first number is 0 and an address.
        func send(_ line: UnsafeRawBufferPointer) throws(BenchmarkFailure) {
            while rd_kafka_produce(
                topic, partition, Int32(RD_KAFKA_MSG_F_COPY), UnsafeMutableRawPointer(mutating: line.baseAddress),
                line.count, nil, 0, UnsafeMutableRawPointer(bitPattern: UInt(number + 1))) != 0
            {
                let code = rd_kafka_last_error()
                guard code == RD_KAFKA_RESP_ERR__QUEUE_FULL else {
                    throw BenchmarkFailure("can't send a message: \(String(cString: rd_kafka_err2str(code)))")
                }
                rd_kafka_poll(client, 100)
            }
        }
    }

    /// What became of the messages.
    private final class Reports {
        var page: LedgerPage
        private(set) var acknowledged = 0
        private(set) var failed = 0
        private(set) var lastError = ""

        init(_ page: LedgerPage) { self.page = page }

        func add(_ message: rd_kafka_message_t) {
            guard message.err == RD_KAFKA_RESP_ERR_NO_ERROR else {
                failed += 1
                lastError = String(cString: rd_kafka_err2str(message.err))
                return
            }
            acknowledged += 1
            let number = UInt64(UInt(bitPattern: message._private)) - 1
            page.acknowledge(number..<(number + 1))
        }
    }
}

extension KafkaLoad.Result {
    /// A line of the table.
    public var text: String {
        var text =
            "Kafka  \(grouped(Double(messages))) messages sent and acknowledged  \(grouped(Double(messages) / seconds)) "
            + "messages/s  \(grouped(Double(bytes) / seconds / 1e6)) MB/s"
        if repeatedMessages > 0 { text += "  repeated \(repeatedMessages)" }
        return text
    }
}
