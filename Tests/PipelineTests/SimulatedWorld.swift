import IngestCore

@testable import Journal
@testable import Pipeline

/// Everything around a stream's state machines, in memory and by seed: journal, ClickHouse, Kafka, the DLQ topic, time
/// and crashes. The machines under test are the real `StreamFlusher` and `PartitionCheckpoint`.
///
/// One step of the world does one thing, drawn by the seed; whatever can happen late happens late: commits of the
/// journal, requests on the network, answers. A crash forgets what is in memory, and lets what is on its way arrive or
/// not. `problems` collects each guarantee that did not hold.
struct SimulatedWorld {
    /// What may go wrong. What a seed does not allow stays whole.
    struct Faults {
        var crashes = false
        var lostAnswers = false
        var configurationErrors = false
        var shapeLimit: Int?
        var journalFailures = false
        var damage = false
        var hint = VerdictServer.Hint.honest
        var storeBound: Int?
    }

    /// A commit's worth of news for the journal.
    private enum Command {
        case append(count: UInt64, offsets: Range<Int64>?, bad: Set<UInt64>)
        case seal(Range<UInt64>)
        case reseal(Range<UInt64>, [Range<UInt64>])
        case advance(StreamFlusher.Advance)
        case confirm(Int64)
        case forwarded(Int)
    }

    private struct Request {
        let sequences: Range<UInt64>
        let token: String
        /// The process that sent it; answers to an earlier one are for nobody.
        let process: Int
    }

    private struct Letter {
        let sequences: Range<UInt64>
        /// Of the Kafka message, if it was one.
        let offset: Int64?
    }

    /// The stream and partition of the story.
    private static let stream = StreamID(rawValue: 1)
    private static let second: UInt64 = 1_000_000_000

    private var random: SplitMix64
    private var faults: Faults
    private let configuration: FlushConfiguration
    private let hadShapeLimit: Bool
    private(set) var problems: [String] = []

    // On disk.
    private var tail: UInt64 = 1
    private var position: UInt64 = 1
    private var seals: [UInt64: UInt64] = [:]
    private var letters: [Letter] = []
    /// Indexes of the letters that the DLQ topic has not acknowledged.
    private var unforwarded: Set<Int> = []
    /// Messages of the letters of each event.
    private var lettersOf: [UInt64: [String]] = [:]
    private var checkpoint = PartitionCheckpoint()
    private var offsetOf: [UInt64: Int64] = [:]
    private var entryEnds: [(sequence: UInt64, offset: Int64)] = []
    private var damaged: [Range<UInt64>] = []

    // In memory.
    private var process = 0
    private var machine: StreamFlusher
    private var commands: [Command] = []
    private var now: UInt64 = 100 * second
    private var consumed: Int64 = 0

    // Outside.
    private var bad: Set<UInt64> = []
    private var rows: [UInt64: Int] = [:]
    private var tokens: [String: Range<UInt64>] = [:]
    private var requests: [Request] = []
    private var answers: [(request: Request, outcome: InsertOutcome)] = []
    private var isDown = false
    private var isMisconfigured = false
    private var topicEnd: Int64 = 0
    private var committed: Int64 = 0
    /// Offsets of messages that are in ClickHouse or in the DLQ topic, and up to where there is no gap.
    private var delivered: Set<Int64> = []
    private var deliveredTo: Int64 = 0

    init(seed: UInt64) {
        random = SplitMix64(state: seed)
        var faults = Faults()
        faults.crashes = Bool.random(using: &random)
        faults.lostAnswers = Bool.random(using: &random)
        faults.configurationErrors = Bool.random(using: &random)
        faults.journalFailures = Bool.random(using: &random)
        faults.damage = Int.random(in: 0..<4, using: &random) == 0
        faults.shapeLimit = Int.random(in: 0..<4, using: &random) == 0 ? Int.random(in: 1...8, using: &random) : nil
        faults.storeBound = Int.random(in: 0..<4, using: &random) == 0 ? Int.random(in: 1...20, using: &random) : nil
        faults.hint = VerdictServer.Hint.allCases.randomElement(using: &random)!
        self.faults = faults
        hadShapeLimit = faults.shapeLimit != nil
        configuration = FlushConfiguration(
            batchMaxRows: Int.random(in: 1...40, using: &random), batchMaxAge: Self.second,
            parallelism: Int.random(in: 1...4, using: &random), backoffMin: Self.second / 10,
            backoffMax: 10 * Self.second, holdRetryInterval: 15 * Self.second,
            maxRejectedInARow: Bool.random(using: &random) ? 5 : 0)
        machine = StreamFlusher(
            configuration: configuration, position: 1, tail: 1, seals: [], seed: seed, now: now)
        checkpoint.assign(groupOffset: 0, resumes: false)
    }

