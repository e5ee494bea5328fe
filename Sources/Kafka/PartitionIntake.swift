internal import IngestCore

/// Consecutive messages of one partition that go into the journal as one submission. Changed only while it fills.
final class MessageRun {
    /// What was consumed: from the position before the first message to behind the last.
    fileprivate(set) var offsets: Range<Int64>
    /// When the first message was received, milliseconds since 1970 UTC.
    let receivedAt: Int64
    let events: EventBuffer
    fileprivate(set) var deadLetters: [DeadLetter] = []
    /// Messages without a payload (tombstones).
    fileprivate(set) var skippedCount = 0
    /// Memory held: records and dead letters.
    fileprivate(set) var byteCount = 0

    fileprivate init(at position: Int64, receivedAt: Int64, capacity: Int) {
        offsets = position..<position
        self.receivedAt = receivedAt
        events = EventBuffer(capacity: capacity)
    }
}

/// What one assigned partition has on its way into the journal. Pure: no Kafka, no clock, no thread.
///
///     message --> filling --> sealed ... --> submitted --> (accepted)
///                                               ^ |
///                                               | v refused: after a delay
///                                              held back
///
/// At most one run is submitted at a time. So runs reach the journal in the order of their offsets, also when some
/// are refused, and the journal's ranges always meet. While one is being written the next fills: a slow disk makes
/// runs larger, not more frequent.
final class PartitionIntake {
    /// Why a partition takes no messages for the time being.
    enum Stage: Equatable {
        /// Nothing is submitted.
        case idle
        /// The first run was handed over, after `refusals` refusals, and is not answered yet.
        case submitted(refusals: Int)
        /// The first run was refused and is submitted again at `retryAt` (nanoseconds).
        case heldBack(retryAt: UInt64, refusals: Int, error: IntakeError)
    }

    /// What a message's offset means for the partition.
    enum Admission: Equatable {
        /// The next message, perhaps behind a gap (compaction, transaction markers).
        case next
        /// The last message once more: librdkafka can repeat it when a rebalance interrupts fetching.
        case duplicate
        /// The partition was truncated or made anew, and `auto.offset.reset` has moved the position back to the
        /// message's offset.
        case moved(from: Int64)
    }

    let partition: TopicPartition
    let stream: Stream
    private(set) var stage = Stage.idle
    /// Offset of the first message; `nil` until it comes if `auto.offset.reset` decides where to start.
    private(set) var start: Int64?
    /// Offset that comes next; `nil` until the first message if `auto.offset.reset` decides where to start.
    private(set) var position: Int64?
    /// Memory of all runs.
    private(set) var heldBytes = 0
    /// The first is the one that `stage` speaks of; the last may be filling.
    private var runs: [MessageRun] = []
    /// The last of them, if it takes messages: apart, because looking into the array costs each message more than
    /// everything else here.
    private var open: MessageRun?
    private var lastTimestamp: Int64 = -1
    private var hasMessages = false
    private var bufferCapacity = 16 << 10

    /// - Parameter start: offset of the first message to come; `nil` leaves it open.
    init(partition: TopicPartition, stream: Stream, start: Int64?) {
        self.partition = partition
        self.stream = stream
        self.start = start
        position = start
    }

    /// Offset behind what was accepted; `nil` while `position` is.
    var journaled: Int64? { runs.first?.offsets.lowerBound ?? position }

    /// Whether the journal has no room for the partition's messages, so that no more should be fetched. What passes
    /// within milliseconds does not count.
    var isBlocked: Bool {
        switch stage {
        case .heldBack(_, let refusals, let error): error != .overloaded || refusals >= 8
        // Until a run that was refused is accepted nothing is known to have changed.
        case .submitted(let refusals): refusals > 0 && wasBlocked
        case .idle: false
        }
    }
    private var wasBlocked = false

    /// Whether a run is with the journal and not answered.
    var isSubmitted: Bool {
        guard case .submitted = stage else { return false }
        return true
    }

    /// When the refused run is to be submitted again, nanoseconds.
    var retryAt: UInt64? {
        guard case .heldBack(let retryAt, _, _) = stage else { return nil }
        return retryAt
    }

    // MARK: Messages, in the order of their offsets

