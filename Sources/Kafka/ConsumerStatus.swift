internal import CKafka
internal import CoreMetrics
internal import IngestCore
internal import ServiceLog

/// What is wrong with a client that has not failed: librdkafka mends these by itself, or the operator does.
struct ConsumerTroubles {
    /// The client has raised a fatal error and can't go on, or commit.
    var isFatal = false
    private(set) var brokers: String?
    private(set) var group: String?
    private(set) var topics: [String: String] = [:]
    private(set) var isMember = false

    mutating func brokersAreAway(_ reason: String) { brokers = reason }

    mutating func brokersAnswered() { brokers = nil }

    mutating func groupRefuses(_ reason: String) { group = reason }

    mutating func groupWasJoined() {
        group = nil
        brokers = nil
        isMember = true
    }

    mutating func topicFails(_ topic: String, _ reason: String) { topics[topic] = reason }

    mutating func clear(topic: String) { topics[topic] = nil }

    /// In words; `nil` if there are none.
    var description: String? {
        if let brokers { return "no Kafka broker can be reached: \(brokers)" }
        if let group { return "the consumer group refuses: \(group)" }
        guard !topics.isEmpty else { return nil }
        return topics.sorted { $0.key < $1.key }.map { "topic \($0.key): \($0.value)" }.joined(separator: "; ")
    }
}

extension ConsumerLoop {
    private static let statusInterval: UInt64 = 1_000_000_000
    private static let probeInterval: UInt64 = 2_000_000_000
    private static let watermarkInterval: UInt64 = 10_000_000_000

    // MARK: Errors

    func clientError(_ code: rd_kafka_resp_err_t, _ text: String) {
        statusIsDue = true
        switch code {
        case RD_KAFKA_RESP_ERR__FATAL:
            fail()
        case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, RD_KAFKA_RESP_ERR__AUTHENTICATION, RD_KAFKA_RESP_ERR__SSL:
            troubles.brokersAreAway(text)
            fallthrough
        default:
            let name = String(cString: rd_kafka_err2name(code))
            metrics.countError(name)
            environment.log.write(.kafkaClientError, "Kafka client error: \(text)", ["code": "\(name)"])
        }
    }

    /// An error that came in place of a message.
    func messageError(_ message: UnsafeMutablePointer<rd_kafka_message_t>) {
        let code = message.pointee.err
        let text = rd_kafka_message_errstr(message).map { String(cString: $0) } ?? words(for: code)
        let topic = message.pointee.rkt.map { String(cString: rd_kafka_topic_name($0)) }
        statusIsDue = true
        switch code {
        case RD_KAFKA_RESP_ERR__PARTITION_EOF:
            return
        case RD_KAFKA_RESP_ERR__FATAL:
            return fail()
        case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
            // With `auto.offset.reset=error` the partition would stand still without a word.
            failure = KafkaFailure("a partition has no valid offset to start from", text, .offset)
        case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
            troubles.topicFails(topic ?? "?", text)
        case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL,
            RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT:
            troubles.groupRefuses(text)
        default:
            break
        }
        let name = String(cString: rd_kafka_err2name(code))
        metrics.countError(name)
        environment.log.write(
            .kafkaConsumerError, "Kafka consumer error: \(text)",
            ["code": "\(name)", "topic": "\(topic ?? "")"])
    }

    /// librdkafka has raised a fatal error: the client can only be destroyed.
    private func fail() {
        troubles.isFatal = true
        var reason = consumer.fatalReason
        if rd_kafka_fatal_error(consumer.client, nil, 0) == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID,
            let id = environment.configuration.groupInstanceID
        {
            reason +=
                ": another process has the group.instance.id \"\(id)\" (KAFKA_GROUP_INSTANCE_ID), which must be unique"
        }
        failure = KafkaFailure("fatal Kafka client error", reason, .fatal)
    }

