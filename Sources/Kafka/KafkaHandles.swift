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
    /// For metrics.
    let cause: Cause

    /// What made a new client necessary; its name is a metric's label.
    enum Cause: String, CaseIterable {
        /// librdkafka has raised a fatal error.
        case fatal
        /// Partitions could not be taken over or given up.
        case rebalance
        /// A partition has no valid offset to start from, and none may be chosen.
        case offset
        /// A call of the client failed.
        case client
        /// The settings, or the files that they name, make no client.
        case configuration
    }

    var description: String { "\(action): \(reason)" }

    init(_ action: StaticString, _ reason: String, _ cause: Cause = .client) {
        self.action = action
        self.reason = reason
        self.cause = cause
    }

    init(_ action: StaticString, _ code: rd_kafka_resp_err_t, _ cause: Cause = .client) {
        self.init(action, words(for: code), cause)
    }
}

/// librdkafka's words for an error code.
func words(for code: rd_kafka_resp_err_t) -> String { String(cString: rd_kafka_err2str(code)) }

/// Owns an `rd_kafka_conf_t` until a client is made from it.
struct PropertiesHandle: ~Copyable {
    let pointer: OpaquePointer
    /// Retained by this handle. (`discard self` does not let it have a plain reference.)
    private let retainedWords: Unmanaged<KafkaSettingWords>

    /// - Parameter words: makes texts about the settings ones for operators.
    init(words: KafkaSettingWords = KafkaSecurity().words(with: [])) {
        pointer = rd_kafka_conf_new()
        retainedWords = .passRetained(words)
    }

    deinit {
        rd_kafka_conf_destroy(pointer)
        retainedWords.release()
    }

    fileprivate var words: KafkaSettingWords { retainedWords.takeUnretainedValue() }

    /// Sets one property.
    /// - Throws: what librdkafka says about an unknown name or a value out of range.
    func set(_ name: String, _ value: String) throws(KafkaConfigurationError) {
        var reason = ""
        let result = withErrorText(&reason) { rd_kafka_conf_set(pointer, name, value, $0, $1) }
        guard result == RD_KAFKA_CONF_OK else {
            throw words.explain(KafkaConfigurationError(property: name, reason: reason))
        }
    }

    /// Settings of ours that replace the properties of the same meaning: set twice, one would silently lose.
    static let settingNames: [String: String] = [
        "bootstrap.servers": "is set by the bootstrap servers setting, not here",
        "metadata.broker.list": "is set by the bootstrap servers setting, not here",
    ]

    /// Sets the user's properties in order.
    /// - Parameter refusing: names that can't be set this way, with the reason.
    func set(
        _ properties: [(name: String, value: String)], refusing reasons: [String: String]
    ) throws(KafkaConfigurationError) {
        for (name, value) in properties {
            if let reason = reasons[name] { throw KafkaConfigurationError(property: name, reason: reason) }
            try set(name, value)
        }
    }

