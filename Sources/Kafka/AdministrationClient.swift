// The client that makes and describes topics. Each C object has one owner here, which destroys it.

internal import CKafka
internal import IngestCore

/// Remembers what the client last complained about. Used by the thread that polls the client.
final class AdministrationCallbacks: ClientCallbacks, ClientHandler, @unchecked Sendable {
    private(set) var lastError: String?
    /// Whether a broker has looked at the name and password and does not want them.
    private(set) var isLoginRefused = false

    override var clientHandler: (any ClientHandler)? { self }

    func clientError(_ code: rd_kafka_resp_err_t, _ text: String) {
        // That all brokers are down is known by then; the reason was told before.
        guard code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || lastError == nil else { return }
        // Without "(after 3ms in state CONNECT, 2 identical error(s) suppressed)": the same error is the same text.
        lastError = text.firstRange(of: " (after ").map { String(text[..<$0.lowerBound]) } ?? text
        if code == RD_KAFKA_RESP_ERR__AUTHENTICATION, Self.isBrokersWord(text) { isLoginRefused = true }
    }

    /// librdkafka (2.0.2) has the same code for a login that a broker refuses, which does not pass, and for one
    /// during which the connection was lost, which does. What a broker has said is told by the text alone.
    private static func isBrokersWord(_ text: String) -> Bool {
        text.contains("SASL authentication error: ") && !text.contains("SaslAuthenticateRequest failed")
            || text.contains("mechanism handshake failed: Broker: ")
    }

    func forgetError() {
        lastError = nil
        isLoginRefused = false
    }
}

/// Asks brokers about topics. For one thread; each call waits for the answer, at most as long as it is told.
struct AdministrationClient: ~Copyable {
    /// An answer that is an error.
    struct Refusal: Error {
        let code: rd_kafka_resp_err_t
        let reason: String

        /// Whether the same question may be answered otherwise in a moment: brokers are starting, or the cluster has
        /// no controller yet, or too few brokers for the copies that are wanted.
        var isTemporary: Bool {
            switch code {
            case RD_KAFKA_RESP_ERR__TRANSPORT, RD_KAFKA_RESP_ERR__TIMED_OUT, RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN,
                RD_KAFKA_RESP_ERR__AUTHENTICATION, RD_KAFKA_RESP_ERR__SSL, RD_KAFKA_RESP_ERR__RESOLVE,
                RD_KAFKA_RESP_ERR_NOT_CONTROLLER, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
                RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE,
                RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION, RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR,
                RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED, RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS,
                RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
                true
            default: false
            }
        }
    }

    /// A topic as it is.
    struct Topic {
        let name: String
        let partitions: Int
        /// Copies of the partition that has the fewest.
        let replication: Int
    }

    private let base: ClientHandle
    let callbacks: AdministrationCallbacks

    init(properties: consuming PropertiesHandle, callbacks: AdministrationCallbacks) throws(KafkaConfigurationError) {
        base = try ClientHandle(RD_KAFKA_PRODUCER, properties: properties, callbacks: callbacks)
        self.callbacks = callbacks
    }

    /// Serves callbacks for this time.
    func wait(milliseconds: Int) { rd_kafka_poll(base.pointer, Int32(milliseconds)) }

    /// All topics that this user may see.
    func topics(timeoutMilliseconds: Int) throws(Refusal) -> [Topic] {
        var metadata: UnsafePointer<rd_kafka_metadata>?
        let code = rd_kafka_metadata(base.pointer, 1, nil, &metadata, Int32(timeoutMilliseconds))
        rd_kafka_poll(base.pointer, 0)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR, let metadata else {
            throw Refusal(
                code: callbacks.isLoginRefused ? RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED : code,
                reason: callbacks.lastError ?? words(for: code))
        }
        defer { rd_kafka_metadata_destroy(metadata) }
        callbacks.forgetError()
        return (0..<Int(metadata.pointee.topic_cnt)).compactMap { index in
            let topic = metadata.pointee.topics[index]
            // One that is being made or deleted is looked at again.
            guard topic.err == RD_KAFKA_RESP_ERR_NO_ERROR, topic.partition_cnt > 0 else { return nil }
            let copies = (0..<Int(topic.partition_cnt)).map { Int(topic.partitions[$0].replica_cnt) }
            return Topic(
                name: String(cString: topic.topic), partitions: Int(topic.partition_cnt),
                replication: copies.min() ?? 0)
        }
    }

