import IngestCore

/// Turns submissions into entries as large as `PageSupply` says: HTTP submissions of one stream that stand next to each
/// other in a group share entries; a large one is parted. Kafka submissions keep entries of their own, because an
/// entry names one range of offsets.
///
/// The records are copied once, into the page that LMDB reserved.
struct EntryPacker {
    private let tables: Tables
    private let pageSize: Int
    /// Number of pages that the file had when the transaction began.
    private let fileEnd: Int
    /// To be kept for the next transaction when this one is committed.
    private(set) var supply: PageSupply
    private var stream: StreamID?
    private var firstSequence: UInt64 = 0
    private var receivedAt: Int64 = 0
    private var eventCount = 0
    private var byteCount = 0
    private var pieces: [(owner: EventBuffer, records: UnsafeRawBufferPointer)] = []

    init(tables: Tables, pages: (size: Int, count: Int), supply: PageSupply) {
        self.tables = tables
        pageSize = pages.size
        fileEnd = pages.count
        self.supply = supply
    }

    /// Adds a submission's events.
    /// - Returns: bytes of the file taken by entries of its stream that were written now.
    mutating func add(
        _ submission: Submission, firstSequence: UInt64, in transaction: borrowing WriteTransaction
    ) throws -> Int {
        let events = submission.events
        let limit = supply.recordBytes(submission.origin)
        if case .http = submission.origin, events.byteCount <= limit {
            var written = 0
            if stream != submission.stream || byteCount + events.byteCount > limit {
                // What is pending may belong to another stream: its bytes are reported by `finish`.
                written = try close(in: transaction, reportingFor: submission.stream)
            }
            if stream == nil {
                stream = submission.stream
                self.firstSequence = firstSequence
                receivedAt = submission.receivedAt
            }
            pieces.append((events, events.records))
            eventCount += events.eventCount
            byteCount += events.byteCount
            return written
        }
        var written = try close(in: transaction, reportingFor: submission.stream)
        written += try writeAlone(submission, firstSequence: firstSequence, in: transaction)
        return written
    }

    /// Writes what is pending.
    /// - Returns: bytes of the file taken since the last report, by stream.
    mutating func finish(in transaction: borrowing WriteTransaction) throws -> [StreamID: Int] {
        _ = try close(in: transaction, reportingFor: nil)
        defer { unreported = [:] }
        return unreported
    }

    private var unreported: [StreamID: Int] = [:]

    private mutating func close(
        in transaction: borrowing WriteTransaction, reportingFor reported: StreamID?
    ) throws -> Int {
        guard let stream else { return 0 }
        let entry = try Self.write(
            pieces.lazy.map(\.records), origin: .http, eventCount: eventCount, firstSequence: firstSequence,
            receivedAt: receivedAt, stream: stream, tables: tables, in: transaction)
        try note(entry, in: transaction)
        let stored = JournalFormat.storedLength(entry.count, pageSize: pageSize)
        pieces.removeAll(keepingCapacity: true)
        self.stream = nil
        eventCount = 0
        byteCount = 0
        if stream == reported { return stored }
        unreported[stream, default: 0] += stored
        return 0
    }

    private mutating func note(
        _ entry: UnsafeRawBufferPointer, in transaction: borrowing WriteTransaction
    ) throws {
        try supply.noteEntry(entry, fileEnd: fileEnd) {
            try transaction.heldPageCount(tables) + transaction.freeListPageCount()
        }
    }

