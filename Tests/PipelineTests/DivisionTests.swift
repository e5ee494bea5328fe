import IngestCore
import Journal
import Testing

@testable import Pipeline

/// A server that knows which events are bad, driving a `FlusherScript`.
struct VerdictServer {
    enum Hint: CaseIterable { case none, honest, alwaysFirst, random }

    var bad: Set<UInt64>
    var hint = Hint.honest
    var random = SplitMix64(state: 1)
    private(set) var requests = 0
    private(set) var inserted: [UInt64] = []
    private(set) var rejected: [UInt64] = []
    private(set) var messages: [UInt64: String] = [:]

    init(bad: Set<UInt64>, hint: Hint = .honest) {
        self.bad = bad
        self.hint = hint
    }

    mutating func verdict(_ sequences: Range<UInt64>) -> InsertFailure? {
        requests += 1
        guard let first = sequences.first(where: { bad.contains($0) }) else {
            inserted += sequences
            return nil
        }
        let row: Int? =
            switch hint {
            case .none: nil
            case .honest: Int(first - sequences.lowerBound) + 1
            case .alwaysFirst: 1
            case .random: Int.random(in: -1...(sequences.count + 3), using: &random)
            }
        return InsertFailure(
            failureClass: .rowData, clickHouseCode: 27, httpStatus: 500, message: "bad event \(first)", rowHint: row)
    }

    /// Answers everything that the script sends until nothing more comes.
    mutating func run(_ script: inout FlusherScript, limit: Int = 1_000_000) {
        var waiting = script.settle()
        while !waiting.isEmpty, requests < limit {
            take(waiting.advances)
            for sequences in waiting.sends { script.finish(sequences, verdict(sequences)) }
            waiting = script.settle()
        }
    }

    mutating func take(_ advances: [StreamFlusher.Advance]) {
        for event in advances.flatMap(\.rejected) {
            rejected.append(event.sequence)
            messages[event.sequence] = event.problem.message
        }
    }
}

/// Guarantee 5: one bad event costs one event.
@Suite struct DivisionTests {
    private static func script(events: UInt64, rows: Int = 1_000) -> FlusherScript {
        var script = FlusherScript { $0.batchMaxRows = rows }
        script.append(events)
        script.pass(1)
        return script
    }

    @Test(arguments: VerdictServer.Hint.allCases)
    func everyGoodEventIsInsertedOnceAndEveryBadOneIsRejectedWithItsOwnMessage(hint: VerdictServer.Hint) {
        let scattered = Set<UInt64>([1, 2, 500, 999, 1_000, 1_001, 1_777, 2_000])
        for bad in [scattered, Set(300..<400), [1], [2_000], Set(1...2_000)] {
            var server = VerdictServer(bad: bad, hint: hint)
            var script = Self.script(events: 2_000)
            server.run(&script)
            #expect(script.machine.isEmpty && script.machine.mode == .running)
            #expect(server.inserted.sorted() == (1...2_000).filter { !bad.contains($0) })
            #expect(server.rejected == bad.sorted())
            #expect(server.messages.allSatisfy { $0.value == "bad event \($0.key)" })
        }
    }

    /// The cost is in proportion to the bad events, also where the server's hints are wrong.
    @Test(arguments: VerdictServer.Hint.allCases)
    func requestsAreBounded(hint: VerdictServer.Hint) {
        for count in [1, 10, 100] {
            let bad = Set((0..<count).map { UInt64($0 * 10_000 / count + 7) })
            var server = VerdictServer(bad: bad, hint: hint)
            var script = Self.script(events: 10_000, rows: 10_000)
            server.run(&script)
            // Honest: before, suspect and behind. Otherwise two requests for each halving on the way to the event.
            let perEvent = hint == .honest ? 3 : 2 * 14 + 3
            #expect(server.requests <= 1 + count * perEvent, "\(hint), \(count) bad")
            #expect(server.rejected.count == count)
        }
    }

    /// A true hint needs no halving; the part before is sent in one piece.
    @Test func trueHintIsUsed() {
        var script = FlusherScript()
        script.append(10)
        #expect(script.settle().sends == [1..<11])
        script.finish(1..<11, InsertFailure(failureClass: .rowData, message: "no", rowHint: 7))
        let actions = script.settle()
        #expect(actions.reseals == [[1..<7, 7..<8, 8..<11]])
        #expect(actions.sends == [1..<7, 7..<8])
    }

