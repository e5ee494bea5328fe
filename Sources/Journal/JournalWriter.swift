import Glibc
import IngestCore

/// Group commit: the one thread that writes. It takes everything that waits, writes it in one transaction and answers
/// after the commit. What came while the disk was busy is the next group.
final class JournalWriter {
    private let environment: Environment
    private let tables: Tables
    private let configuration: JournalConfiguration
    private let mailbox: Mailbox<WriterMessage>
    private let publish: (JournalState, IntakeError?) -> Void
    private let observer: @Sendable (CommitNews) -> Void
    private let wasTaken: (Int) -> Void
    private let pageSize: Int
    private let commitLog: CommitLog?
    /// In the commit log only.
    private var logged: LoggedSubmissions
    private var state: JournalState
    /// Why events were refused; cleared when some are accepted, or there is room again.
    private var refusal: IntakeError?
    private var admission: Admission
    private var deadLetters: DeadLetterStore
    private let requests: RequestStore
    private var trim: JournalTrim
    private var supply: PageSupply
    private var ahead: SpaceAhead
    /// Whether the last transaction failed: then what is left to trim waits for a moment.
    private var hasFailed = false
    /// Whether what is in the commit log could not be stored when that was last tried.
    private var isStuck = false

    /// - Parameters:
    ///   - commitLog: `nil` if everything is to be written to LMDB at once.
    ///   - waiting: what an earlier process has left in the commit log, and the journal does not have.
    ///   - holds: the commits that wait for dead letters.
    ///   - publish: gets the state after each commit, and why events are refused at present.
    ///   - wasTaken: gets the bytes of each submission that left the queue.
    init(
        environment: Environment, tables: Tables, commitLog: CommitLog?, waiting: [Submission],
        configuration: JournalConfiguration, state: JournalState, holds: CommitHolds, mailbox: Mailbox<WriterMessage>,
        publish: @escaping (JournalState, IntakeError?) -> Void,
        observer: @escaping @Sendable (CommitNews) -> Void, wasTaken: @escaping (Int) -> Void
    ) {
        self.environment = environment
        self.tables = tables
        self.commitLog = commitLog
        self.configuration = configuration
        logged = LoggedSubmissions(configuration)
        self.state = state
        self.mailbox = mailbox
        self.publish = publish
        self.observer = observer
        self.wasTaken = wasTaken
        pageSize = environment.pages.size
        admission = Admission(configuration, pageSize: pageSize)
        deadLetters = DeadLetterStore(tables: tables, pageSize: pageSize, configuration: configuration, holds: holds)
        guard let requestTables = tables.requests else { preconditionFailure("the journal is open for reading only") }
        requests = RequestStore(tables: requestTables, configuration: configuration)
        trim = JournalTrim(tables: tables, configuration: configuration, pageSize: pageSize)
        supply = PageSupply(pageSize: pageSize)
        // Where that can't be read the first transaction reports the error, and deletes nothing at worst.
        let written = Result { try environment.read { try $0.get(tables.meta, JournalFormat.spaceKey) != nil } }
        ahead = SpaceAhead(isWritten: (try? written.get()) ?? true)
        for submission in waiting { note(submission) }
    }

    /// The thread's work; returns when the mailbox is closed and everything in it is done.
    func run() {
        var messages: [WriterMessage] = []
        while mailbox.receive(into: &messages, until: idleDeadline) {
            var group = Group()
            for message in messages {
                switch message {
                case .submission(let submission, let deadLetters):
                    wasTaken(submission.byteCount)
                    if group.submittedBytes + submission.byteCount > Limits.transactionBytes { commit(&group) }
                    group.submissions.append((submission, deadLetters))
                    group.submittedBytes += submission.byteCount
                case .command(let command, let completion):
                    // Order between commands and submissions matters (an assignment precedes its messages).
                    if !group.submissions.isEmpty { commit(&group) }
                    group.commands.append((command, completion))
                    // Bounded work in one transaction: these are as large as a transaction may be.
                    if case .retry = command { commit(&group) }
                }
            }
            messages.removeAll(keepingCapacity: true)
            commit(&group)
        }
        var last = Group()
        if !logged.isEmpty { commit(&last) }
    }