    // MARK: The story

    /// Lets `steps` things happen, then mends everything and lets it come to rest.
    mutating func run(steps: Int) {
        for _ in 0..<steps where problems.isEmpty {
            switch Int.random(in: 0..<100, using: &random) {
            case 0..<12: appendOverHTTP()
            case 12..<24: consume()
            case 24..<45: commit()
            case 45..<65: serve()
            case 65..<80: answer()
            case 80..<86: forward()
            case 86..<90: commitOffset()
            case 90..<95: now += UInt64.random(in: 0...(4 * Self.second), using: &random)
            case 95..<97: isDown.toggle()
            case 97: isMisconfigured = faults.configurationErrors && Bool.random(using: &random)
            case 98: if faults.crashes { crash() }
            default: machine.retryNow(now: now)
            }
            act()
        }
        mend()
        check()
    }

    private mutating func mend() {
        isDown = false
        isMisconfigured = false
        faults.lostAnswers = false
        faults.journalFailures = false
        faults.shapeLimit = nil
        faults.storeBound = nil
        for _ in 0..<20_000 where problems.isEmpty {
            if machine.isEmpty, commands.isEmpty, requests.isEmpty, answers.isEmpty, unforwarded.isEmpty {
                commitOffset()
                if commands.isEmpty { break }
            }
            if commands.isEmpty && requests.isEmpty && answers.isEmpty {
                now += 16 * Self.second
                machine.retryNow(now: now)
                forward()
            }
            commit()
            serve()
            answer()
            act()
        }
        if !machine.isEmpty { problems.append("the stream did not come to rest: \(machine.mode)") }
    }

    private mutating func crash() {
        process += 1
        // A group that was being written is on the disk or not; what came later is not.
        if !commands.isEmpty, Bool.random(using: &random) { commit(tells: false) }
        commands = []
        machine = StreamFlusher(
            configuration: configuration, position: position, tail: tail,
            seals: seals.sorted { $0.key < $1.key }.map { $0.key..<$0.value }, seed: random.next(), now: now)
        let resumes = checkpoint.resumes(at: committed)
        consumed = resumes ? checkpoint.end ?? committed : committed
        checkpoint.assign(groupOffset: committed, resumes: resumes)
    }

    // MARK: Sources

    private mutating func badOnes(_ count: UInt64) -> Set<UInt64> {
        let share = [0, 0, 2, 10].randomElement(using: &random)!
        return Set((0..<count).filter { _ in share > 0 && Int.random(in: 0..<share, using: &random) == 0 })
    }

    private mutating func appendOverHTTP() {
        let count = UInt64.random(in: 1...30, using: &random)
        commands.append(.append(count: count, offsets: nil, bad: badOnes(count)))
    }

    /// One message is one event, so offsets and events of a fetch correspond. As `PartitionIntake` has it, a fetch waits
    /// for the one before it.
    private mutating func consume() {
        guard !commands.contains(where: { if case .append(_, .some, _) = $0 { true } else { false } }) else { return }
        topicEnd = max(topicEnd, consumed + Int64.random(in: 1...20, using: &random))
        let end = min(topicEnd, consumed + Int64.random(in: 1...20, using: &random))
        let count = UInt64(end - consumed)
        commands.append(.append(count: count, offsets: consumed..<end, bad: badOnes(count)))
        consumed = end
    }

    // MARK: The journal

    /// Commits a group of what waits. `tells`: whether the process hears of it.
    private mutating func commit(tells: Bool = true) {
        guard !commands.isEmpty else { return }
        let count = Int.random(in: 1...commands.count, using: &random)
        let group = Array(commands[..<count])
        commands.removeFirst(count)
        let fails = tells && faults.journalFailures && Int.random(in: 0..<5, using: &random) == 0
        for command in group { apply(command, fails: fails, tells: tells) }
    }

