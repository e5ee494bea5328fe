import IngestCore

/// Reads the tables of dead letters, of an open journal or of one that another process has open. A scan takes several
/// short views of the journal.
struct DeadLetterScan {
    /// Letters that one view of the journal is scanned for at most.
    private static let scannedLetters = 1_000
    /// Bytes of them.
    private static let scannedBytes = 4 << 20

    let environment: Environment
    let tables: Tables
    /// Names of all streams.
    let streams: [StreamID: String]
    /// Whether letters in table `forwarding` are to be forwarded.
    let forwards: Bool

    /// The letters with numbers above `after` that fit, in order.
    /// - Parameter maxBytes: the list ends with the letter that exceeds it.
    func letters(
        matching filter: DeadLetterFilter, after: UInt64, limit: Int, maxBytes: Int = .max, withPayload: Bool
    ) throws -> [StoredDeadLetter] {
        var letters: [StoredDeadLetter] = []
        var bytes = 0
        try scan(filter, from: .after(after)) { number, record, awaitsForwarding in
            guard letters.count < limit else { return false }
            letters.append(try stored(number, record, awaitsForwarding, withPayload: withPayload))
            bytes += record.bytes.count
            return letters.count < limit && bytes < maxBytes
        }
        return letters
    }

    /// The letters that fit with the highest numbers, the newest first.
    func newest(matching filter: DeadLetterFilter, limit: Int) throws -> [StoredDeadLetter] {
        var letters: [StoredDeadLetter] = []
        try scan(filter, from: .newest) { number, record, awaitsForwarding in
            guard letters.count < limit else { return false }
            letters.append(try stored(number, record, awaitsForwarding, withPayload: false))
            return letters.count < limit
        }
        return letters
    }

    /// The numbers below `end` of all letters that fit, in order.
    func numbers(matching filter: DeadLetterFilter, before end: UInt64) throws -> [UInt64] {
        var numbers: [UInt64] = []
        try scan(filter, from: .after(0)) { number, _, _ in
            guard number < end else { return false }
            numbers.append(number)
            return true
        }
        return numbers
    }

    /// The letter with this number; `nil` if there is none.
    func letter(_ number: UInt64) throws -> StoredDeadLetter? {
        try environment.read { transaction in
            guard let bytes = try transaction.get(tables.deadLetters, NumberKey(number: number)) else { return nil }
            let record = try Self.record(number, bytes)
            return try stored(number, record, try isUnforwarded(number, transaction), withPayload: true)
        }
    }

    private enum Start: Equatable {
        /// In order, from the letter behind this number on.
        case after(UInt64)
        /// Backwards.
        case newest
    }

    /// Passes the letters that fit to `body` until it returns false.
    private func scan(
        _ filter: DeadLetterFilter, from start: Start,
        _ body: (_ number: UInt64, DeadLetterRecord, _ awaitsForwarding: Bool) throws -> Bool
    ) throws {
        let kind = try filter.kind.map { try DeadLetterRecord.kindMember($0) }
        func fits(_ record: DeadLetterRecord) -> Bool {
            if let stream = filter.stream, streams[record.stream] != stream { return false }
            if let since = filter.since, record.failedAt < since { return false }
            if let until = filter.until, record.failedAt >= until { return false }
            return kind.map { record.isOfKind($0) } ?? true
        }
        // Numbers begin with 1.
        let isBackwards = start == .newest
        var position = if case .after(let number) = start { number } else { UInt64.max }
        var isDone = !isBackwards && position == .max
        while !isDone {
            try environment.read { transaction in
                let cursor = try transaction.cursor(tables.deadLetters)
                var found: Cursor.Record?
                if isBackwards {
                    // The next one above may be gone by now; without one the last is below.
                    let above = try cursor.seek(NumberKey(number: position))
                    found = try above == nil ? cursor.last() : cursor.previous()
                } else {
                    found = try cursor.seek(NumberKey(number: position + 1))
                }
                var scanned = (letters: 0, bytes: 0)
                while let letter = found {
                    let number = try NumberKey(letter.key).number
                    let record = try Self.record(number, letter.value)
                    if fits(record), try !body(number, record, try isUnforwarded(number, transaction)) {
                        isDone = true
                        return
                    }
                    position = number
                    scanned.letters += 1
                    scanned.bytes += letter.value.count
                    guard scanned.letters < Self.scannedLetters, scanned.bytes < Self.scannedBytes else { return }
                    found = try isBackwards ? cursor.previous() : cursor.next()
                }
                isDone = true
            }
        }
    }

    static func record(_ number: UInt64, _ bytes: UnsafeRawBufferPointer) throws -> DeadLetterRecord {
        do {
            return try DeadLetterRecord(bytes)
        } catch {
            throw JournalError.damaged("dead letter \(number): \(error.reason)")
        }
    }

    func stored(
        _ number: UInt64, _ record: DeadLetterRecord, _ awaitsForwarding: Bool, withPayload: Bool
    ) throws -> StoredDeadLetter {
        guard let table = streams[record.stream] else {
            throw JournalError.damaged("dead letter \(number) is of \(record.stream), which does not exist")
        }
        do {
            return StoredDeadLetter(
                number: number, sequence: record.sequence, isRetried: record.state == .retried,
                awaitsForwarding: awaitsForwarding, letter: try record.letter(table: table, withPayload: withPayload))
        } catch {
            throw JournalError.damaged("dead letter \(number): \(error)")
        }
    }

    private func isUnforwarded(_ number: UInt64, _ transaction: borrowing ReadTransaction) throws -> Bool {
        try forwards && transaction.get(tables.forwarding, NumberKey(number: number)) != nil
    }
}
