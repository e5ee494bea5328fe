internal import CKafka
internal import IngestCore

/// Keeps librdkafka's queue from running dry after it was full.
///
/// Once the queue holds `queued.max.messages.kbytes` or `queued.min.messages`, a broker's thread of librdkafka 2.0.2
/// fetches nothing more and looks again when something wakes it: an answer, a request, or a second that has passed.
/// Taking messages does not wake it. So after each half of such a queue it is given a request, whose answer nobody
/// needs: a queue that was full is found with room again before it is empty.
struct FetchReminder {
    private let bytes: Int
    private let messages: Int
    private var bytesTaken = 0
    private var messagesTaken = 0

    /// - Parameters:
    ///   - maximumBytes: `queued.max.messages.kbytes`, in bytes.
    ///   - minimumMessages: `queued.min.messages`.
    init(maximumBytes: Int, minimumMessages: Int) {
        bytes = max(1, maximumBytes / 2)
        messages = max(1, minimumMessages / 2)
    }

    init(_ properties: borrowing PropertiesHandle) {
        self.init(
            maximumBytes: (Int(properties.value(of: "queued.max.messages.kbytes") ?? "") ?? 65_536) << 10,
            minimumMessages: Int(properties.value(of: "queued.min.messages") ?? "") ?? 100_000)
    }

    /// Counts what was taken from the queue.
    /// - Returns: whether it is time for a reminder.
    mutating func taken(bytes more: Int, messages count: Int) -> Bool {
        bytesTaken += more
        messagesTaken += count
        guard bytesTaken >= bytes || messagesTaken >= messages else { return false }
        bytesTaken = 0
        messagesTaken = 0
        return true
    }
}

extension ConsumerHandle {
    /// Wakes the threads of the brokers that lead these partitions. Does not block.
    ///
    /// Asks for "the offset at the time END", as where lag is asked for: that request is cheap for a broker, needs no
    /// other right than reading, and keeps its timeout (see `ConsumerLoop.queryWatermarks`). With a timeout of 0 it is
    /// sent, and its answer dropped.
    /// - Returns: how many of the partitions were asked for; those without a leader are not.
    @discardableResult
    func remindToFetch(_ partitions: [TopicPartition]) -> Int {
        guard !partitions.isEmpty else { return 0 }
        let list = PartitionList()
        for partition in partitions { list.add(partition, offset: Int64(RD_KAFKA_OFFSET_END)) }
        _ = rd_kafka_offsets_for_times(client, list.pointer, 0)
        let unknown = partitions.indices.filter { list[$0].err == RD_KAFKA_RESP_ERR__IN_PROGRESS }
        guard unknown.isEmpty else {
            // librdkafka asks nobody while it has yet to learn of one of the topics.
            let known = Set(partitions.indices).subtracting(unknown)
            return remindToFetch(known.map { partitions[$0] })
        }
        return partitions.indices.count { list[$0].err == RD_KAFKA_RESP_ERR_NO_ERROR }
    }
}
