import ArgumentParser
import Benchmarks
import FoundationEssentials
import Glibc
import IngestCore

/// `ingestd bench`: load generators and measurements that need nothing but this program.
struct BenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measures a running service and its parts, and checks what has arrived.",
        subcommands: [
            HTTP.self, Kafka.self, Drain.self, Journal.self, Verify.self, Fill.self, Reference.self,
        ])

    /// Prints a result, on one line if it is JSON.
    static func show(_ result: some Encodable, _ text: String, json: Bool) throws {
        guard json else {
            print(text)
            return
        }
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        print(String(decoding: try encoder.encode(result), as: UTF8.self))
    }

    /// What ids of a run begin with if nobody says otherwise: no two runs share it.
    static var newPrefix: String { "bench-\(String(WallClock.milliseconds, radix: 36))-" }
}

/// What generated events are like, for all load generators.
struct EventOptions: ParsableArguments {
    @Option(help: "Bytes of one event; with --sizes realistic the mean.")
    var eventBytes = 217
    @Option(help: "How events differ in size and content: fixed or realistic.")
    var sizes = SizesArgument.fixed
    @Option(help: "Share of requests or messages that are sent twice, with the same events: 0.01 is one of 100.")
    var duplicates = 0.0
    @Option(help: "Seed of sizes, content and duplicates.")
    var seed: UInt64 = 1
    @Option(
        help: """
            Prefix of the event ids, which go on with 16 digits. Two runs must not share one. (default: bench- and the \
            time)
            """)
    var prefix: String?
    @Option(help: "File to which the acknowledged ids are appended, for `bench verify`.")
    var ledger: String?

    func validate() throws {
        guard (1...(1 << 20)).contains(eventBytes) else {
            throw ValidationError("--event-bytes must be within 1 and 1048576.")
        }
        guard (0..<1).contains(duplicates) else {
            throw ValidationError("--duplicates must be at least 0 and less than 1.")
        }
    }
}

/// `EventSizes` on the command line.
enum SizesArgument: String, CaseIterable, ExpressibleByArgument {
    case fixed, realistic

    var sizes: EventSizes {
        switch self {
        case .fixed: .fixed
        case .realistic: .realistic
        }
    }
}

