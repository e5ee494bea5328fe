// The journal entry, version 1: a run of consecutive events of one stream that were admitted together.
//
// All numbers are little-endian. `docs/journal-format.md` describes the tables around it.
//
//     entry    0  u64  XXH3-64 of bytes 8 ..< total length (the journal computes and verifies it)
//              8  u16  format version, 1
//             10  u8   source: 1 HTTP, 2 Kafka
//             11  u8   0
//             12  u32  number of events, at least 1
//             16  u64  sequence of the first event
//             24  i64  received at, milliseconds since 1970-01-01 UTC
//             32  u32  total length in bytes
//             36  u32  length of the source section
//             40       source section, then the records without gaps
//
//     source   HTTP: empty.
//              Kafka: i32 partition, i64 offsets' lower bound, i64 offsets' upper bound (exclusive), topic (UTF-8).
//              The bounds cover what was consumed, also messages that are no events (gaps, tombstones, dead letters).
//
//     record   0  u32  payload length
//              4  u32  where the event id starts within the payload (id kind 1)
//              8  u16  length of the event id
//             10  u8   id kind: 0 derived (lower-case hex SHA-256 of the payload), 1 slice of the payload,
//                      2 stored before the payload
//             11  u8   flags: bit 0 set: message section follows
//             12       message section, if any: i64 offset (-1: no Kafka message), i64 timestamp in ms (-1 none),
//                      i32 key length (-1 no key), u32 headers length
//                      event id (kind 2), key, headers, payload
//
//     headers  a run of: u16 name length, i32 value length (-1 null), name, value. An event from HTTP that came with a
//              valid `traceparent` has that one, and no others.
//
// Invariants: lengths add up exactly to the total; an id slice lies within its payload; the first sequence equals
// the one in the entry's key.

/// Where an event came from.
public enum SourceKind: UInt8, Sendable {
    case http = 1
    case kafka = 2

    /// The name used in rows and metrics.
    public var name: StaticString {
        switch self {
        case .http: "http"
        case .kafka: "kafka"
        }
    }
}

/// Where the id of an event is to be found.
public enum EventIDLocation: Sendable, Equatable {
    /// The payload has none: the lower-case hex SHA-256 of the payload bytes is the id, computed on delivery.
    case derived
    /// These bytes of the payload are the id (a JSON string without escapes, or an integer).
    case payloadSlice(offset: Int, length: Int)
    /// The id is stored beside the payload: it came from a header, or was written with escapes.
    case stored
}

/// An entry that does not have the form above. Means damage or a foreign file: what is written was checked.
public struct MalformedEntry: Error, Sendable, CustomStringConvertible {
    /// What is wrong with it.
    public let reason: StaticString

    /// Names what is wrong.
    public init(_ reason: StaticString) { self.reason = reason }

    /// The reason, for logs.
    public var description: String { "malformed journal entry: \(reason)" }
}

/// The fixed part of an entry and its source section, decoded. Holds pointers into the entry: valid as long as those bytes.
public struct EntryView {
    /// Bytes before the source section.
    public static let headerLength = 40
    /// The version of entries that this program writes and reads.
    public static let version: UInt16 = 1

    /// The whole entry.
    public let bytes: UnsafeRawBufferPointer
    /// Where the events came from.
    public let source: SourceKind
    /// Number of events.
    public let eventCount: Int
    /// Sequence of the first event.
    public let firstSequence: UInt64
    /// When the entry's first event was received, milliseconds since 1970 UTC.
    public let receivedAt: Int64
    /// Kafka partition and the consumed offsets; `nil` for HTTP.
    public let kafka: (topic: UnsafeRawBufferPointer, partition: Int32, offsets: Range<Int64>)?
    /// Where the records start.
    public let recordsOffset: Int

    /// Sequences of the entry's events.
    public var sequences: Range<UInt64> { firstSequence..<(firstSequence + UInt64(eventCount)) }

    /// Decodes and checks the fixed part; the checksum is the journal's business.
    /// - Throws: `MalformedEntry`.
    public init(_ bytes: UnsafeRawBufferPointer) throws(MalformedEntry) {
        guard bytes.count >= Self.headerLength else { throw MalformedEntry("shorter than its header") }
        guard bytes.loadLittleEndian(8, as: UInt16.self) == Self.version else {
            throw MalformedEntry("unknown format version")
        }
        guard let source = SourceKind(rawValue: bytes[10]) else { throw MalformedEntry("unknown source") }
        guard Int(bytes.loadLittleEndian(32, as: UInt32.self)) == bytes.count else {
            throw MalformedEntry("length differs from its header's")
        }
        let count = Int(bytes.loadLittleEndian(12, as: UInt32.self))
        guard count > 0 else { throw MalformedEntry("no events") }
        let sourceLength = Int(bytes.loadLittleEndian(36, as: UInt32.self))
        let records = Self.headerLength + sourceLength
        guard records <= bytes.count else { throw MalformedEntry("source section longer than the entry") }
        switch source {
        case .http:
            guard sourceLength == 0 else { throw MalformedEntry("source section of an HTTP entry is not empty") }
            self.kafka = nil
        case .kafka:
            guard sourceLength >= 20 else { throw MalformedEntry("source section of a Kafka entry is too short") }
            let lower = bytes.loadLittleEndian(44, as: Int64.self)
            let upper = bytes.loadLittleEndian(52, as: Int64.self)
            guard lower <= upper else { throw MalformedEntry("Kafka offsets are not a range") }
            self.kafka = (
                topic: UnsafeRawBufferPointer(rebasing: bytes[60..<records]),
                partition: bytes.loadLittleEndian(40, as: Int32.self), offsets: lower..<upper
            )
        }
        let firstSequence = bytes.loadLittleEndian(16, as: UInt64.self)
        guard firstSequence <= .max - UInt64(count) else { throw MalformedEntry("sequences out of range") }
        self.bytes = bytes
        self.source = source
        self.eventCount = count
        self.firstSequence = firstSequence
        self.receivedAt = bytes.loadLittleEndian(24)
        self.recordsOffset = records
    }

