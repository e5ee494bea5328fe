import CLMDB
import IngestCore

/// The tables `dead_letters` and `forwarding`, and the commits that wait for the latter. Used by the writer, within its
/// transaction.
struct DeadLetterStore {
    /// Letters that one transaction deals with at most; what is left comes with the next.
    static let chunkCount = 256

    let tables: Tables
    let pageSize: Int
    private let maxBytes: Int
    let forwards: Bool
    private var holds: CommitHolds

    init(tables: Tables, pageSize: Int, configuration: JournalConfiguration, holds: CommitHolds) {
        self.tables = tables
        self.pageSize = pageSize
        maxBytes = configuration.deadLettersMaxBytes
        forwards = configuration.forwardsDeadLetters
        self.holds = holds
    }

    /// The transaction is on stable storage.
    mutating func commit() { holds.commit() }

    /// The transaction failed.
    mutating func rollBack() { holds.rollBack() }

    // MARK: Storing

    /// Why there is no room for these letters; `nil` if there is. Notes in `draft` what is missing.
    func obstacle(
        to letters: [NewDeadLetter], _ draft: inout Draft, in transaction: borrowing WriteTransaction
    ) throws -> String? {
        guard !letters.isEmpty else { return nil }
        let needed = letters.reduce(0) { $0 + JournalFormat.storedLength($1.record.count, pageSize: pageSize) }
        let stored = try transaction.pageCount(tables.deadLetters) * pageSize
        guard stored + needed > maxBytes else { return nil }
        draft.state.missingDeadLetterBytes = needed
        return
            "dead letters take \(stored) bytes, \(needed) more are needed, and JOURNAL_DEAD_LETTERS_MAX_BYTES is "
            + "\(maxBytes): retry or discard some, or raise the bound"
    }

    /// Stores letters. Must come before the flushed position moves over their events, so that no commit passes them.
    /// - Returns: their numbers.
    @discardableResult
    mutating func add(
        _ letters: [NewDeadLetter], to draft: inout Draft, in transaction: borrowing WriteTransaction
    ) throws -> Range<UInt64> {
        let first = draft.state.nextDeadLetter
        for letter in letters {
            let number = draft.state.nextDeadLetter
            draft.state.nextDeadLetter += 1
            try letter.record.withUnsafeBytes {
                try transaction.put(tables.deadLetters, NumberKey(number: number), $0)
            }
            if forwards {
                try ForwardingRecord(letter.heldMessage).encoded.withUnsafeBytes {
                    try transaction.put(tables.forwarding, NumberKey(number: number), $0)
                }
                if let (partition, offset) = letter.heldMessage {
                    holds.add(offset, of: partition, for: number)
                    draft.change(partition) { $0.hold(at: holds[partition]) }
                }
            }
            draft.news.deadLetters.append(
                DeadLetterNews(
                    stream: letter.stream, table: letter.table, kind: letter.kind, sequences: letter.sequences,
                    eventID: letter.eventID, number: number))
        }
        if !letters.isEmpty {
            draft.state.missingDeadLetterBytes = 0
            draft.hasOtherChanges = true
        }
        return first..<draft.state.nextDeadLetter
    }

    /// Brings the counts up to date, and keeps the next number.
    func store(_ draft: inout Draft, before state: JournalState, in transaction: borrowing WriteTransaction) throws {
        draft.state.deadLetterCount = try transaction.count(tables.deadLetters)
        draft.state.deadLetterBytes = try transaction.pageCount(tables.deadLetters) * pageSize
        if draft.state.deadLetterBytes + draft.state.missingDeadLetterBytes <= maxBytes {
            draft.state.missingDeadLetterBytes = 0
        }
        draft.state.unforwardedCount = forwards ? try transaction.count(tables.forwarding) : 0
        guard draft.state.nextDeadLetter != state.nextDeadLetter else { return }
        var number: [UInt8] = []
        number.appendLittleEndian(draft.state.nextDeadLetter)
        try number.withUnsafeBytes { try transaction.put(tables.meta, JournalFormat.nextDeadLetterKey, $0) }
    }

    // MARK: Rejected events and damaged entries

