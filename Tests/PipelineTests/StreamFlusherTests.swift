import IngestCore
import Journal
import Testing

@testable import Pipeline

/// Drives a `StreamFlusher` by hand: a script of news on one side, the actions on the other.
struct FlusherScript {
    static let second: UInt64 = 1_000_000_000
    var machine: StreamFlusher
    var now: UInt64 = 100 * second
    /// Bytes of one event.
    let eventBytes = 100
    let configuration: FlushConfiguration

    init(
        position: UInt64 = 1, tail: UInt64 = 1, seals: [Range<UInt64>] = [],
        _ change: (inout FlushConfiguration) -> Void = { _ in }
    ) {
        var configuration = FlushConfiguration(
            batchMaxRows: 10, batchMaxBytes: 1_000_000, batchMaxAge: Self.second, parallelism: 2,
            backoffMin: Self.second / 10, backoffMax: 10 * Self.second, holdRetryInterval: 15 * Self.second)
        change(&configuration)
        self.configuration = configuration
        machine = StreamFlusher(
            configuration: configuration, position: position, tail: tail, seals: seals, seed: 1, now: now)
    }

    mutating func append(_ count: UInt64) {
        machine.appended(to: machine.tail + count, bytes: Int(count) * eventBytes, now: now)
    }

    /// Everything that the machine wants, with plans and seals answered as a working journal does.
    mutating func settle() -> [StreamFlusher.Action] {
        var visible: [StreamFlusher.Action] = []
        while true {
            let actions = machine.act(now: now)
            if actions.isEmpty { return visible }
            for action in actions {
                switch action {
                case .plan(let from, let to, let isSealed, let maxRows, _):
                    let end = isSealed ? to : min(to, from + UInt64(maxRows))
                    let plan = BatchPlan(
                        sequences: from..<end, byteCount: Int(end - from) * eventBytes,
                        isFull: end < to, receivedAt: 0, partitions: [:])
                    machine.planned(.success(plan), to: to, isSealed: isSealed, now: now)
                case .seal(let sequences):
                    visible.append(action)
                    machine.sealed(sequences, succeeded: true, now: now)
                case .reseal(let sequences, _):
                    visible.append(action)
                    machine.resealed(sequences, succeeded: true, now: now)
                case .advance(let advance):
                    visible.append(action)
                    machine.advanced(to: advance.position, .done, now: now)
                case .send:
                    visible.append(action)
                }
            }
        }
    }

    mutating func finish(_ sequences: Range<UInt64>, _ failureClass: FailureClass? = nil) {
        finish(sequences, failureClass.map { InsertFailure(failureClass: $0, message: "no") })
    }

    mutating func finish(_ sequences: Range<UInt64>, _ failure: InsertFailure?) {
        machine.sent(sequences, outcome: failure.map { .failed($0) } ?? .inserted, now: now)
    }

    mutating func pass(_ seconds: Double) { now += UInt64(seconds * Double(Self.second)) }
}

extension [StreamFlusher.Action] {
    var sends: [Range<UInt64>] {
        compactMap { if case .send(let sequences, _) = $0 { sequences } else { nil } }
    }

    var seals: [Range<UInt64>] {
        compactMap { if case .seal(let sequences) = $0 { sequences } else { nil } }
    }

    var positions: [UInt64] {
        advances.map(\.position)
    }

    var advances: [StreamFlusher.Advance] {
        compactMap { if case .advance(let advance) = $0 { advance } else { nil } }
    }

    var reseals: [[Range<UInt64>]] {
        compactMap { if case .reseal(_, let parts) = $0 { parts } else { nil } }
    }
}

@Suite struct StreamFlusherTests {
    @Test func batchIsCutByAge() {
        var script = FlusherScript()
        script.append(3)
        #expect(script.settle() == [])
        #expect(script.machine.deadline(now: script.now) == script.now + FlusherScript.second)
        script.pass(1)
        #expect(script.settle().sends == [1..<4])
        script.finish(1..<4)
        #expect(script.settle().positions == [4])
        #expect(script.machine.isEmpty)
    }

    @Test func batchIsCutByRowsAndBytes() {
        var script = FlusherScript()
        script.append(25)
        #expect(script.settle().sends == [1..<11, 11..<21])
        var bytes = FlusherScript { $0.batchMaxBytes = 300 }
        bytes.append(2)
        #expect(bytes.settle() == [])
        bytes.append(1)
        #expect(bytes.settle().sends == [1..<4])
    }

