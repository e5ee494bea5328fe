// Each C object of librdkafka has one owner here, which destroys it.

internal import CKafka
internal import IngestCore

/// librdkafka could not do something. Temporary troubles it mends by itself; what is thrown as this ends the client,
/// and the supervisor makes a new one.
struct KafkaFailure: Error, CustomStringConvertible {
    /// What was attempted.
    let action: StaticString
    /// librdkafka's words.
    let reason: String

    var description: String { "\(action): \(reason)" }

    init(_ action: StaticString, _ reason: String) {
        self.action = action
        self.reason = reason
    }

    init(_ action: StaticString, _ code: rd_kafka_resp_err_t) { self.init(action, words(for: code)) }
}

/// librdkafka's words for an error code.
func words(for code: rd_kafka_resp_err_t) -> String { String(cString: rd_kafka_err2str(code)) }

/// Owns an `rd_kafka_conf_t` until a client is made from it.
struct PropertiesHandle: ~Copyable {
    fileprivate let pointer: OpaquePointer

    init() { pointer = rd_kafka_conf_new() }

    deinit { rd_kafka_conf_destroy(pointer) }

    /// Sets one property.
    /// - Throws: what librdkafka says about an unknown name or a value out of range.
    func set(_ name: String, _ value: String) throws(KafkaConfigurationError) {
        var reason = ""
        let result = withErrorText(&reason) { rd_kafka_conf_set(pointer, name, value, $0, $1) }
        guard result == RD_KAFKA_CONF_OK else { throw KafkaConfigurationError(property: name, reason: reason) }
    }

    /// Registers the callbacks. librdkafka calls `log` from any of its threads, the others only from
    /// `ConsumerHandle.poll` and `ConsumerHandle.close`, on the thread that calls these. All get `context`, which the
    /// `ConsumerHandle` keeps alive until the client is destroyed.
    fileprivate func register(_ context: UnsafeMutableRawPointer) {
        rd_kafka_conf_set_opaque(pointer, context)
        rd_kafka_conf_set_log_cb(pointer) { client, level, facility, text in
            // A client that failed to be made logs before it can be asked for its context.
            guard let client, let context = rd_kafka_opaque(client), let text else { return }
            let callbacks = ConsumerCallbacks.borrow(context)
            callbacks.log(level, facility.map { String(cString: $0) } ?? "", String(cString: text))
        }
        rd_kafka_conf_set_error_cb(pointer) { _, code, text, context in
            let callbacks = ConsumerCallbacks.borrow(context!)
            callbacks.handler?.clientError(rd_kafka_resp_err_t(code), text.map { String(cString: $0) } ?? "")
        }
        rd_kafka_conf_set_rebalance_cb(pointer) { _, code, partitions, context in
            let callbacks = ConsumerCallbacks.borrow(context!)
            guard let handler = callbacks.handler else { return }
            if let partitions {
                handler.rebalance(code, PartitionList(copying: partitions))
            } else {
                handler.rebalance(code, PartitionList())
            }
        }
    }

    /// Passes the configuration to `rd_kafka_new`, which owns it if it succeeds.
    fileprivate consuming func makeConsumer() throws(KafkaConfigurationError) -> OpaquePointer {
        var reason = ""
        let client = withErrorText(&reason) { rd_kafka_new(RD_KAFKA_CONSUMER, pointer, $0, $1) }
        guard let client else {
            // Still ours: `deinit` destroys it.
            _ = consume self
            throw KafkaConfigurationError(property: nil, reason: reason)
        }
        discard self
        return client
    }
}

/// Calls `body` with a buffer for an error text and moves the text to `text`.
private func withErrorText<Result>(_ text: inout String, _ body: (UnsafeMutablePointer<CChar>, Int) -> Result) -> Result
{
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 512) { buffer in
        buffer.initialize(repeating: 0)
        let result = body(buffer.baseAddress!, buffer.count)
        text = String(cString: buffer.baseAddress!)
        return result
    }
}

