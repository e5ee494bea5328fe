import IngestCore
import Journal
import ServiceLog
import Synchronization

/// The delivering half: one thread that owns a `StreamFlusher` for each stream, feeds it with news and does what it
/// says. News comes from the journal's writer (commits), the destination (outcomes) and the clock.
final class Flusher: Sendable {
    private enum News: Sendable {
        case committed(CommitNews)
        case sealed(StreamID, Range<UInt64>, succeeded: Bool)
        case resealed(StreamID, Range<UInt64>, succeeded: Bool)
        case sent(StreamID, Range<UInt64>, InsertOutcome, nanoseconds: UInt64)
        case advanced(StreamID, UInt64, StreamFlusher.AdvanceResult)
        case retryNow(StreamID?)
        case flushNow
        case drain
    }

    /// What a stream's flusher is doing, for status and metrics.
    struct StreamView: Sendable {
        var table: String
        var mode: String
        var reason: String?
        var holdCause: StreamFlusher.HoldCause?
        var sending: Int
        /// Whether the flusher was told to drain and is done with it.
        var isDrained: Bool
    }

    private let journal: Journal
    private let destination: any InsertDestination
    private let configuration: FlushConfiguration
    private let metrics: PipelineMetrics
    private let log: EventLog
    private let mailbox = Mailbox<News>()
    private let published = Mutex<[StreamID: StreamView]>([:])
    private let thread = Mutex<DedicatedThread?>(nil)

    init(
        journal: Journal, destination: any InsertDestination, configuration: FlushConfiguration,
        metrics: PipelineMetrics, log: EventLog
    ) {
        self.journal = journal
        self.destination = destination
        self.configuration = configuration
        self.metrics = metrics
        self.log = log
    }

    /// Starts the thread, with what the journal holds from before.
    /// - Throws: when the journal's seals can't be read.
    func start() throws {
        let now = MonotonicClock.now
        var loop = Loop(flusher: self)
        for (id, state) in journal.snapshot.streams.sorted(by: { $0.key < $1.key }) {
            loop.streams.append(id)
            let seals = try journal.seals(of: id)
            loop.machines[id] = StreamFlusher(
                configuration: configuration, position: state.position, tail: state.nextSequence, seals: seals,
                seed: UInt64.random(in: .min ... .max), now: now)
            loop.tables[id] = state.stream.table
        }
        for id in loop.streams { loop.publish(id) }
        let initial = loop
        let started = DedicatedThread(name: "flusher") {
            var loop = initial
            loop.run()
        }
        thread.withLock { $0 = started }
    }

    /// The journal has committed. Called on its writer's thread.
    func committed(_ news: CommitNews) {
        guard !news.appended.isEmpty else { return }
        mailbox.send(.committed(news))
    }

    /// Flush everything that was committed before this call; `isDrained` says when that is over.
    func drain() {
        mailbox.send(.drain)
    }

    /// Try the stream again now if it is held or in a pause; `nil` means all streams.
    func retryNow(_ stream: StreamID?) { mailbox.send(.retryNow(stream)) }

    /// Send what was committed before this call without waiting for more.
    func flushNow() { mailbox.send(.flushNow) }

    /// Whether, since `drain`, every stream was flushed or its last try has failed.
    var isDrained: Bool { published.withLock { $0.values.allSatisfy(\.isDrained) } }

    /// What each stream is doing.
    var views: [StreamID: StreamView] { published.withLock { $0 } }

    /// Ends the thread. Batches that are still on their way stay in the journal.
    func stop() {
        mailbox.close()
        thread.withLock { $0.take() }?.join()
    }

    /// The thread's own state.
    private struct Loop: Sendable {
        let flusher: Flusher
        var streams: [StreamID] = []
        var machines: [StreamID: StreamFlusher] = [:]
        var tables: [StreamID: String] = [:]
        private var isDraining = false

        init(flusher: Flusher) { self.flusher = flusher }

