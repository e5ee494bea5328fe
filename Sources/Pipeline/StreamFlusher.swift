import IngestCore
import Journal

/// Decides what happens to one stream: when a batch is cut, sealed, sent, sent again, and when the flushed position
/// moves. Pure: news comes in through the methods, `act` says what to do; no I/O, no clock, no thread.
///
/// A batch's life:
///
///     planned -> sealing -> ready -> sending -> done -> (position moves over it)
///                  ^  |       ^         |
///                  +--+       +---------+  failed: the same batch again, later
///
/// The stream's mode decides how `ready` batches are sent:
///
///     running      as many as `parallelism`          -> backingOff, held
///     backingOff   the oldest alone, after a pause    -> running (it succeeded), held
///     held         the oldest alone, after a long one -> running, backingOff
///     givenUp      none: shutting down, and the last try failed
///
/// A stream can also be held because its next batch can't be read; then the probe begins with planning it again.
struct StreamFlusher {
    enum Mode: Equatable {
        case running
        case backingOff(retryAt: UInt64, reason: String)
        case held(retryAt: UInt64, cause: HoldCause, reason: String)
        case givenUp
    }

    /// What an operator has to look at; a metric label.
    enum HoldCause: String, CaseIterable {
        case configuration
        case rowData = "row_data"
        case unreadable
    }

    /// What the owner has to do now. Each is answered by the method of the same name in the past tense.
    enum Action: Equatable {
        /// Look for the next batch from `from` on, ending at `to` at the latest; exactly there if it is sealed already.
        case plan(from: UInt64, to: UInt64, isSealed: Bool)
        /// Make the batch's boundaries durable.
        case seal(Range<UInt64>)
        /// Send the batch.
        case send(Range<UInt64>, attempt: Int)
        /// Make the flushed position durable.
        case advance(to: UInt64, partitions: [TopicPartition: FlushedOffset])
    }

    struct FlushedOffset: Equatable {
        let entryEnd: UInt64
        let offset: Int64
    }

    private struct Batch {
        enum State { case sealing, ready, sending, done }
        let sequences: Range<UInt64>
        let partitions: [TopicPartition: FlushedOffset]
        var state: State
        var attempts = 0
    }

    private let configuration: FlushConfiguration
    private var backoff: Backoff
    private(set) var mode = Mode.running
    /// Everything before it is durably flushed.
    private(set) var position: UInt64
    /// Sequence behind the stream's last event.
    private(set) var tail: UInt64
    /// Sequence behind the last planned batch.
    private var planned: UInt64
    private var batches: [Batch] = []
    /// Boundaries found at start: these batches may have reached the server and are sent again as they were.
    private var recoveredSeals: [Range<UInt64>]
    private var isPlanning = false
    private var isDraining = false

    /// Bytes of the events that are not planned yet; more than any limit while unknown.
    private var unplannedBytes: Int
    /// When waiting events arrived: events before `end` were there at `time`.
    private var arrivals: [(end: UInt64, time: UInt64)] = []

    /// Batches that are done but not yet durably behind the position.
    private var flushedTo: UInt64
    private var flushedPartitions: [TopicPartition: FlushedOffset] = [:]
    private var isAdvancing = false
    private var journalRetryAt: UInt64 = 0

    /// - Parameters:
    ///   - seals: what the journal has, in order.
    ///   - seed: of the jitter.
    init(
        configuration: FlushConfiguration, position: UInt64, tail: UInt64, seals: [Range<UInt64>], seed: UInt64,
        now: UInt64
    ) {
        self.configuration = configuration
        backoff = Backoff(minimum: configuration.backoffMin, maximum: configuration.backoffMax, seed: seed)
        self.position = position
        self.tail = tail
        planned = position
        flushedTo = position
        recoveredSeals = seals
        unplannedBytes = tail > position ? .max / 2 : 0
        // What is found at start has waited long enough.
        if tail > position { arrivals = [(tail, now - min(now, configuration.batchMaxAge))] }
    }

    // MARK: News

