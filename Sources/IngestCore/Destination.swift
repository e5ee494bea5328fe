/// A run of consecutive events as the reading side hands them to a row encoder.
///
/// Valid only inside the call that it was passed to: it points into the journal's map.
public struct EventRun {
    /// The entry that the events are from: source, partition, time of receipt.
    public let entry: EntryView
    private var cursor: EventCursor
    private let endSequence: UInt64

    /// The part of `entry` that starts at `cursor` and ends before `endSequence`.
    public init(entry: EntryView, cursor: EventCursor, endSequence: UInt64) {
        self.entry = entry
        self.cursor = cursor
        self.endSequence = endSequence
    }

    /// Sequence of the event that `next()` returns.
    public var nextSequence: UInt64 { cursor.nextSequence }

    /// The place behind the events taken so far, to go on from later in the same entry.
    public var position: EntryPosition { cursor.position }

    /// Takes the next event; `nil` behind the last. What is not taken comes again with the next run.
    @inline(__always)
    public mutating func next() throws(MalformedEntry) -> EventView? {
        guard cursor.nextSequence < endSequence else { return nil }
        return try cursor.next()
    }
}

/// Events that are in the journal no more as they were written: their entry does not match its checksum, is malformed,
/// or is not there. Found before any of them was handed out.
public struct DamagedEntry: Error, Sendable, Equatable, CustomStringConvertible {
    /// The entry's events, by the keys around it: its own header may be what is damaged.
    public let sequences: Range<UInt64>
    /// What is wrong with it.
    public let reason: String

    /// Collects the parts.
    public init(sequences: Range<UInt64>, reason: String) {
        self.sequences = sequences
        self.reason = reason
    }

    /// Sequences and reason, for logs.
    public var description: String {
        "the entry with sequences \(sequences.lowerBound) to \(sequences.upperBound - 1) is damaged: \(reason)"
    }
}

/// Reads the events of one batch in order, from the first, once. Used by one thread at a time.
public protocol EventReader: AnyObject {
    /// Passes the next run to `body`, which takes as many events as it has room for.
    /// - Returns: false when no events are left (`body` was not called).
    /// - Throws: `DamagedEntry`; another error where the journal can't be read at all; or what `body` throws.
    func read(_ body: (inout EventRun) throws -> Void) throws -> Bool
}

/// One batch on its way to its table, as one INSERT.
public struct InsertRequest: Sendable {
    /// The destination, `table` or `database.table`.
    public let table: String
    /// The deduplication token: the same for every attempt at the same events.
    public let token: String
    /// Number of events.
    public let rowCount: Int
    /// Whether an earlier attempt may have reached the destination, so that its success now has to be looked at twice.
    public let isRepeated: Bool
    /// Opens a reader at the batch's first event; called once per attempt, on the destination's thread.
    public let makeReader: @Sendable () throws -> any EventReader
    /// Called exactly once, on the destination's thread; must not block.
    public let completion: @Sendable (InsertOutcome) -> Void

    /// Collects the parts.
    public init(
        table: String, token: String, rowCount: Int, isRepeated: Bool = false,
        makeReader: @escaping @Sendable () throws -> any EventReader,
        completion: @escaping @Sendable (InsertOutcome) -> Void
    ) {
        self.table = table
        self.token = token
        self.rowCount = rowCount
        self.isRepeated = isRepeated
        self.makeReader = makeReader
        self.completion = completion
    }
}

/// What became of an INSERT.
public enum InsertOutcome: Sendable {
    /// The server has the whole batch.
    case inserted
    /// The server has it, has refused it, or we can't know; `class` says how to go on.
    case failed(InsertFailure)
    /// An entry of the batch is damaged; nothing was inserted.
    case damaged(DamagedEntry)
    /// The journal could not deliver the events for another reason; nothing was inserted.
    case unreadable(String)
}

/// How to go on after a failed INSERT.
public enum FailureClass: String, Sendable, CaseIterable {
    /// An event can't be inserted: find it and insert the others.
    case rowData = "row_data"
    /// The destination is set up wrongly: hold the stream until the operator has mended it.
    case configuration
    /// The batch is too large for the server at this moment: smaller or rarer batches.
    case batchShape = "batch_shape"
    /// Passes by itself: the same batch again, later. Also when no answer came.
    case transient
}

/// A failed INSERT.
public struct InsertFailure: Error, Sendable, CustomStringConvertible {
    /// How to go on.
    public let failureClass: FailureClass
    /// ClickHouse's exception code, if it sent one.
    public let clickHouseCode: Int?
    /// HTTP status, if an answer came.
    public let httpStatus: Int?
    /// The server's or the network's words; at most `Limits.errorMessageBytes`.
    public let message: String
    /// The row that the server complains about, counted from 1. A hint only.
    public let rowHint: Int?

    /// Collects the parts.
    public init(
        failureClass: FailureClass, clickHouseCode: Int? = nil, httpStatus: Int? = nil, message: String,
        rowHint: Int? = nil
    ) {
        self.failureClass = failureClass
        self.clickHouseCode = clickHouseCode
        self.httpStatus = httpStatus
        self.message = message
        self.rowHint = rowHint
    }

    /// Code, status and message in one line, for those who may see events: the message can quote them.
    public var description: String { line(message) }

    /// The same for logs, status and health, which others see than those who may see events: without the server's words
    /// where it complains about a row, since then it quotes what it has read.
    public var summary: String {
        let quotesEvents = failureClass == .rowData || rowHint != nil || message.contains("(at row ")
        return line(quotesEvents ? "in words that can quote an event and are left out here" : message)
    }

    private func line(_ words: String) -> String {
        var parts: [String] = []
        if let clickHouseCode { parts.append("ClickHouse code \(clickHouseCode)") }
        if let httpStatus { parts.append("HTTP \(httpStatus)") }
        parts.append(words)
        return parts.joined(separator: ", ")
    }
}

/// Where batches go. Implemented by the ClickHouse module, and by scripted stand-ins in tests of state machines.
public protocol InsertDestination: Sendable {
    /// Starts an INSERT and returns at once. Callable from any thread. Order between requests is not kept.
    func insert(_ request: InsertRequest)
}