        mutating func run() {
            var batch: [News] = []
            var deadline: UInt64? = MonotonicClock.now
            while flusher.mailbox.receive(into: &batch, until: deadline) {
                for news in batch { take(news, now: MonotonicClock.now) }
                deadline = nil
                for stream in streams {
                    act(stream)
                    guard let next = machines[stream]?.deadline(now: MonotonicClock.now) else { continue }
                    deadline = min(next, deadline ?? .max)
                }
            }
        }

        private mutating func take(_ news: News, now: UInt64) {
            switch news {
            case .committed(let commit):
                for (stream, end, bytes) in commit.appended {
                    machines[stream]?.appended(to: end, bytes: bytes, now: now)
                }
            case .sealed(let stream, let sequences, let succeeded):
                machines[stream]?.sealed(sequences, succeeded: succeeded, now: now)
            case .resealed(let stream, let sequences, let succeeded):
                CrashPoint.divided.pass()
                machines[stream]?.resealed(sequences, succeeded: succeeded, now: now)
            case .sent(let stream, let sequences, let outcome, let nanoseconds):
                CrashPoint.answered.pass()
                let before = machines[stream]?.mode
                machines[stream]?.sent(sequences, outcome: outcome, now: now)
                publish(stream)
                flusher.metrics.inserted(
                    table: tables[stream] ?? "", rows: sequences.count, outcome: outcome, nanoseconds: nanoseconds)
                report(stream, sequences, before)
                if case .damaged(let damage) = outcome { reportDamage(damage, stream) }
            case .advanced(let stream, let position, let result):
                CrashPoint.advanced.pass()
                let before = machines[stream]?.mode
                machines[stream]?.advanced(to: position, result, now: now)
                publish(stream)
                if result == .failed {
                    flusher.log.write(
                        .journalAdvanceFailed, about: tables[stream] ?? "",
                        "the flushed position could not be written, retrying",
                        ["stream": "\(tables[stream] ?? "")", "position": "\(position)"])
                }
                report(stream, position..<position, before)
            case .retryNow(let stream):
                for stream in stream.map({ [$0] }) ?? streams { machines[stream]?.retryNow(now: now) }
            case .flushNow:
                for stream in streams { machines[stream]?.flushNow() }
            case .drain:
                isDraining = true
                for stream in streams {
                    machines[stream]?.drain(now: now)
                    publish(stream)
                }
            }
        }

        private mutating func act(_ stream: StreamID) {
            var hasActed = false
            // Planning is answered at once, which can make further actions due.
            while let actions = machines[stream]?.act(now: MonotonicClock.now), !actions.isEmpty {
                for action in actions { perform(action, stream) }
                hasActed = true
            }
            if hasActed { publish(stream) }
        }

        private mutating func perform(_ action: StreamFlusher.Action, _ stream: StreamID) {
            let mailbox = flusher.mailbox
            switch action {
            case .plan(let from, let to, let isSealed, let maxRows, let maxBytes):
                let plan = Result { () throws(PlanError) in
                    do {
                        return try flusher.journal.plan(
                            stream, from: from, to: to, maxRows: maxRows, maxBytes: maxBytes)
                    } catch let damage as DamagedEntry {
                        throw .damaged(damage)
                    } catch {
                        throw .unreadable("\(error)")
                    }
                }
                let before = machines[stream]?.mode
                if case .failure(.damaged(let damage)) = plan { reportDamage(damage, stream) }
                machines[stream]?.planned(plan, to: to, isSealed: isSealed, now: MonotonicClock.now)
                report(stream, from..<to, before)
            case .seal(let sequences):
                flusher.journal.seal(sequences, in: stream) { result in
                    mailbox.send(.sealed(stream, sequences, succeeded: result.isSuccess))
                }
            case .reseal(let sequences, let parts):
                CrashPoint.dividing.pass()
                flusher.journal.reseal(sequences, as: parts, in: stream) { result in
                    mailbox.send(.resealed(stream, sequences, succeeded: result.isSuccess))
                }
            case .send(let sequences, _):
                CrashPoint.sealed.pass()
                send(sequences, stream)
            case .advance(let advance):
                CrashPoint.advancing.pass()
                flusher.journal.advance(
                    stream, to: advance.position,
                    partitions: advance.partitions.mapValues { ($0.entryEnd, $0.offset) },
                    rejected: advance.rejected, damaged: advance.damaged
                ) { result in
                    mailbox.send(.advanced(stream, advance.position, StreamFlusher.AdvanceResult(result)))
                }
            }
        }

