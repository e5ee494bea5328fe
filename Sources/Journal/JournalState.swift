import IngestCore

/// The journal's state in memory: equal to the tables `streams` and `partitions` after each commit, with what must be
/// known of the dead letters without reading them.
struct JournalState: Sendable {
    var streams: [StreamID: StreamState] = [:]
    var partitions: [TopicPartition: PartitionCheckpoint] = [:]
    /// Number that the next dead letter gets.
    var nextDeadLetter: UInt64 = 1
    var deadLetterCount = 0
    /// Bytes of the file that the dead letters take.
    var deadLetterBytes = 0
    /// Dead letters to be forwarded; 0 where forwarding is off.
    var unforwardedCount = 0
    /// Bytes that the last dead letters needed that there was no room for; 0 since some were stored.
    var missingDeadLetterBytes = 0
    /// Requests that are recognized when they come again.
    var requests = RequestState()
    /// Why the environment can't go on; the process must be restarted.
    var failure: JournalError?

    var storedBytes: Int { streams.values.reduce(0) { $0 + Int($1.storedBytes) } }
}

/// The state as it will be if the transaction commits, and which records of it changed.
struct Draft {
    var state: JournalState
    var streams: Set<StreamID> = []
    var partitions: Set<TopicPartition> = []
    var news = CommitNews()
    var addedRequestCount = 0
    var hasOtherChanges = false
    var isChanged: Bool { hasOtherChanges || !streams.isEmpty || !partitions.isEmpty }

    init(state: JournalState) { self.state = state }

    mutating func change(_ partition: TopicPartition, _ body: (inout PartitionCheckpoint) -> Void) {
        let before = state.partitions[partition] ?? PartitionCheckpoint()
        var checkpoint = before
        body(&checkpoint)
        guard checkpoint != before || state.partitions[partition] == nil else { return }
        state.partitions[partition] = checkpoint
        partitions.insert(partition)
    }
}
