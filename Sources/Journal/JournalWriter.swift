public import IngestCore

/// News from the flusher that is to become durable.
enum Command: Sendable {
    /// A batch has these boundaries from now on.
    case seal(StreamID, Range<UInt64>)
    /// Everything before `position` is in ClickHouse or is a dead letter.
    case advance(StreamID, position: UInt64, partitions: [TopicPartition: (entryEnd: UInt64, offset: Int64)])
    /// A partition was assigned, the group standing at this offset; consuming goes on where it stopped, or there.
    case assign(TopicPartition, groupOffset: Int64?, resumes: Bool)
    /// The group has these offsets.
    case confirm([TopicPartition: Int64])
}

enum WriterMessage: Sendable {
    case submission(Submission, deadLetters: [[UInt8]])
    case command(Command, completion: @Sendable (Result<Void, JournalError>) -> Void)
}

/// What a commit changed, for whoever follows the journal. Called on the writer's thread; must not block.
public struct CommitNews: Sendable {
    /// Streams that got events: the sequence behind the last, and the bytes added.
    public var appended: [(stream: StreamID, end: UInt64, bytes: Int)] = []
    /// Streams whose flushed position moved.
    public var advanced: [(stream: StreamID, position: UInt64)] = []
    /// Dead letters stored, with their table and kind.
    public var deadLetters: [(table: String, kind: String)] = []
    /// How long the commit took, from the first write to stable storage, nanoseconds.
    public var nanoseconds: UInt64 = 0
}

