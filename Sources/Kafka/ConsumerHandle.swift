// The consuming client and the lists that it takes. Each C object has one owner here, which destroys it.

internal import CKafka
internal import IngestCore
internal import Synchronization

/// Who serves the callbacks of a consumer; always on the poll thread.
protocol ConsumerHandler: ClientHandler {
    /// Partitions come or go.
    func rebalance(_ code: rd_kafka_resp_err_t, _ partitions: consuming PartitionList)
    /// A commit was answered.
    func commitAnswered(_ code: rd_kafka_resp_err_t, _ offsets: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?)
}

/// What a consumer's callbacks find behind their opaque pointer.
///
/// `@unchecked Sendable`: `handler` is set before the first poll and read on the poll thread only.
final class ConsumerCallbacks: ClientCallbacks, @unchecked Sendable {
    weak var handler: (any ConsumerHandler)?
    private let joins = Atomic(false)
    private let answeredAt = Atomic<UInt64>(0)
    private let joinWasAnswered = Atomic(false)
    private let wasAssigned = Atomic(false)

    /// Whether the member asks to join the group anew and does not know its generation yet. No commit may be sent
    /// then: it would wait behind that request and reach the group with the old generation, for which librdkafka 2.0.2
    /// takes all partitions as lost (mended in 2.10.0, its issue 4059).
    var isJoining: Bool { joins.load(ordering: .acquiring) }

    /// Whether the member may be about to join: it has just heard something that can make librdkafka ask for it.
    func mayJoin(at now: UInt64) -> Bool {
        isJoining || now < answeredAt.load(ordering: .acquiring) + Self.reactionTime
    }

    /// Partitions were given up. librdkafka joins the group anew when it has taken note.
    func joinFollows() { joins.store(true, ordering: .releasing) }

    /// A request was written to a broker's socket. Called by the broker's thread.
    private func requestWasSent(_ kind: Int16) {
        switch kind {
        case Self.joinGroup: joins.store(true, ordering: .releasing)
        // It bears the new generation, and so does every commit from then on.
        case Self.syncGroup: joins.store(false, ordering: .releasing)
        default: break
        }
    }

    /// An answer was read from a broker's socket. Called by the broker's thread, before librdkafka looks at it.
    private func answerWasReceived(_ kind: Int16) {
        if kind == Self.joinGroup { joinWasAnswered.store(true, ordering: .releasing) }
        guard kind == Self.heartbeat || kind == Self.syncGroup || kind == Self.metadata else { return }
        answeredAt.store(MonotonicClock.now, ordering: .releasing)
    }

    /// The member got an assignment, if only an empty one.
    func assignmentCame() { wasAssigned.store(true, ordering: .releasing) }

    /// librdkafka 2.0.2 aborts the process when a member is destroyed that has joined a group with a sticky assignor
    /// and has not had an assignment yet (mended in 2.3.0, its issue 4312).
    override var mayBeDestroyed: Bool {
        !joinWasAnswered.load(ordering: .acquiring) || wasAssigned.load(ordering: .acquiring)
    }

    /// Longest time that librdkafka is expected to take from such an answer to its request to join.
    private static let reactionTime: UInt64 = 20_000_000

    // Numbers of Kafka's protocol.
    private static let metadata: Int16 = 3
    private static let joinGroup: Int16 = 11
    private static let heartbeat: Int16 = 12
    private static let syncGroup: Int16 = 14

    override var clientHandler: (any ClientHandler)? { handler }

    override func register(in properties: borrowing PropertiesHandle) {
        super.register(in: properties)
        rd_kafka_conf_interceptor_add_on_new(
            properties.pointer, "joins",
            { client, _, context, _, _ in
                rd_kafka_interceptor_add_on_request_sent(
                    client, "joins",
                    { _, _, _, _, kind, _, _, _, context in
                        ConsumerCallbacks.borrow(context!).requestWasSent(kind)
                        return RD_KAFKA_RESP_ERR_NO_ERROR
                    }, context)
                return rd_kafka_interceptor_add_on_response_received(
                    client, "joins",
                    { _, _, _, _, kind, _, _, _, _, _, context in
                        ConsumerCallbacks.borrow(context!).answerWasReceived(kind)
                        return RD_KAFKA_RESP_ERR_NO_ERROR
                    }, context)
            }, Unmanaged.passUnretained(self).toOpaque())
        rd_kafka_conf_set_rebalance_cb(properties.pointer) { _, code, partitions, context in
            guard let handler = ConsumerCallbacks.borrow(context!).handler else { return }
            if let partitions {
                handler.rebalance(code, PartitionList(copying: partitions))
            } else {
                handler.rebalance(code, PartitionList())
            }
        }
    }
}

/// Owns a consuming client. Except for creation, used by one thread.
struct ConsumerHandle: ~Copyable {
    private let base: ClientHandle

    var client: OpaquePointer { base.pointer }

