import ArgumentParser
import Benchmarks
import FoundationEssentials

/// `ingestd bench`: load generators and measurements that need nothing but this program.
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measures a journal's disk, or a running service.",
        subcommands: [HTTP.self, Journal.self])

    /// `ingestd bench http`
    struct HTTP: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "http", abstract: "Sends events to a running service and reports what it acknowledged.")

        @Option(help: "IPv4 address of the service.")
        var host = "127.0.0.1"
        @Option(help: "Its port.")
        var port: UInt16 = 8_080
        @Option(help: "Connections, each with one request at a time.")
        var connections = 16
        @Option(help: "Threads of the generator.")
        var threads = 1
        @Option(help: "Events in each request.")
        var events = 1_000
        @Option(help: "Bytes of one event.")
        var eventBytes = 217
        @Option(help: "How long to send.")
        var seconds = 10.0
        @Option(help: "Prefix of the event ids; they go on with a number of 16 digits.")
        var prefix = "bench-"
        @Option(help: "Bearer token.")
        var token: String?
        @Option(help: "File to which the acknowledged count and the sent ids' range are appended.")
        var ledger: String?

        func validate() throws {
            guard connections > 0, threads > 0, threads <= connections, events > 0, seconds > 0, seconds <= 3_600 else {
                throw ValidationError(
                    "connections, threads and events must be positive, threads at most connections, seconds at most 3600"
                )
            }
        }

        func run() throws {
            var options = HTTPLoad.Options()
            options.host = host
            options.port = port
            options.connections = connections
            options.threads = threads
            options.eventsPerRequest = events
            options.eventBytes = eventBytes
            options.seconds = seconds
            options.prefix = prefix
            options.token = token
            let result: HTTPLoad.Result
            do {
                result = try HTTPLoad(options).run()
            } catch {
                throw TerminalError(error)
            }
            print(result.text(options))
            if let ledger {
                let line = "\(prefix) acknowledged \(result.events) numbers 0..<\(result.nextNumber)\n"
                let before = FileManager.default.contents(atPath: ledger) ?? Data()
                try (before + Data(line.utf8)).write(to: URL(filePath: ledger))
            }
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

        func run() throws {
            let folder = "\(path)/ingestd-bench-\(ProcessInfo.processInfo.processIdentifier)"
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            defer {
                do { try FileManager.default.removeItem(atPath: folder) } catch {
                    print("not removed: \(folder): \(error)")
                }
            }
            let benchmark = JournalAppend(folder: folder, bytesPerRound: mebibytes << 20, rounds: rounds)
            for entryBytes in [64 << 10, 1 << 20] { print(try benchmark.run(entryBytes: entryBytes).text) }
        }
    }
}