    /// A cursor at the entry's first event.
    public var events: EventCursor { EventCursor(self) }
}

/// A place between two events of an entry. Stays meaningful when the entry's bytes are looked up again.
public struct EntryPosition: Sendable, Equatable {
    /// Sequence of the event behind this place.
    public let sequence: UInt64
    /// Where its record starts within the entry.
    public let byteOffset: Int
}

/// One event within an entry. Holds pointers into the entry: valid as long as those bytes.
public struct EventView {
    /// The event's number in its stream.
    public let sequence: UInt64
    /// The payload as received.
    public let payload: UnsafeRawBufferPointer
    /// The event's id, or `nil` where it is derived from the payload.
    public let explicitID: UnsafeRawBufferPointer?
    /// Offset, timestamp (ms, -1 none) and key of a Kafka message; `nil` for HTTP.
    public let kafka: (offset: Int64, timestamp: Int64, key: UnsafeRawBufferPointer?)?
    /// Headers in the entry format's encoding: all of a Kafka message, of an HTTP request at most its `traceparent`.
    public let headers: UnsafeRawBufferPointer

    /// The trace that the event came with, as it was written; `nil` without a valid one.
    @inline(__always)
    public var traceparent: UnsafeRawBufferPointer? { TraceParent.find(in: headers) }
}

/// Walks the events of an entry in order. Every length is checked before it is used.
public struct EventCursor {
    private let bytes: UnsafeRawBufferPointer
    private var offset: Int
    /// Sequence of the event that `next()` returns.
    public private(set) var nextSequence: UInt64
    private let endSequence: UInt64

    /// Starts at the entry's first event.
    public init(_ entry: EntryView) {
        bytes = entry.bytes
        offset = entry.recordsOffset
        nextSequence = entry.firstSequence
        endSequence = entry.sequences.upperBound
    }

    /// Walks one record that stands alone, outside of an entry.
    package init(record: UnsafeRawBufferPointer, sequence: UInt64) {
        bytes = record
        offset = 0
        nextSequence = sequence
        endSequence = sequence + 1
    }

    /// Goes on at a place that an earlier cursor over the same entry reached.
    public init(_ entry: EntryView, at position: EntryPosition) {
        self.init(entry)
        precondition(
            entry.sequences.contains(position.sequence) || position.sequence == endSequence,
            "position outside of the entry")
        offset = position.byteOffset
        nextSequence = position.sequence
    }

    /// Where the cursor stands.
    public var position: EntryPosition { EntryPosition(sequence: nextSequence, byteOffset: offset) }

    /// The next event, or `nil` behind the last.
    /// - Throws: `MalformedEntry` where the lengths don't add up.
    @inline(__always)
    public mutating func next() throws(MalformedEntry) -> EventView? {
        guard nextSequence < endSequence else {
            guard offset == bytes.count else { throw MalformedEntry("bytes behind the last event") }
            return nil
        }
        var position = offset
        func take(_ length: Int) throws(MalformedEntry) -> UnsafeRawBufferPointer {
            guard length <= bytes.count - position else { throw MalformedEntry("event reaches beyond the entry") }
            defer { position += length }
            return UnsafeRawBufferPointer(rebasing: bytes[position..<(position + length)])
        }
        let header = try take(12)
        let payloadLength = Int(header.loadLittleEndian(0, as: UInt32.self))
        let idOffset = Int(header.loadLittleEndian(4, as: UInt32.self))
        let idLength = Int(header.loadLittleEndian(8, as: UInt16.self))
        var keyLength: Int32 = -1
        var headersLength = 0
        var message: (offset: Int64, timestamp: Int64)?
        if header[11] & 1 != 0 {
            let section = try take(24)
            let offset: Int64 = section.loadLittleEndian(0)
            if offset >= 0 { message = (offset, section.loadLittleEndian(8)) }
            keyLength = section.loadLittleEndian(16)
            headersLength = Int(section.loadLittleEndian(20, as: UInt32.self))
        }
        let storedID = header[10] == 2 ? try take(idLength) : nil
        let key = keyLength >= 0 ? try take(Int(keyLength)) : nil
        let headers = try take(headersLength)
        let payload = try take(payloadLength)
        let explicitID: UnsafeRawBufferPointer?
        switch header[10] {
        case 0: explicitID = nil
        case 1:
            guard idOffset + idLength <= payloadLength else { throw MalformedEntry("event id outside of its payload") }
            explicitID = UnsafeRawBufferPointer(rebasing: payload[idOffset..<(idOffset + idLength)])
        case 2: explicitID = storedID
        default: throw MalformedEntry("unknown event id kind")
        }
        defer {
            offset = position
            nextSequence += 1
        }
        return EventView(
            sequence: nextSequence, payload: payload, explicitID: explicitID,
            kafka: message.map { (offset: $0.offset, timestamp: $0.timestamp, key: key) }, headers: headers)
    }

    /// Moves to `sequence`, which must not lie behind the cursor or beyond the entry.
    public mutating func skip(to sequence: UInt64) throws(MalformedEntry) {
        precondition(sequence >= nextSequence && sequence <= endSequence, "skip outside of the entry")
        while nextSequence < sequence { _ = try next() }
    }
}