    /// Makes the client. It connects by itself, in the background.
    /// - Throws: `KafkaConfigurationError` for settings that don't go together, or files that can't be read.
    init(properties: consuming PropertiesHandle, callbacks: ConsumerCallbacks?) throws(KafkaConfigurationError) {
        base = try ClientHandle(RD_KAFKA_CONSUMER, properties: properties, callbacks: callbacks)
    }

    /// Why the client can only be destroyed, after it has raised a fatal error.
    var fatalReason: String { base.fatalReason }

    /// Joins the group.
    func subscribe(_ topics: [String]) throws(KafkaFailure) {
        let list = PartitionList()
        for topic in topics { list.add(TopicPartition(topic: topic, partition: -1), offset: nil) }
        let code = rd_kafka_subscribe(client, list.pointer)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else { throw KafkaFailure("can't subscribe", code) }
    }

    /// The next message or error, after serving callbacks; `nil` if there is none. Never waits.
    ///
    /// One at a time, not with `rd_kafka_consume_batch_queue`: during a rebalance librdkafka 2.0.2 removes messages
    /// from a batch that it has counted as consumed, so they are never seen (fixed in 2.2.0, its issue 4208), and
    /// messages of a partition's earlier assignment can be in one batch with those of the next. Costs about 70 ns a
    /// message more.
    func poll() -> UnsafeMutablePointer<rd_kafka_message_t>? { rd_kafka_consume_queue(base.queue, 0) }

    /// Sends offsets to the group coordinator; the answer comes to `ConsumerHandler.commitAnswered`.
    func commit(_ offsets: borrowing PartitionList, context: ConsumerCallbacks) -> rd_kafka_resp_err_t {
        // Served by `poll`, so on the poll thread, while `ClientHandle` keeps the context alive. If the client is
        // destroyed before the answer comes, it is not called.
        rd_kafka_commit_queue(
            client, offsets.pointer, base.queue,
            { _, code, offsets, context in ConsumerCallbacks.borrow(context!).handler?.commitAnswered(code, offsets) },
            Unmanaged.passUnretained(context).toOpaque())
    }

    /// Sends offsets to the group coordinator and waits for the answer, serving nothing else.
    /// (`rd_kafka_commit` would wait without limit.)
    func commitAndWait(
        _ offsets: borrowing PartitionList, timeoutMilliseconds: Int,
        answer: (rd_kafka_resp_err_t, UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?) -> Void
    ) {
        let replies = rd_kafka_queue_new(client)!
        defer { rd_kafka_queue_destroy(replies) }
        let code = rd_kafka_commit_queue(client, offsets.pointer, replies, nil, nil)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else { return answer(code, nil) }
        guard let event = rd_kafka_queue_poll(replies, Int32(timeoutMilliseconds)) else {
            return answer(RD_KAFKA_RESP_ERR__TIMED_OUT, nil)
        }
        defer { rd_kafka_event_destroy(event) }
        answer(rd_kafka_event_error(event), rd_kafka_event_topic_partition_list(event))
    }

    /// Leaves the group: serves the last revocation through the callbacks. Returns when done or at the deadline.
    /// - Returns: whether the group was left.
    func close(until deadline: UInt64) -> Bool {
        let events = rd_kafka_queue_new(client)!
        defer { rd_kafka_queue_destroy(events) }
        if let error = rd_kafka_consumer_close_queue(client, events) {
            rd_kafka_error_destroy(error)
            return false
        }
        while rd_kafka_consumer_closed(client) == 0 {
            guard MonotonicClock.now < deadline else { return false }
            if let message = rd_kafka_consume_queue(events, 50) { rd_kafka_message_destroy(message) }
        }
        return true
    }
}

/// Owns an `rd_kafka_topic_partition_list_t`.
struct PartitionList: ~Copyable {
    let pointer: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>

    init() { pointer = rd_kafka_topic_partition_list_new(8) }

    init(copying other: UnsafePointer<rd_kafka_topic_partition_list_t>) {
        pointer = rd_kafka_topic_partition_list_copy(other)
    }

    deinit { rd_kafka_topic_partition_list_destroy(pointer) }

    var count: Int { Int(pointer.pointee.cnt) }

    /// Adds a partition with an offset; `nil` stands for none.
    func add(_ partition: TopicPartition, offset: Int64?) {
        let element = rd_kafka_topic_partition_list_add(pointer, partition.topic, partition.partition)!
        element.pointee.offset = offset ?? Int64(RD_KAFKA_OFFSET_INVALID)
    }

    subscript(index: Int) -> rd_kafka_topic_partition_t {
        get { pointer.pointee.elems[index] }
        nonmutating set { pointer.pointee.elems[index] = newValue }
    }

    /// The partitions without their offsets.
    var partitions: [TopicPartition] { (0..<count).map { TopicPartition(self[$0]) } }
}

extension TopicPartition {
    init(_ element: rd_kafka_topic_partition_t) {
        self.init(topic: String(cString: element.topic), partition: element.partition)
    }
}
