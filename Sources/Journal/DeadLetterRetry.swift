import IngestCore

/// Sending events again: from their letters back into their streams.
extension DeadLetterStore {
    /// Bytes of events that one transaction sends again at most, or a single larger one.
    private static let chunkBytes = 4 << 20

    /// What one transaction sends again.
    private struct Chunk {
        /// With copies of their records: writing moves the pages that values lie on.
        var letters: [(number: UInt64, record: [UInt8])] = []
        /// Bytes of the file that the entries take, about.
        var storedBytes = 0
        var outcome = CommandOutcome()
    }

    /// Bytes of the file that `retry` needs for entries, about.
    func bytes<T: Transaction & ~Copyable>(
        toRetry numbers: [UInt64], _ state: JournalState, in transaction: borrowing T
    ) throws -> Int {
        try chunk(of: numbers, state, in: transaction).storedBytes
    }

    /// Appends the events of letters to their streams again, each as an entry of its own. The letter goes; but while it
    /// waits for the DLQ topic it is only marked.
    /// - Parameter obstacle: why so many more bytes of entries can't be stored now.
    /// - Throws: `JournalError.refused` before anything was changed.
    mutating func retry(
        _ numbers: [UInt64], _ draft: inout Draft, in transaction: borrowing WriteTransaction,
        obstacle: (Int) -> IntakeError?
    ) throws -> CommandOutcome {
        var chunk = try chunk(of: numbers, draft.state, in: transaction)
        guard !chunk.letters.isEmpty else { return chunk.outcome }
        if let error = obstacle(chunk.storedBytes) { throw JournalError.refused(error) }
        for (number, record) in chunk.letters {
            try record.withUnsafeBytes { bytes in
                try append(DeadLetterRecord(bytes), to: &draft, in: transaction)
            }
            try markRetried(number, record, &draft, in: transaction)
            chunk.outcome.change.changed += 1
        }
        return chunk.outcome
    }

    private func chunk<T: Transaction & ~Copyable>(
        of numbers: [UInt64], _ state: JournalState, in transaction: borrowing T
    ) throws -> Chunk {
        var chunk = Chunk()
        var seen: Set<UInt64> = []
        for number in numbers.prefix(Self.chunkCount) {
            guard seen.insert(number).inserted,
                let value = try transaction.get(tables.deadLetters, NumberKey(number: number))
            else {
                chunk.outcome.numbersTaken += 1
                continue
            }
            if !chunk.letters.isEmpty && chunk.storedBytes + value.count > Self.chunkBytes { break }
            chunk.outcome.numbersTaken += 1
            switch Self.retryability(of: value, state) {
            case .retryable:
                chunk.letters.append((number, Array(value)))
                chunk.storedBytes += JournalFormat.storedLength(value.count, pageSize: pageSize)
            case .isUnderWay: break
            case .never: chunk.outcome.change.notRetryable += 1
            }
        }
        return chunk
    }

    private enum Retryability {
        case retryable
        /// It was sent again already.
        case isUnderWay
        case never
    }

    /// An event that can't be decoded must not get into an entry, where it would be damage.
    private static func retryability(of value: UnsafeRawBufferPointer, _ state: JournalState) -> Retryability {
        guard case .success(let record) = Result(catching: { try DeadLetterRecord(value) }) else { return .never }
        if record.state == .retried { return .isUnderWay }
        guard record.sequence != nil, state.streams[record.stream] != nil,
            case .success = Result(catching: { try record.eventView() })
        else { return .never }
        return .retryable
    }

    private func append(
        _ letter: DeadLetterRecord, to draft: inout Draft, in transaction: borrowing WriteTransaction
    ) throws {
        var stream = draft.state.streams[letter.stream]!
        // The range of offsets is empty: the message was counted when it first came.
        let offset: Int64? = letter.source.isEmpty ? nil : letter.source.loadLittleEndian(4)
        let origin = letter.partition.map { EventOrigin.kafka($0, offsets: offset!..<offset!) } ?? .http
        let entry = try EntryPacker.write(
            CollectionOfOne(letter.event), origin: origin, eventCount: 1, firstSequence: stream.nextSequence,
            receivedAt: letter.receivedAt, stream: letter.stream, tables: tables, in: transaction)
        stream.nextSequence += 1
        stream.storedBytes += UInt64(JournalFormat.storedLength(entry.count, pageSize: pageSize))
        draft.state.streams[letter.stream] = stream
        draft.streams.insert(letter.stream)
        draft.news.noteAppend(letter.stream, end: stream.nextSequence, bytes: letter.event.count)
    }

    private mutating func markRetried(
        _ number: UInt64, _ record: [UInt8], _ draft: inout Draft, in transaction: borrowing WriteTransaction
    ) throws {
        let key = NumberKey(number: number)
        if forwards, try transaction.get(tables.forwarding, key) != nil {
            var record = record
            record[DeadLetterRecord.stateOffset] = DeadLetterRecord.State.retried.rawValue
            try record.withUnsafeBytes { try transaction.put(tables.deadLetters, key, $0) }
        } else {
            try transaction.delete(tables.forwarding, key)
            try transaction.delete(tables.deadLetters, key)
        }
        draft.hasOtherChanges = true
    }
}
