import ArgumentParser
import ClickHouse
import IngestCore
import Journal
import Logging

extension JournalCommand {
    /// `ingestd journal replay`
    struct Replay: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Sends delivered events that JOURNAL_RETAIN has kept to ClickHouse again; safe to repeat.",
            discussion: """
                Batches go straight to the stream's table, with the service's settings, beside a running service; its \
                positions do not change. A second run over the same events sends the same batches under the same \
                deduplication tokens: within the table's deduplication window ClickHouse drops them, beyond it \
                ReplacingMergeTree merges rows by event id. Events that wait for their first delivery are the service's.

                Without a range everything that is kept goes. --since and --until choose entries by the time of \
                receipt, from the first to the last that fit.

                \(ConfigurationReference.discussion(of: CommandSettings.replay))
                """)

        @Option(help: "The stream; it has the name of its table.")
        var stream: String

        @OptionGroup var sequences: SequenceOptions

        @OptionGroup var times: ReceiptOptions

        @Flag(help: "Go on behind events that ClickHouse rejects and entries that are damaged.")
        var continueOnError = false

        @Flag(help: "Print JSON, for scripts.")
        var json = false

        @OptionGroup var options: ConfigurationOptions

        func validate() throws {
            guard sequences.range == nil || times.range == nil else {
                throw ValidationError("--from and --to can't be combined with --since and --until.")
            }
        }

        func run() async throws {
            let configuration = try options.loadOrExit(CommandSettings.replay).configuration
            Telemetry.bootstrapLogging(Telemetry.commandLog)
            let inspection = try TerminalError.from { try JournalInspection(path: configuration.journal.path) }
            let state = try inspection.streams(named: stream)[0]
            let range = try range(in: state, inspection)
            let client = try TerminalError.from {
                try ClickHouseClient(
                    configuration: configuration.clickHouseConfiguration, logger: Logger(label: "ingestd"))
            }
            let line = ProgressLine()
            var replay = JournalReplay(
                inspection, state.stream, to: client, configuration.replaySettings(continuesOnError: continueOnError)
            ) { text in
                line.clear()
                Terminal.report(Terminal.printable(text))
            }
            let result: JournalReplay.Result
            do {
                result = try await replay.run(range) { reached in
                    line.show("\(stream): sequence \(reached) of \(range.upperBound)")
                }
            } catch {
                line.clear()
                client.shutdown()
                throw TerminalError(error)
            }
            line.clear()
            client.shutdown()
            print(try text(range, result))
            if let failure = result.failure { throw TerminalError(failure) }
            guard result.isComplete else { throw ExitCode.failure }
        }

        /// What is to be sent: of what was asked for, what is kept and was delivered.
        /// - Throws: `TerminalError` where that is less than was named, or nothing.
        private func range(in state: StreamState, _ inspection: JournalInspection) throws -> Range<UInt64> {
            let kept = state.trimmed..<state.position
            let available =
                kept.isEmpty
                ? "no delivered events are kept (JOURNAL_RETAIN, JOURNAL_RETAIN_BYTES)"
                : "kept are \(Terminal.sequences(kept))"
            if let from = sequences.range?.lowerBound, sequences.from != nil, from < kept.lowerBound {
                throw TerminalError("\(stream): events before sequence \(kept.lowerBound) are gone; \(available)")
            }
            let asked: Range<UInt64>
            if let receivedAt = times.range {
                let progress = ProgressLine()
                asked =
                    try TerminalError.from {
                        try inspection.sequences(of: state.stream.id, receivedAt: receivedAt) { progress.show($0.text) }
                    } ?? 0..<0
                progress.clear()
            } else {
                asked = sequences.range ?? kept
            }
            let range = asked.clamped(to: kept)
            guard !range.isEmpty else { throw TerminalError("\(stream): nothing to send in this range; \(available)") }
            let waiting = asked.clamped(to: kept.upperBound..<state.nextSequence)
            if !waiting.isEmpty {
                Terminal.report(
                    "\(stream): \(Terminal.sequences(waiting)) left out: the service has yet to deliver them")
            }
            if let since = times.since, range.lowerBound == kept.lowerBound {
                Terminal.report(
                    "\(stream): \(available); what was received since "
                        + "\(Timestamp.iso8601(milliseconds: since.milliseconds)) and deleted already is not sent")
            }
            return range
        }

        private func text(_ range: Range<UInt64>, _ result: JournalReplay.Result) throws -> String {
            if json { return try Terminal.json(ReplayReport(stream, range, result)) }
            var text =
                "\(stream): \(Terminal.sequences(range)): \(Terminal.count(result.eventCount, "event")) sent in "
                + "\(Terminal.count(result.batchCount, "batch", "batches"))"
            for (count, what) in [
                (result.rejectedCount, "rejected"), (result.damagedCount, "damaged"), (result.deletedCount, "deleted"),
            ] where count > 0 {
                text += ", \(count) \(what)"
            }
            return text
        }
    }
}

extension ServiceConfiguration {
    fileprivate func replaySettings(continuesOnError: Bool) -> JournalReplay.Settings {
        JournalReplay.Settings(
            maxRows: batching.maxRows, maxBytes: batching.maxBytes, backoffMin: retries.backoffMin,
            backoffMax: retries.backoffMax, continuesOnError: continuesOnError)
    }
}

/// What `journal replay --json` prints.
private struct ReplayReport: Encodable {
    let stream: String
    let first_sequence: UInt64
    let last_sequence: UInt64
    let events: Int
    let batches: Int
    let rejected: Int
    let damaged: Int
    let deleted: Int
    let failure: String?

    init(_ stream: String, _ range: Range<UInt64>, _ result: JournalReplay.Result) {
        self.stream = stream
        first_sequence = range.lowerBound
        last_sequence = range.upperBound - 1
        events = result.eventCount
        batches = result.batchCount
        rejected = result.rejectedCount
        damaged = result.damagedCount
        deleted = result.deletedCount
        failure = result.failure
    }
}
