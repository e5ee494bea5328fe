/// The tokens by which ClickHouse knows a batch that it has already (`insert_deduplication_token`).
public enum DeduplicationToken {
    /// The same for every attempt at the same events, also after a crash: it names the journal, the stream and the
    /// batch's boundaries.
    ///
    /// It also holds the checksum of the entry with the batch's last event. A journal that was restored from a copy
    /// gives sequences away that the original has used since; without the checksum other events would get a used token,
    /// and ClickHouse would drop them as a repetition. The last entry is enough: an entry that was in the copy has all
    /// entries before it in the copy as well.
    /// - Parameters:
    ///   - journal: the journal's identity.
    ///   - lastEntry: checksum of the entry that holds the last event.
    public static func text(
        journal: String, stream: StreamID, sequences: Range<UInt64>, lastEntry: UInt64
    ) -> String {
        let checksum = String(lastEntry, radix: 16)
        return "ingestd-\(journal)-\(stream.rawValue)-\(sequences.lowerBound)-\(sequences.upperBound)-\(checksum)"
    }
}
