import IngestCore

/// What was found when everything in a journal was read.
public struct JournalVerification: Sendable, Equatable {
    /// Something that is not as it was written.
    public struct Problem: Sendable, Equatable, CustomStringConvertible {
        /// The stream's table, or the name of the journal's own table.
        public let place: String
        /// Events that it concerns.
        public let sequences: Range<UInt64>?
        /// What is wrong.
        public let reason: String

        /// Place, sequences and reason, for terminals.
        public var description: String {
            guard let sequences else { return "\(place): \(reason)" }
            return "\(place), sequences \(sequences.lowerBound) to \(sequences.upperBound - 1): \(reason)"
        }
    }

    /// Entries looked at.
    public internal(set) var entryCount = 0
    /// Events in those that are sound.
    public internal(set) var eventCount = 0
    /// Bytes of entries looked at.
    public internal(set) var byteCount = 0
    /// Dead letters looked at.
    public internal(set) var deadLetterCount = 0
    /// Sealed batches looked at.
    public internal(set) var sealCount = 0
    /// Kafka partitions looked at.
    public internal(set) var partitionCount = 0
    /// Keys of requests looked at.
    public internal(set) var requestKeyCount = 0
    /// Streams whose count of bytes could not be compared, because entries were deleted meanwhile.
    public internal(set) var uncomparedStreams: [String] = []
    /// All problems.
    public internal(set) var problemCount = 0
    /// The first of them.
    public internal(set) var problems: [Problem] = []

    /// Whether there are none.
    public var isSound: Bool { problemCount == 0 }

    static let reportedCount = 100

    mutating func note(_ place: String, _ reason: String, at sequences: Range<UInt64>? = nil) {
        problemCount += 1
        guard problems.count < Self.reportedCount else { return }
        problems.append(Problem(place: place, sequences: sequences, reason: reason))
    }
}

extension JournalInspection {
    /// Reads everything and compares: all checksums and forms, the keys, the counts, batches' boundaries, dead letters.
    /// - Parameter progress: see `Progress`.
    /// - Throws: what `progress` throws; another error if the journal can't be read at all.
    public func verify(progress: (Progress) throws -> Void = { _ in }) throws -> JournalVerification {
        var result = JournalVerification()
        let states: [StreamID: StreamState]
        do {
            states = try environment.read { try JournalOpening.readStreams(tables, in: $0) }
        } catch let error as MalformedEntry {
            result.note("streams", "\(error.reason)")
            return result
        }
        do {
            result.partitionCount = try environment.read { try JournalOpening.readPartitions(tables, in: $0).count }
        } catch let error as MalformedEntry {
            result.note("partitions", "\(error.reason)")
        }
        let streams = states.values.sorted { $0.stream.id < $1.stream.id }
        for stream in streams { try verifyEntries(of: stream.stream, &result, progress) }
        try verifyOwners(Set(states.keys), &result)
        try verifySeals(streams.map(\.stream), &result)
        try verifyDeadLetters(Set(states.keys), &result, progress)
        try verifyRequests(&result, progress)
        return result
    }

    // MARK: Entries

    private func verifyEntries(
        of stream: Stream, _ result: inout JournalVerification, _ progress: (Progress) throws -> Void
    ) throws {
        let place = stream.table
        let (record, left) = try environment.read { transaction in
            (try transaction.record(of: stream.id, tables), try leftBytes(of: stream, &result, in: transaction))
        }
        guard let record else { return }
        var expected = record.trimmed
        var stored = left
        var trimmed = record.trimmed
        try forEachEntry(of: stream.id, in: record.trimmed..<record.nextSequence) { slot, bounds in
            trimmed = bounds.trimmed
            expected = max(expected, trimmed)
            if slot.sequences.lowerBound > expected {
                result.note(place, "missing", at: expected..<slot.sequences.lowerBound)
            }
            result.entryCount += 1
            result.byteCount += slot.bytes.count
            stored += UInt64(JournalFormat.storedLength(slot.bytes.count, pageSize: environment.pages.size))
            expected = verify(slot, place, &result)
            return slot.bytes.count
        } pause: { reached in
            try progress(
                Progress(table: place, sequence: reached, end: record.nextSequence, byteCount: result.byteCount))
        }
        let now = try environment.read { try $0.bounds(of: stream.id, tables) }
        trimmed = now?.trimmed ?? trimmed
        expected = max(expected, trimmed)
        if expected < record.nextSequence { result.note(place, "missing", at: expected..<record.nextSequence) }
        if trimmed != record.trimmed {
            result.uncomparedStreams.append(place)
        } else if stored != record.storedBytes {
            result.note(place, "its entries take \(stored) bytes, but its record counts \(record.storedBytes)")
        }
    }

    /// - Returns: the sequence behind it; what a missing entry would have is missing then.
    private func verify(_ slot: EntrySlot, _ place: String, _ result: inout JournalVerification) -> UInt64 {
        do throws(DamagedEntry) {
            let entry = try slot.verified()
            var cursor = entry.events
            do throws(MalformedEntry) {
                while try cursor.next() != nil {}
            } catch {
                throw slot.damaged("\(error.reason)")
            }
            result.eventCount += entry.eventCount
            return entry.sequences.upperBound
        } catch {
            result.note(place, error.reason, at: error.sequences)
            return slot.sequences.upperBound
        }
    }

