import IngestCore
import Journal

/// Decides what happens to one stream: when a batch is cut, sealed, sent, sent again, divided, and when the flushed
/// position moves. Pure: news comes in through the methods, `act` says what to do; no I/O, no clock, no thread.
///
/// `FlushBatch` shows the life of a batch. A batch that the server rejects for its data is divided, until the events
/// that are bad stand alone; those become dead letters, in the transaction that moves the position over them.
///
/// The stream's mode decides how `ready` batches are sent:
///
///     running      as many as `parallelism`          -> backingOff, held
///     backingOff   the oldest alone, after a pause    -> running (the server answered), held
///     held         the oldest alone, after a long one -> running, backingOff
///     givenUp      none: shutting down, and the last try failed
///
/// A stream is also held while its next batch can't be read (the probe begins with planning it again), and while the
/// store of dead letters is full (the probe is moving the position).
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
        /// Too many events in a row were rejected: it is probably not the events.
        case rowData = "row_data"
        case unreadable
        case deadLettersFull = "dead_letters_full"
    }

    /// What the owner has to do now. Each is answered by the method of the same name in the past tense.
    enum Action: Equatable {
        /// Look for the next batch from `from` on, ending at `to` at the latest; exactly there if it is sealed already.
        case plan(from: UInt64, to: UInt64, isSealed: Bool, maxRows: Int, maxBytes: Int)
        /// Make the batch's boundaries durable.
        case seal(Range<UInt64>)
        /// Make the boundaries of the batch's parts durable, instead of its own.
        case reseal(Range<UInt64>, parts: [Range<UInt64>])
        /// Send the batch.
        case send(Range<UInt64>, attempt: Int)
        /// Make the flushed position durable, and what was lost before it.
        case advance(Advance)
    }

    struct Advance: Equatable {
        let position: UInt64
        var partitions: [TopicPartition: FlushedOffset] = [:]
        var rejected: [RejectedEvent] = []
        var damaged: [DamagedEntry] = []
    }

    struct FlushedOffset: Equatable {
        let entryEnd: UInt64
        let offset: Int64
    }

    /// The answer to `.advance`.
    enum AdvanceResult: Equatable {
        case done
        /// The journal could not write it.
        case failed
        /// The store of dead letters has no room.
        case deadLettersFull(String)
    }

    /// Dead letters in one advance, and those that may wait while an older batch is on its way: each keeps a message
    /// of up to `Limits.errorMessageBytes`.
    private static let lossesAtOnce = 256
    /// Times that a batch the server found too large is sent again as it is, before it is divided; more often if it may
    /// have been inserted already.
    private static let attemptsBeforeDividing = 2
    private static let attemptsWithoutClearAnswer = 6

    private let configuration: FlushConfiguration
    private var limits: BatchLimits
    private var backoff: Backoff
    private var sendMode = Mode.running
    /// Why the position can't move, and when that is tried again.
    private var storeFull: (retryAt: UInt64, reason: String)?
    /// Everything before it is durably flushed.
    private(set) var position: UInt64
    /// Sequence behind the stream's last event.
    private(set) var tail: UInt64
    /// Sequence behind the last planned batch.
    private var planned: UInt64
    private var batches: [FlushBatch] = []
    /// Boundaries found at start: these batches may have reached the server and are sent again as they were.
    private var recoveredSeals: [Range<UInt64>]
    private var isPlanning = false
    private var isDraining = false
    /// The server's hints are not used for batches that begin before it: one was wrong.
    private var hintsAreWrongBefore: UInt64 = 0
    /// Events rejected since the last insert that succeeded.
    private(set) var rejectedInARow = 0

    /// Bytes of the events that are not planned yet; more than any limit while unknown.
    private var unplannedBytes: Int
    /// When waiting events arrived: events before `end` were there at `time`.
    private var arrivals: [(end: UInt64, time: UInt64)] = []
    /// Events before it wait for no others.
    private var dueBefore: UInt64 = 0

    /// What is done but not yet durably behind the position.
    private var pending: Advance
    private var isAdvancing = false
    private var boundariesToWrite: [Action] = []
    private var journalRetryAt: UInt64 = 0

    /// - Parameters:
    ///   - seals: what the journal has, in order.
    ///   - seed: of the jitter.
    init(
        configuration: FlushConfiguration, position: UInt64, tail: UInt64, seals: [Range<UInt64>], seed: UInt64,
        now: UInt64
    ) {
        self.configuration = configuration
        limits = BatchLimits(configuration)
        backoff = Backoff(minimum: configuration.backoffMin, maximum: configuration.backoffMax, seed: seed)
        self.position = position
        self.tail = tail
        planned = position
        pending = Advance(position: position)
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

    /// The answer to `.plan`.
    /// - Parameter to: as in the question.
    mutating func planned(_ plan: Result<BatchPlan?, PlanError>, to: UInt64, isSealed: Bool, now: UInt64) {
        isPlanning = false
        switch plan {
        case .failure(.unreadable(let reason)):
            hold(.unreadable, reason, now)
        case .failure(.damaged(let damage)):
            let damaged = damage.sequences.clamped(to: planned..<to)
            guard damaged.lowerBound == planned, !damaged.isEmpty else {
                return hold(.unreadable, "\(damage), elsewhere than was planned", now)
            }
            if isSealed {
                // Its boundaries are on disk and have to be replaced there.
                takePlan(FlushBatch(sequences: planned..<to, partitions: [:], state: .ready), isSealed: true)
                divide(batches.count - 1, around: damage, now)
            } else {
                var batch = FlushBatch(sequences: damaged, partitions: [:], state: .done)
                batch.loss = .damaged(DamagedEntry(sequences: damaged, reason: damage.reason))
                takePlan(batch, isSealed: false)
                collectDone()
            }
        case .success(nil):
            // The journal has no event where the stream's record says that there is one.
            hold(
                .unreadable,
                "the journal has no event with sequence \(planned), although the stream reaches to \(tail)", now)
        case .success(let plan?):
            precondition(plan.sequences.lowerBound == planned, "planned another batch than was asked for")
            let isFull =
                plan.isFull || plan.sequences.count >= limits.maxRows || plan.byteCount >= limits.maxBytes
                || plan.sequences.upperBound < tail
            guard isSealed || isFull || isAgeDue(now) || isDraining else {
                // The estimate was too high. Now it is exact, so the question is not asked again before there is more.
                unplannedBytes = plan.byteCount
                return
            }
            let end = isSealed ? to : plan.sequences.upperBound
            unplannedBytes = end == tail ? 0 : max(0, unplannedBytes - plan.byteCount)
            takePlan(
                FlushBatch(
                    sequences: planned..<end,
                    partitions: plan.partitions.mapValues {
                        FlushedOffset(entryEnd: $0.entryEnd, offset: $0.offset)
                    },
                    state: isSealed ? .ready : .sealing),
                isSealed: isSealed)
            guard isSealed else { return boundariesToWrite.append(.seal(batches.last!.sequences)) }
            // A sealed batch that can't be read to its end has to be divided there.
            if plan.sequences.upperBound < end {
                divide(
                    batches.count - 1,
                    into: [.init(sequences: plan.sequences), .init(sequences: plan.sequences.upperBound..<end)])
            }
        }
    }

    private mutating func takePlan(_ batch: FlushBatch, isSealed: Bool) {
        if isSealed { recoveredSeals.removeFirst() }
        batches.append(batch)
        // Whoever sealed it may also have sent it.
        batches[batches.count - 1].mayHaveArrived = isSealed
        planned = batch.sequences.upperBound
        arrivals.removeAll { $0.end <= planned }
    }

    /// The answer to `.seal`.
    mutating func sealed(_ sequences: Range<UInt64>, succeeded: Bool, now: UInt64) {
        guard let index = index(of: sequences), batches[index].state == .sealing else { return }
        if succeeded {
            batches[index].state = .ready
        } else {
            boundariesToWrite.append(.seal(sequences))
            noteJournalFailure(now)
        }
    }

    /// The answer to `.reseal`.
    mutating func resealed(_ sequences: Range<UInt64>, succeeded: Bool, now: UInt64) {
        guard let index = index(of: sequences), case .dividing(let parts) = batches[index].state else { return }
        if succeeded {
            batches.replaceSubrange(index...index, with: batches[index].divided(into: parts))
            collectDone()
        } else {
            boundariesToWrite.append(.reseal(sequences, parts: parts.map(\.sequences)))
            noteJournalFailure(now)
        }
    }

    /// The answer to `.send`.
    mutating func sent(_ sequences: Range<UInt64>, outcome: InsertOutcome, now: UInt64) {
        guard let index = index(of: sequences), batches[index].state == .sending else { return }
        switch outcome {
        case .inserted:
            batches[index].state = .done
            if batches[index].role == .suspect { hintWasWrong(index) }
            rejectedInARow = 0
            limits.noteSuccess()
            resume()
            collectDone()
        case .failed(let failure):
            batches[index].state = .ready
            batches[index].hasFailed = true
            switch failure.failureClass {
            case .transient:
                batches[index].mayHaveArrived = true
                if failure.clickHouseCode == InsertFailure.tooManyParts { limits.stretchAge() }
                backOff(failure, now)
            case .batchShape: tooLarge(index, failure, now)
            case .configuration: hold(.configuration, failure.summary, now)
            case .rowData: rejected(index, failure, now)
            }
        case .damaged(let damage):
            batches[index].state = .ready
            divide(index, around: damage, now)
        case .unreadable(let reason):
            batches[index].state = .ready
            hold(.unreadable, reason, now)
        }
    }

    /// The answer to `.advance`.
    mutating func advanced(to newPosition: UInt64, _ result: AdvanceResult, now: UInt64) {
        isAdvancing = false
        switch result {
        case .done:
            position = newPosition
            storeFull = nil
            pending.partitions = pending.partitions.filter { $0.value.entryEnd > newPosition }
            pending.rejected.removeAll { $0.sequence < newPosition }
            pending.damaged.removeAll { $0.sequences.lowerBound < newPosition }
            collectDone()
        case .failed:
            noteJournalFailure(now)
        case .deadLettersFull(let reason):
            journalRetryAt = now + configuration.holdRetryInterval
            storeFull = (journalRetryAt, reason)
        }
    }

    /// Cut batches of what is there without waiting for more.
    mutating func flushNow() { dueBefore = tail }

    /// Flush what is there without waiting for more; one failed try ends it.
    mutating func drain(now: UInt64) {
        isDraining = true
        retryNow(now: now)
    }

    /// Try again without waiting for the pause to end. Also takes the next rejected events for what they seem to be.
    mutating func retryNow(now: UInt64) {
        rejectedInARow = 0
        if storeFull != nil { journalRetryAt = now }
        switch sendMode {
        case .running, .givenUp: break
        case .backingOff(_, let reason): sendMode = .backingOff(retryAt: now, reason: reason)
        case .held(_, let cause, let reason): sendMode = .held(retryAt: now, cause: cause, reason: reason)
        }
    }

    // MARK: Failures

    /// The server finds the data of a batch bad.
    private mutating func rejected(_ index: Int, _ failure: InsertFailure, _ now: UInt64) {
        guard mayLoseMore(failure, now) else { return }
        // The server works and has given its verdict.
        resume()
        if batches[index].role == .beforeSuspect { hintWasWrong(index) }
        guard batches[index].sequences.count > 1 else { return lose(index, kind: "row_data", failure) }
        let trustsHint = batches[index].sequences.lowerBound >= hintsAreWrongBefore
        let parts = failure.rowHint.flatMap { trustsHint ? batches[index].parts(aroundRow: $0) : nil }
        divide(index, into: parts ?? batches[index].halves)
    }

    /// The server finds a batch too large at this moment.
    private mutating func tooLarge(_ index: Int, _ failure: InsertFailure, _ now: UInt64) {
        batches[index].shapeFailures += 1
        if batches[index].sequences.count == 1 {
            // Its size never changes; but a server short of memory recovers.
            guard failure.isSizeLimit else { return backOff(failure, now) }
            guard mayLoseMore(failure, now) else { return }
            resume()
            return lose(index, kind: "too_large", failure)
        }
        let patience = batches[index].mayHaveArrived ? Self.attemptsWithoutClearAnswer : Self.attemptsBeforeDividing
        if batches[index].shapeFailures >= patience {
            limits.shrink()
            divide(index, into: batches[index].halves)
        }
        backOff(failure, now)
    }

    /// Whether it still looks like the events' fault; otherwise the stream is held.
    private mutating func mayLoseMore(_ failure: InsertFailure, _ now: UInt64) -> Bool {
        let limit = configuration.maxRejectedInARow
        guard limit > 0, rejectedInARow >= limit else { return true }
        hold(
            .rowData,
            "\(rejectedInARow) events in a row were rejected, the last with \(failure.summary): see the dead letters",
            now)
        return false
    }

    private mutating func lose(_ index: Int, kind: String, _ failure: InsertFailure) {
        batches[index].loss = .rejected(
            DeadLetter.Problem(
                kind: kind, message: failure.message, clickHouseCode: failure.clickHouseCode,
                httpStatus: failure.httpStatus, attempts: batches[index].attempts))
        batches[index].state = .done
        rejectedInARow += 1
        collectDone()
    }

    /// Sets a damaged entry apart from its neighbors.
    private mutating func divide(_ index: Int, around damage: DamagedEntry, _ now: UInt64) {
        guard let parts = batches[index].parts(around: damage) else {
            return hold(.unreadable, "\(damage), outside of the batch that was read", now)
        }
        divide(index, into: parts)
    }

    private mutating func divide(_ index: Int, into parts: [FlushBatch.Part]) {
        batches[index].state = .dividing(parts)
        boundariesToWrite.append(.reseal(batches[index].sequences, parts: parts.map(\.sequences)))
    }

    private mutating func hintWasWrong(_ index: Int) {
        hintsAreWrongBefore = max(hintsAreWrongBefore, batches[index].originEnd)
    }

    private mutating func resume() {
        sendMode = .running
        backoff.reset()
    }

    private mutating func backOff(_ failure: InsertFailure, _ now: UInt64) {
        let pause = backoff.next()
        sendMode = isDraining ? .givenUp : .backingOff(retryAt: now + pause, reason: failure.summary)
    }

    private mutating func hold(_ cause: HoldCause, _ reason: String, _ now: UInt64) {
        let retryAt = now + configuration.holdRetryInterval
        sendMode = isDraining ? .givenUp : .held(retryAt: retryAt, cause: cause, reason: reason)
    }

    private mutating func noteJournalFailure(_ now: UInt64) { journalRetryAt = now + configuration.backoffMax / 30 }

    // MARK: Decisions

    /// What to do now.
    mutating func act(now: UInt64) -> [Action] {
        var actions: [Action] = []
        if now >= journalRetryAt {
            if !isAdvancing, pending.position > position {
                isAdvancing = true
                actions.append(.advance(pending))
            }
            actions += boundariesToWrite
            boundariesToWrite = []
        }
        while let index = nextToSend(now) {
            batches[index].state = .sending
            batches[index].attempts += 1
            actions.append(.send(batches[index].sequences, attempt: batches[index].attempts))
        }
        if mayPlan(now), isBatchDue(now) {
            isPlanning = true
            let seal = recoveredSeals.first
            let isSealed = seal?.lowerBound == planned
            let end = isSealed ? seal!.upperBound : seal?.lowerBound ?? tail
            actions.append(
                .plan(
                    from: planned, to: end, isSealed: isSealed, maxRows: isSealed ? .max : limits.maxRows,
                    maxBytes: isSealed ? .max : limits.maxBytes))
        }
        return actions
    }

    /// When `act` has something to do at the latest if no news comes; `nil` if only news matters.
    func deadline(now: UInt64) -> UInt64? {
        var deadlines: [UInt64] = []
        if !boundariesToWrite.isEmpty || (pending.position > position && !isAdvancing) {
            deadlines.append(journalRetryAt)
        }
        switch sendMode {
        case .backingOff(let retryAt, _), .held(let retryAt, _, _):
            let canProbe = batches.isEmpty ? !isPlanning && planned < tail : batches.contains { $0.state == .ready }
            if canProbe, sendingCount == 0, storeFull == nil { deadlines.append(retryAt) }
        case .running:
            if mayPlan(now), let oldest = arrivals.first { deadlines.append(oldest.time + limits.maxAge) }
        case .givenUp: break
        }
        return deadlines.min()
    }

    /// What the stream is doing.
    var mode: Mode {
        if let storeFull, sendMode != .givenUp {
            return .held(retryAt: storeFull.retryAt, cause: .deadLettersFull, reason: storeFull.reason)
        }
        return sendMode
    }

    /// Whether everything that the stream has is flushed, durably.
    var isEmpty: Bool { position == tail }

    /// Whether draining is over: done, or given up.
    var isDrained: Bool {
        isEmpty || (isDraining && sendingCount == 0 && !isAdvancing && (sendMode == .givenUp || storeFull != nil))
    }

    /// Whether an earlier attempt at the batch, in this process or an earlier one, may have reached the server.
    func isRepeated(_ sequences: Range<UInt64>) -> Bool {
        index(of: sequences).map { batches[$0].hasFailed || batches[$0].mayHaveArrived } ?? false
    }

    /// Batches on their way.
    var sendingCount: Int { batches.count { $0.state == .sending } }

    private func mayPlan(_ now: UInt64) -> Bool {
        guard !isPlanning, planned < tail, storeFull == nil else { return false }
        switch sendMode {
        // One batch is sealed ahead, so that a finished insert is followed by the next at once.
        case .running: return batches.count <= configuration.parallelism
        case .backingOff(let retryAt, _), .held(let retryAt, _, _): return batches.isEmpty && now >= retryAt
        case .givenUp: return false
        }
    }

    private func isBatchDue(_ now: UInt64) -> Bool {
        isDraining || !recoveredSeals.isEmpty || tail - planned >= UInt64(limits.maxRows)
            || unplannedBytes >= limits.maxBytes || isAgeDue(now)
    }

    private func isAgeDue(_ now: UInt64) -> Bool {
        if planned < dueBefore { return true }
        guard let oldest = arrivals.first else { return false }
        return now >= oldest.time + limits.maxAge
    }

    private func nextToSend(_ now: UInt64) -> Int? {
        let sending = sendingCount
        switch sendMode {
        case .running:
            guard sending < configuration.parallelism else { return nil }
        case .backingOff(let retryAt, _), .held(let retryAt, _, _):
            guard sending == 0, now >= retryAt else { return nil }
        case .givenUp:
            return nil
        }
        guard storeFull == nil else { return nil }
        let ready = batches.firstIndex { $0.state == .ready }
        // What was lost behind a batch that is not done yet has to wait in memory.
        if ready != batches.startIndex, batches.count(where: { $0.loss != nil }) >= Self.lossesAtOnce { return nil }
        return ready
    }

    /// The position moves over the contiguous prefix only.
    private mutating func collectDone() {
        var count = 0
        while count < batches.count, batches[count].state == .done,
            pending.rejected.count + pending.damaged.count < Self.lossesAtOnce
        {
            let batch = batches[count]
            pending = Advance(
                position: batch.sequences.upperBound,
                partitions: pending.partitions.merging(batch.partitions) { $1 }, rejected: pending.rejected,
                damaged: pending.damaged)
            switch batch.loss {
            case nil: break
            case .rejected(let problem):
                pending.rejected.append(RejectedEvent(sequence: batch.sequences.lowerBound, problem: problem))
            case .damaged(let damage): pending.damaged.append(damage)
            }
            count += 1
        }
        batches.removeFirst(count)
    }

    private func index(of sequences: Range<UInt64>) -> Int? {
        batches.firstIndex { $0.sequences == sequences }
    }
}

/// Why a batch could not be planned.
enum PlanError: Error {
    /// The entry at its beginning is damaged.
    case damaged(DamagedEntry)
    /// The journal can't be read at all.
    case unreadable(String)
}

extension InsertFailure {
    /// ClickHouse's TOO_MANY_PARTS.
    static let tooManyParts = 252

    /// Whether the server has a limit that the batch exceeds by itself, whatever else the server is doing:
    /// QUERY_IS_TOO_LARGE, TOO_MANY_BYTES, or 413 of a proxy.
    var isSizeLimit: Bool {
        clickHouseCode == 229 || clickHouseCode == 307 || (clickHouseCode == nil && httpStatus == 413)
    }
}
