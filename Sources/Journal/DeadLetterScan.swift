import IngestCore

/// Reads the tables of dead letters, of an open journal or of one that another process has open. A scan takes several
/// short views of the journal.
struct DeadLetterScan {
    /// Letters that one view of the journal is scanned for at most.
    private static let scannedLetters = 1_000
    /// Bytes of them.
    private static let scannedBytes = 4 << 20
    /// The kind of a letter whose record is damaged.
    static let unreadableKind = "unreadable_letter"

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
        try scan(filter, from: .after(after)) { number, value, awaitsForwarding in
            guard letters.count < limit else { return false }
            letters.append(stored(number, value, awaitsForwarding, withPayload: withPayload))
            bytes += value.count
            return letters.count < limit && bytes < maxBytes
        }
        return letters
    }

    /// The letters that fit with the highest numbers, the newest first.
    func newest(matching filter: DeadLetterFilter, limit: Int) throws -> [StoredDeadLetter] {
        var letters: [StoredDeadLetter] = []
        try scan(filter, from: .newest) { number, value, awaitsForwarding in
            guard letters.count < limit else { return false }
            letters.append(stored(number, value, awaitsForwarding, withPayload: false))
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
            guard let value = try transaction.get(tables.deadLetters, NumberKey(number: number)) else { return nil }
            return stored(number, value, try isUnforwarded(number, transaction), withPayload: true)
        }
    }

    private enum Start: Equatable {
        /// In order, from the letter behind this number on.
        case after(UInt64)
        /// Backwards.
        case newest
    }

    /// Passes the letters that fit to `body` until it returns false. Of one that can't be read the stream and the time
    /// are not known.
    private func scan(
        _ filter: DeadLetterFilter, from start: Start,
        _ body: (_ number: UInt64, _ value: UnsafeRawBufferPointer, _ awaitsForwarding: Bool) throws -> Bool
    ) throws {
        let kind = try filter.kind.map { try DeadLetterRecord.kindMember($0) }
        func fits(_ value: UnsafeRawBufferPointer) -> Bool {
            guard case .success(let record) = Result(catching: { try DeadLetterRecord(value) }) else {
                return filter.stream == nil && filter.since == nil && filter.until == nil
                    && (filter.kind ?? Self.unreadableKind) == Self.unreadableKind
            }
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
                    if fits(letter.value), try !body(number, letter.value, try isUnforwarded(number, transaction)) {
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

    /// Decodes a letter. One that can't be read is still shown, forwarded and discarded, as what is left of it: it must
    /// not stand in the way of those behind it.
    func stored(
        _ number: UInt64, _ value: UnsafeRawBufferPointer, _ awaitsForwarding: Bool, withPayload: Bool
    ) -> StoredDeadLetter {
        do {
            let record = try DeadLetterRecord(value)
            guard let table = streams[record.stream] else {
                throw MalformedEntry("dead letter of a stream that does not exist")
            }
            return StoredDeadLetter(
                number: number, sequence: record.sequence, isRetried: record.state == .retried,
                awaitsForwarding: awaitsForwarding, letter: try record.letter(table: table, withPayload: withPayload))
        } catch {
            // Whatever it is, the record is damaged: decoding does nothing else.
            let reason = (error as? MalformedEntry).map { "\($0.reason)" } ?? "\(error)"
            return StoredDeadLetter(
                number: number, sequence: nil, isRetried: false, awaitsForwarding: awaitsForwarding,
                letter: DeadLetter(
                    eventID: EventID.derive(from: value), failedAt: 0, table: "",
                    problem: DeadLetter.Problem(
                        kind: Self.unreadableKind,
                        message: "the stored letter is damaged, the payload is its record: \(reason)"),
                    kafka: nil, payload: withPayload ? Array(value) : []))
        }
    }

    private func isUnforwarded(_ number: UInt64, _ transaction: borrowing ReadTransaction) throws -> Bool {
        try forwards && transaction.get(tables.forwarding, NumberKey(number: number)) != nil
    }
}
