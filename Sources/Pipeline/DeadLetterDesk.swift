public import IngestCore
public import Journal

/// What an operator does with dead letters: look, send again, discard. For the service's API, and for the command line
/// while no service runs.
public struct DeadLetterDesk: Sendable {
    private let journal: Journal
    private let forwards: Bool

    /// - Parameters:
    ///   - journal: open; to change something it must be started.
    ///   - forwards: the journal's `forwardsDeadLetters`.
    public init(journal: Journal, forwards: Bool) {
        self.journal = journal
        self.forwards = forwards
    }

    /// As `ServiceOperations.deadLettersDocument`.
    public func list(
        _ filter: DeadLetterFilter, after: UInt64, limit: Int
    ) throws(OperationFailure) -> [UInt8] {
        try attempt {
            let letters = try journal.deadLetters(matching: filter, after: after, limit: limit, withPayload: false)
            return try Journal.document(forPage: letters, limit: limit, forwards: forwards)
        }
    }

    /// As `ServiceOperations.newestDeadLettersDocument`.
    public func listNewest(_ filter: DeadLetterFilter, limit: Int) throws(OperationFailure) -> [UInt8] {
        try attempt {
            let letters = try journal.newestDeadLetters(matching: filter, limit: limit)
            return try Journal.document(forPage: letters, limit: .max, forwards: forwards)
        }
    }

    /// As `ServiceOperations.deadLetterDocument`.
    public func show(_ number: UInt64) throws(OperationFailure) -> [UInt8] {
        let document = try attempt {
            try journal.deadLetter(number).map {
                try Journal.document(for: $0, withPayload: true, forwards: forwards)
            }
        }
        guard let document else { throw Self.unknown(number) }
        return document
    }

    /// As `ServiceOperations.retryDeadLetters`.
    public func retry(_ selection: DeadLetterSelection) async throws(OperationFailure) -> DeadLetterChange {
        let numbers = try numbers(selection)
        let change: DeadLetterChange
        do throws(JournalError) {
            change = try await journal.retryDeadLetters(numbers)
        } catch {
            throw .unavailable("\(error)")
        }
        if case .one(let number) = selection, change.notRetryable == 1 {
            throw .impossible(
                "dead letter \(number) can't be sent again: it is no valid event. Export it, mend it, and send it as a "
                    + "new one")
        }
        return change
    }

    /// As `ServiceOperations.discardDeadLetters`.
    public func discard(_ selection: DeadLetterSelection) async throws(OperationFailure) -> DeadLetterChange {
        // One that is named is not looked at: what can't be read can still be discarded.
        let numbers = if case .one(let number) = selection { [number] } else { try numbers(selection) }
        let change: DeadLetterChange
        do throws(JournalError) {
            change = try await journal.discardDeadLetters(numbers)
        } catch {
            throw .unavailable("\(error)")
        }
        if case .one(let number) = selection, change.changed == 0 { throw Self.unknown(number) }
        return change
    }

    private func numbers(_ selection: DeadLetterSelection) throws(OperationFailure) -> [UInt64] {
        switch selection {
        case .one(let number):
            guard try attempt({ try journal.deadLetter(number) }) != nil else { throw Self.unknown(number) }
            return [number]
        case .matching(let filter):
            return try attempt { try journal.deadLetterNumbers(matching: filter) }
        }
    }

    private static func unknown(_ number: UInt64) -> OperationFailure {
        .notFound("there is no dead letter \(number): it was sent again or discarded, or never existed")
    }

    private func attempt<Result>(_ body: () throws -> Result) throws(OperationFailure) -> Result {
        do {
            return try body()
        } catch {
            throw .unavailable("dead letters can't be read: \(error)")
        }
    }
}
