import ArgumentParser
import FoundationEssentials
import Glibc
import IngestCore
import UnixSignals

/// `ingestd top`: what the status page shows, in a terminal.
struct TopCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "top",
        abstract: "Shows what flows through the running service, and what does not.",
        discussion: """
            Fills the terminal until q or Ctrl-C is pressed; rates are those of the last ten seconds. Where standard \
            input or output is no terminal, it prints one picture as plain text, as with --once. Columns that do not \
            fit are left out. NO_COLOR turns colors off. Give it the service's settings, tokens included.

            \(ConfigurationReference.discussion(of: CommandSettings.top))
            """)

    @Option(
        help: ArgumentHelp("Time between two looks, such as 500ms or 2s; a number alone is seconds.", valueName: "time")
    )
    var interval = IntervalArgument(duration: .seconds(2))

    @Flag(help: "Print one picture with totals since the start of the service, and end.")
    var once = false

    @Option(help: "Print this many pictures with the rates between two looks, and end.")
    var count: Int?

    @Flag(help: "Print JSON, one line a look, for scripts; without --once or --count until interrupted.")
    var json = false

    @OptionGroup var options: ConfigurationOptions

    func validate() throws {
        guard count ?? 1 > 0 else { throw ValidationError("--count must be positive.") }
        guard !once || count == nil else { throw ValidationError("--once and --count exclude each other.") }
    }

    func run() async throws {
        let configuration = try options.loadOrExit(CommandSettings.top).configuration
        let service = try StatusReader(ServiceClient(configuration.http))
        guard !once, count == nil, !json, Self.canDraw else { return try await printLines(service) }
        let color = ProcessInfo.processInfo.environment["NO_COLOR"] ?? ""
        let end = try await TopScreen(service: service, interval: interval.duration, hasColor: color.isEmpty).run()
        if let end { throw ExitCode(128 + end.rawValue) }
    }

    /// Whether there is a terminal that can be drawn on.
    private static var canDraw: Bool {
        let kind = ProcessInfo.processInfo.environment["TERM"] ?? ""
        return Terminal.isTerminal(STDIN_FILENO) && Terminal.isTerminal(STDOUT_FILENO) && !["", "dumb"].contains(kind)
    }

    /// Prints pictures, or lines of JSON, without escape sequences.
    private func printLines(_ service: StatusReader) async throws {
        let limit = once || !json && count == nil ? 1 : count
        // The first look is only there to be compared with.
        var isFirst = limit != 1 || count != nil
        var previous: StatusSample?
        var printed = 0
        while printed < limit ?? .max {
            let begun = MonotonicClock.now
            let time = Timestamp.iso8601(milliseconds: WallClock.milliseconds)
            do throws(TerminalError) {
                let sample = try await service.look()
                let rates = previous.flatMap { FlowRates(from: $0, to: sample) }
                previous = sample
                if !isFirst {
                    let text = try TerminalError.from {
                        json
                            ? try TopDocument.line(sample, rates: rates, address: service.address, time: time)
                            : picture(sample, rates, service.address, isSeparated: printed > 0)
                    }
                    guard try Self.put(text + "\n") else { return }
                    printed += 1
                }
                isFirst = false
            } catch {
                // A script that goes on for ever is told; one that waits for an answer gets none.
                guard json, limit == nil else { throw error }
                previous = nil
                isFirst = true
                let text = try TopDocument.line(failure: error.description, address: service.address, time: time)
                guard try Self.put(text + "\n") else { return }
            }
            guard printed < limit ?? .max else { break }
            try await Task.sleep(for: interval.duration - .nanoseconds(Int64(MonotonicClock.now - begun)))
        }
    }

    private func picture(
        _ sample: StatusSample, _ rates: FlowRates?, _ address: String, isSeparated: Bool
    ) -> String {
        let picture = TopPicture(
            address: address, connection: .connected, status: sample.status,
            content: count == nil ? .totals : .rates(rates))
        return (isSeparated ? "\n" : "") + picture.lines(columns: Terminal.columns).map(\.text).joined(separator: "\n")
    }

    /// Writes to standard output at once.
    /// - Returns: whether somebody still reads it.
    private static func put(_ text: String) throws(TerminalError) -> Bool {
        var output = try OutputFile(nil)
        do throws(TerminalError) {
            try output.write(text.utf8)
            try output.finish()
        } catch {
            if errno == EPIPE { return false }
            throw error
        }
        return true
    }
}

/// A time between two looks on the command line.
struct IntervalArgument: ExpressibleByArgument {
    private static let allowed = Duration.milliseconds(100)...Duration.seconds(3_600)

    let duration: Duration

    init(duration: Duration) { self.duration = duration }

    init?(argument: String) {
        let parsed: Duration? =
            if let seconds = Double(argument), seconds.isFinite, abs(seconds) < 1e6 {
                .seconds(seconds)
            } else {
                try? Units.parseDuration(argument)
            }
        guard let parsed, Self.allowed.contains(parsed) else { return nil }
        duration = parsed
    }

    var defaultValueDescription: String { Units.duration(duration) }
}

/// Asks a service for its status.
struct StatusReader: Sendable {
    let address: String
    private let client: ServiceClient

    /// - Throws: `TerminalError` if nobody knows where the service is.
    init(_ client: ServiceClient) throws(TerminalError) {
        try client.requirePort()
        self.client = client
        address = client.address
    }

    /// - Throws: `TerminalError` if there is no answer, or none that can be read.
    func look() async throws(TerminalError) -> StatusSample {
        let askedAt = MonotonicClock.now
        let document = try await client.status()
        let answeredAt = MonotonicClock.now
        do {
            return try StatusSample(
                document: document, askedAt: Double(askedAt) / 1e9, answeredAt: Double(answeredAt) / 1e9)
        } catch {
            throw TerminalError("what answers at \(address) shows no status of ingestd: \(error)")
        }
    }
}