/// The journal's state in memory: equal to the tables `streams` and `partitions` after each commit.
struct JournalState: Sendable {
    var streams: [StreamID: StreamState]
    var partitions: [TopicPartition: PartitionCheckpoint]
    var nextDeadLetter: UInt64
    var deadLetterCount: Int
    /// Why the environment can't go on; the process must be restarted.
    var failure: JournalError?
    var storedBytes: Int { streams.values.reduce(0) { $0 + Int($1.storedBytes) } }
}

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
    private var state: JournalState
    /// Why events were refused; cleared when some are accepted, or there is room again.
    private var refusal: IntakeError?
    private var hasMoreToTrim = true

    /// - Parameters:
    ///   - publish: gets the state after each commit, and why events are refused at present.
    ///   - wasTaken: gets the record bytes of each submission that left the queue.
    init(
        environment: Environment, tables: Tables, configuration: JournalConfiguration, state: JournalState,
        mailbox: Mailbox<WriterMessage>, publish: @escaping (JournalState, IntakeError?) -> Void,
        observer: @escaping @Sendable (CommitNews) -> Void, wasTaken: @escaping (Int) -> Void
    ) {
        self.environment = environment
        self.tables = tables
        self.configuration = configuration
        self.state = state
        self.mailbox = mailbox
        self.publish = publish
        self.observer = observer
        self.wasTaken = wasTaken
        pageSize = environment.pages.size
    }

    /// The thread's work; returns when the mailbox is closed and everything in it is done.
    func run() {
        var messages: [WriterMessage] = []
        while mailbox.receive(into: &messages, until: idleDeadline) {
            var group = Group()
            for message in messages {
                switch message {
                case .submission(let submission, let deadLetters):
                    wasTaken(submission.events.byteCount)
                    if group.submittedBytes + submission.events.byteCount > Limits.transactionBytes {
                        commit(&group)
                    }
                    group.submissions.append((submission, deadLetters))
                    group.submittedBytes += submission.events.byteCount
                case .command(let command, let completion):
                    // Order between commands and submissions matters (an assignment precedes its messages).
                    if !group.submissions.isEmpty { commit(&group) }
                    group.commands.append((command, completion))
                }
            }
            messages.removeAll(keepingCapacity: true)
            commit(&group)
        }
    }

    /// What one transaction takes. Commands come before submissions.
    private struct Group {
        var commands: [(Command, @Sendable (Result<Void, JournalError>) -> Void)] = []
        var submissions: [(submission: Submission, deadLetters: [[UInt8]])] = []
        var submittedBytes = 0
        var isEmpty: Bool { commands.isEmpty && submissions.isEmpty }
    }

    /// With nothing else to do the writer still trims (now, if a bounded trim left something; later, if entries are kept
    /// for a time), and looks whether there is room again.
    private var idleDeadline: UInt64? {
        guard state.failure == nil else { return nil }
        let second = MonotonicClock.now + 1_000_000_000
        if hasMoreToTrim { return MonotonicClock.now }
        return refusal != nil || configuration.retainMilliseconds > 0 ? second : nil
    }

    private func commit(_ group: inout Group) {
        defer { group = Group() }
        if let failure = state.failure {
            for (_, completion) in group.commands { completion(.failure(failure)) }
            refuse(group.submissions, .storage(failure.description))
            return
        }
        admit(&group)
        do {
            try write(group)
        } catch {
            // Nothing of the group is in the file. The flusher's news goes on alone: it is small, makes room, and a
            // reserve is kept for it.
            let refusal = intakeError(error)
            self.refusal = refusal
            publish(state, refusal)
            if group.submissions.isEmpty || state.failure != nil {
                for (_, completion) in group.commands { completion(.failure(state.failure ?? .io("\(error)"))) }
                refuse(group.submissions, refusal)
                return
            }
            refuse(group.submissions, refusal)
            var news = Group()
            news.commands = group.commands
            commit(&news)
        }
    }

    private func intakeError(_ error: any Error) -> IntakeError {
        guard let error = error as? LMDBError else { return .storage("\(error)") }
        if error.isMapFull { return .full("its file has reached its ceiling; it drains as ClickHouse takes events") }
        if error.isDiskFull { return .full("the disk of \(configuration.path) is full: make room there") }
        if error.isFatal {
            state.failure = .closed("\(error). Restart the service; what was acknowledged is kept")
        }
        return .storage("\(error)")
    }

    private func refuse(_ submissions: [(submission: Submission, deadLetters: [[UInt8]])], _ error: IntakeError) {
        for (submission, _) in submissions { submission.completion(.failure(error)) }
    }

    // MARK: Admission

    /// Takes out of the group what there is no room for, and answers it.
    private func admit(_ group: inout Group) {
        guard !group.submissions.isEmpty else { return }
        let needed = group.submissions.reduce(0) { $0 + storedLength($1.submission, $1.deadLetters) }
        guard let error = obstacle(to: needed) else { return }
        // Perhaps there is room for the first few.
        var admitted = 0
        var bytes = 0
        for (submission, deadLetters) in group.submissions {
            bytes += storedLength(submission, deadLetters)
            guard obstacle(to: bytes) == nil else { break }
            admitted += 1
        }
        let refused = Array(group.submissions[admitted...])
        group.submissions.removeSubrange(admitted...)
        refusal = error
        publish(state, error)
        refuse(refused, error)
    }

    private func storedLength(_ submission: Submission, _ deadLetters: [[UInt8]]) -> Int {
        JournalFormat.storedLength(submission.events.byteCount + EntryView.headerLength, pageSize: pageSize)
            + deadLetters.reduce(0) { $0 + JournalFormat.storedLength($1.count, pageSize: pageSize) }
    }

    /// Why `bytes` more can't be stored now; `nil` if they can.
    private func obstacle(to bytes: Int) -> IntakeError? {
        let stored = state.storedBytes
        guard stored + bytes <= configuration.maxBytes else {
            return .full(
                "\(stored) bytes wait for ClickHouse and JOURNAL_MAX_BYTES is \(configuration.maxBytes)")
        }
        let fileBytes = environment.pages.count * pageSize
        // Pages inside of the file that no entry uses are room as well; 1/8 of them may be in use for other things,
        // or lie too scattered for an entry.
        let recyclable = max(0, fileBytes - stored) / 8 * 7
        let growth = bytes - recyclable
        guard growth > 0 else { return nil }
        if fileBytes + growth > configuration.mapSize - configuration.reserveBytes {
            return .full("its file has reached its ceiling; it drains as ClickHouse takes events")
        }
        if let free = JournalDirectory.freeDiskBytes(configuration.path),
            free < UInt64(growth + configuration.minFreeDiskBytes)
        {
            return .full(
                "only \(free) bytes are free on the disk of \(configuration.path), and "
                    + "JOURNAL_MIN_FREE_DISK_BYTES is \(configuration.minFreeDiskBytes)")
        }
        return nil
    }

    // MARK: The transaction

    private func write(_ group: Group) throws {
        let start = MonotonicClock.now
        var draft = Draft(state: state)
        var receipts: [Receipt] = []
        do {
            try environment.write { transaction in
                for (command, _) in group.commands { try apply(command, to: &draft, in: transaction) }
                receipts = try append(group.submissions, to: &draft, in: transaction)
                try trim(&draft, in: transaction)
                guard draft.isChanged else { throw NothingToWrite() }
                try store(draft, in: transaction)
            }
        } catch is NothingToWrite {
            // Aborted, which is cheaper than an empty commit.
        }
        state = draft.state
        draft.news.nanoseconds = MonotonicClock.now - start
        if let full = refusal, !receipts.isEmpty || (full.isFull && obstacle(to: Limits.entryBytes) == nil) {
            refusal = nil
        }
        publish(state, refusal)
        // Before the completions: who hears of a completed command may rely on its news having been told.
        if draft.isChanged { observer(draft.news) }
        for (_, completion) in group.commands { completion(.success(())) }
        for ((submission, _), receipt) in zip(group.submissions, receipts) { submission.completion(.success(receipt)) }
    }

    /// The state as it will be if the transaction commits, and which records of it changed.
    fileprivate struct Draft {
        var state: JournalState
        var streams: Set<StreamID> = []
        var partitions: Set<TopicPartition> = []
        var news = CommitNews()
        var hasOtherChanges = false
        var isChanged: Bool { hasOtherChanges || !streams.isEmpty || !partitions.isEmpty }
    }

    private func apply(_ command: Command, to draft: inout Draft, in transaction: borrowing WriteTransaction) throws {
        switch command {
        case .seal(let stream, let sequences):
            var end: [UInt8] = []
            end.appendLittleEndian(sequences.upperBound)
            try end.withUnsafeBytes { try transaction.put(tables.seals, SequenceKey(stream, sequences.lowerBound), $0) }
            draft.hasOtherChanges = true
        case .advance(let stream, let position, let partitions):
            guard var record = draft.state.streams[stream], position > record.position else { return }
            precondition(position <= record.nextSequence, "flushed position beyond the stream's end")
            record.position = position
            draft.state.streams[stream] = record
            draft.streams.insert(stream)
            draft.news.advanced.append((stream, position))
            try deleteSeals(of: stream, before: position, in: transaction)
            for (partition, flushed) in partitions {
                draft.change(partition) {
                    $0.flush(stream: stream, entryEnd: flushed.entryEnd, offset: flushed.offset)
                }
            }
            for partition in Array(draft.state.partitions.keys) {
                draft.change(partition) { $0.advance(stream: stream, to: position) }
            }
        case .assign(let partition, let groupOffset, let resumes):
            draft.change(partition) { $0.assign(groupOffset: groupOffset, resumes: resumes) }
        case .confirm(let offsets):
            for (partition, offset) in offsets { draft.change(partition) { $0.confirm(offset) } }
        }
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
        _ submissions: [(submission: Submission, deadLetters: [[UInt8]])], to draft: inout Draft,
        in transaction: borrowing WriteTransaction
    ) throws -> [Receipt] {
        var receipts: [Receipt] = []
        receipts.reserveCapacity(submissions.count)
        var packer = EntryPacker(tables: tables, pageSize: pageSize)
        for (submission, deadLetters) in submissions {
            guard var record = draft.state.streams[submission.stream] else {
                preconditionFailure("submission to a stream that was not opened")
            }
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
            for (letter, bytes) in zip(submission.deadLetters, deadLetters) {
                let key = NumberKey(number: draft.state.nextDeadLetter)
                try bytes.withUnsafeBytes { try transaction.put(tables.deadLetters, key, $0) }
                draft.state.nextDeadLetter += 1
                draft.state.deadLetterCount += 1
                draft.hasOtherChanges = true
                draft.news.deadLetters.append((letter.table, letter.problem.kind))
            }
            receipts.append(Receipt(sequences: sequences))
        }
        for (stream, bytes) in try packer.finish(in: transaction) {
            draft.state.streams[stream]?.storedBytes += UInt64(bytes)
        }
        return receipts
    }

    /// Deletes flushed entries that need not be kept. Bounded: what is left comes with the next transaction.
    private func trim(_ draft: inout Draft, in transaction: borrowing WriteTransaction) throws {
        let maximum = 4_096
        hasMoreToTrim = false
        let keepFrom =
            configuration.retainMilliseconds > 0 ? WallClock.milliseconds - configuration.retainMilliseconds : .max
        for (id, var record) in draft.state.streams where record.trimmed < record.position {
            let cursor = try transaction.cursor(tables.entries)
            var found = try cursor.seek(SequenceKey(id, record.trimmed))
            var deleted = 0
            while deleted < maximum, let entryRecord = found, try SequenceKey(entryRecord.key).stream == id {
                let entry = try EntryView(entryRecord.value)
                guard entry.sequences.upperBound <= record.position, entry.receivedAt <= keepFrom else { break }
                record.trimmed = entry.sequences.upperBound
                record.storedBytes -= UInt64(JournalFormat.storedLength(entry.bytes.count, pageSize: pageSize))
                try cursor.delete()
                deleted += 1
                found = try cursor.next()
            }
            if deleted == maximum { hasMoreToTrim = true }
            guard deleted > 0 else { continue }
            draft.state.streams[id] = record
            draft.streams.insert(id)
        }
    }

    private func store(_ draft: borrowing Draft, in transaction: borrowing WriteTransaction) throws {
        for id in draft.streams {
            let key = BytesKey(withUnsafeBytes(of: id.rawValue.bigEndian) { Array($0) })
            try draft.state.streams[id]!.record.withUnsafeBytes { try transaction.put(tables.streams, key, $0) }
        }
        for partition in draft.partitions {
            try draft.state.partitions[partition]!.record.withUnsafeBytes {
                try transaction.put(tables.partitions, partition.key, $0)
            }
        }
    }
}

/// Thrown inside of a transaction that turned out to have nothing to commit.
private struct NothingToWrite: Error {}

extension JournalWriter.Draft {
    fileprivate mutating func change(_ partition: TopicPartition, _ body: (inout PartitionCheckpoint) -> Void) {
        let before = state.partitions[partition] ?? PartitionCheckpoint()
        var checkpoint = before
        body(&checkpoint)
        guard checkpoint != before || state.partitions[partition] == nil else { return }
        state.partitions[partition] = checkpoint
        partitions.insert(partition)
    }
}

extension CommitNews {
    fileprivate mutating func noteAppend(_ stream: StreamID, end: UInt64, bytes: Int) {
        if let index = appended.firstIndex(where: { $0.stream == stream }) {
            appended[index].end = end
            appended[index].bytes += bytes
        } else {
            appended.append((stream, end, bytes))
        }
    }
}
