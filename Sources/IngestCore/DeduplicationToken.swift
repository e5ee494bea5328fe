/// The tokens by which ClickHouse knows a batch that it has already (`insert_deduplication_token`).
public enum DeduplicationToken {
    /// The same for every attempt at the same events, also after a crash: it names the journal, the stream and the
    /// batch's boundaries.
    /// - Parameter journal: the journal's identity.
    public static func text(journal: String, stream: StreamID, sequences: Range<UInt64>) -> String {
        "ingestd-\(journal)-\(stream.rawValue)-\(sequences.lowerBound)-\(sequences.upperBound)"
    }
}
