import CKafka
import Glibc
import IngestCore
import Journal
import Kafka
import Logging
import Synchronization

/// Kafka to journal: the service's source and journal, against a consumer that throws the messages away.
public struct KafkaToJournal: Sendable {
    /// What came of it. Medians are those of the rounds behind the first, if there are several.
    public struct Result: Sendable, Encodable {
        /// Messages that each has read.
        public let messages: Int
        /// Messages a second that became durable; the median.
        public let journalRate: Double
        /// The same in the first round, which extends the journal's file.
        public let firstJournalRate: Double
        /// Messages a second of the bare consumer; the median.
        public let bareRate: Double
        /// The median of the rounds' ratios.
        public let ratio: Double
        /// CPU of this process for one event on its way into the journal, microseconds; the median.
        public let journalCpuMicroseconds: Double
        /// CPU of this process for one message of the bare consumer, which is librdkafka's; the median.
        public let bareCpuMicroseconds: Double
        /// CPU that the source and the journal add to librdkafka's; the median of the rounds' differences.
        public let addedCpuMicroseconds: Double
        /// Events that one commit of the journal made durable; the mean of the rounds that count.
        public let eventsPerCommit: Double
    }

    /// What reading the topic with both came to.
    private struct Round {
        let journal: ReadingProgress
        let bare: ReadingProgress
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
        let journal = try BenchmarkJournal(path: "\(folder)/journal")
        defer { journal.close() }
        let consumer = BareConsumer(address: address, topic: topic)
        var all: [Round] = []
        for number in 0..<rounds {
            if number.isMultiple(of: 2) {
                let bare = try consumer.run(messages)
                all.append(Round(journal: try await read(messages, number, journal), bare: bare))
            } else {
                let progress = try await read(messages, number, journal)
                all.append(Round(journal: progress, bare: try consumer.run(messages)))
            }
        }
        // The first round extends the journal's file; from then on pages are used again, as in a service that delivers.
        let counted = all.count > 1 ? Array(all.dropFirst()) : all
        func median(_ value: (Round) -> Double) -> Double { counted.map(value).sorted()[counted.count / 2] }
        return Result(
            messages: messages, journalRate: median(\.journal.rate), firstJournalRate: all[0].journal.rate,
            bareRate: median(\.bare.rate), ratio: median { $0.journal.rate / $0.bare.rate },
            journalCpuMicroseconds: median(\.journal.cpuMicroseconds),
            bareCpuMicroseconds: median(\.bare.cpuMicroseconds),
            addedCpuMicroseconds: median { $0.journal.cpuMicroseconds - $0.bare.cpuMicroseconds },
            eventsPerCommit: Double(messages * counted.count)
                / Double(max(1, counted.reduce(0) { $0 + $1.journal.steps })))
    }

    private func read(_ messages: Int, _ round: Int, _ journal: BenchmarkJournal) async throws -> ReadingProgress {
        var configuration = KafkaSourceConfiguration(
            bootstrapServers: address.bootstrapServers, topics: [topic],
            groupID: "ingestd-bench-\(getpid())-\(round)")
        configuration.properties = address.properties
        let source = try KafkaSource(
            configuration: configuration, routes: StreamRoutes(byName: [:], fallback: journal.stream),
            intake: journal.journal, ledger: FromTheBeginning(journal: journal.journal), logger: benchmarkLogger())
        journal.beginRound()
        let deadline = MonotonicClock.now + Self.patience
        source.start()
        var failure: BenchmarkFailure?
        // Looked at rarely: what is measured is told by the journal.
        while journal.eventCount < messages && failure == nil {
            if MonotonicClock.now >= deadline {
                failure = BenchmarkFailure(
                    "the source got \(journal.eventCount) of \(messages) messages within a minute: "
                        + source.health.detail)
            }
            try await Task.sleep(for: .milliseconds(20))
        }
        await source.close()
        if let failure { throw failure }
        return try journal.endRound(messages)
    }
}

private func benchmarkLogger() -> Logger {
    var logger = Logger(label: "benchmark")
    logger.logLevel = .error
    return logger
}

/// The journal of all rounds.
private final class BenchmarkJournal: Sendable {
    private struct State {
        var progress = ReadingProgress()
        var deadLetters = 0
        var end: UInt64
    }

    let journal: Journal
    let stream: IngestCore.Stream
    private let state: Mutex<State>

    init(path: String) throws {
        journal = try Journal.open(
            JournalConfiguration(path: path, maxBytes: 64 << 30, minFreeDiskBytes: 0, tables: ["events"]),
            logger: benchmarkLogger())
        guard let stream = journal.stream(table: "events"),
            let end = journal.snapshot.streams[stream.id]?.nextSequence
        else { throw BenchmarkFailure("the journal has no stream") }
        self.stream = stream
        state = Mutex(State(end: end))
        journal.start { [self] news in
            state.withLock { state in
                state.deadLetters += news.deadLetters.count
                guard let end = news.appended.first?.end else { return }
                state.progress.add(Int(end - state.end))
                state.end = end
            }
        }
    }

    var eventCount: Int { state.withLock { $0.progress.count + $0.deadLetters } }

    func beginRound() { state.withLock { $0.progress = ReadingProgress() } }

    /// Everything is flushed, so that its pages are used again.
    func endRound(_ messages: Int) throws -> ReadingProgress {
        let state = state.withLock { $0 }
        guard state.progress.count == messages, state.deadLetters == 0 else {
            throw BenchmarkFailure(
                "\(state.progress.count) events and \(state.deadLetters) dead letters of \(messages) messages")
        }
        let done = Mailbox<Result<Void, JournalError>>()
        var results: [Result<Void, JournalError>] = []
        journal.advance(stream.id, to: state.end, partitions: [:]) { done.send($0) }
        _ = done.receive(into: &results)
        try results[0].get()
        return state.progress
    }

    func close() { journal.close() }
}

/// The journal's answers, but for where to start: each round reads the whole topic, as if it had been made anew.
private struct FromTheBeginning: PartitionLedger {
    let journal: Journal

    func assigned(_ partition: TopicPartition, committed: Int64?) -> Int64? {
        _ = journal.assigned(partition, committed: committed)
        return 0
    }
    func revoked(_ partition: TopicPartition) { journal.revoked(partition) }
    func committable() -> [TopicPartition: Int64] { journal.committable() }
    func isSettled(_ partition: TopicPartition) -> Bool { true }
    func requestFlush() {}
    func committed(_ offsets: [TopicPartition: Int64]) { journal.committed(offsets) }
}

extension KafkaToJournal.Result {
    /// A line of the table.
    public var text: String {
        """
        Kafka to journal  \(grouped(Double(messages))) messages  \(grouped(journalRate)) events/s (first round \
        \(grouped(firstJournalRate)))  bare consumer \(grouped(bareRate)) messages/s   ratio \(rounded(ratio))   CPU \
        \(rounded(journalCpuMicroseconds)) us/event, bare consumer \(rounded(bareCpuMicroseconds)), added \
        \(rounded(addedCpuMicroseconds))   \(grouped(eventsPerCommit)) events a commit
        """
    }
}