    /// Guarantee 4: the boundaries of parts are durable before they are sent.
    @Test func partsAreSealedBeforeTheyAreSent() {
        var script = FlusherScript()
        script.append(10)
        _ = script.settle()
        script.finish(1..<11, .rowData)
        let reseal = StreamFlusher.Action.reseal(1..<11, parts: [1..<6, 6..<11])
        #expect(script.machine.act(now: script.now) == [reseal])
        #expect(script.machine.act(now: script.now) == [])
        script.machine.resealed(1..<11, succeeded: false, now: script.now)
        #expect(script.machine.act(now: script.now) == [])
        script.pass(1)
        #expect(script.machine.act(now: script.now) == [reseal])
        script.machine.resealed(1..<11, succeeded: true, now: script.now)
        #expect(script.machine.act(now: script.now).sends == [1..<6, 6..<11])
    }

    /// After a crash in the middle of a division its parts are found and sent as they were.
    @Test func recoveredPartsAreGoneThroughAgain() {
        var script = FlusherScript(position: 1, tail: 11, seals: [1..<4, 4..<5, 5..<11])
        var server = VerdictServer(bad: [4, 9])
        server.run(&script)
        #expect(server.rejected == [4, 9] && script.machine.isEmpty)
    }

    /// The server goes down in the middle of a division: nothing becomes a dead letter for that.
    @Test func outageDuringDivisionOnlyDelaysIt() {
        var script = Self.script(events: 1_000)
        var server = VerdictServer(bad: [10, 990], hint: .none)
        for _ in 0..<60 {
            let actions = script.settle()
            server.take(actions.advances)
            for (number, sequences) in actions.sends.enumerated() {
                switch number % 3 {
                case 0: script.finish(sequences, .transient)
                case 1: script.finish(sequences, .configuration)
                default: script.finish(sequences, .batchShape)
                }
            }
            script.pass(20)
            for sequences in script.settle().sends { script.finish(sequences, server.verdict(sequences)) }
        }
        script.pass(20)
        server.run(&script)
        #expect(server.rejected == [10, 990] && Set(server.inserted).count == 998 && script.machine.isEmpty)
    }

    /// A table that takes nothing at all is the operator's fault: dead letters end there, by themselves.
    @Test func tooManyRejectedInARowHoldTheStream() {
        var script = FlusherScript {
            $0.batchMaxRows = 1_000
            $0.maxRejectedInARow = 50
        }
        script.append(1_000)
        var server = VerdictServer(bad: Set(1...1_000))
        server.run(&script, limit: 10_000)
        guard case .held(_, .rowData, let reason) = script.machine.mode else { Issue.record("not held"); return }
        #expect(reason.contains("50 events in a row"))
        // The server's words can quote an event, and a reason is shown to more people than events are.
        #expect(!reason.contains("bad event"))
        #expect(server.rejected.count == 50)
        // The probe alone makes no dead letters.
        script.pass(16)
        server.run(&script, limit: 20_000)
        #expect(server.rejected.count == 50)
        // The operator insists.
        script.machine.retryNow(now: script.now)
        server.run(&script, limit: 30_000)
        #expect(server.rejected.count == 100)
        // The table is mended.
        server.bad = []
        script.pass(16)
        server.run(&script)
        #expect(script.machine.isEmpty && script.machine.mode == .running)
    }

    /// At the bound of the store the stream holds; nothing is dropped; it goes on when there is room.
    @Test func fullDeadLetterStoreHoldsTheStream() {
        var script = FlusherScript()
        script.append(10)
        _ = script.settle()
        script.finish(1..<11, InsertFailure(failureClass: .rowData, message: "no", rowHint: 1))
        script.append(20)
        guard script.settle().sends == [1..<2, 2..<11] else { Issue.record("not divided"); return }
        script.finish(1..<2, .rowData)
        script.finish(2..<11)
        guard case .advance(let advance) = script.machine.act(now: script.now).first else {
            Issue.record("no advance")
            return
        }
        #expect(advance.rejected.map(\.sequence) == [1])
        script.machine.advanced(to: advance.position, .deadLettersFull("full"), now: script.now)
        guard case .held(let retryAt, .deadLettersFull, "full") = script.machine.mode else {
            Issue.record("not held")
            return
        }
        #expect(script.machine.act(now: script.now) == [])
        #expect(script.machine.deadline(now: script.now) == retryAt)
        script.pass(15)
        #expect(script.settle().positions == [11])
        #expect(script.machine.mode == .running)
    }