    /// Guarantee 4: boundaries are durable before the first send.
    @Test func sealComesBeforeSend() {
        var script = FlusherScript()
        script.append(10)
        guard case .plan = script.machine.act(now: script.now).first else { Issue.record("no plan"); return }
        script.machine.planned(
            .success(BatchPlan(sequences: 1..<11, byteCount: 1_000, isFull: false, receivedAt: 0, partitions: [:])),
            to: 11, isSealed: false, now: script.now)
        #expect(script.machine.act(now: script.now) == [.seal(1..<11)])
        #expect(script.machine.act(now: script.now) == [])
        // The journal could not write it: not sent, sealed again.
        script.machine.sealed(1..<11, succeeded: false, now: script.now)
        script.pass(1)
        #expect(script.machine.act(now: script.now) == [.seal(1..<11)])
        script.machine.sealed(1..<11, succeeded: true, now: script.now)
        #expect(script.machine.act(now: script.now) == [.send(1..<11, attempt: 1)])
    }

    /// Guarantee 4: a batch that may have reached the server is sent with the same boundaries after a restart.
    @Test func recoveredSealsKeepTheirBoundaries() {
        var script = FlusherScript(position: 1, tail: 40, seals: [1..<4, 4..<30])
        let actions = script.settle()
        #expect(actions.sends == [1..<4, 4..<30])
        // Only what follows is sealed anew.
        #expect(actions.seals == [30..<40])
        // Whoever sealed them may have sent them.
        #expect([1..<4, 4..<30, 30..<40].map(script.machine.isRepeated) == [true, true, false])
        script.finish(1..<4)
        script.finish(4..<30)
        #expect(script.settle().sends == [30..<40])
    }

    /// Guarantee 2 and 3: the position moves over what is inserted without a gap, and no further.
    @Test func positionMovesOverTheContiguousPrefixOnly() {
        var script = FlusherScript()
        script.append(30)
        #expect(script.settle().sends == [1..<11, 11..<21])
        script.finish(11..<21)
        let next = script.settle()
        #expect(next.positions == [] && next.sends == [21..<31])
        script.finish(21..<31)
        #expect(script.settle().positions == [])
        script.finish(1..<11)
        #expect(script.settle().positions == [31])
    }

    /// Guarantee 4: a retry is the same batch.
    @Test func failedBatchIsSentAgainAsItWas() {
        var script = FlusherScript()
        script.append(10)
        #expect(script.settle().sends == [1..<11])
        #expect(!script.machine.isRepeated(1..<11))
        script.append(5)
        script.finish(1..<11, .transient)
        #expect(script.settle().sends == [])
        #expect(script.machine.isRepeated(1..<11))
        script.pass(0.2)
        #expect(script.settle() == [.send(1..<11, attempt: 2)])
        script.finish(1..<11, .transient)
        script.pass(0.2)
        #expect(script.settle() == [.send(1..<11, attempt: 3)])
    }

    @Test func pausesGrowAndAreBounded() {
        var backoff = Backoff(minimum: 100, maximum: 5_000, seed: 7)
        let pauses = (0..<60).map { _ in backoff.next() }
        for (index, pause) in pauses.enumerated() {
            let step = min(5_000, index < 20 ? UInt64(100) << UInt64(index) : 5_000)
            #expect(pause >= step / 2 && pause <= step, "pause \(index)")
        }
        #expect(Set(pauses.suffix(40)).count > 10, "no jitter")
        backoff.reset()
        #expect(backoff.next() <= 100)
    }

    @Test func outageIsProbedWithOneBatchAndEndsAtOnce() {
        var script = FlusherScript()
        script.append(100)
        #expect(script.settle().sends == [1..<11, 11..<21])
        script.finish(1..<11, .transient)
        script.finish(11..<21, .transient)
        for _ in 0..<20 {
            script.pass(10)
            #expect(script.settle().sends == [1..<11])
            script.finish(1..<11, .transient)
        }
        script.pass(10)
        #expect(script.settle().sends == [1..<11])
        script.finish(1..<11)
        #expect(script.settle().sends == [11..<21, 21..<31])
    }

    /// Guarantee 6: what the operator has to mend holds the stream; nothing is skipped; it goes on by itself.
    @Test func configurationErrorHoldsTheStream() {
        var script = FlusherScript()
        script.append(10)
        _ = script.settle()
        script.finish(1..<11, .configuration)
        guard case .held(let retryAt, .configuration, "no") = script.machine.mode else {
            Issue.record("not held")
            return
        }
        #expect(retryAt == script.now + 15 * FlusherScript.second)
        script.append(50)
        script.pass(14)
        #expect(script.settle() == [])
        script.machine.retryNow(now: script.now)
        #expect(script.settle() == [.send(1..<11, attempt: 2)])
        script.finish(1..<11)
        #expect(script.machine.mode == .running)
        #expect(script.settle().sends == [11..<21, 21..<31])
    }

