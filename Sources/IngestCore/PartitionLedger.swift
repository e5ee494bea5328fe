/// A partition of a Kafka topic.
public struct TopicPartition: Hashable, Sendable, CustomStringConvertible {
    /// The topic's name.
    public let topic: String
    /// The partition's number.
    public let partition: Int32

    /// Pairs them.
    public init(topic: String, partition: Int32) {
        self.topic = topic
        self.partition = partition
    }

    /// `topic/partition`, for logs.
    public var description: String { "\(topic)/\(partition)" }
}

/// Knows, for each partition, what the journal holds and what is flushed: decides where consuming starts and what
/// may be committed. Implemented by the pipeline; asked by the Kafka source from its poll thread.
public protocol PartitionLedger: Sendable {
    /// A partition was assigned to this process.
    /// - Parameter committed: the group's committed offset, or `nil` if it has none.
    /// - Returns: the offset to start from; `nil` leaves it to the consumer's `auto.offset.reset`.
    func assigned(_ partition: TopicPartition, committed: Int64?) -> Int64?

    /// The partition belongs to someone else from now on: nothing of it may be committed any more.
    func revoked(_ partition: TopicPartition)

    /// Offsets to commit now (next offset to consume): everything before each is in ClickHouse or is a dead letter,
    /// and the journal durably knows that this commit is about to happen. Only what moved since `committed`.
    func committable() -> [TopicPartition: Int64]

    /// Whether everything that was taken from the partition, and answered, is in ClickHouse or is a dead letter, so
    /// that a commit need not wait for more. True for a partition that nothing was taken from.
    func isSettled(_ partition: TopicPartition) -> Bool

    /// Partitions are about to be given up, which waits for what they still have on its way: it should be flushed now,
    /// without waiting for full batches. Does not block.
    func requestFlush()

    /// The group has these offsets now. May block for the time of a journal commit, a second at most: what
    /// `committable` returns afterwards takes it into account.
    func committed(_ offsets: [TopicPartition: Int64])
}
