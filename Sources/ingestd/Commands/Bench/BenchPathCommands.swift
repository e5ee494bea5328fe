import ArgumentParser
import Benchmarks
import Glibc

extension BenchCommand {
    /// `ingestd bench drain`
    struct Drain: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "drain",
            abstract: "Delivers a backlog from a journal to ClickHouse, side by side with direct INSERTs of its rows.",
            discussion: """
                Makes a journal of its own and two tables like --table, and removes them. Batches and their number at \
                a time are the service's.

                \(ConfigurationReference.discussion(of: CommandSettings.drain))
                """)

        @Option(help: "Events of one round.")
        var events = 1_000_000
        @Option(help: "Rounds; the median counts.")
        var rounds = 3
        @Option(help: "Bytes of one event; with --sizes realistic the mean.")
        var eventBytes = 217
        @Option(help: "How events differ in size and content: fixed or realistic.")
        var sizes = SizesArgument.fixed
        @Option(help: "Seed of sizes and content.")
        var seed: UInt64 = 1
        @Option(help: "Table whose columns and engine the tables of the measurement get.")
        var table = "events"
        @Option(help: "Folder for the journal; what is made in it is removed.")
        var path = "."
        @Flag(help: "Print JSON, for scripts.")
        var json = false
        @OptionGroup var options: ConfigurationOptions

        func validate() throws {
            guard events > 0, rounds > 0, (1...(1 << 20)).contains(eventBytes) else {
                throw ValidationError("events and rounds must be positive, --event-bytes within 1 and 1048576.")
            }
        }

        func run() throws {
            let configuration = try options.loadOrExit(CommandSettings.drain).configuration
            let folder = try TemporaryFolder(in: path)
            defer { folder.remove() }
            var drain = DrainRun.Options(folder: folder.path)
            drain.events = events
            drain.eventBytes = eventBytes
            drain.sizes = sizes.sizes
            drain.seed = seed
            drain.rounds = rounds
            drain.batchMaxRows = configuration.batching.maxRows
            drain.batchMaxBytes = configuration.batching.maxBytes
            drain.parallelism = configuration.clickHouse.insertParallelism
            drain.table = table
            let result = try TerminalError.from { try DrainRun(configuration.clickHouseAddress, drain).run() }
            try show(result, result.text, json: json)
        }
    }

    /// `ingestd bench fill`
    struct Fill: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "fill",
            abstract: "Puts a backlog of events into the journal of a service that does not run.",
            discussion: """
                For measuring what a backlog costs: the start, memory, and rates beside it.

                \(ConfigurationReference.discussion(of: CommandSettings.fill))
                """)

        @Option(help: "Events.")
        var events = 1_000_000
        @OptionGroup var event: EventOptions
        @Flag(help: "Print JSON, for scripts.")
        var json = false
        @OptionGroup var options: ConfigurationOptions

        func validate() throws {
            guard events > 0, event.duplicates == 0 else {
                throw ValidationError("--events must be positive; --duplicates is not for a backlog.")
            }
        }

        func run() throws {
            let configuration = try options.loadOrExit(CommandSettings.fill).configuration
            var backlog = Backlog.Options()
            backlog.events = events
            backlog.eventBytes = event.eventBytes
            backlog.sizes = event.sizes.sizes
            backlog.seed = event.seed
            backlog.prefix = event.prefix ?? newPrefix
            backlog.ledgerPath = event.ledger
            let result = try TerminalError.from {
                try Backlog(backlog).run(configuration.journalConfiguration, table: configuration.clickHouse.table)
            }
            try show(result, result.text, json: json)
        }
    }

    /// `ingestd bench kafka`
    struct Kafka: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "kafka",
            abstract: "Sends events to a topic, then reads them into a journal, side by side with a bare consumer.",
            discussion: """
                The topic must be empty before, and is not cleared. With --produce-only it may hold anything: events \
                are sent and acknowledged, for a running service to consume. Of the settings about security only those \
                in KAFKA_PROPERTIES are used.

                \(ConfigurationReference.discussion(of: CommandSettings.benchKafka))
                """)

        @Option(help: "The topic.")
        var topic: String
        @Option(help: "Events to send.")
        var events = 500_000
        @Option(help: "Rounds of reading; the median counts.")
        var rounds = 3
        @OptionGroup var event: EventOptions
        @Option(help: "Folder for the journal; what is made in it is removed.")
        var path = "."
        @Flag(help: "Send only.")
        var produceOnly = false
        @Flag(help: "Print JSON, for scripts: a document for sending, and one for reading.")
        var json = false
        @OptionGroup var options: ConfigurationOptions

        func validate() throws {
            guard events > 0, rounds > 0 else { throw ValidationError("events and rounds must be positive.") }
        }

        func run() async throws {
            let configuration = try options.loadOrExit(CommandSettings.benchKafka).configuration
            let address = KafkaAddress(
                bootstrapServers: configuration.kafka.bootstrapServers.joined(separator: ","),
                properties: configuration.kafkaProperties)
            var load = KafkaLoad.Options()
            load.topic = topic
            load.events = events
            load.eventBytes = event.eventBytes
            load.sizes = event.sizes.sizes
            load.duplicates = event.duplicates
            load.seed = event.seed
            load.prefix = event.prefix ?? newPrefix
            load.ledgerPath = event.ledger
            let sent = try TerminalError.from { try KafkaLoad(address, load).run() }
            try show(sent, sent.text, json: json)
            guard !produceOnly else { return }
            let folder = try TemporaryFolder(in: path)
            defer { folder.remove() }
            let result: KafkaToJournal.Result
            do {
                result = try await KafkaToJournal(address, topic: topic, folder: folder.path)
                    .run(messages: sent.messages, rounds: rounds)
            } catch {
                throw TerminalError(error)
            }
            try show(result, result.text, json: json)
        }
    }

    /// `ingestd bench http-reference`
    struct Reference: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "http-reference",
            abstract: "Serves what `bench http` is measured against: reads bodies, keeps nothing, answers 202.",
            discussion: "Prints \"ready\" and its port, and serves until it is ended.")

        @Option(help: "nio, a bare handler; or hummingbird, an ordinary application, for /v1/events.")
        var server: ServerArgument = .nio
        @Option(help: "Address to listen on.")
        var host = "127.0.0.1"
        @Option(help: "Its port; 0 takes a free one.")
        var port = 0

        func run() async throws {
            do {
                try await server.server.run(host: host, port: port) { port in
                    print("ready \(port)")
                    fflush(nil)
                }
            } catch {
                throw TerminalError(error)
            }
        }
    }
}

/// `HTTPReference` on the command line.
enum ServerArgument: String, CaseIterable, ExpressibleByArgument {
    case nio, hummingbird

    var server: HTTPReference {
        switch self {
        case .nio: .nio
        case .hummingbird: .hummingbird
        }
    }
}