    /// A batch that can't be read holds the stream; reading is tried again, and nothing spins in between.
    @Test func unreadablePlanHoldsAndIsTriedAgain() {
        var script = FlusherScript()
        script.append(10)
        let plan = StreamFlusher.Action.plan(from: 1, to: 11, isSealed: false, maxRows: 10, maxBytes: 1_000_000)
        #expect(script.machine.act(now: script.now) == [plan])
        script.machine.planned(.failure(.unreadable("damaged")), to: 11, isSealed: false, now: script.now)
        guard case .held(let retryAt, .unreadable, "damaged") = script.machine.mode else {
            Issue.record("not held")
            return
        }
        #expect(script.machine.act(now: script.now) == [])
        #expect(script.machine.deadline(now: script.now) == retryAt)
        script.pass(15)
        #expect(script.machine.act(now: script.now) == [plan])
        // While the answer is awaited nothing is due.
        #expect(script.machine.deadline(now: script.now) == nil)
        script.machine.planned(.failure(.unreadable("damaged")), to: 11, isSealed: false, now: script.now)
        script.pass(15)
        #expect(script.settle().sends == [1..<11])
        script.finish(1..<11)
        #expect(script.machine.mode == .running)
    }

    @Test func drainingSendsWhatIsThereAndGivesUpAfterOneFailure() {
        var script = FlusherScript()
        script.append(3)
        #expect(script.settle() == [])
        script.machine.drain(now: script.now)
        #expect(!script.machine.isDrained)
        #expect(script.settle().sends == [1..<4])
        script.finish(1..<4)
        _ = script.settle()
        #expect(script.machine.isDrained)

        var down = FlusherScript()
        down.append(3)
        down.pass(2)
        _ = down.settle()
        down.finish(1..<4, .transient)
        down.machine.drain(now: down.now)
        #expect(down.settle().sends == [1..<4])
        down.finish(1..<4, .transient)
        #expect(down.settle() == [] && down.machine.isDrained && !down.machine.isEmpty)
    }

    @Test func flushingNowDoesNotWaitForMoreButOnlyForWhatIsThere() {
        var script = FlusherScript()
        script.append(3)
        #expect(script.settle() == [])
        script.machine.flushNow()
        #expect(script.settle().sends == [1..<4])
        script.append(3)
        #expect(script.settle() == [])
        script.finish(1..<4)
        #expect(script.settle().sends == [])
        script.pass(2)
        #expect(script.settle().sends == [4..<7])
    }

    @Test func failedAdvanceIsTriedAgain() {
        var script = FlusherScript()
        script.append(10)
        _ = script.settle()
        script.finish(1..<11)
        #expect(script.machine.act(now: script.now).positions == [11])
        script.machine.advanced(to: 11, .failed, now: script.now)
        #expect(script.machine.act(now: script.now) == [])
        #expect(script.machine.deadline(now: script.now) != nil)
        script.pass(1)
        #expect(script.machine.act(now: script.now).positions == [11])
    }

    /// Random histories: whatever fails in whatever order, batches keep their boundaries, cover every event once, and
    /// the position never passes one that is not inserted.
    @Test func randomHistories() {
        for seed in 0..<300 { randomHistory(seed: seed) }
    }

    private func randomHistory(seed: Int) {
        var random = SplitMix64(state: UInt64(seed))
        var script = FlusherScript()
        var boundaries: [UInt64: UInt64] = [:]
        var inserted: Set<UInt64> = []
        var sending: [Range<UInt64>] = []
        var checked: UInt64 = 1
        func check(_ actions: [StreamFlusher.Action]) {
            for action in actions {
                switch action {
                case .send(let sequences, _):
                    #expect(boundaries[sequences.lowerBound] ?? sequences.upperBound == sequences.upperBound)
                    boundaries[sequences.lowerBound] = sequences.upperBound
                    sending.append(sequences)
                case .advance(let advance):
                    let missing = (checked..<advance.position).filter { !inserted.contains($0) }
                    #expect(missing.isEmpty && advance.rejected.isEmpty, "seed \(seed)")
                    checked = advance.position
                case .plan, .seal, .reseal: break
                }
            }
        }
        for _ in 0..<200 {
            switch Int.random(in: 0..<4, using: &random) {
            case 0: script.append(UInt64.random(in: 1...30, using: &random))
            case 1: script.pass(Double.random(in: 0...3, using: &random))
            default:
                guard let index = sending.indices.randomElement(using: &random) else { break }
                let sequences = sending.remove(at: index)
                let failureClass = [nil, nil, FailureClass.transient, .configuration].randomElement(using: &random)!
                if failureClass == nil { inserted.formUnion(sequences) }
                script.finish(sequences, failureClass)
            }
            check(script.settle())
            #expect(sending.count <= 2)
        }
        // In the end everything arrives.
        for _ in 0..<1_000 where !script.machine.isEmpty {
            script.pass(20)
            check(script.settle())
            for sequences in sending {
                inserted.formUnion(sequences)
                script.finish(sequences)
            }
            sending = []
            check(script.settle())
        }
        #expect(script.machine.isEmpty, "seed \(seed)")
        #expect(inserted.count == Int(script.machine.tail) - 1, "seed \(seed)")
    }
}
