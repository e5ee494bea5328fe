import ArgumentParser

/// The command line's root.
@main
struct Ingestd: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ingestd",
        abstract: "Takes events from Kafka and HTTP, keeps them safe on disk, and delivers them to ClickHouse.",
        version: Version.current,
        subcommands: [
            ServeCommand.self, HealthCommand.self, TopCommand.self, ConfigCommand.self, JournalCommand.self,
            DeadLettersCommand.self, KafkaCommand.self, BenchCommand.self,
        ])
}

/// The version of this program.
enum Version {
    static let current = "0.1.0"
}
