public import IngestCore

/// What a walk over stored events came to.
public struct EventExport: Sendable, Equatable {
    /// Events that were passed on.
    public internal(set) var eventCount = 0
    /// Damaged entries that were passed over.
    public internal(set) var damagedCount = 0
    /// The first of them.
    public internal(set) var damaged: [DamagedEntry] = []

    static let reportedCount = 100
}

extension JournalInspection {
    /// Passes the stored events of a stream on, in order. What is deleted meanwhile is left out, as are damaged
    /// entries; the result names those.
    /// - Parameters:
    ///   - sequences: only events with these numbers; `nil` for all up to the last at the time of the call.
    ///   - receivedAt: only events of entries received at these times, milliseconds since 1970 UTC.
    ///   - progress: see `Progress`.
    ///   - body: gets a copy of the journal's bytes, valid during the call; may take its time.
    /// - Throws: what the callbacks throw; another error if the journal can't be read.
    public func events(
        of stream: StreamID, sequences: Range<UInt64>? = nil, receivedAt: Range<Int64>? = nil,
        progress: (Progress) throws -> Void = { _ in }, body: (EventView, EntryView) throws -> Void
    ) throws -> EventExport {
        guard let record = try snapshot().streams[stream] else { return EventExport() }
        let all = record.trimmed..<record.nextSequence
        let wanted = sequences.map { $0.clamped(to: all) } ?? all
        var export = EventExport()
        var byteCount = 0
        var copies: [(sequences: Range<UInt64>, bytes: [UInt8])] = []
        try forEachEntry(of: stream, in: wanted) { slot, bounds in
            // An entry whose header makes no sense is reported, whenever it was received.
            if let receivedAt, case .success(let entry) = Result(catching: { try slot.header() }),
                !receivedAt.contains(entry.receivedAt)
            {
                return EntryView.headerLength
            }
            copies.append((slot.sequences, Array(slot.bytes)))
            return slot.bytes.count
        } pause: { reached in
            for copy in copies {
                try copy.bytes.withUnsafeBytes {
                    try export.add(
                        EntrySlot(stream: stream, sequences: copy.sequences, bytes: $0), wanted, body)
                }
                byteCount += copy.bytes.count
            }
            copies.removeAll(keepingCapacity: true)
            try progress(
                Progress(
                    table: record.stream.table, sequence: reached, end: wanted.upperBound, byteCount: byteCount))
        }
        return export
    }
}

extension EventExport {
    fileprivate mutating func add(
        _ slot: EntrySlot, _ wanted: Range<UInt64>, _ body: (EventView, EntryView) throws -> Void
    ) throws {
        let entry: EntryView
        do throws(DamagedEntry) {
            entry = try slot.verified()
        } catch {
            return note(error)
        }
        var cursor = entry.events
        while true {
            let event: EventView?
            do throws(MalformedEntry) {
                event = try cursor.next()
            } catch {
                return note(slot.damaged("\(error.reason)"))
            }
            guard let event else { return }
            guard wanted.contains(event.sequence) else { continue }
            try body(event, entry)
            eventCount += 1
        }
    }

    private mutating func note(_ damage: DamagedEntry) {
        damagedCount += 1
        if damaged.count < Self.reportedCount { damaged.append(damage) }
    }
}
