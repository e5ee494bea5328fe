internal import CKafka
internal import CoreMetrics
internal import IngestCore
internal import ServiceLog

/// Partitions come and go. Called by librdkafka from within `ConsumerHandle.poll` and `close`, so on the poll thread
/// between two messages: nothing else happens meanwhile, and nothing can be thrown.
extension ConsumerLoop: ConsumerHandler {
    func rebalance(_ code: rd_kafka_resp_err_t, _ list: consuming PartitionList) {
        switch code {
        case RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS:
            callbacks.assignmentCame()
            do throws(KafkaFailure) {
                // On closing they are taken only to be left again.
                if !isClosing { try prepareAssignment(list) }
            } catch {
                // The group wants an answer before it can be left. What is assigned without an entry in `assignments`
                // is neither consumed nor committed.
                failure = error
            }
            // A closing client takes this for giving up, and waits for nothing more.
            hasLeft = isClosing
            if isCooperative {
                check(rd_kafka_incremental_assign(consumer.client, list.pointer), "can't take over partitions")
            } else {
                check(rd_kafka_assign(consumer.client, list.pointer), "can't take over partitions")
            }
            if failure == nil, !isClosing { pauseAndResume(MonotonicClock.now) }
        case RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS:
            giveUp(list.partitions)
            callbacks.joinFollows()
            // An answer to a client that is gone by now is waited for without end (librdkafka 2.0.2).
            if hasLeft { return }
            if isCooperative {
                check(rd_kafka_incremental_unassign(consumer.client, list.pointer), "can't give up partitions")
            } else {
                check(rd_kafka_assign(consumer.client, nil), "can't give up partitions")
            }
        default:
            failure = KafkaFailure("rebalance failed", code, .rebalance)
            check(rd_kafka_assign(consumer.client, nil), "can't give up partitions")
        }
    }

    /// Decides where each partition starts and writes it to `list`.
    private func prepareAssignment(_ list: borrowing PartitionList) throws(KafkaFailure) {
        let partitions = list.partitions
        guard !partitions.isEmpty else { return }
        // While an earlier submission is under way the ledger does not know yet what the journal holds.
        let configuration = environment.configuration
        let times = CallbackTimes(pollInterval: pollInterval)
        guard
            waitForAnswers(
                of: Set(partitions), until: min(deadline(configuration.revocationTimeoutMilliseconds), times.firstEnd))
        else {
            throw KafkaFailure(
                "can't take over partitions", "the journal has not answered what was consumed before", .rebalance)
        }
        let milliseconds = min(configuration.requestTimeoutMilliseconds, times.millisecondsLeft)
        let code = rd_kafka_committed(consumer.client, list.pointer, Int32(milliseconds))
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw KafkaFailure("can't read committed offsets", code, .rebalance)
        }
        for index in partitions.indices where list[index].err != RD_KAFKA_RESP_ERR_NO_ERROR {
            throw KafkaFailure(
                "can't read committed offsets", "\(partitions[index]): \(words(for: list[index].err))", .rebalance)
        }
        var added: [Assignment] = []
        for (index, partition) in partitions.enumerated() {
            let committed = list[index].offset >= 0 ? list[index].offset : nil
            let start = environment.ledger.assigned(partition, committed: committed)
            list[index].offset = start ?? Int64(RD_KAFKA_OFFSET_INVALID)
            let stream = environment.routes.stream(forTopic: partition.topic)
            added.append(
                Assignment(
                    number: submissions.makeAssignmentNumber(),
                    intake: PartitionIntake(partition: partition, stream: stream, start: start), committed: committed,
                    counters: metrics.counters(for: stream), gauges: metrics.gauges(for: partition)))
            troubles.clear(topic: partition.topic)
        }
        assign(assignments + added)
        troubles.groupWasJoined()
        metrics.assigned.increment()
        environment.log.write(
            .kafkaAssigned, "took over Kafka partitions",
            [
                "partitions": "\(PartitionNames(partitions))",
                "start": "\(PartitionNames(added.map { $0.intake.start.map(String.init) ?? "auto.offset.reset" }))",
            ])
    }

    /// Forgets partitions.
    func release(_ partitions: [TopicPartition]) {
        let affected = Set(partitions)
        let leaving = assignments.filter { affected.contains($0.partition) }
        // librdkafka keeps the pause flag for the partition's next assignment.
        setPaused(false, leaving.filter(\.isPaused))
        assign(assignments.filter { !affected.contains($0.partition) })
        for assignment in leaving {
            environment.ledger.revoked(assignment.partition)
            assignment.gauges.destroy()
        }
    }

    private func check(_ error: OpaquePointer?, _ action: StaticString) {
        guard let error else { return }
        defer { rd_kafka_error_destroy(error) }
        if failure == nil { failure = KafkaFailure(action, String(cString: rd_kafka_error_string(error)), .rebalance) }
    }

    private func check(_ code: rd_kafka_resp_err_t, _ action: StaticString) {
        if code != RD_KAFKA_RESP_ERR_NO_ERROR, failure == nil { failure = KafkaFailure(action, code, .rebalance) }
    }
}