    @Test func memoryOfLossesIsBounded() {
        var script = FlusherScript { $0.batchMaxRows = 5_000 }
        script.append(10_000)
        var server = VerdictServer(bad: Set(5_001...10_000))
        // The first batch is on its way for long, the second is all bad.
        var waiting = script.settle().sends
        #expect(waiting == [1..<5_001, 5_001..<10_001])
        waiting.removeFirst()
        while !waiting.isEmpty, server.requests < 5_000 {
            for sequences in waiting { script.finish(sequences, server.verdict(sequences)) }
            waiting = script.settle().sends
        }
        #expect(server.requests < 1_000)
        script.finish(1..<5_001)
        var largest = 0
        waiting = []
        repeat {
            let actions = script.settle()
            largest = max(largest, actions.advances.map(\.rejected.count).max() ?? 0)
            server.take(actions.advances)
            waiting = actions.sends
            for sequences in waiting { script.finish(sequences, server.verdict(sequences)) }
        } while !waiting.isEmpty
        #expect(server.rejected == Array(5_001...10_000) && script.machine.isEmpty && largest <= 256)
    }

    // MARK: Batch shape

    @Test func tooLargeBatchIsDividedAndBatchesShrinkAndGrowBack() {
        var script = FlusherScript { $0.batchMaxRows = 64 }
        script.append(100_000)
        var largestAccepted = 8
        var sizes: [Int] = []
        for round in 0..<400 {
            if round == 200 { largestAccepted = 1_000 }
            for sequences in script.settle().sends {
                sizes.append(sequences.count)
                script.finish(sequences, sequences.count > largestAccepted ? .batchShape : nil)
            }
            script.pass(11)
        }
        #expect(sizes.first == 64)
        // It settles near the server's limit instead of running into it with each batch.
        let settled = sizes[(sizes.count / 4)..<(sizes.count / 3)]
        #expect(settled.count(where: { $0 <= 16 }) > settled.count * 3 / 4)
        #expect(sizes.suffix(20).allSatisfy { $0 == 64 })
        guard case .running = script.machine.mode else { Issue.record("not running"); return }
    }

    /// Its own size limit makes a single event a dead letter; shortage of memory does not.
    @Test func singleEventThatIsTooLargeIsLostAlone() {
        var script = FlusherScript { $0.batchMaxRows = 1 }
        script.append(2)
        #expect(script.settle().sends == [1..<2, 2..<3])
        script.finish(1..<2, InsertFailure(failureClass: .batchShape, clickHouseCode: 241, message: "memory"))
        script.finish(2..<3)
        for _ in 0..<50 {
            script.pass(11)
            #expect(script.settle().sends == [1..<2])
            script.finish(1..<2, InsertFailure(failureClass: .batchShape, clickHouseCode: 241, message: "memory"))
        }
        script.pass(11)
        #expect(script.settle().sends == [1..<2])
        script.finish(1..<2, InsertFailure(failureClass: .batchShape, clickHouseCode: 229, message: "too large"))
        #expect(script.settle().advances.flatMap(\.rejected).map(\.problem.kind) == ["too_large"])
        #expect(script.machine.isEmpty)
    }

    /// A batch that may have arrived keeps its boundaries, and so its token, longer.
    @Test func batchThatMayHaveArrivedIsDividedLate() {
        var script = FlusherScript()
        script.append(10)
        _ = script.settle()
        script.finish(1..<11, .transient)
        for _ in 0..<5 {
            script.pass(11)
            #expect(script.settle().sends == [1..<11])
            script.finish(1..<11, .batchShape)
            #expect(script.settle() == [])
        }
        script.pass(11)
        _ = script.settle()
        script.finish(1..<11, .batchShape)
        #expect(script.settle().reseals == [[1..<6, 6..<11]])
    }

    /// Whoever sealed a batch may have sent it before the crash.
    @Test func recoveredBatchIsDividedLate() {
        var script = FlusherScript(position: 1, tail: 11, seals: [1..<11])
        for _ in 0..<5 {
            #expect(script.settle().sends == [1..<11])
            script.finish(1..<11, .batchShape)
            #expect(script.settle() == [])
            script.pass(11)
        }
        _ = script.settle()
        script.finish(1..<11, .batchShape)
        #expect(script.settle().reseals == [[1..<6, 6..<11]])
    }

