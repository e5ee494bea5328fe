public import IngestCore
import Dispatch
import Synchronization

/// What a commit to Kafka needs to know is kept with the events, so the journal answers for it.
extension Journal: PartitionLedger {
    /// Decides by the partition's checkpoint; see `PartitionCheckpoint.resumes`.
    public func assigned(_ partition: TopicPartition, committed: Int64?) -> Int64? {
        let checkpoint = checkpoint(of: partition) ?? PartitionCheckpoint()
        let resumes = checkpoint.resumes(at: committed)
        assignedPartitions.withLock { _ = $0.insert(partition) }
        // The writer takes commands and submissions in the order they were sent, so the messages that follow find the
        // partition assigned. Nothing is lost if this does not become durable: the next assignment decides again.
        send(.assign(partition, groupOffset: committed, resumes: resumes)) { _ in }
        return resumes ? checkpoint.end : committed
    }

    /// From now on nothing of the partition is offered for committing.
    public func revoked(_ partition: TopicPartition) {
        assignedPartitions.withLock { _ = $0.remove(partition) }
    }

    /// What is durably flushed, and durably announced as about to be committed.
    public func committable() -> [TopicPartition: Int64] {
        var offsets: [TopicPartition: Int64] = [:]
        for partition in assignedPartitions.withLock({ $0 }) {
            if let offset = checkpoint(of: partition)?.committable { offsets[partition] = offset }
        }
        return offsets
    }

    /// Whether the partition's checkpoint has nothing that a commit would have to wait for.
    public func isSettled(_ partition: TopicPartition) -> Bool { checkpoint(of: partition)?.isSettled ?? true }

    /// Does nothing: when batches are cut is decided by who reads the journal.
    public func requestFlush() {}

    /// Notes the commits durably; waits for that, a second at most.
    public func committed(_ offsets: [TopicPartition: Int64]) {
        let isDone = DispatchSemaphore(value: 0)
        send(.confirm(offsets)) { _ in isDone.signal() }
        // Waited for, because only then the next commit can be announced. If the disk hangs, the next commit is late,
        // which costs nothing.
        _ = isDone.wait(timeout: .now() + .seconds(1))
    }
}
