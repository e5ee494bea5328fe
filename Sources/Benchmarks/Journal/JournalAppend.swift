import Glibc
import IngestCore
import Journal
import Logging
import Synchronization

/// The journal's append against write + fdatasync of the same bytes into a plain file of the same folder, in turns
/// within one run, so that the ratio holds on a machine whose disk is shared.
public struct JournalAppend: Sendable {
    /// One size of entries.
    public struct Row: Sendable, Encodable {
        /// Bytes of one entry, which is one commit.
        public let entryBytes: Int
        /// Megabytes a second that the journal made durable.
        public let journalRate: Double
        /// Megabytes a second of write + fdatasync.
        public let fileRate: Double
        /// Journal against file.
        public var ratio: Double { journalRate / fileRate }
    }

    private let folder: String
    private let bytesPerRound: Int
    private let rounds: Int

    /// - Parameters:
    ///   - folder: where journal and file are made; removed by the caller.
    ///   - bytesPerRound: written in each turn by each side.
    ///   - rounds: turns; the median counts.
    public init(folder: String, bytesPerRound: Int = 64 << 20, rounds: Int = 7) {
        self.folder = folder
        self.bytesPerRound = bytesPerRound
        self.rounds = rounds
    }

    /// Measures one size. Blocks.
    public func run(entryBytes: Int) throws -> Row {
        let journal = try Journal.open(
            JournalConfiguration(
                path: "\(folder)/journal-\(entryBytes)", maxBytes: bytesPerRound * 8, minFreeDiskBytes: 0,
                tables: ["events"]), logger: Logger(label: "benchmark"))
        journal.start { _ in }
        defer { journal.close() }
        let stream = journal.stream(table: "events")!.id
        let events = EventBuffer(capacity: entryBytes)
        let payload = [UInt8](repeating: 0x61, count: 217)
        while events.byteCount + 240 < entryBytes - 64 {
            payload.withUnsafeBytes { events.append(payload: $0, id: .derived) }
        }
        let path = "\(folder)/plain-\(entryBytes)"
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        guard file >= 0 else { throw BenchmarkFailure("can't make \(path)") }
        defer { close(file) }
        let count = max(1, bytesPerRound / entryBytes)
        var journalTimes: [UInt64] = []
        var fileTimes: [UInt64] = []
        for round in 0..<rounds {
            // The first round of each extends its file; from then on both write to blocks that they have.
            let times = (
                try append(events, count, to: journal, stream), try write(events.records, count, to: file)
            )
            guard round > 0 || rounds == 1 else { continue }
            journalTimes.append(times.0)
            fileTimes.append(times.1)
        }
        let megabytes = Double(count * events.byteCount) / 1e6
        return Row(
            entryBytes: entryBytes, journalRate: megabytes / (Double(Self.median(journalTimes)) / 1e9),
            fileRate: megabytes / (Double(Self.median(fileTimes)) / 1e9))
    }

    /// One commit after the other, each waited for; then everything is flushed, so that its pages are used again.
    private func append(_ events: EventBuffer, _ count: Int, to journal: Journal, _ stream: StreamID) throws -> UInt64 {
        let answers = Mailbox<Result<Receipt, IntakeError>>()
        var batch: [Result<Receipt, IntakeError>] = []
        var end: UInt64 = 0
        let start = MonotonicClock.now
        for _ in 0..<count {
            journal.submit(
                Submission(stream: stream, origin: .http, receivedAt: 0, events: events) { answers.send($0) })
            _ = answers.receive(into: &batch)
            end = try batch[0].get().sequences.upperBound
        }
        let time = MonotonicClock.now - start
        let done = Mailbox<Result<Void, JournalError>>()
        var results: [Result<Void, JournalError>] = []
        journal.advance(stream, to: end, partitions: [:]) { done.send($0) }
        _ = done.receive(into: &results)
        try results[0].get()
        return time
    }

    private func write(_ bytes: UnsafeRawBufferPointer, _ count: Int, to file: CInt) throws -> UInt64 {
        lseek(file, 0, SEEK_SET)
        let start = MonotonicClock.now
        for _ in 0..<count {
            guard Glibc.write(file, bytes.baseAddress, bytes.count) == bytes.count, fdatasync(file) == 0 else {
                throw BenchmarkFailure(call: "write")
            }
        }
        return MonotonicClock.now - start
    }

    private static func median(_ values: [UInt64]) -> UInt64 { values.sorted()[values.count / 2] }
}

extension JournalAppend.Row {
    /// A line of the table.
    public var text: String {
        "journal append  \(entryBytes / 1_024) KiB a commit  \(grouped(journalRate)) MB/s   write+fdatasync "
            + "\(grouped(fileRate)) MB/s   ratio \((ratio * 100).rounded() / 100)"
    }
}