    /// What one transaction takes. Commands come before submissions.
    private struct Group {
        var commands: [(Command, CommandCompletion)] = []
        var submissions: [(submission: Submission, deadLetters: [NewDeadLetter])] = []
        var submittedBytes = 0
        /// Some of its submissions were refused.
        var wasCut = false
    }

    /// With nothing else to do the writer still stores what is in the commit log only, trims (now, if a bounded trim left
    /// something; later, if entries are kept for a time), and looks whether there is room again.
    private var idleDeadline: UInt64? {
        guard state.failure == nil else { return nil }
        if let deadline = logged.deadline, !isStuck { return deadline }
        let second = MonotonicClock.now + 1_000_000_000
        if trim.hasMore && !hasFailed { return MonotonicClock.now }
        return refusal != nil || hasFailed || isStuck || trim.dependsOnTime ? second : nil
    }

    /// - Parameter isAlone: leave out what is in the commit log only.
    private func commit(_ group: inout Group, isAlone: Bool = false) {
        defer { group = Group() }
        if let failure = state.failure {
            for (_, completion) in group.commands { completion(.failure(failure)) }
            refuse(group.submissions, .storage(failure.description))
            return
        }
        admit(&group)
        if log(group) { return }
        makeRoom(forRetriesIn: group)
        // What could not be stored waits until nothing more can make room for it.
        let isAlone = isAlone || (isStuck && trim.hasMore && group.submissions.isEmpty)
        if isAlone, !logged.isEmpty { refuseRetries(of: &group) }
        do {
            try write(group, withLogged: !isAlone)
        } catch {
            hasFailed = true
            if !isAlone { isStuck = !logged.isEmpty }
            let mayTryAgain = !trim.isBackingOff
            trim.backOff()
            deadLetters.rollBack()
            // Nothing of the group is in the file. The flusher's news goes on alone: it is small, makes room, and a
            // reserve is kept for it. On a disk without a free block it still fits into the file's own free pages, if
            // nothing is trimmed with it.
            let refusal = intakeError(error)
            self.refusal = refusal
            if refusal.isFull { supply.noteNoRoom(freePages: file.freeBytes / pageSize) }
            publish(state, refusal)
            let wasAlone = group.submissions.isEmpty && (isAlone || logged.isEmpty)
            if (wasAlone && !mayTryAgain) || state.failure != nil {
                for (_, completion) in group.commands { completion(.failure(state.failure ?? .io("\(error)"))) }
                refuse(group.submissions, refusal)
                return
            }
            refuse(group.submissions, refusal)
            var news = Group()
            news.commands = group.commands
            commit(&news, isAlone: true)
        }
    }

    /// Events that are sent again would get the sequences of what was answered from the commit log.
    private func refuseRetries(of group: inout Group) {
        for case (.retry, let completion) in group.commands {
            completion(.failure(.refused(refusal ?? .storage("the journal's disk could not be written"))))
        }
        group.commands.removeAll { if case (.retry, _) = $0 { true } else { false } }
    }

    // MARK: The commit log

    /// Makes a small group of events durable in the commit log, and answers it; LMDB gets it with the next transaction.
    /// - Returns: false if the transaction is to store it now.
    private func log(_ group: Group) -> Bool {
        guard let commitLog, canBeLogged(group) else { return false }
        let start = MonotonicClock.now
        var streams = state.streams
        let events = group.submissions.map { submission, _ in
            guard let first = streams[submission.stream]?.acknowledgedEnd else {
                preconditionFailure("submission to a stream that was not opened")
            }
            streams[submission.stream]!.loggedEvents += UInt64(submission.events.eventCount)
            return (submission: submission, firstSequence: first)
        }
        guard commitLog.append(events) else { return false }
        CrashPoint.logged.pass()
        var news = CommitNews()
        news.nanoseconds = MonotonicClock.now - start
        for submission in group.submissions { note(submission.submission) }
        publish(state, refusal)
        observer(news)
        for (submission, first) in events {
            submission.completion(
                .success(Receipt(sequences: first..<(first + UInt64(submission.events.eventCount)))))
        }
        return true
    }

    private func note(_ submission: Submission) {
        logged.add(submission, storedBytes: admission.storedLength(submission))
        state.streams[submission.stream]!.loggedEvents += UInt64(submission.events.eventCount)
    }