    /// The letters for what an advance leaves behind. Reads only. An entry that was sound when it was sent and is not any
    /// more costs its rejected events, as damage: the stream must not wait for what can't get better.
    func letters(
        for advance: Command.Advance, _ state: JournalState, in transaction: borrowing WriteTransaction
    ) throws -> [NewDeadLetter] {
        guard let stream = state.streams[advance.stream]?.stream else { return [] }
        let failedAt = WallClock.milliseconds
        var letters: [NewDeadLetter] = []
        letters.reserveCapacity(advance.rejected.count + advance.damaged.count)
        var unreadable: [DamagedEntry] = []
        let cursor = try transaction.cursor(tables.entries)
        var current: (entry: EntryView, events: EventCursor)?
        for rejected in advance.rejected.sorted(by: { $0.sequence < $1.sequence }) {
            do {
                letters.append(try letter(for: rejected, in: stream, failedAt, &current, cursor))
            } catch let error as UnreadableEvent {
                current = nil
                let reason = "\(error.reason), and ClickHouse had rejected the event before"
                var sequences = rejected.sequence..<(rejected.sequence + 1)
                if let last = unreadable.last, last.reason == reason, last.sequences.upperBound == rejected.sequence {
                    sequences = last.sequences.lowerBound..<sequences.upperBound
                    unreadable.removeLast()
                }
                unreadable.append(DamagedEntry(sequences: sequences, reason: reason))
            }
        }
        for damage in advance.damaged + unreadable {
            letters.append(try letter(for: damage, in: stream, failedAt, state, cursor))
        }
        return letters
    }

    /// A rejected event that can't be read any more.
    private struct UnreadableEvent: Error {
        let reason: String
    }

    /// - Parameter current: the entry of the event before, where the search begins.
    /// - Throws: `UnreadableEvent`.
    private func letter(
        for rejected: RejectedEvent, in stream: Stream, _ failedAt: Int64,
        _ current: inout (entry: EntryView, events: EventCursor)?, _ cursor: borrowing Cursor
    ) throws -> NewDeadLetter {
        do {
            if current?.entry.sequences.contains(rejected.sequence) != true {
                guard let entry = try cursor.entry(containing: rejected.sequence, in: stream.id) else {
                    throw UnreadableEvent(reason: "there is no entry for it")
                }
                // It was verified when it was sent; a letter must be what was sent.
                try Checksum.verify(entry, stream: stream.id)
                current = (entry, entry.events)
            }
            try current!.events.skip(to: rejected.sequence)
            let start = current!.events.position.byteOffset
            guard let event = try current!.events.next() else {
                throw UnreadableEvent(reason: "its entry ends before it")
            }
            let record = current!.entry.bytes[start..<current!.events.position.byteOffset]
            return try NewDeadLetter(
                event, record: UnsafeRawBufferPointer(rebasing: record), of: current!.entry, in: stream,
                problem: rejected.problem, failedAt: failedAt)
        } catch let error as MalformedEntry {
            throw UnreadableEvent(reason: "\(error.reason)")
        } catch JournalError.damaged(let reason) {
            throw UnreadableEvent(reason: reason)
        }
    }

    private func letter(
        for damage: DamagedEntry, in stream: Stream, _ failedAt: Int64, _ state: JournalState,
        _ cursor: borrowing Cursor
    ) throws -> NewDeadLetter {
        var bytes: [UInt8] = []
        var message: (partition: TopicPartition, offset: Int64)?
        var receivedAt = failedAt
        var found = try Self.firstRecord(of: damage, in: stream.id, cursor)
        while let record = found {
            let key = try SequenceKey(record.key)
            guard key.stream == stream.id, key.sequence < damage.sequences.upperBound else { break }
            // What the damage has left of the header is used only where it agrees with the rest of the journal.
            if bytes.isEmpty, case .success(let entry) = Result(catching: { try EntryView(record.value) }) {
                receivedAt = entry.receivedAt
                if let partition = entry.partition, let offset = entry.kafka?.offsets.lowerBound,
                    state.partitions[partition]?.isPending(offset, in: stream.id) == true
                {
                    message = (partition, offset)
                }
            }
            bytes += record.value
            found = try cursor.next()
        }
        return try NewDeadLetter(
            damage, entry: bytes, message: message, receivedAt: receivedAt, in: stream, failedAt: failedAt)
    }