extension BenchCommand {
    /// `ingestd bench http`
    struct HTTP: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "http", abstract: "Sends events to a running service and reports what it acknowledged.",
            discussion: """
                Without --rate each connection sends its next request when the last is answered (closed loop), which \
                finds the highest rate. With --rate requests are sent at their times, whatever the service does (open \
                loop), and latency counts from the time at which a request was to be sent.
                """)

        @Option(help: "IPv4 address of the service.")
        var host = "127.0.0.1"
        @Option(help: "Its port.")
        var port: UInt16 = 8_080
        @Option(help: "Path of the requests, for example '/v1/events?ack=inserted'.")
        var path = "/v1/events"
        @Option(help: "Connections.")
        var connections = 16
        @Option(help: "Threads of the generator.")
        var threads = 1
        @Option(help: "Requests on a connection that may wait for their answers at the same time.")
        var depth = 1
        @Option(help: "Requests a second, of all connections together. (default: as many as are answered)")
        var rate: Double?
        @Option(help: "Events in each request.")
        var events = 1_000
        @Option(help: "How long to send.")
        var seconds = 10.0
        @Option(help: "Bearer token.")
        var token: String?
        @OptionGroup var event: EventOptions
        @Flag(help: "Print JSON, for scripts.")
        var json = false

        func validate() throws {
            guard connections > 0, threads > 0, threads <= connections, events > 0, seconds > 0, seconds <= 3_600,
                connections <= 10_000, (1...1_000).contains(depth)
            else {
                throw ValidationError(
                    "connections (at most 10000), threads and events must be positive, threads at most connections, "
                        + "seconds at most 3600, depth within 1 and 1000"
                )
            }
            guard (rate ?? 1) > 0, (rate ?? 1) <= 10_000_000 else {
                throw ValidationError("--rate must be positive and at most 10000000.")
            }
        }

        func run() throws {
            var options = HTTPLoad.Options()
            options.host = host
            options.port = port
            options.path = path
            options.connections = connections
            options.threads = threads
            options.depth = depth
            options.rate = rate
            options.eventsPerRequest = events
            options.eventBytes = event.eventBytes
            options.sizes = event.sizes.sizes
            options.duplicates = event.duplicates
            options.seed = event.seed
            options.seconds = seconds
            options.prefix = event.prefix ?? newPrefix
            options.token = token
            options.ledgerPath = event.ledger
            let result = try TerminalError.from { try HTTPLoad(options).run() }
            try show(result, result.text(options), json: json)
        }
    }

    /// `ingestd bench journal`
    struct Journal: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "journal",
            abstract: "Appends to a journal, each commit on stable storage, side by side with write+fdatasync.")

        @Option(help: "Folder on the disk to measure; what is made in it is removed.")
        var path = "."
        @Option(help: "MiB that each side writes in each of the rounds.")
        var mebibytes = 64
        @Option(help: "Rounds; the median counts.")
        var rounds = 7
        @Flag(help: "Print JSON, for scripts.")
        var json = false

        func validate() throws {
            guard mebibytes > 0, rounds > 0 else { throw ValidationError("mebibytes and rounds must be positive.") }
        }

        func run() throws {
            let folder = try TemporaryFolder(in: path)
            defer { folder.remove() }
            let benchmark = JournalAppend(folder: folder.path, bytesPerRound: mebibytes << 20, rounds: rounds)
            for entryBytes in [64 << 10, 1 << 20] {
                let row = try TerminalError.from { try benchmark.run(entryBytes: entryBytes) }
                try show(row, row.text, json: json)
            }
        }
    }

    /// `ingestd bench verify`
    struct Verify: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "verify", abstract: "Looks for every acknowledged event id of a ledger in ClickHouse.",
            discussion: """
                Ends with 1 if an id is missing. Copies are counted: the view events_unique shows none, the table \
                events has those that are not merged yet.

                \(ConfigurationReference.discussion(of: CommandSettings.clickHouse))
                """)

        @Option(help: "File that --ledger of a load generator has written.")
        var ledger: String
        @Option(help: "Table or view with a column event_id.")
        var table = "events_unique"
        @Option(help: "Ids to name at most, of those that are missing and of those that have copies.")
        var limit = 20
        @Option(help: "How long to wait for ids that are missing, seconds.")
        var wait = 0.0
        @Flag(help: "End with 1 also if an id is there more than once.")
        var once = false
        @Flag(help: "Print JSON, for scripts.")
        var json = false
        @OptionGroup var options: ConfigurationOptions

        func run() throws {
            let address = try options.loadOrExit(CommandSettings.clickHouse).configuration.clickHouseAddress
            let deadline = MonotonicClock.now + UInt64(max(0, wait) * 1e9)
            let result = try TerminalError.from {
                let acknowledged = try Ledger.read(path: ledger)
                var verification = try LedgerVerification(address, table: table, limit: max(0, limit))
                var result = try verification.run(acknowledged)
                while result.missing > 0 && MonotonicClock.now < deadline {
                    usleep(200_000)
                    result = try verification.run(acknowledged)
                }
                return result
            }
            try show(result, result.text, json: json)
            guard result.missing == 0, !once || result.copies == 0 else { throw ExitCode.failure }
        }
    }
}

/// A folder for one measurement.
struct TemporaryFolder {
    let path: String

    init(in parent: String) throws {
        path = "\(parent)/ingestd-bench-\(ProcessInfo.processInfo.processIdentifier)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    func remove() {
        do { try FileManager.default.removeItem(atPath: path) } catch {
            Terminal.report("not removed: \(path): \(error)")
        }
    }
}

extension ServiceConfiguration {
    /// The first server, for measurements and checks.
    var clickHouseAddress: ClickHouseAddress {
        ClickHouseAddress(
            url: clickHouse.urls[0].description, database: clickHouse.database, user: clickHouse.user,
            password: clickHouse.password.value)
    }
}
