import CXXHash
import Glibc
import IngestCore
import ServiceLog

// `commit.log`: events that are on stable storage here before LMDB has them. All numbers are little-endian.
//
//     file     0     header, one sector of 512 bytes
//              4096  groups, each at a multiple of 512, up to 4096 + 1 MiB
//     header   0  "ingestd-commits", 0   16 u32 version, 1   20 u32 0   24 identity of the journal, 32 hex digits
//              56 u64 secret, random for each opening   64 u64 XXH3-64 of the bytes before
//     group    0  u64 XXH3-64 of bytes 8 ..< length, seed: the secret   8 u64 generation
//              16 u32 number of the group within its generation, from 0   20 u32 length   24 u32 number of entries
//              28 u32 0   32 entries, each behind its u32 stream
//
// A generation is what was written since the journal last had everything; only the groups of the newest one count. And
// of these only entries that the journal does not have: their sequences tell.

/// A file that small groups of events are written to, one after another, so that their senders can be answered after
/// one flush of one place. LMDB needs two flushes, of pages all over its file, for each of its commits; it gets the
/// events of many groups in one commit a moment later.
///
/// The file has its blocks from the start, so that a flush has nothing to note but the bytes themselves. After the
/// journal's start the writer's thread alone uses it.
final class CommitLog: @unchecked Sendable {
    /// The file's name in the journal's folder.
    static let name = "commit.log"
    /// Bytes that a generation can have.
    static let capacity = 1 << 20
    /// Larger groups gain less than it costs to write them twice.
    static let smallGroupBytes = 64 << 10
    fileprivate static let groupsStart = 4_096
    fileprivate static let sector = 512
    fileprivate static let groupHeaderLength = 32
    fileprivate static let marker: [UInt8] = Array("ingestd-commits".utf8) + [0]
    fileprivate static let version: UInt32 = 1

