internal import CKafka

/// A Kafka cluster within the test's process: librdkafka's mock brokers, with real sockets on free ports of the
/// loopback interface. Knows no authentication, no CreateTopics, no retention by time; a group's first member waits
/// three seconds for others, which can't be changed.
///
/// `@unchecked Sendable`: librdkafka's functions used here are thread-safe, and the pointers never change.
public final class KafkaMock: @unchecked Sendable {
    private let producer: OpaquePointer
    private let cluster: OpaquePointer
    /// Addresses for `bootstrap.servers`.
    public let bootstrapServers: String

    /// A message to produce.
    public struct Message: Sendable {
        /// The payload; `nil` makes a tombstone.
        public var payload: [UInt8]?
        /// The key.
        public var key: [UInt8]?
        /// Headers in order.
        public var headers: [(name: String, value: [UInt8]?)]
        /// Milliseconds since 1970 UTC.
        public var timestamp: Int64?

        /// Collects the parts.
        public init(
            _ payload: [UInt8]?, key: [UInt8]? = nil, headers: [(name: String, value: [UInt8]?)] = [],
            timestamp: Int64? = nil
        ) {
            self.payload = payload
            self.key = key
            self.headers = headers
            self.timestamp = timestamp
        }

        /// A message with this text as its payload.
        public init(_ payload: String) { self.init(Array(payload.utf8)) }
    }

    /// Something that librdkafka refused.
    public struct Failure: Error, CustomStringConvertible {
        /// What and why.
        public let description: String
    }

    /// Requests that an error can be pushed for, by their numbers in Kafka's protocol.
    public enum Request: Int16, Sendable {
        case produce = 0
        case offsetCommit = 8
        case offsetFetch = 9
        case findCoordinator = 10
        case joinGroup = 11
        case heartbeat = 12
        case syncGroup = 14
        case initProducerID = 22
    }