        private func send(_ sequences: Range<UInt64>, _ stream: StreamID) {
            let mailbox = flusher.mailbox
            let journal = flusher.journal
            let start = MonotonicClock.now
            let token: String
            do {
                token = try journal.token(stream, sequences)
            } catch {
                let outcome = (error as? DamagedEntry).map { InsertOutcome.damaged($0) } ?? .unreadable("\(error)")
                mailbox.send(.sent(stream, sequences, outcome, nanoseconds: 0))
                return
            }
            flusher.destination.insert(
                InsertRequest(
                    table: tables[stream] ?? "", token: token, rowCount: sequences.count,
                    isRepeated: machines[stream]?.isRepeated(sequences) ?? false,
                    makeReader: { try journal.reader(stream, sequences) },
                    completion: { outcome in
                        mailbox.send(.sent(stream, sequences, outcome, nanoseconds: MonotonicClock.now - start))
                    }))
        }

        private func reportDamage(_ damage: DamagedEntry, _ stream: StreamID) {
            flusher.log.write(
                .journalEntryDamaged, about: tables[stream] ?? "",
                "a journal entry is damaged and becomes a dead letter",
                ["stream": "\(tables[stream] ?? "")", "error": "\(damage)"])
        }

        /// Log lines when the stream's mode changes.
        private func report(_ stream: StreamID, _ sequences: Range<UInt64>, _ before: StreamFlusher.Mode?) {
            guard let machine = machines[stream], let table = tables[stream] else { return }
            var metadata: EventLog.Metadata = ["stream": "\(table)", "first_sequence": "\(sequences.lowerBound)"]
            if let last = sequences.last { metadata["last_sequence"] = "\(last)" }
            switch (before, machine.mode) {
            case (.running, .running), (.givenUp, _), (nil, _): break
            case (_, .running):
                flusher.log.write(
                    .streamResumed, about: table, "stream resumed", metadata)
            case (.running, .backingOff(_, let reason)):
                flusher.log.write(
                    .clickHouseInsertFailed, about: table, "insert failed, retrying",
                    metadata.merging(["error": "\(reason)"]) { $1 })
            case (.held(_, _, let old), .held(_, _, let reason)) where old == reason: break
            case (_, .held(_, _, let reason)):
                flusher.log.write(
                    .streamHeld, about: table, "stream held", metadata.merging(["error": "\(reason)"]) { $1 })
            default: break
            }
        }

        func publish(_ stream: StreamID) {
            guard let machine = machines[stream] else { return }
            let view = StreamView(
                table: tables[stream] ?? "", mode: machine.mode.name, reason: machine.mode.reason,
                holdCause: machine.mode.holdCause, sending: machine.sendingCount,
                isDrained: isDraining && machine.isDrained)
            flusher.published.withLock { $0[stream] = view }
        }
    }
}

extension StreamFlusher.AdvanceResult {
    fileprivate init(_ result: Result<Void, JournalError>) {
        switch result {
        case .success: self = .done
        case .failure(.deadLettersFull(let reason)): self = .deadLettersFull(reason)
        case .failure: self = .failed
        }
    }
}

extension Result {
    fileprivate var isSuccess: Bool {
        if case .success = self { true } else { false }
    }
}

extension StreamFlusher.Mode {
    var name: String {
        switch self {
        case .running: "running"
        case .backingOff: "retrying"
        case .held: "held"
        case .givenUp: "stopped"
        }
    }

    var reason: String? {
        switch self {
        case .running, .givenUp: nil
        case .backingOff(_, let reason), .held(_, _, let reason): reason
        }
    }

    var holdCause: StreamFlusher.HoldCause? {
        if case .held(_, let cause, _) = self { cause } else { nil }
    }
}