    private let path: String
    private let log: EventLog
    private let descriptor: CInt
    private let secret: UInt64
    /// A group in the making.
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: groupsStart)
    private var generation: UInt64 = 0
    private var groupNumber: UInt32 = 0
    /// Where the next group starts, behind `groupsStart`.
    private var place = 0
    /// A write has failed: what is on the disk is not known, so nothing more is written until the journal is opened
    /// again.
    private var hasFailed = false

    /// Opens the file, which is made where it is missing. What was in it is void from now on.
    /// - Parameter identity: the journal's.
    init(_ directory: JournalDirectory, identity: String, _ log: EventLog) throws(JournalError) {
        path = directory.path + "/" + Self.name
        self.log = log
        // Each write is a flush as well.
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_DSYNC, 0o640)
        guard descriptor >= 0 else {
            throw .io("can't open \(path): \(Self.errnoText). \(JournalDirectory.accessHelp(directory.path))")
        }
        secret = .random(in: .min ... .max)
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw .io("\(path): \(Self.errnoText)") }
        if status.st_size < Self.groupsStart + Self.capacity {
            buffer.initializeMemory(as: UInt8.self, repeating: 0)
            guard write(Self.groupsStart, at: 0), write(Self.capacity, at: Self.groupsStart) else {
                throw .io("can't write \(path): \(Self.errnoText)")
            }
            try directory.sync()
        }
        Self.header(identity, secret: secret).withUnsafeBytes { buffer.copyMemory(from: $0) }
        guard write(Self.sector, at: 0) else { throw .io("can't write \(path): \(Self.errnoText)") }
    }

    deinit {
        close(descriptor)
        buffer.deallocate()
    }

    /// Makes a group durable.
    /// - Parameter events: what it consists of, with the sequence of each one's first event; of one or more events each.
    /// - Returns: false if there is no room, or the write failed: the journal itself has to store the group then. After
    ///   a failed write the group may be found at the next opening nevertheless.
    func append(_ events: some Collection<(submission: Submission, firstSequence: UInt64)>) -> Bool {
        guard !hasFailed else { return false }
        var length = Self.groupHeaderLength
        for (submission, _) in events { length += 4 + EntryView.headerLength + submission.events.byteCount }
        let stored = (length + Self.sector - 1) / Self.sector * Self.sector
        guard stored <= Self.capacity - place else { return false }
        buffer.storeLittleEndian(generation, 8)
        buffer.storeLittleEndian(groupNumber, 16)
        buffer.storeLittleEndian(UInt32(length), 20)
        buffer.storeLittleEndian(UInt32(events.count), 24)
        buffer.storeLittleEndian(UInt32(0), 28)
        var end = Self.groupHeaderLength
        for (submission, firstSequence) in events {
            buffer.storeLittleEndian(submission.stream.rawValue, end)
            let entryLength = EntryView.headerLength + submission.events.byteCount
            let entry = UnsafeMutableRawBufferPointer(rebasing: buffer[(end + 4)..<(end + 4 + entryLength)])
            EntryPacker.fill(
                entry, with: CollectionOfOne(submission.events.records), origin: .http,
                eventCount: submission.events.eventCount, firstSequence: firstSequence,
                receivedAt: submission.receivedAt, stream: submission.stream)
            end += 4 + entryLength
        }
        UnsafeMutableRawBufferPointer(rebasing: buffer[end..<stored]).initializeMemory(as: UInt8.self, repeating: 0)
        let group = UnsafeRawBufferPointer(rebasing: buffer[..<length])
        buffer.storeLittleEndian(Self.checksum(group, secret), 0)
        guard write(stored, at: Self.groupsStart + place) else {
            log.write(.journalLogFailed, "\(path) can't be written", ["error": "\(Self.errnoText)"])
            hasFailed = true
            // Perhaps it is on the disk all the same. The journal stores it, or refuses it.
            UnsafeMutableRawBufferPointer(rebasing: buffer[..<Self.sector]).initializeMemory(
                as: UInt8.self, repeating: 0)
            _ = write(Self.sector, at: Self.groupsStart + place)
            return false
        }
        place += stored
        groupNumber += 1
        return true
    }

    /// The journal has everything: the next group begins a new generation.
    func clear() {
        place = 0
        groupNumber = 0
        generation += 1
    }

    /// Writes the first bytes of the buffer.
    private func write(_ count: Int, at offset: Int) -> Bool {
        pwrite(descriptor, buffer.baseAddress, count, off_t(offset)) == count
    }

    private static func header(_ identity: String, secret: UInt64) -> [UInt8] {
        precondition(identity.utf8.count == 32)
        var header = marker
        header.appendLittleEndian(version)
        header.appendLittleEndian(UInt32(0))
        header += identity.utf8
        header.appendLittleEndian(secret)
        header.appendLittleEndian(header.withUnsafeBytes { XXH3_64bits($0.baseAddress, $0.count) })
        return header + Array(repeating: 0, count: sector - header.count)
    }

    fileprivate static func checksum(_ group: UnsafeRawBufferPointer, _ secret: UInt64) -> UInt64 {
        XXH3_64bits_withSeed(group.baseAddress! + 8, group.count - 8, secret)
    }

    fileprivate static var errnoText: String { String(cString: strerror(errno)) }
}

/// What `commit.log` held when the journal was opened.
struct LoggedGroups {
    private let bytes: [UInt8]
    /// Of the newest generation, in the order in which they were written.
    private let groups: [(number: UInt32, bytes: Range<Int>)]
    /// Identity of the journal that it belongs to; `nil` if there is no file, or nothing was ever written to it.
    let identity: String?

    /// Nothing.
    init() { (bytes, groups, identity) = ([], [], nil) }

    /// Reads the file; changes nothing.
    /// - Throws: `JournalError` if it can't be read, or is damaged so that nothing in it can be told.
    init(_ folder: String) throws(JournalError) {
        let path = folder + "/" + CommitLog.name
        bytes = try Self.content(path)
        guard bytes.contains(where: { $0 != 0 }) else {
            (groups, identity) = ([], nil)
            return
        }
        let isSound = bytes.withUnsafeBytes { bytes in
            bytes.count >= CommitLog.sector && bytes.starts(with: CommitLog.marker)
                && XXH3_64bits(bytes.baseAddress, 64) == bytes.loadLittleEndian(64, as: UInt64.self)
        }
        guard isSound else {
            throw .damaged(
                "the first bytes of \(path) are not what was written. The last events that were acknowledged may be in "
                    + "it: restore the folder from a copy, or go on without them after `mv \(path) \(path).damaged`")
        }
        let version = bytes.withUnsafeBytes { $0.loadLittleEndian(16, as: UInt32.self) }
        guard version == CommitLog.version else {
            throw .newerFormat(path: path, found: version, supported: CommitLog.version)
        }
        identity = String(decoding: bytes[24..<56], as: UTF8.self)
        let found = bytes.withUnsafeBytes { Self.groups(in: $0) }
        let newest = found.map(\.generation).max()
        groups = found.filter { $0.generation == newest }.map { ($0.number, $0.bytes) }.sorted { $0.number < $1.number }
    }