    /// The stream got events.
    mutating func appended(to end: UInt64, bytes: Int, now: UInt64) {
        guard end > tail else { return }
        tail = end
        unplannedBytes += bytes
        // Coarse on purpose: events may be taken for older than they are by an eighth of the age limit.
        if let last = arrivals.last, now - last.time < configuration.batchMaxAge / 8 || arrivals.count >= 64 {
            arrivals[arrivals.count - 1].end = end
        } else {
            arrivals.append((end, now))
        }
    }

    /// The answer to `.plan`; `nil` if it could not be read, with the reason.
    mutating func planned(_ plan: Result<BatchPlan?, FlushError>, isSealed: Bool, now: UInt64) {
        isPlanning = false
        switch plan {
        case .failure(let error):
            hold(.unreadable, error.reason, now)
        case .success(nil):
            // The journal has no event where the stream's record says that there is one.
            hold(
                .unreadable,
                "the journal has no event with sequence \(planned), although the stream reaches to \(tail)", now)
        case .success(let plan?):
            precondition(plan.sequences.lowerBound == planned, "planned another batch than was asked for")
            let isFull =
                plan.isFull || plan.sequences.count >= configuration.batchMaxRows
                || plan.byteCount >= configuration.batchMaxBytes || plan.sequences.upperBound < tail
            guard isSealed || isFull || isAgeDue(now) || isDraining else {
                // The estimate was too high. Now it is exact, so the question is not asked again before there is more.
                unplannedBytes = plan.byteCount
                return
            }
            if isSealed { recoveredSeals.removeFirst() }
            planned = plan.sequences.upperBound
            unplannedBytes = planned == tail ? 0 : max(0, unplannedBytes - plan.byteCount)
            arrivals.removeAll { $0.end <= planned }
            batches.append(
                Batch(
                    sequences: plan.sequences,
                    partitions: plan.partitions.mapValues {
                        FlushedOffset(entryEnd: $0.entryEnd, offset: $0.offset)
                    },
                    state: isSealed ? .ready : .sealing))
            // The owner seals at once; `act` only looks after seals that failed.
            sealsToSend.append(contentsOf: isSealed ? [] : [plan.sequences])
        }
    }

    private var sealsToSend: [Range<UInt64>] = []

    /// The answer to `.seal`.
    mutating func sealed(_ sequences: Range<UInt64>, succeeded: Bool, now: UInt64) {
        guard let index = index(of: sequences), batches[index].state == .sealing else { return }
        if succeeded {
            batches[index].state = .ready
        } else {
            sealsToSend.append(sequences)
            journalRetryAt = now + configuration.backoffMax / 30
        }
    }

    /// The answer to `.send`.
    mutating func sent(_ sequences: Range<UInt64>, outcome: InsertOutcome, now: UInt64) {
        guard let index = index(of: sequences), batches[index].state == .sending else { return }
        switch outcome {
        case .inserted:
            batches[index].state = .done
            mode = .running
            backoff.reset()
            collectDone()
        case .failed(let failure):
            batches[index].state = .ready
            switch failure.failureClass {
            case .transient, .batchShape:
                let pause = backoff.next()
                mode = isDraining ? .givenUp : .backingOff(retryAt: now + pause, reason: failure.description)
            case .configuration:
                hold(.configuration, failure.description, now)
            case .rowData:
                hold(.rowData, failure.description, now)
            }
        case .unreadable(let reason):
            batches[index].state = .ready
            hold(.unreadable, reason, now)
        }
    }

    /// The answer to `.advance`.
    mutating func advanced(to newPosition: UInt64, succeeded: Bool, now: UInt64) {
        isAdvancing = false
        if succeeded {
            position = newPosition
            flushedPartitions = flushedPartitions.filter { $0.value.entryEnd > newPosition }
        } else {
            journalRetryAt = now + configuration.backoffMax / 30
        }
    }

    /// Flush what is there without waiting for more; one failed try ends it.
    mutating func drain(now: UInt64) {
        isDraining = true
        retryNow(now: now)
    }

    /// Try again without waiting for the pause to end.
    mutating func retryNow(now: UInt64) {
        switch mode {
        case .running, .givenUp: break
        case .backingOff(_, let reason): mode = .backingOff(retryAt: now, reason: reason)
        case .held(_, let cause, let reason): mode = .held(retryAt: now, cause: cause, reason: reason)
        }
    }

    // MARK: Decisions

