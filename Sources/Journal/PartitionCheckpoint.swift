import IngestCore

/// What the journal knows of one Kafka partition: which offsets it holds, which of them are flushed, and what may be
/// and was committed. Pure; the writer applies each change in the transaction that it belongs to.
///
/// A partition's events normally go to one stream. When its route was changed while events were waiting, the old and
/// the new stream each have a run, and the slower one decides what may be committed.
///
///     record   0  i64 committed   8  i64 attempted   16  i64 end (each -1: none)   24  u32 number of runs
///             28  runs of 36 bytes: u32 stream, u64 start sequence, u64 end sequence, i64 flushed, i64 end
public struct PartitionCheckpoint: Sendable, Equatable {
    struct Run: Sendable, Equatable {
        let stream: StreamID
        /// Sequence of the run's first event: flushes of older entries of the partition are none of its business.
        let startSequence: UInt64
        /// Sequence behind its last event.
        var endSequence: UInt64
        /// Every message of the run before this offset is in ClickHouse or is a dead letter.
        var flushed: Int64
        /// Offset behind its last message.
        var end: Int64

        var isPending: Bool { flushed < end }
    }

    /// The group's committed offset as this process last knew it.
    public internal(set) var committed: Int64?
    /// An offset that this process may have committed without hearing of it. Durable before the commit is sent, so
    /// that after a crash our own commit is not taken for an operator's reset.
    public internal(set) var attempted: Int64?
    /// Offset behind the last message taken.
    public internal(set) var end: Int64?
    /// The lowest offset whose dead letter the DLQ topic has not got yet: no commit passes it. Not in the record; the
    /// journal derives it from its table `forwarding`.
    public internal(set) var hold: Int64?
    var runs: [Run] = []

    /// Nothing known.
    init() {}

    /// Every message before this offset is in ClickHouse or is a dead letter.
    public var flushed: Int64? {
        runs.lazy.filter(\.isPending).map(\.flushed).min() ?? end
    }

    /// Offset to commit now, if one moved and no other commit is under way.
    public var committable: Int64? {
        // An attempt beyond the hold is one from a time when nothing was forwarded.
        guard let attempted, attempted != committed, attempted <= hold ?? .max else { return nil }
        return attempted
    }

    /// Whether nothing is on its way: all that was taken is flushed, and no dead letter waits to be forwarded.
    var isSettled: Bool {
        guard let end else { return true }
        return hold ?? .max >= end && !runs.contains(where: \.isPending)
    }

    /// Messages taken but not flushed, counted in offsets.
    public var uncommittedOffsets: Int64 {
        guard let end else { return 0 }
        return max(0, end - (committed ?? flushed ?? end))
    }

    /// Where to start consuming when the group's committed offset is `groupOffset`.
    ///
    /// What was taken already is skipped only if the group stands where we left it: at our own last commit, at one
    /// that we were about to make, or within the messages that the journal still holds. Anything else is another
    /// member's progress or an operator's reset, and is obeyed.
    func resumes(at groupOffset: Int64?) -> Bool {
        guard let end else { return false }
        if groupOffset == committed || (groupOffset != nil && groupOffset == attempted) {
            return (groupOffset ?? 0) <= end
        }
        guard let groupOffset, let flushed else { return false }
        return groupOffset >= flushed && groupOffset <= end
    }

    /// The partition was assigned with this committed offset; consuming starts at `end` (if it `resumes`) or there.
    mutating func assign(groupOffset: Int64?, resumes: Bool) {
        if !resumes {
            runs = []
            end = groupOffset
        }
        committed = groupOffset
        attempted = groupOffset
        prepareCommit()
    }

    /// Messages were taken into `stream`, their events at `sequences` (empty if none of them was an event).
    /// - Parameter position: the stream's flushed position.
    mutating func append(offsets: Range<Int64>, stream: StreamID, sequences: Range<UInt64>, position: UInt64) {
        if offsets.lowerBound != end {
            // A new start: the first ever, or the topic was truncated or made anew and the client has moved. Then what
            // was committed speaks of messages that are gone, and smaller offsets must be committed again.
            runs = []
            committed = nil
            attempted = nil
        }
        end = offsets.upperBound
        if let index = runs.firstIndex(where: { $0.stream == stream }) {
            if !runs[index].isPending { runs[index].flushed = offsets.lowerBound }
            runs[index].end = offsets.upperBound
            runs[index].endSequence = sequences.upperBound
        } else {
            runs.append(
                Run(
                    stream: stream, startSequence: sequences.lowerBound, endSequence: sequences.upperBound,
                    flushed: offsets.lowerBound, end: offsets.upperBound))
        }
        advance(stream: stream, to: position)
    }

