/// Why a journal can't be opened or read. Each message says what to do.
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
    /// The operating system or LMDB said no.
    case io(String)
    /// The journal was closed, or its disk failed for good.
    case closed(String)

    /// What is wrong and what to do, for the operator.
    public var description: String {
        switch self {
        case .inUse(let path, let holder):
            "the journal \(path) is in use by \(holder): stop that process first, or give this one a journal of its own "
                + "(JOURNAL_PATH). Two services must never share one."
        case .foreign(let path, let reason):
            "\(path) is not a journal of ingestd (\(reason)): point JOURNAL_PATH to another folder. Nothing was changed."
        case .newerFormat(let path, let found, let supported):
            "the journal \(path) has format \(found), this version of ingestd reads up to \(supported): "
                + "start the newer version again, or drain the journal with it first. Nothing was changed."
        case .missing(let path):
            "there is no journal at \(path): check JOURNAL_PATH"
        case .damaged(let reason):
            "the journal is damaged: \(reason)"
        case .io(let reason):
            "the journal's disk: \(reason)"
        case .closed(let reason):
            "the journal is closed: \(reason)"
        }
    }
}