    /// A property's value as librdkafka will use it; `nil` if it has none.
    func value(of name: String) -> String? {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 1_024) { buffer in
            buffer.initialize(repeating: 0)
            var size = buffer.count
            guard rd_kafka_conf_get(pointer, name, buffer.baseAddress, &size) == RD_KAFKA_CONF_OK else { return nil }
            return String(cString: buffer.baseAddress!)
        }
    }

    /// Passes the configuration to `rd_kafka_new`, which owns it if it succeeds.
    fileprivate consuming func makeClient(_ type: rd_kafka_type_t) throws(KafkaConfigurationError) -> OpaquePointer {
        var reason = ""
        let client = withErrorText(&reason) { rd_kafka_new(type, pointer, $0, $1) }
        guard let client else {
            // Still ours: `deinit` destroys it.
            let error = words.explain(KafkaConfigurationError(property: nil, reason: reason))
            _ = consume self
            throw error
        }
        retainedWords.release()
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

/// Who serves the callbacks of a client; always on the thread that polls it.
protocol ClientHandler: AnyObject {
    /// Something is wrong with brokers or the client. librdkafka retries by itself unless `code` is fatal.
    func clientError(_ code: rd_kafka_resp_err_t, _ text: String)
}

/// What a client's callbacks find behind their opaque pointer.
///
/// `@unchecked Sendable`: the closures are called from librdkafka's threads and are `@Sendable`; what a subclass adds
/// is set before the first poll and read on the polling thread only.
class ClientCallbacks: @unchecked Sendable {
    /// Level (syslog's numbers), facility, text.
    let log: @Sendable (Int32, String, String) -> Void
    /// The client's queue was empty and is not any more. Must not call librdkafka (its queue lock is held).
    let wake: @Sendable () -> Void
    /// Takes secrets out of librdkafka's texts. Set before the client is made.
    fileprivate var redaction = SecretRedaction(secrets: [])

    init(log: @escaping @Sendable (Int32, String, String) -> Void, wake: @escaping @Sendable () -> Void) {
        self.log = log
        self.wake = wake
    }

    /// Who gets the client's errors.
    var clientHandler: (any ClientHandler)? { nil }

    /// Whether destroying the client is safe now; if not it is left alone until the process ends.
    var mayBeDestroyed: Bool { true }

    /// Registers the callbacks. librdkafka calls `log` from any of its threads, the others only from functions that
    /// serve the client's queue, on the thread that calls these. All get this object's address, which `ClientHandle`
    /// keeps alive until the client is destroyed.
    func register(in properties: borrowing PropertiesHandle) {
        rd_kafka_conf_set_opaque(properties.pointer, Unmanaged.passUnretained(self).toOpaque())
        rd_kafka_conf_set_log_cb(properties.pointer) { client, level, facility, text in
            // A client that failed to be made logs before it can be asked for its context.
            guard let client, let context = rd_kafka_opaque(client), let text else { return }
            let callbacks = ClientCallbacks.borrow(context)
            callbacks.log(
                level, facility.map { String(cString: $0) } ?? "", callbacks.redaction.text(String(cString: text)))
        }
        rd_kafka_conf_set_error_cb(properties.pointer) { _, code, text, context in
            let callbacks = ClientCallbacks.borrow(context!)
            callbacks.clientHandler?.clientError(
                rd_kafka_resp_err_t(code), callbacks.redaction.text(text.map { String(cString: $0) } ?? ""))
        }
    }

    /// The object behind a context; `self` must be the class that registered it.
    static func borrow(_ context: UnsafeMutableRawPointer) -> Self {
        Unmanaged<Self>.fromOpaque(context).takeUnretainedValue()
    }
}

/// Owns a client, consuming or producing. Except for creation, used by one thread.
struct ClientHandle: ~Copyable {
    let pointer: OpaquePointer
    /// All of the client's events: errors, a consumer's messages and rebalances, a producer's delivery reports.
    let queue: OpaquePointer
    private let callbacks: Unmanaged<ClientCallbacks>?

    /// Makes the client. It connects by itself, in the background.
    /// - Throws: `KafkaConfigurationError` for settings that don't go together, or files that can't be read.
    init(
        _ type: rd_kafka_type_t, properties: consuming PropertiesHandle, callbacks: ClientCallbacks?
    ) throws(KafkaConfigurationError) {
        // Retained for librdkafka until `rd_kafka_destroy` has returned; released here if there will be no client.
        let context = callbacks.map { Unmanaged.passRetained($0) }
        callbacks?.redaction = properties.words.redaction
        callbacks?.register(in: properties)
        // librdkafka's own way is to write to standard error.
        if callbacks == nil { rd_kafka_conf_set_log_cb(properties.pointer) { _, _, _, _ in } }
        do {
            pointer = try properties.makeClient(type)
        } catch {
            context?.release()
            throw error
        }
        self.callbacks = context
        if type == RD_KAFKA_CONSUMER {
            rd_kafka_poll_set_consumer(pointer)
            queue = rd_kafka_queue_get_consumer(pointer)
        } else {
            queue = rd_kafka_queue_get_main(pointer)
        }
        if let context {
            rd_kafka_queue_cb_event_enable(
                queue, { _, context in ClientCallbacks.borrow(context!).wake() }, context.toOpaque())
        }
    }

    deinit {
        rd_kafka_queue_cb_event_enable(queue, nil, nil)
        rd_kafka_queue_destroy(queue)
        // A client with a fatal error never gets so far, and there may be many of them one after another.
        if let callbacks, !callbacks.takeUnretainedValue().mayBeDestroyed,
            rd_kafka_fatal_error(pointer, nil, 0) == RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return
        }
        // Whoever wanted to leave the group in order has called `ConsumerHandle.close`. This must not wait for
        // callbacks. Without a coordinator librdkafka still waits for unanswered commits, up to `session.timeout.ms`:
        // on a thread of its own, so that neither a restart nor the end of the process is held up for longer than this.
        let release = ClientRelease(client: pointer, callbacks: callbacks)
        let isDone = Mailbox<Void>()
        _ = DedicatedThread(name: "kafka-release") {
            release.run()
            isDone.send(())
        }
        var done: [Void] = []
        _ = isDone.receive(into: &done, until: MonotonicClock.now + 1_000_000_000)
    }

    /// Why the client can only be destroyed, after it has raised a fatal error.
    var fatalReason: String {
        var reason = ""
        _ = withErrorText(&reason) { rd_kafka_fatal_error(pointer, $0, $1) }
        return reason
    }
}

/// A client on its way out. `@unchecked Sendable`: nothing else has it any more.
private struct ClientRelease: @unchecked Sendable {
    let client: OpaquePointer
    let callbacks: Unmanaged<ClientCallbacks>?

    func run() {
        rd_kafka_destroy_flags(client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE)
        callbacks?.release()
    }
}
