import IngestCore

/// What was answered because it is in the commit log, and waits for the journal's next transaction.
struct LoggedSubmissions {
    /// A submission, and the sequence behind its last event.
    struct Item {
        let submission: Submission
        let end: UInt64
    }

    /// How long it may wait, nanoseconds: until then its events can't be read.
    private let delay: UInt64
    /// In the order of their sequences. Their completions were called.
    private(set) var submissions: [Submission] = []
    /// Bytes of the file that their entries will take, about.
    private(set) var storedBytes = 0
    /// When the transaction is due; `nil` while there is nothing for it.
    private(set) var deadline: UInt64?
    private var nextSequences: [StreamID: UInt64] = [:]

    init(_ configuration: JournalConfiguration) {
        delay = UInt64(configuration.commitDelayMilliseconds) * 1_000_000
    }

    var isEmpty: Bool { submissions.isEmpty }

    /// The sequence that the stream's next event gets.
    func nextSequence(_ stream: StreamState) -> UInt64 { nextSequences[stream.stream.id] ?? stream.nextSequence }

    mutating func add(_ item: Item, storedBytes: Int) {
        submissions.append(item.submission)
        self.storedBytes += storedBytes
        nextSequences[item.submission.stream] = item.end
        deadline = deadline ?? MonotonicClock.now + delay
    }

    /// The journal has all of it.
    mutating func removeAll() {
        submissions.removeAll(keepingCapacity: true)
        nextSequences.removeAll(keepingCapacity: true)
        storedBytes = 0
        deadline = nil
    }
}