    /// Events from HTTP and nothing else: what changes more than a stream's end is a matter of the transaction.
    private func canBeLogged(_ group: Group) -> Bool {
        !group.submissions.isEmpty && group.commands.isEmpty && !isStuck
            && group.submittedBytes <= CommitLog.smallGroupBytes
            && logged.deadline.map { MonotonicClock.now < $0 } ?? true
            && group.submissions.allSatisfy { submission, deadLetters in
                submission.origin == .http && deadLetters.isEmpty && submission.request == nil
                    && submission.events.eventCount > 0
            }
    }

    private func intakeError(_ error: any Error) -> IntakeError {
        guard let error = error as? LMDBError else { return .storage("\(error)") }
        if error.isMapFull { return .full("its file has reached its ceiling; it drains as ClickHouse takes events") }
        // LMDB reports a short write as EIO. It is how a file system first says that it is full.
        let isShortWrite =
            error.code == EIO
            && (JournalDirectory.freeDiskBytes(configuration.path).map { $0 < Limits.transactionBytes } ?? false)
        if error.isDiskFull || isShortWrite {
            return .full("the disk of \(configuration.path) is full: make room there")
        }
        if error.isFatal {
            state.failure = .closed("\(error). Restart the service; what was acknowledged is kept")
        }
        return .storage("\(error)")
    }

    private func refuse(_ submissions: [(submission: Submission, deadLetters: [NewDeadLetter])], _ error: IntakeError) {
        for (submission, _) in submissions { submission.completion(.failure(error)) }
    }

    /// Takes out of the group what there is no room for, and answers it.
    private func admit(_ group: inout Group) {
        guard !group.submissions.isEmpty else { return }
        let all = group.submissions.reduce((entries: 0, letters: 0)) {
            (
                $0.entries + admission.storedLength($1.submission),
                $0.letters + admission.storedLength($1.deadLetters, of: $1.submission)
            )
        }
        var tried = admission
        var admitted = (entries: logged.storedBytes, letters: 0)
        if tried.obstacle(toEntries: all.entries, letters: all.letters, after: admitted, state, file: file) == nil {
            admission = tried
            return
        }
        // Perhaps there is room for the first few.
        var count = 0
        for (submission, deadLetters) in group.submissions {
            let entries = admission.storedLength(submission)
            let letters = admission.storedLength(deadLetters, of: submission)
            if let error = obstacle(toEntries: entries, letters: letters, after: admitted) {
                refusal = error
                break
            }
            count += 1
            admitted = (admitted.entries + entries, admitted.letters + letters)
        }
        guard count < group.submissions.count, let refusal else { return }
        let refused = Array(group.submissions[count...])
        group.submissions.removeSubrange(count...)
        group.wasCut = true
        publish(state, refusal)
        for (submission, _) in refused { submission.completion(firstAnswer(to: submission) ?? .failure(refusal)) }
    }

    /// A request that was accepted before needs no room.
    private func firstAnswer(to submission: Submission) -> Result<Receipt, IntakeError>? {
        guard submission.request != nil else { return nil }
        do {
            return try environment.read { try requests.answer(to: submission, in: $0) }
        } catch {
            // It is refused like the others; the next transaction meets the error again and reports it.
            return nil
        }
    }

    /// Why a submission can't be stored now. Entries that are only kept for replay are no reason: they go first.
    private func obstacle(
        toEntries entries: Int, letters: Int, after admitted: (entries: Int, letters: Int)
    ) -> IntakeError? {
        while true {
            var tried = admission
            let error = tried.obstacle(
                toEntries: entries, letters: letters, after: admitted, state, file: file)
            if error != nil, makeRoom(entries + letters) { continue }
            admission = tried
            return error
        }
    }

    /// As of the last commit. Where it can't be read, nothing counts as free.
    private var file: FileSize {
        let pages = environment.pages.count
        let held = Result { try environment.read { try $0.heldPageCount(tables) + $0.freeListPageCount() } }
        let free = (try? held.get()).map { max(0, pages - $0) } ?? 0
        return FileSize(bytes: pages * pageSize, freeBytes: free * pageSize)
    }