    /// The record that the damage begins in, or else the next one.
    private static func firstRecord(
        of damage: DamagedEntry, in stream: StreamID, _ cursor: borrowing Cursor
    ) throws -> Cursor.Record? {
        let start = SequenceKey(stream, damage.sequences.lowerBound)
        let found = try cursor.seek(start)
        if let found, try SequenceKey(found.key) == start { return found }
        if let before = try found == nil ? cursor.last() : cursor.previous() {
            let key = try SequenceKey(before.key)
            // A sound entry that ends where the damage begins, because what followed it is missing, is not meant.
            let entry = Result(catching: { try EntryView(before.value) })
            let endsBefore =
                if case .success(let entry) = entry { entry.sequences.upperBound <= start.sequence } else { false }
            if key.stream == stream, !endsBefore { return before }
        }
        return try cursor.seek(start)
    }

    // MARK: Forwarded, sent again, discarded

    /// The DLQ topic has these letters: commits need not wait for them any more, and those that were sent again go.
    /// Numbers that do not wait are passed over.
    mutating func markForwarded(
        _ numbers: [UInt64], _ draft: inout Draft, in transaction: borrowing WriteTransaction
    ) throws {
        for number in numbers where try release(number, &draft, in: transaction) {
            let key = NumberKey(number: number)
            if let bytes = try transaction.get(tables.deadLetters, key), bytes.count > DeadLetterRecord.stateOffset,
                bytes[DeadLetterRecord.stateOffset] == DeadLetterRecord.State.retried.rawValue
            {
                try transaction.delete(tables.deadLetters, key)
            }
        }
    }

    /// Deletes letters, whether they were forwarded or not.
    mutating func discard(
        _ numbers: [UInt64], _ draft: inout Draft, in transaction: borrowing WriteTransaction
    ) throws -> CommandOutcome {
        var outcome = CommandOutcome(numbersTaken: min(numbers.count, Self.chunkCount))
        for number in numbers.prefix(Self.chunkCount) {
            try release(number, &draft, in: transaction)
            guard try transaction.delete(tables.deadLetters, NumberKey(number: number)) else { continue }
            outcome.change.changed += 1
            draft.hasOtherChanges = true
        }
        return outcome
    }

    /// Takes a letter out of table `forwarding`, and lets the commits go on that waited for it.
    /// - Returns: whether it was there.
    @discardableResult
    private mutating func release(
        _ number: UInt64, _ draft: inout Draft, in transaction: borrowing WriteTransaction
    ) throws -> Bool {
        let key = NumberKey(number: number)
        guard let bytes = try transaction.get(tables.forwarding, key) else { return false }
        let message = try ForwardingRecord(bytes).message
        try transaction.delete(tables.forwarding, key)
        draft.hasOtherChanges = true
        if forwards, let (partition, offset) = message {
            holds.release(offset, of: partition, for: number)
            draft.change(partition) { $0.hold(at: holds[partition]) }
        }
        return true
    }
}

/// A dead letter that the DLQ topic has not got, as stored in table `forwarding`.
///
///     0 i32 partition   4 i64 offset   12 topic (UTF-8); -1, -1 and no topic if no commit waits for it
struct ForwardingRecord {
    /// The message whose commit waits.
    let message: (partition: TopicPartition, offset: Int64)?

    init(_ message: (partition: TopicPartition, offset: Int64)?) { self.message = message }

    init(_ record: UnsafeRawBufferPointer) throws(MalformedEntry) {
        guard record.count >= 12 else { throw MalformedEntry("forwarding record is too short") }
        let partition: Int32 = record.loadLittleEndian(0)
        guard partition >= 0 else {
            message = nil
            return
        }
        message = (
            TopicPartition(topic: String(decoding: record[12...], as: UTF8.self), partition: partition),
            record.loadLittleEndian(4)
        )
    }

    var encoded: [UInt8] {
        var record: [UInt8] = []
        record.appendLittleEndian(message?.partition.partition ?? -1)
        record.appendLittleEndian(message?.offset ?? -1)
        record += message?.partition.topic.utf8 ?? "".utf8
        return record
    }
}

extension JournalOpening {
    /// The commits that wait for letters; the letters themselves are not read.
    static func readHolds<T: Transaction & ~Copyable>(
        _ tables: Tables, in transaction: borrowing T
    ) throws -> CommitHolds {
        var holds = CommitHolds()
        let cursor = try transaction.cursor(tables.forwarding)
        var found = try cursor.first()
        while let record = found {
            if let (partition, offset) = try ForwardingRecord(record.value).message {
                holds.add(offset, of: partition, for: try NumberKey(record.key).number)
            }
            found = try cursor.next()
        }
        holds.commit()
        return holds
    }
}
