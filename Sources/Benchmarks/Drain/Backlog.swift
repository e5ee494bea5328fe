import IngestCore
public import Journal
import Logging

/// Fills a journal with events past the network, as they would stand in it if they had come over HTTP.
public struct Backlog: Sendable {
    /// What to put in.
    public struct Options: Sendable {
        /// Events.
        public var events = 1_000_000
        /// Bytes of one event.
        public var eventBytes = 217
        /// How they differ in size.
        public var sizes = EventSizes.fixed
        /// Of the events' content.
        public var seed: UInt64 = 1
        /// Prefix of all event ids.
        public var prefix = "bench-"
        /// File for the ids; see `Ledger`.
        public var ledgerPath: String?

        /// The defaults.
        public init() {}
    }

    /// What came of it.
    public struct Result: Sendable, Encodable {
        /// Events in the journal.
        public let events: Int
        /// Bytes of the events.
        public let bytes: Int
        /// From the first to the last commit.
        public let seconds: Double
    }

    /// Of events in one entry; they must fit with what the entry adds for each.
    private static let entryBytes = 600_000
    /// Handed over and not on stable storage yet. The journal would refuse more than `Limits.queuedBytes`.
    private static let entriesUnderWay = 16
    /// Where the id starts in a generated event.
    private static let idOffset = #"{"event_id":""#.utf8.count

    private let options: Options

    /// Nothing happens before `run`.
    public init(_ options: Options) { self.options = options }

    /// Opens the journal, or makes it, fills it and closes it. Blocks.
    /// - Parameters:
    ///   - configuration: names the journal's tables.
    ///   - table: the one whose stream gets the events.
    /// - Throws: `JournalError`, `IntakeError`, or `BenchmarkFailure`.
    public func run(_ configuration: JournalConfiguration, table: String) throws -> Result {
        let ledger = try options.ledgerPath.map { path throws(BenchmarkFailure) in
            try Ledger(path: path, prefix: options.prefix)
        }
        let journal = try Journal.open(configuration, logger: Logger(label: "benchmark"))
        journal.start { _ in }
        defer { journal.close() }
        guard let stream = journal.stream(table: table)?.id else {
            throw BenchmarkFailure("the journal has no stream for the table \(table)")
        }
        return try fill(journal, stream, LedgerPage(ledger))
    }

    private func fill(_ journal: Journal, _ stream: StreamID, _ page: LedgerPage) throws -> Result {
        var page = page
        var generator = EventGenerator(
            sizes: options.sizes, eventBytes: options.eventBytes, prefix: options.prefix, seed: options.seed)
        var body = EventBody(generator.events(max(1, min(options.events, Self.entryBytes / options.eventBytes))))
        let answers = Mailbox<(numbers: Range<UInt64>, result: Swift.Result<Receipt, IntakeError>)>()
        var batch: [(numbers: Range<UInt64>, result: Swift.Result<Receipt, IntakeError>)] = []
        let start = MonotonicClock.now
        var next: UInt64 = 0
        var bytes = 0
        var underWay = 0
        let end = UInt64(options.events)
        while next < end || underWay > 0 {
            if next < end && underWay < Self.entriesUnderWay {
                if UInt64(body.eventCount) > end - next { body = EventBody(generator.events(Int(end - next))) }
                body.renumber(from: next)
                let numbers = next..<(next + UInt64(body.eventCount))
                let events = buffer(body)
                bytes += body.eventBytes - body.eventCount
                next = numbers.upperBound
                underWay += 1
                journal.submit(
                    Submission(
                        stream: stream, origin: .http, receivedAt: WallClock.milliseconds, events: events
                    ) { answers.send((numbers, $0)) })
                continue
            }
            _ = answers.receive(into: &batch)
            for (numbers, result) in batch {
                _ = try result.get()
                page.acknowledge(numbers)
            }
            underWay -= batch.count
            try page.write(at: MonotonicClock.now)
        }
        try page.write()
        return Result(
            events: options.events, bytes: bytes, seconds: Double(MonotonicClock.now - start) / 1e9)
    }

    private func buffer(_ body: EventBody) -> EventBuffer {
        let events = EventBuffer(capacity: body.eventBytes + 16 * body.eventCount)
        let id = EventIDLocation.payloadSlice(
            offset: Self.idOffset, length: options.prefix.utf8.count + EventNumber.length)
        body.forEachLine { events.append(payload: $0, id: id) }
        return events
    }
}

extension Backlog.Result {
    /// A line of the table.
    public var text: String {
        "backlog  \(grouped(Double(events))) events  \(grouped(Double(bytes) / 1e6)) MB  in \(rounded(seconds)) s"
    }
}