    /// Starts a cluster.
    public init(brokerCount: Int32 = 1) throws {
        let conf = rd_kafka_conf_new()!
        for (name, value) in [("log_level", "0"), ("linger.ms", "5"), ("message.max.bytes", "4000000")] {
            rd_kafka_conf_set(conf, name, value, nil, 0)
        }
        // Delivery reports arrive on the main queue, where `produce` counts them.
        rd_kafka_conf_set_events(conf, Int32(RD_KAFKA_EVENT_DR))
        guard let producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, nil, 0) else {
            rd_kafka_conf_destroy(conf)
            throw Failure(description: "can't make a producer")
        }
        guard let cluster = rd_kafka_mock_cluster_new(producer, brokerCount) else {
            rd_kafka_destroy(producer)
            throw Failure(description: "can't make a mock cluster")
        }
        self.producer = producer
        self.cluster = cluster
        bootstrapServers = String(cString: rd_kafka_mock_cluster_bootstraps(cluster))
        rd_kafka_brokers_add(producer, bootstrapServers)
    }

    deinit {
        rd_kafka_mock_cluster_destroy(cluster)
        rd_kafka_destroy(producer)
    }

    /// Makes a topic.
    public func createTopic(_ name: String, partitions: Int32) throws {
        try check(rd_kafka_mock_topic_create(cluster, name, partitions, 1), "create topic \(name)")
    }

    /// Makes no topics on demand for clients that say so. The mock speaks only versions of the metadata request that
    /// have no word for it, unless told otherwise.
    public func allowClientsToRefuseTopicCreation() throws {
        try check(rd_kafka_mock_set_apiversion(cluster, 3, 0, 4), "set the metadata version")
    }

    /// Produces messages to one partition, in order, and returns when the cluster has them all.
    public func produce(_ messages: [Message], to topic: String, partition: Int32 = 0) throws {
        for message in messages {
            let headers = rd_kafka_headers_new(max(1, message.headers.count))!
            for (name, value) in message.headers {
                _ = (value ?? []).withUnsafeBytes {
                    rd_kafka_header_add(
                        headers, name, -1, value == nil ? nil : $0.baseAddress, value == nil ? 0 : $0.count)
                }
            }
            var fields: [rd_kafka_vu_t] = []
            func field(_ type: rd_kafka_vtype_t, _ set: (inout rd_kafka_vu_t) -> Void) {
                var value = rd_kafka_vu_t()
                value.vtype = type
                set(&value)
                fields.append(value)
            }
            let failure: OpaquePointer? = topic.withCString { topic in
                (message.payload ?? []).withUnsafeBytes { payload in
                    (message.key ?? []).withUnsafeBytes { key in
                        field(RD_KAFKA_VTYPE_TOPIC) { $0.u.cstr = topic }
                        field(RD_KAFKA_VTYPE_PARTITION) { $0.u.i32 = partition }
                        field(RD_KAFKA_VTYPE_MSGFLAGS) { $0.u.i = Int32(RD_KAFKA_MSG_F_COPY) }
                        if message.payload != nil {
                            field(RD_KAFKA_VTYPE_VALUE) {
                                // An empty array has no address, but an empty payload is not a tombstone.
                                $0.u.mem.ptr = UnsafeMutableRawPointer(
                                    mutating: payload.baseAddress ?? UnsafeRawPointer(topic))
                                $0.u.mem.size = payload.count
                            }
                        }
                        if message.key != nil {
                            field(RD_KAFKA_VTYPE_KEY) {
                                $0.u.mem.ptr = UnsafeMutableRawPointer(mutating: key.baseAddress)
                                $0.u.mem.size = key.count
                            }
                        }
                        if let timestamp = message.timestamp {
                            field(RD_KAFKA_VTYPE_TIMESTAMP) { $0.u.i64 = timestamp }
                        }
                        field(RD_KAFKA_VTYPE_HEADERS) { $0.u.headers = headers }
                        return rd_kafka_produceva(producer, &fields, fields.count)
                    }
                }
            }
            if let failure {
                defer { rd_kafka_error_destroy(failure) }
                throw Failure(description: "produce: \(String(cString: rd_kafka_error_string(failure)))")
            }
        }
        try awaitDelivery(of: messages.count)
    }

    private func awaitDelivery(of count: Int) throws {
        let queue = rd_kafka_queue_get_main(producer)!
        defer { rd_kafka_queue_destroy(queue) }
        var delivered = 0
        while delivered < count {
            guard let event = rd_kafka_queue_poll(queue, 20_000) else {
                throw Failure(description: "produce: no answer")
            }
            defer { rd_kafka_event_destroy(event) }
            while let message = rd_kafka_event_message_next(event) {
                try check(message.pointee.err, "produce")
                delivered += 1
            }
        }
    }

    /// A group's committed offset; `nil` if it has none.
    public func committedOffset(group: String, topic: String, partition: Int32 = 0) throws -> Int64? {
        let conf = rd_kafka_conf_new()!
        for (name, value) in [
            ("log_level", "0"), ("bootstrap.servers", bootstrapServers), ("group.id", group),
            ("enable.auto.commit", "false"),
        ] {
            rd_kafka_conf_set(conf, name, value, nil, 0)
        }
        let client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, nil, 0)!
        defer { rd_kafka_destroy(client) }
        let list = rd_kafka_topic_partition_list_new(1)!
        defer { rd_kafka_topic_partition_list_destroy(list) }
        rd_kafka_topic_partition_list_add(list, topic, partition)
        try check(rd_kafka_committed(client, list, 10_000), "committed")
        let offset = list.pointee.elems[0].offset
        return offset >= 0 ? offset : nil
    }

    /// Commits an offset for a group without members, as an operator's tool does.
    public func commit(_ offset: Int64, group: String, topic: String, partition: Int32 = 0) throws {
        let conf = rd_kafka_conf_new()!
        for (name, value) in [("log_level", "0"), ("bootstrap.servers", bootstrapServers), ("group.id", group)] {
            rd_kafka_conf_set(conf, name, value, nil, 0)
        }
        let client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, nil, 0)!
        defer { rd_kafka_destroy(client) }
        let list = rd_kafka_topic_partition_list_new(1)!
        defer { rd_kafka_topic_partition_list_destroy(list) }
        rd_kafka_topic_partition_list_add(list, topic, partition).pointee.offset = offset
        try check(rd_kafka_commit(client, list, 0), "commit")
    }

    /// Cuts all connections and accepts none until `bringUp()`.
    /// - Parameter broker: only this one's; brokers are numbered from 1.
    public func bringDown(broker: Int32 = -1) throws {
        try check(rd_kafka_mock_broker_set_down(cluster, broker), "bring down")
    }

    /// Accepts connections again.
    /// - Parameter broker: only this one.
    public func bringUp(broker: Int32 = -1) throws {
        try check(rd_kafka_mock_broker_set_up(cluster, broker), "bring up")
    }

    /// Holds back all brokers' answers for this time. What was asked for is done at once.
    /// - Parameter broker: only this one's.
    public func delayAnswers(milliseconds: Int32, broker: Int32 = -1) throws {
        try check(rd_kafka_mock_broker_set_rtt(cluster, broker, milliseconds), "delay answers")
    }

    /// Makes a broker the leader of a partition.
    public func setLeader(_ broker: Int32, of topic: String, partition: Int32 = 0) throws {
        try check(rd_kafka_mock_partition_set_leader(cluster, topic, partition, broker), "set leader")
    }

    /// Makes a broker the coordinator of a group.
    public func setCoordinator(_ broker: Int32, of group: String) throws {
        try check(rd_kafka_mock_coordinator_set(cluster, "group", group, broker), "set coordinator")
    }

    /// Makes the first broker a group's coordinator that answers slowly, and the second the leader of a topic's
    /// partitions, so that consuming stays as fast as it is.
    ///
    /// For tests in which members come and go. The mock takes a group for complete when its leader has synchronized, and
    /// refuses members that do so later ("invalid request"); they join again at once, and the mock refuses the other
    /// members' commits until all have. Kafka gives late members their assignment, and takes commits meanwhile. The leader
    /// asks its coordinator for metadata before it synchronizes, so with a slow one the others come first, also on a busy
    /// machine.
    public func slowCoordinator(of group: String, topic: String, partitions: Int32) throws {
        for partition in 0..<partitions { try setLeader(2, of: topic, partition: partition) }
        try setCoordinator(1, of: group)
        try delayAnswers(milliseconds: 150, broker: 1)
    }

    /// Answers the next `count` requests of a kind with an error.
    public func fail(_ request: Request, with error: KafkaMockError, count: Int = 1) {
        fail(request, with: [KafkaMockError?](repeating: error, count: count))
    }

    /// Answers the next requests of a kind with these errors in turn; `nil` stands for none.
    public func fail(_ request: Request, with errors: [KafkaMockError?]) {
        let codes = errors.map { $0?.code ?? RD_KAFKA_RESP_ERR_NO_ERROR }
        rd_kafka_mock_push_request_errors_array(cluster, request.rawValue, codes.count, codes)
    }

    private func check(_ code: rd_kafka_resp_err_t, _ action: String) throws {
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw Failure(description: "\(action): \(String(cString: rd_kafka_err2str(code)))")
        }
    }
}