/// Who serves the callbacks of a client; always on the poll thread.
protocol ConsumerHandler: AnyObject {
    /// Something is wrong with brokers or the client. librdkafka retries by itself unless `code` is fatal.
    func clientError(_ code: rd_kafka_resp_err_t, _ text: String)
    /// Partitions come or go.
    func rebalance(_ code: rd_kafka_resp_err_t, _ partitions: consuming PartitionList)
    /// A commit was answered.
    func commitAnswered(_ code: rd_kafka_resp_err_t, _ offsets: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?)
}

/// What a client's callbacks find behind their opaque pointer.
///
/// `@unchecked Sendable`: `handler` is set before the first poll and read on the poll thread only; the closures are
/// called from librdkafka's threads and are `@Sendable`.
final class ConsumerCallbacks: @unchecked Sendable {
    /// Level (syslog's numbers), facility, text.
    let log: @Sendable (Int32, String, String) -> Void
    /// The consumer queue was empty and is not any more. Must not call librdkafka (its queue lock is held).
    let wake: @Sendable () -> Void
    weak var handler: (any ConsumerHandler)?

    init(log: @escaping @Sendable (Int32, String, String) -> Void, wake: @escaping @Sendable () -> Void) {
        self.log = log
        self.wake = wake
    }

    fileprivate static func borrow(_ context: UnsafeMutableRawPointer) -> ConsumerCallbacks {
        Unmanaged<ConsumerCallbacks>.fromOpaque(context).takeUnretainedValue()
    }
}

/// Owns a consuming client. Except for creation, used by one thread.
struct ConsumerHandle: ~Copyable {
    let client: OpaquePointer
    /// All of the client's events: messages of all partitions, rebalances, errors, answers to commits.
    private let queue: OpaquePointer
    private let callbacks: Unmanaged<ConsumerCallbacks>?

    /// Makes the client. It connects by itself, in the background.
    /// - Throws: `KafkaConfigurationError` for settings that don't go together, or files that can't be read.
    init(properties: consuming PropertiesHandle, callbacks: ConsumerCallbacks?) throws(KafkaConfigurationError) {
        // Retained for librdkafka until `rd_kafka_destroy` has returned; released here if there will be no client.
        let context = callbacks.map { Unmanaged.passRetained($0) }
        if let context { properties.register(context.toOpaque()) }
        do {
            client = try properties.makeConsumer()
        } catch {
            context?.release()
            throw error
        }
        self.callbacks = context
        rd_kafka_poll_set_consumer(client)
        queue = rd_kafka_queue_get_consumer(client)
        if let context {
            rd_kafka_queue_cb_event_enable(
                queue, { _, context in ConsumerCallbacks.borrow(context!).wake() }, context.toOpaque())
        }
    }

    deinit {
        rd_kafka_queue_cb_event_enable(queue, nil, nil)
        rd_kafka_queue_destroy(queue)
        // Whoever wanted to leave the group in order has called `close`. This must not wait for callbacks.
        // Without a coordinator librdkafka still waits for unanswered commits, up to `session.timeout.ms`: on a
        // thread of its own, so that neither a restart nor the end of the process is held up for longer than this.
        let release = ClientRelease(client: client, callbacks: callbacks)
        let isDone = Mailbox<Void>()
        _ = DedicatedThread(name: "kafka-release") {
            release.run()
            isDone.send(())
        }
        var done: [Void] = []
        _ = isDone.receive(into: &done, until: MonotonicClock.now + 1_000_000_000)
    }

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
    func poll() -> UnsafeMutablePointer<rd_kafka_message_t>? { rd_kafka_consume_queue(queue, 0) }

    /// Sends offsets to the group coordinator; the answer comes to `ConsumerHandler.commitAnswered`.
    func commit(_ offsets: borrowing PartitionList, context: ConsumerCallbacks) -> rd_kafka_resp_err_t {
        // Served by `poll`, so on the poll thread, while `self.callbacks` keeps the context alive. If the client is
        // destroyed before the answer comes, it is not called.
        rd_kafka_commit_queue(
            client, offsets.pointer, queue,
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

/// A client on its way out. `@unchecked Sendable`: nothing else has it any more.
private struct ClientRelease: @unchecked Sendable {
    let client: OpaquePointer
    let callbacks: Unmanaged<ConsumerCallbacks>?

    func run() {
        rd_kafka_destroy_flags(client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE)
        callbacks?.release()
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
