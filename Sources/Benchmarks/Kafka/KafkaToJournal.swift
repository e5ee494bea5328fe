import CKafka
import Glibc
import IngestCore
import Journal
import Kafka
import Logging
import Synchronization

/// Kafka to journal: the service's source and journal, against a consumer that throws the messages away.
public struct KafkaToJournal: Sendable {
    /// What came of it.
    public struct Result: Sendable, Encodable {
        /// Messages that each has read.
        public let messages: Int
        /// Messages a second that became durable; the median.
        public let journalRate: Double
        /// Messages a second of the bare consumer; the median.
        public let bareRate: Double
        /// The median of the rounds' ratios.
        public let ratio: Double
        /// CPU of this process for one event, microseconds; the median.
        public let journalCpuMicroseconds: Double
    }

    private static let patience: UInt64 = 60_000_000_000

    private let address: KafkaAddress
    private let topic: String
    private let folder: String

    /// - Parameters:
    ///   - topic: with nothing in it but what is to be read.
    ///   - folder: where journals are made; removed by the caller.
    public init(_ address: KafkaAddress, topic: String, folder: String) {
        self.address = address
        self.topic = topic
        self.folder = folder
    }

    /// Reads the topic in turns with both. Blocks between its suspensions.
    /// - Parameter messages: that were sent.
    /// - Throws: also if the topic holds another number of messages.
    public func run(messages: Int, rounds: Int) async throws -> Result {
        let held = try KafkaClient(RD_KAFKA_CONSUMER, address.clientProperties).messageCount(topic)
        guard held == messages else {
            throw BenchmarkFailure(
                "the topic \(topic) holds \(held) messages, not the \(messages) that were sent: it must be empty before. "
                    + "(kafka-dev keeps the last 5 MiB of each partition: give it more partitions, or send less)")
        }
        var bare: [Double] = []
        var journal: [Double] = []
        var cpu: [Double] = []
        for round in 0..<rounds {
            let consumer = BareConsumer(address: address, topic: topic)
            if round.isMultiple(of: 2) { bare.append(try consumer.run(messages).rate) }
            let (progress, seconds) = try await read(messages, round)
            journal.append(progress.rate)
            cpu.append(seconds / Double(messages) * 1e6)
            if !round.isMultiple(of: 2) { bare.append(try consumer.run(messages).rate) }
        }
        func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }
        return Result(
            messages: messages, journalRate: median(journal), bareRate: median(bare),
            ratio: median(zip(journal, bare).map { $0 / $1 }), journalCpuMicroseconds: median(cpu))
    }

    private func read(_ messages: Int, _ round: Int) async throws -> (BareConsumer.Progress, cpuSeconds: Double) {
        var logger = Logger(label: "benchmark")
        logger.logLevel = .error
        let journal = try Journal.open(
            JournalConfiguration(
                path: "\(folder)/journal-\(round)", maxBytes: 64 << 30, minFreeDiskBytes: 0, tables: ["events"]),
            logger: logger)
        defer { journal.close() }
        guard let stream = journal.stream(table: "events"),
            let first = journal.snapshot.streams[stream.id]?.nextSequence
        else { throw BenchmarkFailure("the journal has no stream") }
        let state = Mutex((progress: BareConsumer.Progress(), deadLetters: 0))
        journal.start { news in
            let now = MonotonicClock.now
            state.withLock { state in
                state.deadLetters += news.deadLetters.count
                guard let end = news.appended.first?.end else { return }
                state.progress.add(Int(end - first) - state.progress.count, at: now)
            }
        }
        var configuration = KafkaSourceConfiguration(
            bootstrapServers: address.bootstrapServers, topics: [topic],
            groupID: "ingestd-bench-\(getpid())-\(round)")
        configuration.properties = address.properties
        let source = try KafkaSource(
            configuration: configuration, routes: StreamRoutes(byName: [:], fallback: stream), intake: journal,
            ledger: journal, logger: logger)
        let cpu = ProcessTime.cpuSeconds
        let deadline = MonotonicClock.now + Self.patience
        source.start()
        var failure: BenchmarkFailure?
        while state.withLock({ $0.progress.count + $0.deadLetters }) < messages && failure == nil {
            if MonotonicClock.now >= deadline {
                failure = BenchmarkFailure(
                    "the source got \(state.withLock(\.progress.count)) of \(messages) messages within a minute: "
                        + source.health.detail)
            }
            try await Task.sleep(for: .milliseconds(1))
        }
        let seconds = ProcessTime.cpuSeconds - cpu
        await source.close()
        if let failure { throw failure }
        let (progress, deadLetters) = state.withLock { $0 }
        guard progress.count == messages, deadLetters == 0 else {
            throw BenchmarkFailure("\(progress.count) events and \(deadLetters) dead letters of \(messages) messages")
        }
        return (progress, seconds)
    }
}

extension KafkaToJournal.Result {
    /// A line of the table.
    public var text: String {
        "Kafka to journal  \(grouped(Double(messages))) messages  \(grouped(journalRate)) events/s   bare consumer "
            + "\(grouped(bareRate)) messages/s   ratio \(rounded(ratio))   CPU \(rounded(journalCpuMicroseconds)) us/event"
    }
}