    private static func content(_ path: String) throws(JournalError) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        if descriptor < 0, errno == ENOENT { return [] }
        guard descriptor >= 0 else { throw .io("can't open \(path): \(CommitLog.errnoText)") }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: CommitLog.groupsStart + CommitLog.capacity)
        let count = pread(descriptor, &bytes, bytes.count, 0)
        guard count >= 0 else { throw .io("can't read \(path): \(CommitLog.errnoText)") }
        return Array(bytes[..<count])
    }

    /// Also finds groups behind one that is damaged.
    private static func groups(
        in bytes: UnsafeRawBufferPointer
    ) -> [(generation: UInt64, number: UInt32, bytes: Range<Int>)] {
        var found: [(UInt64, UInt32, Range<Int>)] = []
        let secret: UInt64 = bytes.loadLittleEndian(56)
        var place = CommitLog.groupsStart
        while place + CommitLog.sector <= bytes.count {
            let length = Int(bytes.loadLittleEndian(place + 20, as: UInt32.self))
            guard length > CommitLog.groupHeaderLength, length <= bytes.count - place else {
                place += CommitLog.sector
                continue
            }
            let group = UnsafeRawBufferPointer(rebasing: bytes[place..<(place + length)])
            guard CommitLog.checksum(group, secret) == group.loadLittleEndian(0, as: UInt64.self) else {
                place += CommitLog.sector
                continue
            }
            found.append((group.loadLittleEndian(8), group.loadLittleEndian(16), place..<(place + length)))
            place += (length + CommitLog.sector - 1) / CommitLog.sector * CommitLog.sector
        }
        return found
    }

    /// Whether there are none.
    var isEmpty: Bool { groups.isEmpty }

    /// What the journal does not have, to be given to its writer.
    /// - Returns: `nil` if events are missing before one: then they can't be given other than with their sequences.
    func missing(in journal: JournalOpening.Prepared) throws -> [Submission]? {
        guard identity == journal.identity else { return [] }
        var items: [Submission]? = []
        var ends = journal.state.streams.mapValues(\.nextSequence)
        try forEachEntry { stream, entry in
            let end = ends[stream, default: 0]
            guard entry.sequences.lowerBound >= end else { return }
            if entry.sequences.lowerBound > end { items = nil }
            ends[stream] = entry.sequences.upperBound
            items?.append(
                Submission(
                    stream: stream, origin: .http, receivedAt: entry.receivedAt,
                    events: EventBuffer(
                        records: UnsafeRawBufferPointer(rebasing: entry.bytes[entry.recordsOffset...]),
                        eventCount: entry.eventCount)
                ) { _ in })
        }
        return items
    }

    /// Calls `body` with each entry, in the order in which they were written.
    func forEachEntry(_ body: (StreamID, EntryView) throws -> Void) throws {
        try bytes.withUnsafeBytes { bytes in
            for (_, range) in groups {
                let group = UnsafeRawBufferPointer(rebasing: bytes[range])
                var place = CommitLog.groupHeaderLength
                for _ in 0..<group.loadLittleEndian(24, as: UInt32.self) {
                    guard place + 4 + EntryView.headerLength <= group.count else {
                        throw MalformedEntry("commit.log: a group is shorter than its entries")
                    }
                    let length = Int(group.loadLittleEndian(place + 4 + 32, as: UInt32.self))
                    guard length <= group.count - place - 4 else {
                        throw MalformedEntry("commit.log: an entry is longer than its group")
                    }
                    let entry = try EntryView(
                        UnsafeRawBufferPointer(rebasing: group[(place + 4)..<(place + 4 + length)]))
                    try body(StreamID(rawValue: group.loadLittleEndian(place)), entry)
                    place += 4 + length
                }
            }
        }
    }
}
