public import IngestCore
internal import Journal

/// The journal knows what was taken and what is flushed; that it is flushed soon is the flusher's part.
extension Pipeline: PartitionLedger {
    /// As the journal says.
    public func assigned(_ partition: TopicPartition, committed: Int64?) -> Int64? {
        journal.assigned(partition, committed: committed)
    }

    /// As the journal says.
    public func revoked(_ partition: TopicPartition) { journal.revoked(partition) }

    /// As the journal says.
    public func committable() -> [TopicPartition: Int64] { journal.committable() }

    /// As the journal says.
    public func isSettled(_ partition: TopicPartition) -> Bool { journal.isSettled(partition) }

    /// Sends what the streams have without waiting for full batches. The journal has told the flusher of everything
    /// that it has answered.
    public func requestFlush() { flusher.flushNow() }

    /// As the journal says.
    public func committed(_ offsets: [TopicPartition: Int64]) { journal.committed(offsets) }
}