    private mutating func apply(_ command: Command, fails: Bool, tells: Bool) {
        switch command {
        case .append(let count, let offsets, let badIndexes):
            if fails {
                // Kafka's messages are kept and submitted again; HTTP's client got an error.
                if offsets != nil { commands.insert(command, at: 0) }
                return
            }
            let sequences = tail..<(tail + count)
            tail += count
            bad.formUnion(badIndexes.map { sequences.lowerBound + $0 })
            if let offsets {
                for (sequence, offset) in zip(sequences, offsets) { offsetOf[sequence] = offset }
                entryEnds.append((sequences.upperBound, offsets.upperBound))
                checkpoint.append(offsets: offsets, stream: Self.stream, sequences: sequences, position: position)
            }
            if faults.damage, Int.random(in: 0..<20, using: &random) == 0 { damaged.append(sequences) }
            if tells { machine.appended(to: tail, bytes: Int(count) * 100, now: now) }
        case .seal(let sequences):
            if !fails { seals[sequences.lowerBound] = sequences.upperBound }
            if tells { machine.sealed(sequences, succeeded: !fails, now: now) }
        case .reseal(let sequences, let parts):
            if !fails {
                if seals[sequences.lowerBound] != sequences.upperBound { problems.append("\(sequences) has no seal") }
                seals[sequences.lowerBound] = nil
                for part in parts { seals[part.lowerBound] = part.upperBound }
                let sorted = seals.sorted { $0.key < $1.key }
                for (one, next) in zip(sorted, sorted.dropFirst()) where one.value > next.key {
                    problems.append("seals overlap at \(next.key)")
                }
            }
            if tells { machine.resealed(sequences, succeeded: !fails, now: now) }
        case .advance(let advance):
            apply(advance, fails: fails, tells: tells)
        case .confirm(let offset):
            if !fails { checkpoint.confirm(offset) }
        case .forwarded(let index):
            if !fails { unforwarded.remove(index) }
            updateHold()
        }
    }

    private mutating func apply(_ advance: StreamFlusher.Advance, fails: Bool, tells: Bool) {
        let losses = advance.rejected.count + advance.damaged.count
        if let bound = faults.storeBound, losses > 0, letters.count + losses > bound {
            if tells { machine.advanced(to: advance.position, .deadLettersFull("full"), now: now) }
            return
        }
        guard !fails else {
            if tells { machine.advanced(to: advance.position, .failed, now: now) }
            return
        }
        for event in advance.rejected {
            store(event.sequence..<(event.sequence + 1), event.problem.message)
        }
        for damage in advance.damaged { store(damage.sequences, "damaged") }
        checkInserted(position..<advance.position)
        position = advance.position
        seals = seals.filter { $0.key >= position }
        updateHold()
        for (_, flushed) in advance.partitions {
            checkpoint.flush(stream: Self.stream, entryEnd: flushed.entryEnd, offset: flushed.offset)
        }
        checkpoint.advance(stream: Self.stream, to: position)
        if tells { machine.advanced(to: position, .done, now: now) }
    }

    private mutating func store(_ sequences: Range<UInt64>, _ message: String) {
        unforwarded.insert(letters.count)
        letters.append(Letter(sequences: sequences, offset: sequences.compactMap { offsetOf[$0] }.min()))
        for sequence in sequences { lettersOf[sequence, default: []].append(message) }
    }

    private mutating func updateHold() {
        var lowest: Int64?
        for index in unforwarded {
            if let offset = letters[index].offset { lowest = min(offset, lowest ?? offset) }
        }
        checkpoint.hold(at: lowest)
    }

    // MARK: The flusher's hands

    private mutating func act() {
        for _ in 0..<1_000 {
            let actions = machine.act(now: now)
            guard !actions.isEmpty else { return }
            for action in actions { perform(action) }
        }
        problems.append("the flusher spins")
    }

    private mutating func perform(_ action: StreamFlusher.Action) {
        switch action {
        case .plan(let from, let to, let isSealed, let maxRows, _):
            machine.planned(plan(from, to, isSealed ? .max : maxRows), to: to, isSealed: isSealed, now: now)
        case .seal(let sequences): commands.append(.seal(sequences))
        case .reseal(let sequences, let parts): commands.append(.reseal(sequences, parts))
        case .advance(let advance): commands.append(.advance(advance))
        case .send(let sequences, _):
            guard seals[sequences.lowerBound] == sequences.upperBound else {
                return problems.append("\(sequences) was sent without a seal")
            }
            requests.append(
                Request(
                    sequences: sequences, token: "\(sequences.lowerBound)-\(sequences.upperBound)", process: process))
        }
    }

    /// Plans meet damage in an entry's header half of the time (by its sequence, so always the same).
    private func plan(_ from: UInt64, _ to: UInt64, _ maxRows: Int) -> Result<BatchPlan?, PlanError> {
        var end = maxRows == .max ? to : min(to, from + UInt64(maxRows))
        let inHeader = damaged.filter { $0.lowerBound % 2 == 0 }
        if let entry = inHeader.first(where: { $0.contains(from) }) {
            return .failure(.damaged(DamagedEntry(sequences: entry, reason: "header")))
        }
        var isFull = end < to
        if let entry = inHeader.first(where: { $0.lowerBound > from && $0.lowerBound < end }) {
            end = entry.lowerBound
            isFull = true
        }
        var partitions: [TopicPartition: (entryEnd: UInt64, offset: Int64)] = [:]
        if let last = entryEnds.last(where: { $0.sequence > from && $0.sequence <= end }) {
            partitions[TopicPartition(topic: "events", partition: 0)] = (last.sequence, last.offset)
        }
        return .success(
            BatchPlan(
                sequences: from..<end, byteCount: Int(end - from) * 100, isFull: isFull, receivedAt: 0,
                partitions: partitions))
    }