    /// Bytes of entries before the stream's first one, which could not be deleted; notes entries behind its end.
    private func leftBytes(
        of stream: Stream, _ result: inout JournalVerification, in transaction: borrowing ReadTransaction
    ) throws -> UInt64 {
        guard let bounds = try transaction.bounds(of: stream.id, tables) else { return 0 }
        let cursor = try transaction.cursor(tables.entries)
        var bytes: UInt64 = 0
        var found = try cursor.seek(SequenceKey(stream.id, 0))
        while let record = found, try SequenceKey(record.key).stream == stream.id {
            let sequence = try SequenceKey(record.key).sequence
            guard sequence < bounds.trimmed else { break }
            bytes += UInt64(JournalFormat.storedLength(record.value.count, pageSize: environment.pages.size))
            result.note(
                stream.table,
                "the entry at sequence \(sequence) was delivered but can't be deleted: its page header is damaged")
            found = try cursor.next()
        }
        if let beyond = try cursor.seek(SequenceKey(stream.id, bounds.end)),
            try SequenceKey(beyond.key).stream == stream.id
        {
            let sequence = try SequenceKey(beyond.key).sequence
            result.note(stream.table, "there is an entry at sequence \(sequence), and \(bounds.end) is to come next")
        }
        return bytes
    }

    /// Entries and seals belong to streams that exist.
    private func verifyOwners(_ streams: Set<StreamID>, _ result: inout JournalVerification) throws {
        try environment.read { transaction in
            for (table, name) in [(tables.entries, "entries"), (tables.seals, "seals")] {
                let cursor = try transaction.cursor(table)
                var found = try cursor.first()
                while let record = found {
                    let stream = try SequenceKey(record.key).stream
                    // A stream that was made since is no problem.
                    if !streams.contains(stream), try transaction.bounds(of: stream, tables) == nil {
                        result.note(name, "there are records of \(stream), which does not exist")
                    }
                    guard stream.rawValue < .max else { break }
                    found = try cursor.seek(SequenceKey(StreamID(rawValue: stream.rawValue + 1), 0))
                }
            }
        }
    }

    // MARK: Other tables

    private func verifySeals(_ streams: [Stream], _ result: inout JournalVerification) throws {
        try environment.read { transaction in
            let cursor = try transaction.cursor(tables.seals)
            for stream in streams {
                guard let record = try transaction.record(of: stream.id, tables) else { continue }
                var before = record.position
                var found = try cursor.seek(SequenceKey(stream.id, 0))
                while let seal = found, try SequenceKey(seal.key).stream == stream.id {
                    let start = try SequenceKey(seal.key).sequence
                    let end: UInt64 = seal.value.count == 8 ? seal.value.loadLittleEndian(0) : 0
                    if start < before || end <= start || end > record.nextSequence {
                        let bounds = "\(before) and \(record.nextSequence)"
                        result.note(stream.table, "the batch from \(start) to \(end) is not one between \(bounds)")
                    }
                    before = max(before, end)
                    result.sealCount += 1
                    found = try cursor.next()
                }
            }
        }
    }

    private func verifyDeadLetters(
        _ streams: Set<StreamID>, _ result: inout JournalVerification, _ progress: (Progress) throws -> Void
    ) throws {
        var next: UInt64? = 0
        while let start = next {
            var end: UInt64 = 0
            next = try environment.read { transaction in
                end = try transaction.get(tables.meta, JournalFormat.nextDeadLetterKey)?.loadLittleEndian(0) ?? 1
                return try verifyDeadLetters(from: start, to: end, streams, &result, in: transaction)
            }
            try progress(Progress(table: nil, sequence: next ?? end, end: end, byteCount: result.byteCount))
        }
        try environment.read { transaction in
            let cursor = try transaction.cursor(tables.forwarding)
            var found = try cursor.first()
            while let record = found {
                let number = record.key.count == 8 ? record.key.loadBigEndianNumber() : 0
                if try transaction.get(tables.deadLetters, NumberKey(number: number)) == nil {
                    result.note("forwarding", "there is no dead letter \(number)")
                }
                found = try cursor.next()
            }
        }
    }

    /// - Returns: where to go on in another view; `nil` at the end.
    private func verifyDeadLetters(
        from start: UInt64, to end: UInt64, _ streams: Set<StreamID>, _ result: inout JournalVerification,
        in transaction: borrowing ReadTransaction
    ) throws -> UInt64? {
        let deadline = MonotonicClock.now + Self.viewNanoseconds
        var bytes = 0
        let cursor = try transaction.cursor(tables.deadLetters)
        var found = try cursor.seek(NumberKey(number: start))
        while let record = found {
            guard record.key.count == 8 else {
                result.note("dead_letters", "a key is not 8 bytes long")
                return nil
            }
            let number = record.key.loadBigEndianNumber()
            if bytes >= Self.viewBytes || MonotonicClock.now >= deadline, number > start { return number }
            do {
                let letter = try DeadLetterRecord(record.value)
                _ = try letter.letter(table: "", withPayload: false)
                if !streams.contains(letter.stream), try transaction.bounds(of: letter.stream, tables) == nil {
                    result.note("dead_letters", "letter \(number) belongs to \(letter.stream), which does not exist")
                }
            } catch let error as MalformedEntry {
                result.note("dead_letters", "letter \(number): \(error.reason)")
            } catch let error as LMDBError {
                throw error
            } catch {
                result.note("dead_letters", "letter \(number): its problem can't be decoded: \(error)")
            }
            if number >= end { result.note("dead_letters", "letter \(number) has a number that was not given yet") }
            result.deadLetterCount += 1
            bytes += record.value.count
            found = try cursor.next()
        }
        return nil
    }
}

extension UnsafeRawBufferPointer {
    func loadBigEndianNumber() -> UInt64 { UInt64(bigEndian: loadUnaligned(as: UInt64.self)) }
}

extension Transaction where Self: ~Copyable {
    fileprivate func record(of stream: StreamID, _ tables: Tables) throws -> StreamState? {
        guard let bytes = try get(tables.streams, StreamKey(stream)) else { return nil }
        return try StreamState(id: stream, record: bytes)
    }
}