    /// Something that finds every size too large is not the events' fault.
    @Test func tooManyTooLargeInARowHoldTheStream() {
        var script = FlusherScript {
            $0.batchMaxRows = 1
            $0.maxRejectedInARow = 3
        }
        script.append(10)
        var lost = 0
        for _ in 0..<20 {
            let actions = script.settle()
            lost += actions.advances.flatMap(\.rejected).count
            for sequences in actions.sends {
                script.finish(sequences, InsertFailure(failureClass: .batchShape, httpStatus: 413, message: "no"))
            }
        }
        guard case .held(_, .rowData, _) = script.machine.mode else { Issue.record("not held"); return }
        #expect(lost <= 4)
    }

    @Test func tooManyPartsMakesBatchesRarer() {
        var script = FlusherScript()
        func waitOfOneEvent(_ script: inout FlusherScript) -> Double {
            script.append(1)
            var seconds = 0.0
            while script.settle().sends.isEmpty, seconds < 100 {
                script.pass(0.5)
                seconds += 0.5
            }
            return seconds
        }
        #expect(waitOfOneEvent(&script) == 1)
        for _ in 0..<3 {
            script.finish(1..<2, InsertFailure(failureClass: .transient, clickHouseCode: 252, message: "parts"))
            script.pass(11)
            _ = script.settle()
        }
        script.finish(1..<2)
        _ = script.settle()
        #expect(waitOfOneEvent(&script) == 8)
        var sequence: UInt64 = 2
        for _ in 0..<40 {
            script.finish(sequence..<(sequence + 1))
            sequence += 1
            _ = waitOfOneEvent(&script)
        }
        script.finish(sequence..<(sequence + 1))
        #expect(waitOfOneEvent(&script) == 1)
    }

    // MARK: Damage

    @Test func damagedEntryIsSetApartAndTheRestDrains() {
        var script = FlusherScript()
        script.append(10)
        #expect(script.settle().sends == [1..<11])
        let damage = DamagedEntry(sequences: 4..<6, reason: "checksum")
        script.machine.sent(1..<11, outcome: .damaged(damage), now: script.now)
        let actions = script.settle()
        #expect(actions.reseals == [[1..<4, 4..<6, 6..<11]])
        #expect(actions.sends == [1..<4, 6..<11])
        script.finish(6..<11)
        script.finish(1..<4)
        #expect(script.settle().advances == [.init(position: 11, damaged: [damage])])
        #expect(script.machine.isEmpty)
    }

    /// Damage that the plan meets, in and out of a recovered seal; the entry reaches beyond the batch on both sides.
    @Test(arguments: [false, true])
    func damageFoundWhilePlanning(isSealed: Bool) {
        var script = FlusherScript(position: 3, tail: 20, seals: isSealed ? [3..<8] : [])
        let plan = script.machine.act(now: script.now)
        guard case .plan(3, let to, isSealed, _, _)? = plan.first else { Issue.record("\(plan)"); return }
        let damage = DamagedEntry(sequences: 1..<6, reason: "header")
        script.machine.planned(.failure(.damaged(damage)), to: to, isSealed: isSealed, now: script.now)
        let actions = script.settle()
        let expected = DamagedEntry(sequences: 3..<6, reason: "header")
        #expect(actions.reseals.first == (isSealed ? [3..<6, 6..<8] : nil), "only what is sealed is sealed anew")
        #expect(actions.advances.first?.damaged == [expected])
        var server = VerdictServer(bad: [])
        for sequences in actions.sends { script.finish(sequences, server.verdict(sequences)) }
        server.run(&script)
        #expect(script.machine.isEmpty && server.inserted.sorted() == Array(6..<20))
    }

    /// A recovered batch whose entries can't be read to its end is divided there, and not sent as something else
    /// under its old token.
    @Test func recoveredBatchThatEndsEarlyIsDivided() {
        var script = FlusherScript(position: 1, tail: 10, seals: [1..<10])
        guard case .plan(1, 10, true, _, _)? = script.machine.act(now: script.now).first else {
            Issue.record("no plan")
            return
        }
        script.machine.planned(
            .success(BatchPlan(sequences: 1..<5, byteCount: 400, isFull: true, receivedAt: 0, partitions: [:])), to: 10,
            isSealed: true, now: script.now)
        let actions = script.settle()
        #expect(actions.reseals == [[1..<5, 5..<10]])
        #expect(actions.sends == [1..<5, 5..<10])
    }
}