/// Errors that brokers answer with.
public enum KafkaMockError: Sendable {
    /// The coordinator still reads the group's state.
    case coordinatorIsLoading
    /// The group has no coordinator for the moment.
    case coordinatorNotAvailable
    /// The broker has had the idempotent producer's request before.
    case duplicateSequenceNumber
    /// Another process uses the same `group.instance.id`: fatal for the client.
    case fencedInstance
    /// The client may not use the group.
    case groupAuthorizationFailed
    /// The topic does not take such a message.
    case invalidRecord
    /// The request has a message larger than the topic takes.
    case messageTooLarge
    /// The group's coordinator is another broker.
    case notCoordinator
    /// Too few replicas are in sync.
    case notEnoughReplicas
    /// The partition's leader is another broker.
    case notLeader
    /// A request of the idempotent producer is missing: fatal for the client if it is the oldest.
    case outOfOrderSequenceNumber
    /// The group is about to share its partitions anew.
    case rebalanceInProgress
    /// The replicas have not answered in time.
    case requestTimedOut
    /// The client may not write to the topic.
    case topicAuthorizationFailed
    /// The group has forgotten the member: its partitions are lost.
    case unknownMember

    var code: rd_kafka_resp_err_t {
        switch self {
        case .coordinatorIsLoading: RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS
        case .coordinatorNotAvailable: RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE
        case .duplicateSequenceNumber: RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER
        case .fencedInstance: RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID
        case .groupAuthorizationFailed: RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED
        case .invalidRecord: RD_KAFKA_RESP_ERR_INVALID_RECORD
        case .messageTooLarge: RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE
        case .notCoordinator: RD_KAFKA_RESP_ERR_NOT_COORDINATOR
        case .notEnoughReplicas: RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS
        case .notLeader: RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION
        case .outOfOrderSequenceNumber: RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER
        case .rebalanceInProgress: RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS
        case .requestTimedOut: RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT
        case .topicAuthorizationFailed: RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
        case .unknownMember: RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID
        }
    }
}