    /// Makes topics.
    /// - Returns: what became of each; success means that the controller has made it.
    func create(
        _ topics: [TopicAdministrationConfiguration.Wanted], timeoutMilliseconds: Int
    ) throws(Refusal) -> [String: Result<Void, Refusal>] {
        var requests: [OpaquePointer?] = []
        defer { for request in requests { rd_kafka_NewTopic_destroy(request) } }
        for topic in topics {
            guard
                let request = rd_kafka_NewTopic_new(
                    topic.name, Int32(topic.partitions), Int32(topic.replication), nil, 0)
            else { throw Refusal(code: RD_KAFKA_RESP_ERR__INVALID_ARG, reason: "\(topic.name): not a topic") }
            requests.append(request)
            rd_kafka_NewTopic_set_config(request, "retention.ms", "\(topic.retentionMilliseconds)")
        }
        let answer = try ask(RD_KAFKA_ADMIN_OP_CREATETOPICS, timeoutMilliseconds) { options, queue in
            rd_kafka_CreateTopics(base.pointer, &requests, requests.count, options, queue)
        }
        defer { rd_kafka_event_destroy(answer) }
        var count = 0
        let results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(answer), &count)
        return Dictionary(
            (0..<count).map { index in
                let result = results?[index]
                let name = String(cString: rd_kafka_topic_result_name(result))
                let code = rd_kafka_topic_result_error(result)
                guard code != RD_KAFKA_RESP_ERR_NO_ERROR else { return (name, .success(())) }
                let reason = rd_kafka_topic_result_error_string(result).map { String(cString: $0) } ?? words(for: code)
                return (name, .failure(Refusal(code: code, reason: reason)))
            }, uniquingKeysWith: { $1 })
    }

    /// What a setting of topics is.
    /// - Returns: its value for each topic, or why it can't be told.
    func setting(
        _ setting: String, of topics: [String], timeoutMilliseconds: Int
    ) throws(Refusal) -> [String: Result<String, Refusal>] {
        var requests: [OpaquePointer?] = topics.map { rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, $0) }
        defer { for request in requests { rd_kafka_ConfigResource_destroy(request) } }
        let answer = try ask(RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, timeoutMilliseconds) { options, queue in
            rd_kafka_DescribeConfigs(base.pointer, &requests, requests.count, options, queue)
        }
        defer { rd_kafka_event_destroy(answer) }
        var count = 0
        let resources = rd_kafka_DescribeConfigs_result_resources(
            rd_kafka_event_DescribeConfigs_result(answer), &count)
        return Dictionary(
            (0..<count).map { index in
                let resource = resources?[index]
                let name = String(cString: rd_kafka_ConfigResource_name(resource))
                let code = rd_kafka_ConfigResource_error(resource)
                guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
                    let reason =
                        rd_kafka_ConfigResource_error_string(resource).map { String(cString: $0) } ?? words(for: code)
                    return (name, .failure(Refusal(code: code, reason: reason)))
                }
                return (name, Self.value(of: setting, in: resource))
            }, uniquingKeysWith: { $1 })
    }

    private static func value(of setting: String, in resource: OpaquePointer?) -> Result<String, Refusal> {
        var count = 0
        let entries = rd_kafka_ConfigResource_configs(resource, &count)
        for index in 0..<count {
            guard let entry = entries?[index], String(cString: rd_kafka_ConfigEntry_name(entry)) == setting else {
                continue
            }
            if let value = rd_kafka_ConfigEntry_value(entry) { return .success(String(cString: value)) }
        }
        return .failure(Refusal(code: RD_KAFKA_RESP_ERR__NOENT, reason: "the broker does not tell"))
    }

    /// Sends a request and waits for its answer.
    /// - Returns: the event, which the caller destroys.
    private func ask(
        _ operation: rd_kafka_admin_op_t, _ timeoutMilliseconds: Int,
        _ send: (_ options: OpaquePointer, _ queue: OpaquePointer) -> Void
    ) throws(Refusal) -> OpaquePointer {
        let queue = rd_kafka_queue_new(base.pointer)!
        defer { rd_kafka_queue_destroy(queue) }
        let options = rd_kafka_AdminOptions_new(base.pointer, operation)!
        defer { rd_kafka_AdminOptions_destroy(options) }
        // At most an hour, which librdkafka takes.
        rd_kafka_AdminOptions_set_request_timeout(options, Int32(timeoutMilliseconds), nil, 0)
        if operation == RD_KAFKA_ADMIN_OP_CREATETOPICS {
            // How long the controller may wait until all brokers know the topic.
            rd_kafka_AdminOptions_set_operation_timeout(options, Int32(timeoutMilliseconds), nil, 0)
        }
        send(options, queue)
        // librdkafka keeps the time-out itself; the rest is for its own delays.
        guard let event = rd_kafka_queue_poll(queue, Int32(timeoutMilliseconds + 5_000)) else {
            throw Refusal(code: RD_KAFKA_RESP_ERR__TIMED_OUT, reason: callbacks.lastError ?? "no answer")
        }
        rd_kafka_poll(base.pointer, 0)
        let code = rd_kafka_event_error(event)
        guard code != RD_KAFKA_RESP_ERR_NO_ERROR else { return event }
        defer { rd_kafka_event_destroy(event) }
        let reason = rd_kafka_event_error_string(event).map { String(cString: $0) } ?? words(for: code)
        throw Refusal(code: code, reason: callbacks.lastError ?? reason)
    }
}
