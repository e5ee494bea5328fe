import IngestCore

/// What must be known of the requests' keys without reading them. Part of the journal's state.
struct RequestState: Sendable, Equatable {
    var count = 0
    /// Number that the next request gets.
    var nextNumber: UInt64 = 1
    /// When the oldest was accepted; `nil` if there is none, or its record is damaged.
    var oldestAt: Int64?
}

/// The tables `requests` and `request_order`. Used by the writer, within its transaction, which is what keeps two copies
/// of a request that come at the same time from both being accepted.
///
/// A damaged record counts as none: the events matter more than the memory of a request.
struct RequestStore {
    /// Keys that a transaction deletes beside as many as it adds: so what has expired goes faster than it comes, and no
    /// transaction pays for all of it.
    static let surplusCount = 32

    private let tables: RequestTables
    private let window: Int64
    private let maxCount: Int

    init(tables: RequestTables, configuration: JournalConfiguration) {
        self.tables = tables
        window = configuration.requestKeyWindowMilliseconds
        maxCount = configuration.requestKeyLimit
    }

    /// Whether keys are looked at.
    var isOn: Bool { window > 0 && maxCount > 0 }

    /// What this submission's request was answered the first time.
    /// - Returns: `nil` if it is new, or has no key.
    func answer<T: Transaction & ~Copyable>(
        to submission: Submission, in transaction: borrowing T
    ) throws(LMDBError) -> Result<Receipt, IntakeError>? {
        guard isOn, let request = submission.request,
            let record = try transaction.requestRecord(RequestName(request.key), tables),
            !record.isExpired(at: submission.receivedAt, window: window)
        else { return nil }
        guard record.fingerprint == request.fingerprint, record.stream == submission.stream else {
            return .failure(.keyReused)
        }
        return .success(Receipt(sequences: record.sequences, deadLetters: record.deadLetters, isRepeat: true))
    }

    /// Stores the key of a submission that is accepted in this transaction. Does nothing if it has none.
    func add(
        _ submission: Submission, _ receipt: Receipt, to draft: inout Draft, in transaction: borrowing WriteTransaction
    ) throws {
        guard isOn, let request = submission.request else { return }
        let name = RequestName(request.key)
        // One that has expired and was not deleted yet.
        if let record = try transaction.requestRecord(name, tables) {
            try transaction.delete(tables.order, NumberKey(number: record.number))
        }
        try transaction.delete(tables.requests, name)
        let record = RequestRecord(
            request, acceptedAt: submission.receivedAt, number: draft.state.requests.nextNumber,
            stream: submission.stream, sequences: receipt.sequences, deadLetters: receipt.deadLetters)
        record.write(to: try transaction.reserve(tables.requests, name, RequestRecord.length))
        name.write(to: try transaction.reserve(tables.order, NumberKey(number: record.number), RequestName.length))
        draft.state.requests.nextNumber += 1
        draft.state.requests.count = try transaction.count(tables.order)
        draft.state.requests.oldestAt = draft.state.requests.oldestAt ?? record.acceptedAt
        draft.addedRequestCount += 1
        draft.hasOtherChanges = true
    }

    /// Deletes the oldest: those that are too many or too old, a bounded number of them.
    func trim(_ draft: inout Draft, in transaction: borrowing WriteTransaction) throws {
        // What the oldest says is remembered, so that a transaction without keys reads nothing.
        guard draft.state.requests.count > 0 else { return }
        let now = WallClock.milliseconds
        let isTooOld = draft.state.requests.oldestAt.map { now &- $0 >= window } ?? true
        guard isTooOld || draft.state.requests.count > maxCount else { return }
        let cursor = try transaction.cursor(tables.order)
        var found = try cursor.first()
        for _ in 0..<(draft.addedRequestCount + Self.surplusCount) {
            guard let oldest = found else { break }
            let number = try NumberKey(oldest.key).number
            if let name = RequestName(exactly: oldest.value),
                let record = try transaction.requestRecord(name, tables), record.number == number
            {
                guard draft.state.requests.count > maxCount || record.isExpired(at: now, window: window) else { break }
                try transaction.delete(tables.requests, name)
            }
            try cursor.delete()
            draft.state.requests.count -= 1
            draft.hasOtherChanges = true
            found = try cursor.next()
        }
        draft.state.requests.oldestAt = try found.flatMap { try transaction.acceptedAt($0, tables) }
    }
}

extension JournalOpening {
    /// Looks at the first and the last, whatever their number.
    static func readRequests<T: Transaction & ~Copyable>(
        _ tables: RequestTables?, in transaction: borrowing T
    ) throws -> RequestState {
        var state = RequestState()
        guard let tables else { return state }
        state.count = try transaction.count(tables.order)
        let cursor = try transaction.cursor(tables.order)
        if let last = try cursor.last() {
            let number = try NumberKey(last.key).number
            guard number < .max else {
                throw JournalError.damaged("table request_order ends with an impossible number")
            }
            state.nextNumber = number + 1
        }
        if let first = try cursor.first() { state.oldestAt = try transaction.acceptedAt(first, tables) }
        return state
    }
}

extension Transaction where Self: ~Copyable {
    /// The record under this key; `nil` if there is none, or it is malformed.
    func requestRecord(_ name: RequestName, _ tables: RequestTables) throws(LMDBError) -> RequestRecord? {
        try get(tables.requests, name).flatMap { RequestRecord(exactly: $0) }
    }

    /// When the request was accepted that a record of `request_order` leads to.
    fileprivate func acceptedAt(_ record: Cursor.Record, _ tables: RequestTables) throws(LMDBError) -> Int64? {
        guard let name = RequestName(exactly: record.value) else { return nil }
        return try requestRecord(name, tables)?.acceptedAt
    }
}