    /// What to do now.
    mutating func act(now: UInt64) -> [Action] {
        var actions: [Action] = []
        if !isAdvancing, flushedTo > position, now >= journalRetryAt {
            isAdvancing = true
            actions.append(.advance(to: flushedTo, partitions: flushedPartitions))
        }
        if now >= journalRetryAt {
            actions += sealsToSend.map { .seal($0) }
            sealsToSend = []
        }
        while let index = nextToSend(now) {
            batches[index].state = .sending
            batches[index].attempts += 1
            actions.append(.send(batches[index].sequences, attempt: batches[index].attempts))
        }
        if mayPlan(now), isBatchDue(now) {
            isPlanning = true
            let seal = recoveredSeals.first
            if let seal, seal.lowerBound == planned {
                actions.append(.plan(from: planned, to: seal.upperBound, isSealed: true))
            } else {
                actions.append(.plan(from: planned, to: seal?.lowerBound ?? tail, isSealed: false))
            }
        }
        return actions
    }

    /// When `act` has something to do at the latest if no news comes; `nil` if only news matters.
    func deadline(now: UInt64) -> UInt64? {
        var deadlines: [UInt64] = []
        if !sealsToSend.isEmpty || (flushedTo > position && !isAdvancing) { deadlines.append(journalRetryAt) }
        switch mode {
        case .backingOff(let retryAt, _), .held(let retryAt, _, _):
            let canProbe = batches.isEmpty ? !isPlanning && planned < tail : batches.contains { $0.state == .ready }
            if canProbe, sendingCount == 0 { deadlines.append(retryAt) }
        case .running:
            if mayPlan(now), let oldest = arrivals.first { deadlines.append(oldest.time + configuration.batchMaxAge) }
        case .givenUp: break
        }
        return deadlines.min()
    }

    /// Whether everything that the stream has is flushed, durably.
    var isEmpty: Bool { position == tail }

    /// Whether draining is over: done, or given up.
    var isDrained: Bool { isEmpty || (mode == .givenUp && !batches.contains { $0.state == .sending }) }

    /// Batches on their way.
    var sendingCount: Int { batches.count { $0.state == .sending } }

    private func mayPlan(_ now: UInt64) -> Bool {
        guard !isPlanning, planned < tail else { return false }
        switch mode {
        // One batch is sealed ahead, so that a finished insert is followed by the next at once.
        case .running: return batches.count <= configuration.parallelism
        case .backingOff(let retryAt, _), .held(let retryAt, _, _): return batches.isEmpty && now >= retryAt
        case .givenUp: return false
        }
    }

    private func isBatchDue(_ now: UInt64) -> Bool {
        isDraining || !recoveredSeals.isEmpty || tail - planned >= UInt64(configuration.batchMaxRows)
            || unplannedBytes >= configuration.batchMaxBytes || isAgeDue(now)
    }

    private func isAgeDue(_ now: UInt64) -> Bool {
        guard let oldest = arrivals.first else { return false }
        return now >= oldest.time + configuration.batchMaxAge
    }

    private func nextToSend(_ now: UInt64) -> Int? {
        let sending = sendingCount
        switch mode {
        case .running:
            guard sending < configuration.parallelism else { return nil }
        case .backingOff(let retryAt, _), .held(let retryAt, _, _):
            guard sending == 0, now >= retryAt else { return nil }
        case .givenUp:
            return nil
        }
        return batches.firstIndex { $0.state == .ready }
    }

    private mutating func hold(_ cause: HoldCause, _ reason: String, _ now: UInt64) {
        let retryAt = now + configuration.holdRetryInterval
        mode = isDraining ? .givenUp : .held(retryAt: retryAt, cause: cause, reason: reason)
    }

    /// The position moves over the contiguous prefix only.
    private mutating func collectDone() {
        while let first = batches.first, first.state == .done {
            batches.removeFirst()
            flushedTo = first.sequences.upperBound
            flushedPartitions.merge(first.partitions) { $1 }
        }
    }

    private func index(of sequences: Range<UInt64>) -> Int? {
        batches.firstIndex { $0.sequences == sequences }
    }
}

/// Why a batch could not be planned.
struct FlushError: Error {
    let reason: String
}
