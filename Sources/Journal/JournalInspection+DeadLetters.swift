public import IngestCore

/// Dead letters of a journal that a service may be using at the same time.
extension JournalInspection {
    /// The letters with numbers above `after` that fit, in order of their numbers. None means that there are no more;
    /// fewer than `limit` may have been all that fits into `maxBytes`.
    /// - Parameters:
    ///   - limit: the most letters.
    ///   - maxBytes: of their records; the list ends with the letter that exceeds it.
    ///   - withPayload: otherwise the letters' payloads are empty, so that large ones cost nothing.
    ///   - forwards: whether the service forwards dead letters (`JournalConfiguration.forwardsDeadLetters`).
    /// - Throws: `JournalError`.
    public func deadLetters(
        matching filter: DeadLetterFilter, after: UInt64 = 0, limit: Int, maxBytes: Int = .max,
        withPayload: Bool = true, forwards: Bool = false
    ) throws(JournalError) -> [StoredDeadLetter] {
        try Journal.withJournalErrors(path) {
            try scan(forwards: forwards).letters(
                matching: filter, after: after, limit: limit, maxBytes: maxBytes, withPayload: withPayload)
        }
    }

    /// How many letters fit.
    /// - Throws: `JournalError`.
    public func deadLetterCount(matching filter: DeadLetterFilter) throws(JournalError) -> Int {
        try Journal.withJournalErrors(path) {
            try scan(forwards: false).numbers(matching: filter, before: .max).count
        }
    }

    /// The letter with this number; `nil` if there is none (any more).
    /// - Parameter forwards: as above.
    /// - Throws: `JournalError`.
    public func deadLetter(_ number: UInt64, forwards: Bool = false) throws(JournalError) -> StoredDeadLetter? {
        try Journal.withJournalErrors(path) { try scan(forwards: forwards).letter(number) }
    }

    private func scan(forwards: Bool) throws -> DeadLetterScan {
        DeadLetterScan(
            environment: environment, tables: tables, streams: try snapshot().streams.mapValues(\.stream.table),
            forwards: forwards)
    }
}

extension Journal {
    /// A page of letters as a JSON object for the API: `{"dead_letters":[...],"next_after":N}`, the latter only if there
    /// may be more. Each letter is as `document(for:)` has it, without its payload.
    /// - Parameters:
    ///   - limit: how many were asked for.
    ///   - forwards: whether forwarding is on.
    public static func document(
        forPage letters: [StoredDeadLetter], limit: Int, forwards: Bool
    ) throws -> [UInt8] {
        var document = Array(#"{"dead_letters":["#.utf8)
        for (index, letter) in letters.enumerated() {
            if index > 0 { document.append(UInt8(ascii: ",")) }
            document += try self.document(for: letter, withPayload: false, forwards: forwards)
        }
        document.append(UInt8(ascii: "]"))
        if letters.count == limit, let last = letters.last { document += #","next_after":\#(last.number)"#.utf8 }
        document.append(UInt8(ascii: "}"))
        return document
    }
}