    private mutating func writeAlone(
        _ submission: Submission, firstSequence: UInt64, in transaction: borrowing WriteTransaction
    ) throws -> Int {
        let events = submission.events
        guard events.byteCount > supply.recordBytes(submission.origin) else {
            // The common case: no look at each record.
            let entry = try Self.write(
                CollectionOfOne(events.records), origin: submission.origin, eventCount: events.eventCount,
                firstSequence: firstSequence, receivedAt: submission.receivedAt, stream: submission.stream,
                tables: tables, in: transaction)
            try note(entry, in: transaction)
            return JournalFormat.storedLength(entry.count, pageSize: pageSize)
        }
        var written = 0
        var sequence = firstSequence
        var records = RecordRuns(submission.events)
        while let run = records.next(limit: supply.recordBytes(submission.origin)) {
            let entry = try Self.write(
                CollectionOfOne(run.records), origin: records.origin(of: run, in: submission),
                eventCount: run.eventCount, firstSequence: sequence, receivedAt: submission.receivedAt,
                stream: submission.stream, tables: tables, in: transaction)
            try note(entry, in: transaction)
            written += JournalFormat.storedLength(entry.count, pageSize: pageSize)
            sequence += UInt64(run.eventCount)
        }
        return written
    }

    /// Writes an entry behind the stream's last.
    /// - Returns: the entry, until the transaction goes on.
    static func write(
        _ pieces: some Collection<UnsafeRawBufferPointer>, origin: EventOrigin, eventCount: Int,
        firstSequence: UInt64, receivedAt: Int64, stream: StreamID, tables: Tables,
        in transaction: borrowing WriteTransaction
    ) throws -> UnsafeRawBufferPointer {
        let length =
            EntryView.headerLength + EntryView.sourceLength(of: origin) + pieces.reduce(0) { $0 + $1.count }
        let target = try transaction.reserve(tables.entries, SequenceKey(stream, firstSequence), length)
        fill(
            target, with: pieces, origin: origin, eventCount: eventCount, firstSequence: firstSequence,
            receivedAt: receivedAt, stream: stream)
        return UnsafeRawBufferPointer(target)
    }

    /// Writes an entry into room of exactly its length.
    static func fill(
        _ target: UnsafeMutableRawBufferPointer, with pieces: some Collection<UnsafeRawBufferPointer>,
        origin: EventOrigin, eventCount: Int, firstSequence: UInt64, receivedAt: Int64, stream: StreamID
    ) {
        var offset = EntryView.writeHeader(
            into: target, origin: origin, eventCount: eventCount, firstSequence: firstSequence,
            receivedAt: receivedAt)
        for piece in pieces {
            UnsafeMutableRawBufferPointer(rebasing: target[offset...]).copyMemory(from: piece)
            offset += piece.count
        }
        target.storeLittleEndian(Checksum.compute(UnsafeRawBufferPointer(target), stream: stream), 0)
    }
}

/// Parts a buffer's records into runs; an event that is larger than a run may be is one of its own.
private struct RecordRuns {
    private var rest: UnsafeRawBufferPointer
    private var isFirst = true

    init(_ events: EventBuffer) { rest = events.records }

    /// - Parameter limit: bytes that the run may have.
    mutating func next(
        limit: Int
    ) -> (records: UnsafeRawBufferPointer, eventCount: Int, isLast: Bool, firstOffset: Int64)? {
        guard !rest.isEmpty else { return nil }
        var length = 0
        var count = 0
        while length < rest.count {
            let record = EventRecord.length(at: UnsafeRawBufferPointer(rebasing: rest[length...]))
            if count > 0 && length + record > limit { break }
            length += record
            count += 1
        }
        let run = UnsafeRawBufferPointer(rebasing: rest[..<length])
        rest = UnsafeRawBufferPointer(rebasing: rest[length...])
        return (run, count, rest.isEmpty, EventRecord.kafkaOffset(at: run) ?? 0)
    }

    /// Each part of a Kafka submission covers the offsets up to the next part's first event.
    mutating func origin(
        of run: (records: UnsafeRawBufferPointer, eventCount: Int, isLast: Bool, firstOffset: Int64),
        in submission: Submission
    ) -> EventOrigin {
        guard case .kafka(let partition, let offsets) = submission.origin else { return .http }
        defer { isFirst = false }
        let lower = isFirst ? offsets.lowerBound : run.firstOffset
        let upper = run.isLast ? offsets.upperBound : EventRecord.kafkaOffset(at: rest) ?? offsets.upperBound
        return .kafka(partition, offsets: lower..<upper)
    }
}