    /// The same for events that are sent again; `obstacle` says in their transaction whether it has helped.
    private func makeRoom(forRetriesIn group: Group) {
        for case (.retry(let numbers), _) in group.commands {
            do {
                let bytes = try environment.read { try deadLetters.bytes(toRetry: numbers, state, in: $0) }
                while admission.obstacle(toRetrying: bytes, state, file: file) != nil, makeRoom(bytes) {}
            } catch {
                // The transaction meets the error again and reports it.
            }
        }
    }

    /// Deletes flushed entries in a transaction of its own.
    /// - Returns: false if none could go.
    private func makeRoom(_ bytes: Int) -> Bool {
        var draft = Draft(state: state)
        var trim = trim
        do {
            try environment.write { transaction in
                // Some more than is needed, so that not every group pays for it.
                let enough = max(bytes, configuration.maxBytes / 64)
                draft.streams = try trim.makeRoom(enough, on: &draft.state.streams, in: transaction)
                guard draft.isChanged else { throw NothingToWrite() }
                try store(&draft, in: transaction)
            }
        } catch is NothingToWrite {
            return false
        } catch {
            // The events are refused for want of room; the next transaction meets the error again and reports it.
            return false
        }
        self.trim = trim
        state = draft.state
        return true
    }

    // MARK: The transaction

    /// - Parameter withLogged: also write what is in the commit log only, before everything else, because its sequences
    ///   were given.
    private func write(_ group: Group, withLogged: Bool) throws {
        let start = MonotonicClock.now
        let logged = withLogged ? self.logged : LoggedSubmissions(configuration)
        var draft = Draft(state: state)
        var outcomes: [Result<CommandOutcome, JournalError>] = []
        var receipts: [Result<Receipt, IntakeError>] = []
        var trim = trim
        let pages = environment.pages
        var packer = EntryPacker(tables: tables, pages: pages, supply: supply)
        var ahead = ahead
        // On a full disk every block counts.
        let step =
            hasFailed
            ? .nothing
            : ahead.next(
                commitBytes: group.submittedBytes + self.logged.storedBytes, fileBytes: pages.count * pageSize
            ) { file.freeBytes }
        do {
            try environment.write { transaction in
                try perform(step, in: transaction)
                try append(logged, with: &packer, to: &draft, in: transaction)
                for (command, _) in group.commands {
                    outcomes.append(try apply(command, to: &draft, in: transaction))
                }
                receipts = try append(group.submissions, with: &packer, to: &draft, in: transaction)
                draft.streams.formUnion(
                    try trim.run(
                        on: &draft.state.streams, keepsNothing: refusal?.isFull == true, in: transaction))
                if hasFailed, group.commands.isEmpty, group.submissions.isEmpty,
                    let any = draft.state.streams.keys.first
                {
                    // Perhaps nobody sends events while they are refused: find out whether the disk works again.
                    draft.streams.insert(any)
                }
                guard draft.isChanged else { throw NothingToWrite() }
                try requests.trim(&draft, in: transaction)
                try store(&draft, in: transaction)
                CrashPoint.written.pass()
            }
            CrashPoint.committed.pass()
        } catch is NothingToWrite {
            // Aborted, which is cheaper than an empty commit.
        }
        deadLetters.commit()
        state = draft.state
        self.trim = trim
        supply = packer.supply
        if draft.isChanged {
            self.ahead = ahead
            self.trim.speedUp()
            hasFailed = false
            if withLogged { isStuck = false }
        }
        if !logged.isEmpty {
            self.logged.removeAll()
            commitLog?.clear()
        }
        draft.news.nanoseconds = MonotonicClock.now - start
        // What the disk says of its room means nothing after an error, until something was written.
        if refusal != nil, !isStuck, !group.wasCut,
            (draft.isChanged && !receipts.isEmpty) || (!hasFailed && admission.isOpen(state, file: file))
        {
            self.refusal = nil
        }
        publish(state, refusal)
        // Before the completions: who hears of a completed command may rely on its news having been told.
        if draft.isChanged { observer(draft.news) }
        for ((_, completion), outcome) in zip(group.commands, outcomes) { completion(outcome) }
        for ((submission, _), receipt) in zip(group.submissions, receipts) { submission.completion(receipt) }
    }

