public import IngestCore

/// News from the flusher, the operator or the Kafka source that is to become durable.
enum Command: Sendable {
    /// A batch has these boundaries from now on.
    case seal(StreamID, Range<UInt64>)
    /// A sealed batch is replaced by these parts of it.
    case reseal(StreamID, Range<UInt64>, parts: [Range<UInt64>])
    /// Everything before `position` is in ClickHouse or is a dead letter.
    case advance(Advance)
    /// A partition was assigned, the group standing at this offset; consuming goes on where it stopped, or there.
    case assign(TopicPartition, groupOffset: Int64?, resumes: Bool)
    /// The group has these offsets.
    case confirm([TopicPartition: Int64])
    /// The DLQ topic has these dead letters.
    case forwarded([UInt64])
    /// The events of these dead letters are to be appended again.
    case retry([UInt64])
    /// These dead letters are to be deleted.
    case discard([UInt64])
    /// What is in the commit log only is to be stored.
    case settle

    /// A move of a stream's flushed position.
    struct Advance: Sendable {
        var stream: StreamID
        var position: UInt64
        var partitions: [TopicPartition: (entryEnd: UInt64, offset: Int64)]
        var rejected: [RejectedEvent]
        var damaged: [DamagedEntry]
    }
}

/// What a command on dead letters did.
struct CommandOutcome: Sendable {
    var change = DeadLetterChange()
    /// How many of the numbers, from the first on, were dealt with: work is bounded.
    var numbersTaken = 0
}

typealias CommandCompletion = @Sendable (Result<CommandOutcome, JournalError>) -> Void

enum WriterMessage: Sendable {
    case submission(Submission, deadLetters: [NewDeadLetter])
    case command(Command, completion: CommandCompletion)
}

extension Submission {
    /// Bytes that it keeps in memory, in the queue and in its transaction, about.
    var byteCount: Int { deadLetters.reduce(events.byteCount + keyByteCount) { $0 + $1.payload.count + 512 } }

    /// Bytes that its key costs.
    var keyByteCount: Int { request == nil ? 0 : RequestRecord.touchedBytes }
}

/// An event that ClickHouse has rejected for what is in it.
public struct RejectedEvent: Sendable, Equatable {
    /// The event's number in its stream.
    public let sequence: UInt64
    /// The server's answer to this very event.
    public let problem: DeadLetter.Problem

    /// Collects the parts.
    public init(sequence: UInt64, problem: DeadLetter.Problem) {
        self.sequence = sequence
        self.problem = problem
    }
}

/// What a commit changed, for whoever follows the journal. Called on the writer's thread; must not block.
public struct CommitNews: Sendable {
    /// Streams that got events: the sequence behind the last, and the bytes added.
    public var appended: [(stream: StreamID, end: UInt64, bytes: Int)] = []
    /// Streams whose flushed position moved.
    public var advanced: [(stream: StreamID, position: UInt64)] = []
    /// Dead letters stored, in the order of their numbers.
    public var deadLetters: [DeadLetterNews] = []
    /// How long the commit took, from the first write to stable storage, nanoseconds.
    public var nanoseconds: UInt64 = 0

    mutating func noteAppend(_ stream: StreamID, end: UInt64, bytes: Int) {
        if let index = appended.firstIndex(where: { $0.stream == stream }) {
            appended[index].end = end
            appended[index].bytes += bytes
        } else {
            appended.append((stream, end, bytes))
        }
    }
}

/// A dead letter that was stored.
public struct DeadLetterNews: Sendable, Equatable {
    /// The stream that the event belonged to.
    public let stream: StreamID
    /// That stream's table.
    public let table: String
    /// `row_data`, `invalid_json` and so on.
    public let kind: String
    /// The event's number in its stream, or those of all events that a damaged entry held; `nil` if it never had one.
    public let sequences: Range<UInt64>?
    /// The event's id; a damaged entry's hash.
    public let eventID: String
    /// The letter's number in the store.
    public let number: UInt64
}
