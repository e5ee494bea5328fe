import ArgumentParser

/// `ingestd health`: for health checks of containers and for scripts.
struct HealthCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "health",
        abstract: "Asks the running service whether it is ready: whether it can accept events durably.",
        discussion: """
            Prints one line and ends with 0 if it is, with 1 if it is not or does not answer. Give it the service's \
            settings; it needs no token.

            \(ConfigurationReference.discussion(of: CommandSettings.health))
            """)

    @Flag(help: "Ask whether the process works at all instead; if not, it should be restarted.")
    var live = false

    @OptionGroup var options: ConfigurationOptions

    func run() async throws {
        let configuration = try options.loadOrExit(CommandSettings.health).configuration
        let health = try await ServiceClient(configuration.http).health(isLiveness: live)
        print(health.text)
        guard health.isGood else { throw ExitCode.failure }
    }
}