    /// Does what the command asks for, or finds that it can't be done and changes nothing.
    /// - Throws: what ends the transaction.
    private func apply(
        _ command: Command, to draft: inout Draft, in transaction: borrowing WriteTransaction
    ) throws -> Result<CommandOutcome, JournalError> {
        switch command {
        case .seal(let stream, let sequences):
            try seal(sequences, in: stream, &draft, transaction)
        case .reseal(let stream, let sequences, let parts):
            guard
                let end = try transaction.get(tables.seals, SequenceKey(stream, sequences.lowerBound)),
                end.count == 8, end.loadLittleEndian(0, as: UInt64.self) == sequences.upperBound
            else { return .failure(.damaged("\(stream): there is no batch \(sequences) to be parted")) }
            for part in parts { try seal(part, in: stream, &draft, transaction) }
        case .advance(let advance):
            return try apply(advance, to: &draft, in: transaction)
        case .assign(let partition, let groupOffset, let resumes):
            draft.change(partition) { $0.assign(groupOffset: groupOffset, resumes: resumes) }
        case .confirm(let offsets):
            for (partition, offset) in offsets { draft.change(partition) { $0.confirm(offset) } }
        case .forwarded(let numbers):
            try deadLetters.markForwarded(numbers, &draft, in: transaction)
        case .retry(let numbers):
            do {
                return .success(
                    try deadLetters.retry(numbers, &draft, in: transaction) { [state = draft.state] bytes in
                        admission.obstacle(toRetrying: bytes, state, file: file)
                    })
            } catch let error as JournalError {
                return .failure(error)
            }
        case .settle: break
        case .discard(let numbers):
            return .success(try deadLetters.discard(numbers, &draft, in: transaction))
        }
        return .success(CommandOutcome())
    }

    private func perform(_ step: SpaceAhead.Step, in transaction: borrowing WriteTransaction) throws {
        switch step {
        case .nothing: break
        case .write(let bytes):
            let room = try transaction.reserve(tables.meta, JournalFormat.spaceKey, bytes - OverflowHeader.length)
            // Not what was in memory there before.
            _ = room.initializeMemory(as: UInt8.self, repeating: 0)
        case .delete: try transaction.delete(tables.meta, JournalFormat.spaceKey)
        }
    }

    private func seal(
        _ sequences: Range<UInt64>, in stream: StreamID, _ draft: inout Draft,
        _ transaction: borrowing WriteTransaction
    ) throws {
        var end: [UInt8] = []
        end.appendLittleEndian(sequences.upperBound)
        try end.withUnsafeBytes { try transaction.put(tables.seals, SequenceKey(stream, sequences.lowerBound), $0) }
        draft.hasOtherChanges = true
    }

    private func apply(
        _ advance: Command.Advance, to draft: inout Draft, in transaction: borrowing WriteTransaction
    ) throws -> Result<CommandOutcome, JournalError> {
        let stream = advance.stream
        guard var record = draft.state.streams[stream], advance.position > record.position else {
            return .success(CommandOutcome())
        }
        precondition(advance.position <= record.nextSequence, "flushed position beyond the stream's end")
        precondition(
            advance.rejected.allSatisfy { (record.position..<advance.position).contains($0.sequence) },
            "rejected events outside of what is advanced over")
        if !advance.rejected.isEmpty || !advance.damaged.isEmpty {
            let letters: [NewDeadLetter]
            do {
                letters = try deadLetters.letters(for: advance, draft.state, in: transaction)
            } catch let error as MalformedEntry {
                return .failure(.damaged("\(stream): \(error.reason)"))
            } catch let error as JournalError {
                return .failure(error)
            }
            if let reason = try deadLetters.obstacle(to: letters, &draft, in: transaction) {
                return .failure(.deadLettersFull(reason))
            }
            // First of all: from here on no commit passes these events.
            try deadLetters.add(letters, to: &draft, in: transaction)
        }
        record.position = advance.position
        draft.state.streams[stream] = record
        draft.streams.insert(stream)
        draft.news.advanced.append((stream, advance.position))
        try deleteSeals(of: stream, before: advance.position, in: transaction)
        for (partition, flushed) in advance.partitions {
            draft.change(partition) { $0.flush(stream: stream, entryEnd: flushed.entryEnd, offset: flushed.offset) }
        }
        for partition in Array(draft.state.partitions.keys) {
            draft.change(partition) { $0.advance(stream: stream, to: advance.position) }
        }
        return .success(CommandOutcome())
    }

