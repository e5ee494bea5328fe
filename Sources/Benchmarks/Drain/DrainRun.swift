import ClickHouse
import Glibc
import IngestCore
import Journal
import Logging
import Pipeline

/// Journal to ClickHouse: a backlog is delivered by the service's own parts, and the same rows by direct INSERTs
/// (`DirectInserts`), in turns.
public struct DrainRun: Sendable {
    /// What to deliver, and how.
    public struct Options: Sendable {
        /// Events of one round.
        public var events = 1_000_000
        /// Bytes of one event.
        public var eventBytes = 217
        /// How they differ in size.
        public var sizes = EventSizes.fixed
        /// Of the events' content.
        public var seed: UInt64 = 1
        /// Rounds; the median counts.
        public var rounds = 3
        /// Events of one INSERT at most.
        public var batchMaxRows = 50_000
        /// Bytes of one INSERT's events at most.
        public var batchMaxBytes = 16 << 20
        /// INSERTs at the same time.
        public var parallelism = 2
        /// The table whose columns and engine the tables of the measurement get.
        public var table = "events"
        /// Where journal and rows are made; removed by the caller.
        public var folder: String

        /// The defaults.
        public init(folder: String) { self.folder = folder }
    }

    /// What came of it.
    public struct Result: Sendable, Encodable {
        /// Events of one round.
        public let events: Int
        /// Batches of one round.
        public let batches: Int
        /// Events a second from the journal to ClickHouse; the median.
        public let drainRate: Double
        /// Events a second of direct INSERTs; the median.
        public let directRate: Double
        /// The median of the rounds' ratios.
        public let ratio: Double
        /// CPU of this process for one event of the drain, microseconds; the median.
        public let drainCpuMicroseconds: Double
    }

    /// A backlog that is not delivered by then won't be, nanoseconds.
    private static let patience: UInt64 = 600_000_000_000

    private let address: ClickHouseAddress
    private let options: Options
    private var directTable: String { "ingestd_bench_direct_\(getpid())" }
    private var drainTable: String { "ingestd_bench_drain_\(getpid())" }

    /// Nothing happens before `run`.
    public init(_ address: ClickHouseAddress, _ options: Options) {
        self.address = address
        self.options = options
    }

    /// Measures. Makes two tables and drops them. Blocks.
    /// - Throws: also if the two tables do not hold the same rows in the end, or not all of them.
    public func run() throws -> Result {
        let session = try ClickHouseSession(address)
        let tables = [directTable, drainTable]
        var rounds: [Round] = []
        do {
            for round in 0..<options.rounds {
                for table in tables {
                    try session.query("DROP TABLE IF EXISTS \(quotedTable(table))")
                    try session.query("CREATE TABLE \(quotedTable(table)) AS \(quotedTable(options.table))")
                }
                rounds.append(try self.round(round, session))
            }
        } catch {
            // Perhaps there are none, or no server any more; the error that led here is what counts.
            for table in tables { _ = try? session.query("DROP TABLE IF EXISTS \(quotedTable(table))") }
            throw error
        }
        for table in tables { try session.query("DROP TABLE IF EXISTS \(quotedTable(table))") }
        func median(_ value: (Round) -> Double) -> Double { rounds.map(value).sorted()[rounds.count / 2] }
        let count = Double(options.events)
        return Result(
            events: options.events, batches: rounds[0].batches, drainRate: median { count / $0.drainSeconds },
            directRate: median { count / $0.directSeconds }, ratio: median { $0.directSeconds / $0.drainSeconds },
            drainCpuMicroseconds: median { $0.drainCPUSeconds / count * 1e6 })
    }

    private struct Round {
        var batches = 0
        var drainSeconds = 0.0
        var drainCPUSeconds = 0.0
        var directSeconds = 0.0
    }

