import ArgumentParser
import IngestCore
import Journal

/// `ingestd dead-letters`: looks at dead letters and works on them, also while the service runs.
struct DeadLettersCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dead-letters",
        abstract: "Works on events that could not be inserted; also while the service runs.",
        discussion: """
            list, show and export read the journal's folder, whether a service uses it or not. retry and discard ask \
            the service that has the journal open, at HTTP_HOST, HTTP_PORT with HTTP_TOKEN; without one they change \
            the journal themselves.
            """,
        subcommands: [List.self, Show.self, Export.self, Retry.self, Discard.self])

    /// `ingestd dead-letters list`
    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Lists dead letters, the oldest first.",
            discussion: ConfigurationReference.discussion(of: CommandSettings.deadLetters))

        @OptionGroup var selection: DeadLetterFilterOptions

        @Option(help: ArgumentHelp("Begin behind this dead letter.", valueName: "id"))
        var after: UInt64 = 0

        @Option(help: "The most dead letters to list.")
        var limit = 100

        @Flag(help: "Print JSON, for scripts: the document of GET /v1/dead-letters.")
        var json = false

        @OptionGroup var options: ConfigurationOptions

        func validate() throws {
            guard limit > 0 else { throw ValidationError("--limit is at least 1.") }
        }

        func run() throws {
            let configuration = try options.loadOrExit(CommandSettings.deadLetters).configuration
            let forwards = configuration.kafka.forwardsDeadLetters
            let letters = try TerminalError.from {
                try JournalInspection(path: configuration.journal.path).deadLetters(
                    matching: selection.filter, after: after, limit: limit, withPayload: false, forwards: forwards)
            }
            if json {
                let page = try Journal.document(forPage: letters, limit: limit, forwards: forwards)
                return print(String(decoding: page, as: UTF8.self))
            }
            guard let last = letters.last else { return print("no dead letters") }
            print(Self.table(letters).text(width: Terminal.columns))
            if letters.count == limit { print("There may be more: --after \(last.number)") }
        }

        private static func table(_ letters: [StoredDeadLetter]) -> TextTable {
            var table = TextTable([
                .init(title: "ID", maximumWidth: 20), .init(title: "FAILED AT", maximumWidth: Timestamp.length),
                .init(title: "STREAM", maximumWidth: 32), .init(title: "KIND", maximumWidth: 16),
                .init(title: "EVENT ID", maximumWidth: 36), .init(title: "REASON", maximumWidth: .max),
            ])
            for stored in letters {
                let letter = stored.letter
                table.add([
                    "\(stored.number)", Timestamp.iso8601(milliseconds: letter.failedAt), letter.table,
                    letter.problem.kind, letter.eventID,
                    (stored.isRetried ? "(retried, to be forwarded) " : "") + letter.problem.message,
                ])
            }
            return table
        }
    }

    /// `ingestd dead-letters show`
    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Shows dead letters with all that is known of them, and their payload.",
            usage: "ingestd dead-letters show <id> ... [--json] [--config <config>] [<settings> ...]",
            discussion: ConfigurationReference.discussion(of: CommandSettings.deadLetters))

        @Flag(help: "Print each as one line of JSON, for scripts: the document of GET /v1/dead-letters/ID.")
        var json = false

        @OptionGroup var options: ConfigurationOptions

        func validate() throws {
            guard try !options.ids().isEmpty else { throw ValidationError("Say which: give one or more ids.") }
        }

        func run() throws {
            let ids = try options.ids()
            let configuration = try options.withoutIDs.loadOrExit(CommandSettings.deadLetters).configuration
            let forwards = configuration.kafka.forwardsDeadLetters
            let inspection = try TerminalError.from { try JournalInspection(path: configuration.journal.path) }
            var isComplete = true
            for (index, id) in ids.enumerated() {
                guard let letter = try TerminalError.from({ try inspection.deadLetter(id, forwards: forwards) }) else {
                    Terminal.report("there is no dead letter \(id): it was sent again or discarded, or never existed")
                    isComplete = false
                    continue
                }
                if json {
                    let document = try Journal.document(for: letter, withPayload: true, forwards: forwards)
                    print(String(decoding: document, as: UTF8.self))
                } else {
                    print((index > 0 ? "\n" : "") + DeadLetterText.text(letter, forwards: forwards))
                }
            }
            guard isComplete else { throw ExitCode.failure }
        }
    }

    /// `ingestd dead-letters export`
    struct Export: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Writes dead letters with their payloads as NDJSON; without ids or a filter all of them.",
            usage: """
                ingestd dead-letters export [<id> ... | <filters>] [--output <output>] [--config <config>] \
                [<settings> ...]
                """,
            discussion: ConfigurationReference.discussion(of: CommandSettings.deadLetters))

        /// Letters and bytes of them that are in memory at a time, about.
        private static let pageCount = 1_000
        private static let pageBytes = 4 << 20

        @OptionGroup var selection: DeadLetterFilterOptions

        @Option(help: "File to write, instead of standard output; it is there only once it is complete.")
        var output: String?

        @OptionGroup var options: ConfigurationOptions

        func validate() throws {
            guard try options.ids().isEmpty || selection.filter == DeadLetterFilter() else {
                throw ValidationError("Ids and filters can't be combined.")
            }
        }

        func run() throws {
            let ids = try options.ids()
            let configuration = try options.withoutIDs.loadOrExit(CommandSettings.deadLetters).configuration
            let forwards = configuration.kafka.forwardsDeadLetters
            let inspection = try TerminalError.from { try JournalInspection(path: configuration.journal.path) }
            var file = try OutputFile(output)
            let progress = ProgressLine()
            var count = 0
            func write(_ letter: StoredDeadLetter, to file: inout OutputFile) throws {
                try file.write(try Journal.document(for: letter, withPayload: true, forwards: forwards) + [0x0A])
                count += 1
                progress.show(Terminal.count(count, "dead letter"))
            }
            for id in ids {
                let letter = try TerminalError.from { try inspection.deadLetter(id, forwards: forwards) }
                guard let letter else {
                    throw TerminalError(
                        "there is no dead letter \(id): it was sent again or discarded, or never existed")
                }
                try write(letter, to: &file)
            }
            var last: UInt64? = ids.isEmpty ? 0 : nil
            while let after = last {
                let letters = try TerminalError.from {
                    try inspection.deadLetters(
                        matching: selection.filter, after: after, limit: Self.pageCount, maxBytes: Self.pageBytes,
                        forwards: forwards)
                }
                for letter in letters { try write(letter, to: &file) }
                last = letters.last?.number
            }
            progress.clear()
            try file.finish()
            if let output { print("\(Terminal.count(count, "dead letter")) written to \(output)") }
        }
    }
}