    // MARK: ClickHouse

    /// One request on the network reaches the server, or gets lost on the way.
    private mutating func serve() {
        guard let index = requests.indices.randomElement(using: &random) else { return }
        let request = requests.remove(at: index)
        if let entry = damaged.first(where: { $0.overlaps(request.sequences) }) {
            return answers.append((request, .damaged(DamagedEntry(sequences: entry, reason: "checksum"))))
        }
        let unclear = InsertFailure(failureClass: .transient, message: "no answer")
        guard !isDown else { return answers.append((request, .failed(unclear))) }
        let outcome = execute(request)
        let isLost = faults.lostAnswers && Int.random(in: 0..<4, using: &random) == 0
        answers.append((request, isLost ? .failed(unclear) : outcome))
    }

    private mutating func execute(_ request: Request) -> InsertOutcome {
        if isMisconfigured { return .failed(InsertFailure(failureClass: .configuration, message: "no table")) }
        if let limit = faults.shapeLimit, request.sequences.count > limit {
            return .failed(InsertFailure(failureClass: .batchShape, clickHouseCode: 241, message: "memory"))
        }
        if let first = request.sequences.first(where: { bad.contains($0) }) {
            var server = VerdictServer(bad: bad, hint: faults.hint)
            server.random = SplitMix64(state: random.next())
            precondition(first < request.sequences.upperBound)
            return .failed(server.verdict(request.sequences)!)
        }
        if let before = tokens[request.token] {
            if before != request.sequences { problems.append("token \(request.token) was used for other events") }
        } else {
            tokens[request.token] = request.sequences
            for sequence in request.sequences {
                rows[sequence, default: 0] += 1
                if let offset = offsetOf[sequence] { delivered.insert(offset) }
            }
        }
        return .inserted
    }

    private mutating func answer() {
        guard let index = answers.indices.randomElement(using: &random) else { return }
        let (request, outcome) = answers.remove(at: index)
        guard request.process == process else { return }
        machine.sent(request.sequences, outcome: outcome, now: now)
    }

    // MARK: Kafka

    private mutating func forward() {
        // A set's own order differs from run to run.
        guard let index = unforwarded.sorted().randomElement(using: &random) else { return }
        delivered.formUnion(letters[index].sequences.compactMap { offsetOf[$0] })
        commands.append(.forwarded(index))
    }

    private mutating func commitOffset() {
        guard let offset = checkpoint.committable else { return }
        committed = offset
        commands.append(.confirm(offset))
        // Guarantee 2: everything before a committed offset is in ClickHouse or in the DLQ topic.
        while delivered.contains(deliveredTo) { deliveredTo += 1 }
        if offset > deliveredTo { problems.append("offset \(offset) was committed, but \(deliveredTo) is nowhere") }
    }

    // MARK: What must hold

    /// Guarantee 3: the position passes nothing that is neither in ClickHouse nor a dead letter.
    private mutating func checkInserted(_ sequences: Range<UInt64>) {
        for sequence in sequences where rows[sequence] == nil && lettersOf[sequence] == nil {
            problems.append("the position passed \(sequence), which is nowhere")
        }
    }

    private mutating func check() {
        let damagedSequences = Set(damaged.joined())
        for sequence in 1..<tail {
            let own = lettersOf[sequence] ?? []
            let isDamaged = damagedSequences.contains(sequence)
            let isBad = bad.contains(sequence)
            // Guarantees 3 and 5.
            if isBad, rows[sequence] != nil { problems.append("\(sequence) is bad and was inserted") }
            if !isBad, !isDamaged, !own.isEmpty { problems.append("\(sequence) is good and became a dead letter") }
            if isBad, !isDamaged, own != ["bad event \(sequence)"] {
                problems.append("\(sequence) is bad and has the letters \(own)")
            }
            if isDamaged, own.isEmpty { problems.append("\(sequence) is damaged and nowhere") }
            if !isBad, !isDamaged, rows[sequence] == nil { problems.append("\(sequence) was lost") }
            // Guarantee 4, as long as the server remembers its tokens. Dividing a batch that may have arrived gives up
            // on that, after many attempts; then ReplacingMergeTree collapses the copies.
            if !hadShapeLimit, rows[sequence] ?? 0 > 1 {
                problems.append("\(sequence) was inserted \(rows[sequence]!) times")
            }
        }
        // Every offset can be committed in the end.
        if let end = checkpoint.end, committed != end { problems.append("committed \(committed) of \(end)") }
    }
}
