import IngestCore

/// Size of the journal's file, and how much of it holds nothing; bytes.
struct FileSize {
    let bytes: Int
    let freeBytes: Int
}

/// Decides whether new events are taken. What makes room (the flusher's news) never asks.
///
/// From the high watermark on all are refused until the journal is below the low one, so that sources are not stopped
/// and started many times a second.
struct Admission {
    private let configuration: JournalConfiguration
    private let pageSize: Int
    private var isDraining = false
    /// Free pages that each commit takes for its copies of the tables' inner pages, and the next ones give back: room
    /// that never gets less, and is none. Of the others 1/8 may lie too scattered for an entry.
    private static let circulatingBytes = 1 << 20

    init(_ configuration: JournalConfiguration, pageSize: Int) {
        self.configuration = configuration
        self.pageSize = pageSize
    }

    /// Why a submission can't be stored now; `nil` if it can.
    /// - Parameters:
    ///   - entries: bytes of the file that its entries take.
    ///   - letters: bytes that its dead letters and its key take; the bounds of their stores are not checked here.
    ///   - admitted: bytes of what was admitted before to the same transaction.
    ///   - file: as of the last commit.
    mutating func obstacle(
        toEntries entries: Int, letters: Int = 0, after admitted: (entries: Int, letters: Int) = (0, 0),
        _ state: JournalState, file: FileSize
    ) -> IntakeError? {
        let stored = state.storedBytes + admitted.entries
        if stored < configuration.lowWatermarkBytes { isDraining = false }
        if isDraining || stored + entries > configuration.highWatermarkBytes {
            isDraining = stored >= configuration.lowWatermarkBytes
            return .full(
                "\(stored) bytes wait for ClickHouse and JOURNAL_MAX_BYTES is \(configuration.maxBytes)"
                    + (isDraining ? "; events are taken again below \(configuration.lowWatermarkBytes)" : ""))
        }
        return roomObstacle(to: admitted.entries + admitted.letters + entries + letters, file: file)
    }

    /// Why events that are sent again can't be stored now. It says nothing about new ones, and changes nothing.
    func obstacle(toRetrying entries: Int, _ state: JournalState, file: FileSize) -> IntakeError? {
        var copy = self
        return copy.obstacle(toEntries: entries, state, file: file)
    }

    /// Whether a submission of ordinary size would be taken.
    mutating func isOpen(_ state: JournalState, file: FileSize) -> Bool {
        obstacle(toEntries: 0, letters: Limits.entryBytes, state, file: file) == nil
    }

    /// Why the file can't take `bytes` more.
    private func roomObstacle(to bytes: Int, file: FileSize) -> IntakeError? {
        let recyclable = max(0, file.freeBytes - Self.circulatingBytes) / 8 * 7
        let growth = bytes - recyclable
        guard growth > 0 else { return nil }
        if file.bytes + growth > configuration.mapSize - configuration.reserveBytes {
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

    /// Bytes of the file that the submission's entries take, about.
    func storedLength(_ submission: Submission) -> Int {
        JournalFormat.storedLength(submission.events.byteCount + EntryView.headerLength, pageSize: pageSize)
    }

    /// Bytes of the file that the letters, and the request's key, take beside the entries, about.
    func storedLength(_ letters: [NewDeadLetter], of submission: Submission) -> Int {
        letters.reduce(submission.keyByteCount) {
            $0 + JournalFormat.storedLength($1.record.count, pageSize: pageSize)
        }
    }
}