    private func round(_ number: Int, _ session: ClickHouseSession) throws -> Round {
        var backlog = Backlog.Options()
        backlog.events = options.events
        backlog.eventBytes = options.eventBytes
        backlog.sizes = options.sizes
        backlog.seed = options.seed
        backlog.prefix = "drain-\(number)-"
        let folder = "\(options.folder)/round-\(number)"
        guard mkdir(folder, 0o700) == 0 else { throw BenchmarkFailure(call: folder) }
        let configuration = JournalConfiguration(
            path: "\(folder)/journal", maxBytes: 64 << 30, minFreeDiskBytes: 0, tables: [drainTable])
        _ = try Backlog(backlog).run(configuration, table: drainTable)
        let rows = try PreparedRows(
            journal: configuration.path, table: drainTable, maxRows: options.batchMaxRows,
            maxBytes: options.batchMaxBytes, folder: folder)
        var round = Round()
        round.batches = rows.batches.count
        // Who comes second finds warm caches, and a server that still merges what came first: each is second in turn.
        for isDrain in number.isMultiple(of: 2) ? [false, true] : [true, false] {
            if isDrain {
                (round.drainSeconds, round.drainCPUSeconds) = try drain(configuration)
            } else {
                let inserts = DirectInserts(address: address, table: directTable, parallelism: options.parallelism)
                round.directSeconds = Double(try inserts.run(rows)) / 1e9
            }
        }
        try compare(session)
        return round
    }

    private func drain(_ configuration: JournalConfiguration) throws -> (seconds: Double, cpuSeconds: Double) {
        var logger = Logger(label: "benchmark")
        logger.logLevel = .error
        let journal = try Journal.open(configuration, logger: logger)
        let client = try ClickHouseClient(
            configuration: ClickHouseConfiguration(
                endpoints: [address.url], database: address.database, user: address.user, password: address.password,
                maximumConnections: options.parallelism), logger: logger)
        // The last batch is not full; it would wait for further events.
        let pipeline = Pipeline(
            journal: journal, destination: client,
            configuration: FlushConfiguration(
                batchMaxRows: options.batchMaxRows, batchMaxBytes: options.batchMaxBytes, batchMaxAge: 1_000_000,
                parallelism: options.parallelism), logger: logger)
        let cpu = ProcessTime.cpuSeconds
        let start = MonotonicClock.now
        try pipeline.start()
        defer {
            pipeline.stop()
            client.shutdown()
            journal.close()
        }
        while journal.snapshot.streams.values.contains(where: { $0.pendingEvents > 0 }) {
            usleep(500)
            let status = pipeline.status[0]
            guard MonotonicClock.now - start < Self.patience, journal.snapshot.failure == nil, status.mode != "held"
            else {
                throw BenchmarkFailure("the backlog is not drained: \(status.mode), \(status.reason ?? "too slow")")
            }
        }
        return (Double(MonotonicClock.now - start) / 1e9, ProcessTime.cpuSeconds - cpu)
    }

    /// Both ways must have led to the same rows, all of them.
    private func compare(_ session: ClickHouseSession) throws {
        let found = try [directTable, drainTable].map { table in
            try session.lines(
                "SELECT count(), uniqExact(event_id), groupBitXor(cityHash64(event_id, payload, source, received_at)) "
                    + "FROM \(quotedTable(table)) FORMAT TabSeparated")
        }
        guard found[0] == found[1], found[0].first?.hasPrefix("\(options.events)\t\(options.events)\t") == true else {
            throw BenchmarkFailure(
                "direct INSERTs and drain must have brought \(options.events) rows each, the same: rows, ids and "
                    + "checksum are \(found[0].joined()) and \(found[1].joined())")
        }
    }
}

extension DrainRun.Result {
    /// A line of the table.
    public var text: String {
        "drain  \(grouped(Double(events))) events, \(batches) batches  \(grouped(drainRate)) events/s   direct INSERTs "
            + "\(grouped(directRate)) events/s   ratio \(rounded(ratio))   CPU \(rounded(drainCpuMicroseconds)) us/event"
    }
}