/// A dead letter for people.
private enum DeadLetterText {
    static func text(_ stored: StoredDeadLetter, forwards: Bool) -> String {
        let letter = stored.letter
        let problem = letter.problem
        var lines = [
            ("id", "\(stored.number)"), ("event id", letter.eventID), ("stream", letter.table),
            ("failed at", Timestamp.iso8601(milliseconds: letter.failedAt)),
            ("source", letter.kafka.map(source) ?? "http"), ("kind", problem.kind), ("reason", problem.message),
        ]
        if let code = problem.clickHouseCode { lines.append(("clickhouse", "code \(code)")) }
        if let status = problem.httpStatus { lines.append(("http status", "\(status)")) }
        if problem.attempts > 0 { lines.append(("attempts", "\(problem.attempts)")) }
        lines.append(("state", state(stored, forwards)))
        lines.append(("payload", "\(letter.payload.count) bytes"))
        let head = lines.map { name, value in
            name + String(repeating: " ", count: 13 - name.count) + Terminal.printable(value)
        }
        let payload =
            String(validating: letter.payload, as: UTF8.self).map(Terminal.printable)
            ?? "(no UTF-8 text; --json has it in base64)"
        return head.joined(separator: "\n") + "\n" + payload
    }

    private static func source(_ kafka: DeadLetter.KafkaOrigin) -> String {
        let key = kafka.key.map { ", key \(Quoted.text(String(decoding: $0, as: UTF8.self)))" } ?? ""
        return "kafka, \(kafka.partition), offset \(kafka.offset)\(key)"
    }

    private static func state(_ stored: StoredDeadLetter, _ forwards: Bool) -> String {
        var parts = [
            stored.isRetried
                ? "sent again" : stored.sequence == nil ? "kept; no valid event, so it can't be sent again" : "kept"
        ]
        if forwards { parts.append(stored.awaitsForwarding ? "not in the DLQ topic yet" : "in the DLQ topic") }
        return parts.joined(separator: "; ")
    }
}
