import ArgumentParser
import IngestCore
import Journal

/// Which dead letters are to be changed.
struct DeadLetterSelectionOptions: ParsableArguments {
    @OptionGroup var filter: DeadLetterFilterOptions

    @Flag(help: "All dead letters.")
    var all = false

    /// - Throws: `ValidationError` unless exactly one way of saying which is used: a variable that a script forgot to
    ///   set must not mean all.
    func selections(ids: [UInt64]) throws -> [DeadLetterSelection] {
        let isFiltered = filter.filter != DeadLetterFilter()
        switch (!ids.isEmpty, isFiltered, all) {
        case (true, false, false): return ids.map { .one($0) }
        case (false, true, false), (false, false, true): return [.matching(filter.filter)]
        case (false, false, false):
            throw ValidationError("Say which: ids, or --stream, --kind, --since, --until, or --all for all of them.")
        default: throw ValidationError("Ids, filters and --all can't be combined.")
        }
    }
}

extension DeadLettersCommand {
    /// `ingestd dead-letters retry`
    struct Retry: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Sends the events of dead letters again, each under its own id.",
            usage:
                "ingestd dead-letters retry <id> ... | <filters> | --all [--json] [--config <config>] [<settings> ...]",
            discussion: ConfigurationReference.discussion(of: CommandSettings.changingDeadLetters))

        @OptionGroup var selection: DeadLetterSelectionOptions

        @Flag(help: "Print JSON, for scripts.")
        var json = false

        @OptionGroup var options: ConfigurationOptions

        func validate() throws { _ = try selection.selections(ids: options.ids()) }

        func run() async throws {
            let selections = try selection.selections(ids: options.ids())
            let configuration = try options.withoutIDs.loadOrExit(CommandSettings.changingDeadLetters).configuration
            let outcome = try await DeadLetterChanger(configuration: configuration).change(.retry, selections)
            try outcome.report(json: json) { change, isServiceRunning in
                var text = "\(Terminal.count(change.changed, "dead letter")) sent again"
                if !isServiceRunning, change.changed > 0 { text += "; delivered once the service is started" }
                guard change.notRetryable > 0 else { return text }
                return text
                    + "\n\(Terminal.count(change.notRetryable, "dead letter")) kept: no valid events, so they can't be "
                    + "sent again. Export them, mend them, and send them as new ones"
            }
        }
    }

    /// `ingestd dead-letters discard`
    struct Discard: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Deletes dead letters for good, after asking.",
            usage: """
                ingestd dead-letters discard <id> ... | <filters> | --all [--yes] [--json] [--config <config>] \
                [<settings> ...]
                """,
            discussion: ConfigurationReference.discussion(of: CommandSettings.changingDeadLetters))

        @OptionGroup var selection: DeadLetterSelectionOptions

        @Flag(help: "Do not ask. Needed where standard input is no terminal.")
        var yes = false

        @Flag(help: "Print JSON, for scripts.")
        var json = false

        @OptionGroup var options: ConfigurationOptions

        func validate() throws {
            _ = try selection.selections(ids: options.ids())
            guard yes || Terminal.isTerminal(0) else {
                throw ValidationError("What is discarded is gone: say --yes where nobody can be asked.")
            }
        }

        func run() async throws {
            let selections = try selection.selections(ids: options.ids())
            let configuration = try options.withoutIDs.loadOrExit(CommandSettings.changingDeadLetters).configuration
            let changer = DeadLetterChanger(configuration: configuration)
            if !yes {
                let count = try changer.count(selections)
                guard Terminal.confirms("Delete \(Terminal.count(count, "dead letter")) for good?") else {
                    Terminal.report("nothing was deleted")
                    throw ExitCode.failure
                }
            }
            try await changer.change(.discard, selections).report(json: json) { change, _ in
                "\(Terminal.count(change.changed, "dead letter")) deleted"
            }
        }
    }
}

extension DeadLetterChanger.Outcome {
    private struct Document: Encodable {
        let changed: Int
        let not_retryable: Int
        let errors: [String]
    }

    /// Prints what was done, and what could not be.
    /// - Throws: `ExitCode` 1 if something could not.
    fileprivate func report(
        json: Bool, _ text: (DeadLetterChange, _ isServiceRunning: Bool) -> String
    ) throws {
        if json {
            print(
                try Terminal.json(
                    Document(changed: change.changed, not_retryable: change.notRetryable, errors: failures)))
        } else {
            print(text(change, isServiceRunning))
            for failure in failures { Terminal.report("error: \(failure)") }
        }
        guard failures.isEmpty else { throw ExitCode.failure }
    }
}