    /// Asks brokers that could not be reached whether they are back: librdkafka reconnects by itself but does not say
    /// so, and without traffic nothing else would tell. Blocks for a moment, with nothing better to do.
    func probe(_ now: UInt64) {
        guard troubles.brokers != nil, now >= nextProbeAt else { return }
        var metadata: UnsafePointer<rd_kafka_metadata>?
        let code = rd_kafka_metadata(consumer.client, 0, nil, &metadata, 200)
        nextProbeAt = MonotonicClock.now + Self.probeInterval
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else { return }
        rd_kafka_metadata_destroy(metadata)
        troubles.brokersAnswered()
        statusIsDue = true
    }

    // MARK: Health and numbers

    /// Tells the rest of the process how things are, when something changed and once a second.
    func publishStatus(_ now: UInt64) {
        guard statusIsDue || now >= nextStatusAt else { return }
        statusIsDue = false
        nextStatusAt = now + Self.statusInterval
        queryWatermarks(now)
        let partitions = assignments.map(status)
        for (assignment, status) in zip(assignments, partitions) {
            if let lag = status.lag { assignment.gauges.lag.record(lag) }
            if let unjournaled = status.unjournaled { assignment.gauges.unjournaled.record(unjournaled) }
            assignment.gauges.uncommitted.record(status.uncommitted)
        }
        environment.control.setPartitions(partitions)
        let problem = troubles.description
        environment.control.setHealth(isHealthy: troubles.isMember && problem == nil, problem ?? detail)
    }

    private var detail: String {
        let group = environment.configuration.groupID
        guard troubles.isMember else { return "joining the consumer group \(group)" }
        let pausedCount = assignments.count { $0.isPaused }
        let member = "member of the consumer group \(group) with \(assignments.count) partitions"
        if environment.control.stopIsRequested { return "\(member), consuming is stopped" }
        return pausedCount == 0 ? member : "\(member), \(pausedCount) of them paused: the journal has no room"
    }

    private func status(_ assignment: Assignment) -> KafkaPartitionStatus {
        let partition = assignment.partition
        var first: Int64 = -1
        var end: Int64 = -1
        let code = rd_kafka_get_watermark_offsets(
            consumer.client, partition.topic, partition.partition, &first, &end)
        if assignment.isPaused, let queriedEnd = assignment.queriedEnd { end = max(end, queriedEnd) }
        let journaled = assignment.intake.journaled
        return KafkaPartitionStatus(
            partition: partition, position: assignment.intake.position, committed: assignment.committed,
            end: code == RD_KAFKA_RESP_ERR_NO_ERROR && end >= 0 ? end : nil, journaled: journaled,
            uncommitted: max(0, (journaled ?? 0) - (assignment.committed ?? assignment.intake.start ?? 0)),
            isPaused: assignment.isPaused)
    }

    /// librdkafka learns a partition's end from fetches. While a partition is paused there are none, and lag would
    /// stand still just when it grows. Blocks for a moment, with little else to do.
    ///
    /// Asked for as "the offset at the time END" because `rd_kafka_query_watermark_offsets` does not keep its timeout:
    /// where the broker goes away at the wrong moment, it waits for ever (librdkafka 2.0.2; mended in 2.3.0, its issue
    /// 4460).
    private func queryWatermarks(_ now: UInt64) {
        let paused = assignments.filter(\.isPaused)
        guard !paused.isEmpty, isConsuming, troubles.brokers == nil, now >= nextWatermarkQueryAt else { return }
        nextWatermarkQueryAt = now + Self.watermarkInterval
        let ends = PartitionList()
        for assignment in paused { ends.add(assignment.partition, offset: Int64(RD_KAFKA_OFFSET_END)) }
        // Without an answer the lag is as old as it was.
        guard rd_kafka_offsets_for_times(consumer.client, ends.pointer, 500) == RD_KAFKA_RESP_ERR_NO_ERROR else {
            return
        }
        for (index, assignment) in paused.enumerated() {
            guard ends[index].err == RD_KAFKA_RESP_ERR_NO_ERROR, ends[index].offset >= 0 else { continue }
            assignment.queriedEnd = ends[index].offset
        }
    }
}