    private func deleteSeals(
        of stream: StreamID, before position: UInt64, in transaction: borrowing WriteTransaction
    ) throws {
        let cursor = try transaction.cursor(tables.seals)
        var record = try cursor.seek(SequenceKey(stream, 0))
        while let found = record {
            let key = try SequenceKey(found.key)
            guard key.stream == stream, key.sequence < position else { break }
            try cursor.delete()
            record = try cursor.next()
        }
    }

    /// Writes the submissions' events; small ones of the same stream that stand next to each other share an entry.
    private func append(
        _ submissions: [(submission: Submission, deadLetters: [NewDeadLetter])], with packer: inout EntryPacker,
        to draft: inout Draft, in transaction: borrowing WriteTransaction
    ) throws -> [Result<Receipt, IntakeError>] {
        var receipts: [Result<Receipt, IntakeError>] = []
        receipts.reserveCapacity(submissions.count)
        for (submission, letters) in submissions {
            guard var record = draft.state.streams[submission.stream] else {
                preconditionFailure("submission to a stream that was not opened")
            }
            if let answer = try requests.answer(to: submission, in: transaction) {
                receipts.append(answer)
                continue
            }
            if let reason = try deadLetters.obstacle(to: letters, &draft, in: transaction) {
                receipts.append(.failure(.full("the dead-letter store is full: \(reason)")))
                continue
            }
            // Before the partition moves, so that no commit passes them.
            let numbers = try deadLetters.add(letters, to: &draft, in: transaction)
            let first = record.nextSequence
            record.nextSequence += UInt64(submission.events.eventCount)
            let sequences = first..<record.nextSequence
            if !sequences.isEmpty {
                let added = try packer.add(submission, firstSequence: first, in: transaction)
                record.storedBytes += UInt64(added)
                draft.state.streams[submission.stream] = record
                draft.streams.insert(submission.stream)
                draft.news.noteAppend(submission.stream, end: sequences.upperBound, bytes: submission.events.byteCount)
            }
            if case .kafka(let partition, let offsets) = submission.origin {
                draft.change(partition) {
                    $0.append(
                        offsets: offsets, stream: submission.stream, sequences: sequences, position: record.position)
                }
            }
            let receipt = Receipt(sequences: sequences, deadLetters: numbers)
            try requests.add(submission, receipt, to: &draft, in: transaction)
            receipts.append(.success(receipt))
        }
        for (stream, bytes) in try packer.finish(in: transaction) {
            draft.state.streams[stream]?.storedBytes += UInt64(bytes)
        }
        return receipts
    }

    /// Writes what is in the commit log only, with the sequences that it was given.
    private func append(
        _ logged: LoggedSubmissions, with packer: inout EntryPacker, to draft: inout Draft,
        in transaction: borrowing WriteTransaction
    ) throws {
        guard !logged.isEmpty else { return }
        _ = try append(logged.submissions.map { ($0, []) }, with: &packer, to: &draft, in: transaction)
        for (id, stream) in state.streams where stream.loggedEvents > 0 {
            precondition(
                draft.state.streams[id]?.nextSequence == stream.acknowledgedEnd,
                "acknowledged events would get other sequences")
            draft.state.streams[id]!.loggedEvents = 0
        }
    }

    private func store(_ draft: inout Draft, in transaction: borrowing WriteTransaction) throws {
        for id in draft.streams {
            try draft.state.streams[id]!.record.withUnsafeBytes { try transaction.put(tables.streams, id.key, $0) }
        }
        for partition in draft.partitions {
            try draft.state.partitions[partition]!.record.withUnsafeBytes {
                try transaction.put(tables.partitions, partition.key, $0)
            }
        }
        try deadLetters.store(&draft, before: state, in: transaction)
    }
}

/// Thrown inside of a transaction that turned out to have nothing to commit.
private struct NothingToWrite: Error {}
