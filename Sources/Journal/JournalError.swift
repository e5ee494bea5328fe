public import IngestCore

/// Why a journal can't be opened, read or changed. Each message says what to do.
public enum JournalError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Another process has it open.
    case inUse(path: String, holder: String)
    /// The folder holds something else.
    case foreign(path: String, reason: String)
    /// It was written by a newer version of this program.
    case newerFormat(path: String, found: UInt32, supported: UInt32)
    /// There is none, and it was not to be made.
    case missing(path: String)
    /// A record is not what was written.
    case damaged(String)
    /// Its file is cut short, or is not what it was.
    case unusable(path: String, reason: String)
    /// Events that were asked for were delivered, and are not kept any more.
    case trimmed(String)
    /// The operating system or LMDB said no.
    case io(String)
    /// The journal was closed, or its disk failed for good.
    case closed(String)
    /// The store of dead letters has reached its bound. Nothing was changed.
    case deadLettersFull(String)
    /// Events that were to be sent again were refused like new ones would be. None of those it speaks of was.
    case refused(IntakeError)

    /// What is wrong and what to do, for the operator.
    public var description: String {
        switch self {
        case .inUse(let path, let holder):
            "the journal \(path) is in use by \(holder): stop that process first, or give this one a journal of its own "
                + "(JOURNAL_PATH). Two services must never share one."
        case .foreign(let path, let reason):
            "\(path) is not a journal of ingestd (\(reason)): point JOURNAL_PATH to another folder; or, if this is where the "
                + "journal was, restore it from a copy, or set it aside with `mv \(path) \(path).damaged`. Nothing was "
                + "changed."
        case .newerFormat(let path, let found, let supported):
            "the journal \(path) has format \(found), this version of ingestd reads up to \(supported): "
                + "start the newer version again, or drain the journal with it first. Nothing was changed."
        case .missing(let path):
            "there is no journal at \(path): check JOURNAL_PATH"
        case .damaged(let reason):
            "the journal is damaged: \(reason)"
        case .unusable(let path, let reason):
            "the journal \(path) can't be used: \(reason). Nothing was changed. Restore the folder from a copy; or set it "
                + "aside with `mv \(path) \(path).damaged` and start again with a new one. What Kafka delivered and "
                + "ClickHouse does not have is then consumed again; events accepted over HTTP that were not yet in "
                + "ClickHouse are in that folder only, so keep it."
        case .trimmed(let reason):
            "the journal has no such events: \(reason)"
        case .io(let reason):
            "the journal's disk: \(reason)"
        case .closed(let reason):
            "the journal is closed: \(reason)"
        case .deadLettersFull(let reason):
            "the dead-letter store is full: \(reason)"
        case .refused(let error):
            "\(error)"
        }
    }
}
