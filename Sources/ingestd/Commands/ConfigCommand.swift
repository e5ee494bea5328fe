import ArgumentParser
import FoundationEssentials
import Observability

/// The options of every command that reads the configuration: `--config FILE` and a flag for each setting.
struct ConfigurationOptions: ParsableArguments {
    @Option(name: .customLong("config"), help: "YAML file with settings; also INGESTD_CONFIG.")
    var filePath: String?

    @Argument(
        parsing: .allUnrecognized,
        help: ArgumentHelp("Settings as flags, such as --http-port 8081.", valueName: "settings"))
    var flags: [String] = []

    /// Reads the configuration from these options, the environment and the file.
    /// - Parameter settings: the settings that matter; `nil` is all.
    func load(
        _ settings: Set<String>? = nil, environment: [String: String] = ProcessInfo.processInfo.environment
    ) throws(ConfigurationError) -> LoadedConfiguration {
        try ConfigurationLoader(
            flags: flags, environment: environment, filePath: filePath, settings: settings
        ).load()
    }

    /// Reads the configuration, prints warnings to standard error, and ends the command if anything is wrong.
    /// - Parameter settings: the settings that matter; `nil` is all.
    /// - Throws: `ExitCode` 1, or 64 if the command line is wrong, after printing every problem.
    func loadOrExit(_ settings: Set<String>? = nil) throws -> LoadedConfiguration {
        do throws(ConfigurationError) {
            let loaded = try load(settings)
            Self.report(loaded.warnings.map { "warning: \($0)" })
            return loaded
        } catch {
            Self.report(error.warnings.map { "warning: \($0)" } + error.problems.map { "error: \($0)" })
            throw ExitCode(error.isUsage ? 64 : 1)
        }
    }

    private static func report(_ lines: [String]) {
        for line in lines { LogOutput.standardError.write(line: Array("\(line)\n".utf8)) }
    }
}

/// `ingestd config`: looks at the configuration.
struct ConfigCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config", abstract: "Checks and explains the configuration.",
        subcommands: [Check.self, Reference.self])

    /// `ingestd config check`
    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Prints the effective configuration, secrets redacted, or each error in it.",
            discussion: ConfigurationReference.discussion)

        @OptionGroup var options: ConfigurationOptions

        func run() throws {
            for line in try options.loadOrExit().effectiveLines { print(line) }
        }
    }

    /// `ingestd config reference`: for the project's own documentation.
    struct Reference: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Prints docs/configuration.md.", shouldDisplay: false)

        func run() { print(ConfigurationReference.markdown, terminator: "") }
    }
}