    /// The stream's flushed position moved over the end of an entry of this partition.
    mutating func flush(stream: StreamID, entryEnd: UInt64, offset: Int64) {
        guard let index = runs.firstIndex(where: { $0.stream == stream }),
            entryEnd > runs[index].startSequence, offset > runs[index].flushed, offset <= runs[index].end
        else { return }
        runs[index].flushed = offset
        prepareCommit()
    }

    /// The stream's flushed position is now `position`.
    mutating func advance(stream: StreamID, to position: UInt64) {
        guard let index = runs.firstIndex(where: { $0.stream == stream }) else { return }
        if runs[index].endSequence <= position { runs[index].flushed = runs[index].end }
        // Runs of other streams are kept only while they hold back the commit.
        if runs.count > 1 { runs.removeAll { !$0.isPending && $0.stream != stream } }
        prepareCommit()
    }

    /// The group has this offset now.
    mutating func confirm(_ offset: Int64) {
        guard offset == attempted else { return }
        committed = offset
        prepareCommit()
    }

    /// Dead letters were stored or forwarded: `offset` is now the lowest that waits, if any does. To be called before
    /// the flushed position moves over a new one.
    mutating func hold(at offset: Int64?) {
        hold = offset
        prepareCommit()
    }

    /// Whether a run of `stream` that waits to be flushed covers the offset.
    func isPending(_ offset: Int64, in stream: StreamID) -> Bool {
        runs.contains { $0.stream == stream && $0.flushed <= offset && offset < $0.end }
    }

    /// One commit at a time: a next one is announced only when the last is known to have arrived.
    private mutating func prepareCommit() {
        guard attempted == committed, let flushed else { return }
        let offset = min(flushed, hold ?? .max)
        guard offset > attempted ?? -1 else { return }
        attempted = offset
    }
}

extension PartitionCheckpoint {
    init(record: UnsafeRawBufferPointer) throws(MalformedEntry) {
        guard record.count >= 28 else { throw MalformedEntry("partition record is too short") }
        func offset(_ position: Int) -> Int64? {
            let number = record.loadLittleEndian(position, as: Int64.self)
            return number < 0 ? nil : number
        }
        committed = offset(0)
        attempted = offset(8)
        end = offset(16)
        let count = Int(record.loadLittleEndian(24, as: UInt32.self))
        guard record.count == 28 + count * 36 else { throw MalformedEntry("partition record has a wrong length") }
        for index in 0..<count {
            let base = 28 + index * 36
            runs.append(
                Run(
                    stream: StreamID(rawValue: record.loadLittleEndian(base)),
                    startSequence: record.loadLittleEndian(base + 4), endSequence: record.loadLittleEndian(base + 12),
                    flushed: record.loadLittleEndian(base + 20), end: record.loadLittleEndian(base + 28)))
        }
    }

    var record: [UInt8] {
        var record: [UInt8] = []
        for offset in [committed, attempted, end] { record.appendLittleEndian(offset ?? -1) }
        record.appendLittleEndian(UInt32(runs.count))
        for run in runs {
            record.appendLittleEndian(run.stream.rawValue)
            record.appendLittleEndian(run.startSequence)
            record.appendLittleEndian(run.endSequence)
            record.appendLittleEndian(run.flushed)
            record.appendLittleEndian(run.end)
        }
        return record
    }
}

extension TopicPartition {
    var key: BytesKey {
        BytesKey(Array(topic.utf8) + [0] + withUnsafeBytes(of: partition.bigEndian) { Array($0) })
    }

    init(key: UnsafeRawBufferPointer) throws(MalformedEntry) {
        guard key.count > 5, key[key.count - 5] == 0 else { throw MalformedEntry("partition key is malformed") }
        self.init(
            topic: String(decoding: key[..<(key.count - 5)], as: UTF8.self),
            partition: Int32(bigEndian: key.loadUnaligned(fromByteOffset: key.count - 4, as: Int32.self)))
    }
}
