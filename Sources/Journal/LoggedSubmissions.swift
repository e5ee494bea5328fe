import IngestCore

/// What was answered because it is in the commit log, and waits for the journal's next transaction.
struct LoggedSubmissions {
    /// How long it may wait, nanoseconds: until then its events can't be read.
    private let delay: UInt64
    /// In the order of their sequences. Their completions were called.
    private(set) var submissions: [Submission] = []
    /// Bytes of the file that their entries will take, about.
    private(set) var storedBytes = 0
    /// When the transaction is due; `nil` while there is nothing for it.
    private(set) var deadline: UInt64?

    init(_ configuration: JournalConfiguration) {
        delay = UInt64(configuration.commitDelayMilliseconds) * 1_000_000
    }

    var isEmpty: Bool { submissions.isEmpty }

    mutating func add(_ submission: Submission, storedBytes: Int) {
        submissions.append(submission)
        self.storedBytes += storedBytes
        deadline = deadline ?? MonotonicClock.now + delay
    }

    /// The journal has all of it.
    mutating func removeAll() {
        submissions.removeAll(keepingCapacity: true)
        storedBytes = 0
        deadline = nil
    }
}
