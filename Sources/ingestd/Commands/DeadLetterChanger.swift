import FoundationEssentials
import IngestCore
import Journal
import Logging
import Pipeline

/// Changes dead letters: through the service that has the journal open; where there is none, in the journal itself.
struct DeadLetterChanger {
    enum Action {
        case retry, discard
    }

    struct Outcome {
        var change = DeadLetterChange()
        /// What could not be done, one text for each selection.
        var failures: [String] = []
        var isServiceRunning: Bool
    }

    /// A hundred years, in milliseconds.
    private static let forever: Int64 = 3_155_760_000_000

    let configuration: ServiceConfiguration

    /// How many letters these are.
    /// - Throws: `TerminalError`.
    func count(_ selections: [DeadLetterSelection]) throws(TerminalError) -> Int {
        try TerminalError.from {
            let inspection = try JournalInspection(path: configuration.journal.path)
            return try selections.reduce(0) { count, selection in
                switch selection {
                case .one(let number): count + (try inspection.deadLetter(number) == nil ? 0 : 1)
                case .matching(let filter): count + (try inspection.deadLetterCount(matching: filter))
                }
            }
        }
    }

    /// - Throws: `TerminalError` if nothing at all could be done.
    func change(_ action: Action, _ selections: [DeadLetterSelection]) async throws(TerminalError) -> Outcome {
        // Opened for writing a missing journal would be made. And a journal must not be open twice in a process.
        let identity = try TerminalError.from { try JournalInspection(path: configuration.journal.path).identity }
        var room = configuration.journalConfiguration
        // Only what is there: no new streams, and no time for making the file smaller.
        room.tables = []
        room.compactAboveBytes = 0
        // What the service keeps is not this command's to delete, even if it was not told for how long.
        room.retainMilliseconds = Self.forever
        room.retainBytes = 0
        Telemetry.bootstrapLogging(Telemetry.commandLog)
        let journal: Journal
        do {
            journal = try Journal.open(room, logger: Logger(label: "ingestd"))
        } catch .inUse(let path, let holder) {
            let service = ServiceClient(configuration.http)
            try await service.checkJournal(identity, heldBy: holder, path: path)
            return await perform(action, selections, isServiceRunning: true) { action, selection in
                try await service.change(action, selection)
            }
        } catch {
            throw TerminalError(error)
        }
        journal.start { _ in }
        defer { journal.close() }
        let desk = DeadLetterDesk(journal: journal, forwards: room.forwardsDeadLetters)
        return await perform(action, selections, isServiceRunning: false) { action, selection in
            switch action {
            case .retry: try await desk.retry(selection)
            case .discard: try await desk.discard(selection)
            }
        }
    }

    private func perform(
        _ action: Action, _ selections: [DeadLetterSelection], isServiceRunning: Bool,
        _ change: (Action, DeadLetterSelection) async throws -> DeadLetterChange
    ) async -> Outcome {
        var outcome = Outcome(isServiceRunning: isServiceRunning)
        for selection in selections {
            do {
                let change = try await change(action, selection)
                outcome.change.changed += change.changed
                outcome.change.notRetryable += change.notRetryable
            } catch {
                outcome.failures.append("\(error)")
            }
        }
        return outcome
    }
}
