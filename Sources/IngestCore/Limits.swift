/// Bounds that belong together, in one place. What an operator may want to change is configuration and only has its
/// fixed outer bounds here.
public enum Limits {
    /// Bytes of event records packed into one journal entry. A single larger event gets an entry of its own.
    public static let entryBytes = 1 << 20
    /// Bytes of one event's payload. The record's length field would allow 4 GiB.
    public static let eventBytes = 32 << 20
    /// Bytes of an event id, whether from the payload, a header or the key of a request.
    public static let eventIDBytes = 1_024
    /// Nesting depth of an event's JSON.
    public static let jsonDepth = 256
    /// Bytes of a Kafka message's key and headers that are kept with the event.
    public static let kafkaMetadataBytes = 1 << 20
    /// Bytes that may wait for the journal's writer, over all sources, before it answers `overloaded`.
    public static let queuedBytes = 64 << 20
    /// Bytes of entries written in one journal transaction.
    public static let transactionBytes = 16 << 20
    /// Bad events that a rejected request names one by one.
    public static let reportedProblems = 20
    /// Bad events of one request that can become dead letters. Each costs about a KiB beside its payload, and a body of
    /// 32 MiB has room for 16 million.
    public static let requestDeadLetters = 10_000
    /// Bytes kept of an error message that came from a server.
    public static let errorMessageBytes = 4_096
}
