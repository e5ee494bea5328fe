internal import CKafka
internal import IngestCore
internal import ServiceLog

/// Commits: only what the ledger says, one request at a time.
extension ConsumerLoop {
    /// A commit whose answer never came (its coordinator vanished) is given up after this time.
    private static let answerTimeout: UInt64 = 60_000_000_000
    private static let rebalanceCheckInterval: UInt64 = 25_000_000

    /// Sends the next commit if it is time; the answer comes to `commitAnswered`.
    func commitIfDue(_ now: UInt64) {
        guard now >= nextCommitAt else { return }
        guard !callbacks.mayJoin(at: now) else {
            nextCommitAt = now + Self.rebalanceCheckInterval
            return
        }
        nextCommitAt = now + UInt64(environment.configuration.commitIntervalMilliseconds) * 1_000_000
        if let commitSentAt, now < commitSentAt + Self.answerTimeout { return }
        guard let offsets = committable() else { return }
        let code = consumer.commit(offsets, context: callbacks)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else { return commitFailed(code) }
        commitSentAt = now
    }

    /// Commits everything that may be, and waits for the answers, each `requestTimeoutMilliseconds` at most.
    /// - Parameter outlastsRebalance: waits for the end of a rebalance that is in progress and commits then.
    func commitAndWait(until deadline: UInt64, outlastsRebalance: Bool = false) {
        // The ledger announces a further commit only when it knows of the last: what was flushed meanwhile takes a
        // second round. Where one fails the others would, too, each after its full time.
        var rounds = 0
        while rounds < 3 {
            // Within a revocation it joins only when the partitions are given up.
            let joins = outlastsRebalance ? callbacks.mayJoin(at: MonotonicClock.now) : callbacks.isJoining
            let code = joins ? RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS : commitOnceAndWait(until: deadline)
            switch code {
            case RD_KAFKA_RESP_ERR_NO_ERROR:
                rounds += 1
            case RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS where outlastsRebalance && MonotonicClock.now < deadline:
                receiveAnswers(until: min(deadline, MonotonicClock.now + Self.rebalanceCheckInterval))
            default:
                return
            }
        }
    }

    /// - Returns: `nil` if there is nothing to commit or no time.
    private func commitOnceAndWait(until deadline: UInt64) -> rd_kafka_resp_err_t? {
        let now = MonotonicClock.now
        guard now < deadline, let offsets = committable() else { return nil }
        let milliseconds = min(
            environment.configuration.requestTimeoutMilliseconds, Int((deadline - now) / 1_000_000))
        var result = RD_KAFKA_RESP_ERR_NO_ERROR
        consumer.commitAndWait(offsets, timeoutMilliseconds: milliseconds) { code, offsets in
            result = code
            settle(code, offsets)
        }
        return result
    }

    func commitAnswered(_ code: rd_kafka_resp_err_t, _ offsets: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?)
    {
        commitSentAt = nil
        settle(code, offsets)
    }

    /// What the ledger allows for the partitions that are ours; `nil` if that is nothing.
    private func committable() -> PartitionList? {
        guard !assignments.isEmpty else { return nil }
        let offsets = environment.ledger.committable()
        let list = PartitionList()
        for assignment in assignments {
            if let offset = offsets[assignment.partition] { list.add(assignment.partition, offset: offset) }
        }
        guard list.count > 0 else { return nil }
        return list
    }

    private func settle(_ code: rd_kafka_resp_err_t, _ offsets: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?)
    {
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR, let offsets else { return commitFailed(code) }
        var committed: [TopicPartition: Int64] = [:]
        for index in 0..<Int(offsets.pointee.cnt) {
            let element = offsets.pointee.elems[index]
            guard element.err == RD_KAFKA_RESP_ERR_NO_ERROR else {
                commitFailed(element.err)
                continue
            }
            let partition = TopicPartition(element)
            guard element.offset >= 0, let assignment = self[partition] else { continue }
            assignment.committed = element.offset
            committed[partition] = element.offset
        }
        guard !committed.isEmpty else { return }
        environment.ledger.committed(committed)
        troubles.brokersAnswered()
        statusIsDue = true
    }

    /// Nothing is lost: the ledger offers the same offsets again.
    private func commitFailed(_ code: rd_kafka_resp_err_t) {
        metrics.countError(String(cString: rd_kafka_err2name(code)))
        environment.log.write(
            .kafkaCommitFailed, "an offset commit failed and is repeated", ["reason": "\(words(for: code))"])
    }
}
