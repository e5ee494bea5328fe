public import IngestCore

/// The store of dead letters. Each read takes views of the journal for short times only, so that a long listing does
/// not keep freed pages from being used again.
extension Journal {
    /// The letters with numbers above `after` that fit, in order of their numbers, at most `limit`. Fewer than `limit`
    /// means that there are no more.
    /// - Parameter withPayload: otherwise the letters' payloads are empty, so that large ones cost nothing.
    /// - Throws: `JournalError`.
    public func deadLetters(
        matching filter: DeadLetterFilter, after: UInt64 = 0, limit: Int, withPayload: Bool = true
    ) throws -> [StoredDeadLetter] {
        try deadLetterScan.letters(matching: filter, after: after, limit: limit, withPayload: withPayload)
    }

    /// The letters with the highest numbers that fit, the newest first, without their payloads.
    /// - Throws: `JournalError`.
    public func newestDeadLetters(matching filter: DeadLetterFilter, limit: Int) throws -> [StoredDeadLetter] {
        try deadLetterScan.newest(matching: filter, limit: limit)
    }

    /// The numbers of all letters that fit at the time of the call, in order. What is to be done with all of them must
    /// start from here: an event that is sent again and rejected again is a new letter that fits as well.
    /// - Throws: `JournalError`.
    public func deadLetterNumbers(matching filter: DeadLetterFilter) throws -> [UInt64] {
        // As it is in the tables: a letter that was listed a moment ago must not be missed.
        let end = try withTables { transaction, tables in
            try transaction.get(tables.meta, JournalFormat.nextDeadLetterKey)?.loadLittleEndian(0, as: UInt64.self) ?? 1
        }
        return try deadLetterScan.numbers(matching: filter, before: end)
    }

    /// The letter with this number; `nil` if there is none (any more).
    /// - Throws: `JournalError`.
    public func deadLetter(_ number: UInt64) throws -> StoredDeadLetter? {
        try deadLetterScan.letter(number)
    }

    /// The letters with numbers above `after` that the DLQ topic has not got, in order of their numbers: at most
    /// `limit`, and about `maxBytes` (at least one). Always none where forwarding is off.
    /// - Throws: `JournalError`.
    public func unforwarded(after: UInt64 = 0, limit: Int, maxBytes: Int) throws -> [StoredDeadLetter] {
        guard forwardsDeadLetters, after < .max, limit > 0 else { return [] }
        let scan = deadLetterScan
        return try withTables { transaction, tables in
            var letters: [StoredDeadLetter] = []
            var bytes = 0
            let cursor = try transaction.cursor(tables.forwarding)
            var found = try cursor.seek(NumberKey(number: after + 1))
            while let waiting = found, letters.count < limit {
                let number = try NumberKey(waiting.key).number
                // One that is gone keeps its place, and so the commit of its message, until an operator discards it:
                // `journal verify` and the count of letters to forward tell of it.
                if let value = try transaction.get(tables.deadLetters, NumberKey(number: number)) {
                    bytes += value.count
                    if !letters.isEmpty && bytes > maxBytes { break }
                    letters.append(scan.stored(number, value, true, withPayload: true))
                }
                found = try cursor.next()
            }
            return letters
        }
    }

    // MARK: Changes

    /// The DLQ topic has acknowledged these letters. Those that were sent again go, and the commits that waited for
    /// them go on. To be called with a few hundred at a time: they are one transaction.
    public func markForwarded(
        _ numbers: [UInt64], completion: @escaping @Sendable (Result<Void, JournalError>) -> Void
    ) {
        send(.forwarded(numbers)) { completion($0.map { _ in }) }
    }

    /// Appends the events of these letters to their streams again: each with its id, payload and source, and a new
    /// sequence. Returns when that is durable. A letter goes; while it waits for the DLQ topic it is kept, as retried.
    /// Numbers that do not exist, and letters that were retried already, are passed over.
    ///
    /// Many numbers take several transactions. If one fails, the letters before stay retried.
    /// - Throws: `JournalError.refused` if the journal takes no events now; others where it can't be written.
    public func retryDeadLetters(_ numbers: [UInt64]) async throws(JournalError) -> DeadLetterChange {
        try await change(numbers) { .retry($0) }
    }

    /// Deletes these letters for good, also those that the DLQ topic has not got. Numbers that do not exist are passed
    /// over.
    ///
    /// Many numbers take several transactions. If one fails, the letters before stay deleted.
    /// - Throws: `JournalError` where the journal can't be written.
    public func discardDeadLetters(_ numbers: [UInt64]) async throws(JournalError) -> DeadLetterChange {
        try await change(numbers) { .discard($0) }
    }

    private func change(
        _ numbers: [UInt64], _ command: (_ numbers: [UInt64]) -> Command
    ) async throws(JournalError) -> DeadLetterChange {
        var total = DeadLetterChange()
        var rest = numbers[...]
        while !rest.isEmpty {
            let chunk = command(Array(rest.prefix(DeadLetterStore.chunkCount)))
            let result = await withCheckedContinuation { continuation in
                send(chunk) { continuation.resume(returning: $0) }
            }
            let outcome = try result.get()
            total.changed += outcome.change.changed
            total.notRetryable += outcome.change.notRetryable
            rest = rest.dropFirst(outcome.numbersTaken)
        }
        return total
    }

    private var deadLetterScan: DeadLetterScan {
        DeadLetterScan(
            environment: environment, tables: tables, streams: snapshot.streams.mapValues(\.stream.table),
            forwards: forwardsDeadLetters)
    }
}
