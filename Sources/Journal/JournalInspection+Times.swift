public import IngestCore

extension JournalInspection {
    /// The run of stored events that holds all entries of a stream that were received at these times: from the first
    /// such entry to the last. Entries in between can be of other times, where the clock was set or sources differ.
    /// Reads headers only; damaged ones are passed over.
    /// - Parameters:
    ///   - receivedAt: milliseconds since 1970 UTC.
    ///   - progress: see `Progress`.
    /// - Returns: `nil` if there are none.
    /// - Throws: what `progress` throws; another error if the journal can't be read.
    public func sequences(
        of stream: StreamID, receivedAt: Range<Int64>, progress: (Progress) throws -> Void = { _ in }
    ) throws -> Range<UInt64>? {
        guard let record = try snapshot().streams[stream] else { return nil }
        var found: Range<UInt64>?
        var byteCount = 0
        try forEachEntry(of: stream, in: record.trimmed..<record.nextSequence) { slot, _ in
            byteCount += slot.bytes.count
            if case .success(let entry) = Result(catching: { try slot.header() }),
                receivedAt.contains(entry.receivedAt)
            {
                found = (found?.lowerBound ?? slot.sequences.lowerBound)..<slot.sequences.upperBound
            }
            return EntryView.headerLength
        } pause: { reached in
            try progress(
                Progress(
                    table: record.stream.table, sequence: reached, end: record.nextSequence, byteCount: byteCount))
        }
        return found
    }
}
