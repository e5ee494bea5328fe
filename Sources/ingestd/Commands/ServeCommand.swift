import ArgumentParser
import FoundationEssentials
import Glibc
import Logging
import Observability
import ServiceLog
import UnixSignals

/// `ingestd serve`: the service.
struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Runs the service until SIGTERM or SIGINT; a second signal ends it at once.",
        discussion: ConfigurationReference.discussion)

    @OptionGroup var options: ConfigurationOptions

    func run() async throws {
        // A closed standard error or connection is an error where it is written to, not the end of the process.
        signal(SIGPIPE, SIG_IGN)
        let loaded = try options.loadOrExit()
        let registry = Telemetry.bootstrap(loaded.configuration)
        let logger = Logger(label: "ingestd")
        let log = EventLog(logger)
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
        do {
            let manager = ServiceManager(environment: ProcessInfo.processInfo.environment, log: log)
            let service = try Service(
                loaded.configuration, registry: registry, serviceManager: manager, logger: logger)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await service.run() }
                group.addTask { await Self.follow(signals, service, log) }
                // The service ends by itself or on a signal; the signals never do.
                try await group.next()
                group.cancelAll()
            }
        } catch {
            log.write(
                .serviceFailed, "the service can't run", ["error": "\(error)"])
            throw ExitCode.failure
        }
    }

    private static func follow(_ signals: UnixSignalsSequence, _ service: Service, _ log: EventLog) async {
        var isStopping = false
        for await signal in signals {
            if isStopping {
                log.write(
                    .serviceAborted, "ending at once; what was not flushed is kept in the journal")
                // Everything acknowledged is on stable storage, so there is nothing to wait for.
                _exit(EXIT_FAILURE)
            }
            isStopping = true
            log.write(
                .serviceStopping, "stopping", ["signal": "\(signal)"])
            service.beginShutdown()
        }
    }
}