    /// Says whether the message at `offset` is to be taken (all cases but `.duplicate`), and prepares for it.
    @inline(__always)
    func admit(offset: Int64, timestamp: Int64) -> Admission {
        guard let position else {
            start = offset
            position = offset
            lastTimestamp = timestamp
            hasMessages = true
            return .next
        }
        guard offset < position else {
            lastTimestamp = timestamp
            hasMessages = true
            return .next
        }
        // A topic that was made anew can have another message at this offset, but not with the same timestamp.
        if hasMessages, offset == position - 1, timestamp == lastTimestamp { return .duplicate }
        self.position = offset
        lastTimestamp = timestamp
        hasMessages = true
        return .moved(from: position)
    }

    /// Takes an admitted event.
    @inline(__always)
    func append(
        payload: UnsafeRawBufferPointer, id: EventIDLocation, storedID: UnsafeRawBufferPointer?,
        metadata: KafkaMetadata,
        receivedAt: Int64
    ) {
        let run = openRun(adding: payload.count + metadata.headers.count + 64, receivedAt)
        let before = run.events.byteCount
        run.events.append(payload: payload, id: id, storedID: storedID, kafka: metadata)
        cover(metadata.offset, by: run, bytes: run.events.byteCount - before)
    }

    /// Takes an admitted message that is no event.
    func append(_ deadLetter: DeadLetter, offset: Int64, receivedAt: Int64) {
        let metadataBytes =
            (deadLetter.kafka?.key?.count ?? 0)
            + (deadLetter.kafka?.headers.reduce(0) { $0 + $1.name.utf8.count + ($1.value?.count ?? 0) } ?? 0)
        let bytes = deadLetter.payload.count + metadataBytes + 256
        let run = openRun(adding: bytes, receivedAt)
        run.deadLetters.append(deadLetter)
        cover(offset, by: run, bytes: bytes)
    }

    /// Takes an admitted message without a payload: only its offset counts.
    func skip(offset: Int64, receivedAt: Int64) {
        let run = openRun(adding: 0, receivedAt)
        run.skippedCount += 1
        cover(offset, by: run, bytes: 0)
    }

    /// The run that the next message belongs to.
    @inline(__always)
    private func openRun(adding bytes: Int, _ receivedAt: Int64) -> MessageRun {
        // A run's end differs from the position only after the position was moved.
        if let open, open.offsets.upperBound == position!,
            open.byteCount == 0 || open.byteCount + bytes <= Limits.entryBytes
        {
            return open
        }
        return addRun(receivedAt)
    }

    private func addRun(_ receivedAt: Int64) -> MessageRun {
        if let full = runs.last { bufferCapacity = min(max(16 << 10, full.byteCount), Limits.entryBytes + (64 << 10)) }
        let run = MessageRun(at: position!, receivedAt: receivedAt, capacity: bufferCapacity)
        runs.append(run)
        open = run
        return run
    }

    @inline(__always)
    private func cover(_ offset: Int64, by run: MessageRun, bytes: Int) {
        run.offsets = run.offsets.lowerBound..<(offset + 1)
        run.byteCount += bytes
        heldBytes += bytes
        position = offset + 1
    }

    // MARK: Submissions

    /// The run to submit now, if there is one; it counts as submitted from here on.
    func takeSubmission(now: UInt64) -> MessageRun? {
        guard let run = runs.first else { return nil }
        switch stage {
        case .idle:
            stage = .submitted(refusals: 0)
        case .heldBack(let retryAt, let refusals, _) where now >= retryAt:
            wasBlocked = isBlocked
            stage = .submitted(refusals: refusals)
        case .heldBack, .submitted:
            return nil
        }
        if run === open { open = nil }
        return run
    }

    /// The submitted run is in the journal.
    /// - Returns: that run.
    func accepted() -> MessageRun {
        precondition(isSubmitted, "an answer without a submission")
        let run = runs.removeFirst()
        heldBytes -= run.byteCount
        stage = .idle
        return run
    }

    /// The submitted run was refused; it is kept and submitted again later, before any other.
    func refused(_ error: IntakeError, now: UInt64) {
        guard case .submitted(let before) = stage else { preconditionFailure("an answer without a submission") }
        let firstMilliseconds: UInt64 = error == .overloaded ? 2 : 100
        let milliseconds = min(firstMilliseconds << UInt64(min(before, 10)), 2_000)
        stage = .heldBack(retryAt: now + milliseconds * 1_000_000, refusals: before + 1, error: error)
    }

    /// Forgets what was not handed over. It stays uncommitted in Kafka, for whoever consumes the partition next.
    func discardUnsubmitted() {
        runs.removeSubrange((isSubmitted ? 1 : 0)...)
        open = nil
        heldBytes = runs.first?.byteCount ?? 0
        if !isSubmitted { stage = .idle }
    }
}
