/// Where the events of a buffer came from.
public enum EventOrigin: Sendable, Equatable {
    case http
    /// A partition and the offsets consumed from it: from the position before the first message to behind the last,
    /// so that consecutive buffers of a partition meet even where the topic has gaps.
    case kafka(TopicPartition, offsets: Range<Int64>)

    /// The kind without the details.
    public var kind: SourceKind {
        switch self {
        case .http: .http
        case .kafka: .kafka
        }
    }
}

/// What a Kafka message has beside its payload.
public struct KafkaMetadata {
    /// Offset in the partition.
    public var offset: Int64
    /// Milliseconds since 1970 UTC; -1 if the message has none.
    public var timestamp: Int64
    /// The key; `nil` if the message has none.
    public var key: UnsafeRawBufferPointer?
    /// Headers in the entry format's encoding; empty if there are none.
    public var headers: UnsafeRawBufferPointer

    /// Collects the parts; the pointers must stay valid only until the event is appended.
    public init(offset: Int64, timestamp: Int64, key: UnsafeRawBufferPointer?, headers: UnsafeRawBufferPointer) {
        self.offset = offset
        self.timestamp = timestamp
        self.key = key
        self.headers = headers
    }

    /// What an event has that is no Kafka message: headers only. One from HTTP has `TraceParent.headers`.
    public static func headersOnly(_ headers: UnsafeRawBufferPointer) -> KafkaMetadata {
        KafkaMetadata(offset: -1, timestamp: -1, key: nil, headers: headers)
    }
}

/// Events on their way into the journal, already as records of the entry format, so that the journal copies them
/// into its page in one piece.
///
/// One owner at a time: a source fills it and hands it over with `EventIntake.submit`; after that only the journal
/// touches it. That is why it may be `Sendable` without a lock.
public final class EventBuffer: @unchecked Sendable {
    /// Number of events appended.
    public private(set) var eventCount = 0
    private var storage: UnsafeMutableRawBufferPointer
    private var used = 0

    /// Makes an empty buffer with room for `capacity` bytes; it grows as needed.
    public init(capacity: Int = 4_096) {
        storage = .allocate(byteCount: max(capacity, 64), alignment: 16)
    }

    /// Copies records that another buffer has made.
    public convenience init(records: UnsafeRawBufferPointer, eventCount: Int) {
        self.init(capacity: records.count)
        storage.copyMemory(from: records)
        used = records.count
        self.eventCount = eventCount
    }

    deinit { storage.deallocate() }

    /// The records.
    public var records: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: storage[..<used]) }

    /// Bytes of the records.
    public var byteCount: Int { used }

    /// Forgets the events and keeps the memory.
    public func removeAll() {
        eventCount = 0
        used = 0
    }

    /// Appends one event.
    /// - Parameters:
    ///   - payload: the event as received; at most `Limits.eventBytes`.
    ///   - id: where its id is; a slice must lie within the payload.
    ///   - storedID: the id itself if `id` is `.stored`; at most `Limits.eventIDBytes`.
    ///   - kafka: what the Kafka message had beside the payload; `headersOnly` for an event from HTTP with headers.
    @inline(__always)
    public func append(
        payload: UnsafeRawBufferPointer, id: EventIDLocation, storedID: UnsafeRawBufferPointer? = nil,
        kafka: KafkaMetadata? = nil
    ) {
        precondition(payload.count <= Limits.eventBytes, "event larger than Limits.eventBytes")
        let stored = id == .stored ? storedID! : UnsafeRawBufferPointer(start: nil, count: 0)
        let length =
            12 + stored.count + payload.count
            + (kafka.map { 24 + ($0.key?.count ?? 0) + $0.headers.count } ?? 0)
        let start = used
        if length > storage.count - start { grow(for: length) }
        let target = UnsafeMutableRawBufferPointer(start: storage.baseAddress! + start, count: length)
        target.storeLittleEndian(UInt32(payload.count), 0)
        switch id {
        case .derived:
            target.storeLittleEndian(UInt32(0), 4)
            target.storeLittleEndian(UInt16(0), 8)
            target[10] = 0
        case .payloadSlice(let offset, let length):
            precondition(
                offset >= 0 && length >= 0 && length <= Limits.eventIDBytes && offset + length <= payload.count,
                "event id outside of its payload")
            target.storeLittleEndian(UInt32(offset), 4)
            target.storeLittleEndian(UInt16(length), 8)
            target[10] = 1
        case .stored:
            precondition(stored.count <= Limits.eventIDBytes, "event id longer than Limits.eventIDBytes")
            target.storeLittleEndian(UInt32(0), 4)
            target.storeLittleEndian(UInt16(stored.count), 8)
            target[10] = 2
        }
        target[11] = kafka == nil ? 0 : 1
        var position = 12
        if let kafka {
            target.storeLittleEndian(kafka.offset, 12)
            target.storeLittleEndian(kafka.timestamp, 20)
            target.storeLittleEndian(kafka.key.map { Int32($0.count) } ?? -1, 28)
            target.storeLittleEndian(UInt32(kafka.headers.count), 32)
            position = 36
        }
        Self.put(stored, into: target, at: &position)
        if let kafka {
            if let key = kafka.key { Self.put(key, into: target, at: &position) }
            Self.put(kafka.headers, into: target, at: &position)
        }
        Self.put(payload, into: target, at: &position)
        assert(position == length, "a record of another length")
        used = start + length
        eventCount += 1
    }

    /// A function with all it needs as parameters: a nested one would be called, not put in place.
    @inline(__always)
    private static func put(
        _ bytes: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer, at position: inout Int
    ) {
        guard bytes.count > 0 else { return }
        UnsafeMutableRawBufferPointer(rebasing: target[position...]).copyMemory(from: bytes)
        position += bytes.count
    }

    @inline(never)
    private func grow(for length: Int) {
        let larger = UnsafeMutableRawBufferPointer.allocate(
            byteCount: max(used + length, storage.count * 2), alignment: 16)
        larger.copyMemory(from: records)
        storage.deallocate()
        storage = larger
    }
}

extension EntryView {
    /// Length of the source section that `origin` needs.
    public static func sourceLength(of origin: EventOrigin) -> Int {
        switch origin {
        case .http: 0
        case .kafka(let partition, _): 20 + partition.topic.utf8.count
        }
    }

    /// Writes everything before the records into `target`, but for the checksum, which comes last.
    /// - Parameter target: the whole entry's room; its count becomes the total length.
    /// - Returns: where the records start.
    public static func writeHeader(
        into target: UnsafeMutableRawBufferPointer, origin: EventOrigin, eventCount: Int, firstSequence: UInt64,
        receivedAt: Int64
    ) -> Int {
        let sourceLength = sourceLength(of: origin)
        target.storeLittleEndian(UInt64(0), 0)
        target.storeLittleEndian(version, 8)
        target[10] = origin.kind.rawValue
        target[11] = 0
        target.storeLittleEndian(UInt32(eventCount), 12)
        target.storeLittleEndian(firstSequence, 16)
        target.storeLittleEndian(receivedAt, 24)
        target.storeLittleEndian(UInt32(target.count), 32)
        target.storeLittleEndian(UInt32(sourceLength), 36)
        if case .kafka(let partition, let offsets) = origin {
            target.storeLittleEndian(partition.partition, 40)
            target.storeLittleEndian(offsets.lowerBound, 44)
            target.storeLittleEndian(offsets.upperBound, 52)
            var topic = partition.topic
            topic.withUTF8 { utf8 in
                UnsafeMutableRawBufferPointer(rebasing: target[60...]).copyMemory(from: UnsafeRawBufferPointer(utf8))
            }
        }
        return headerLength + sourceLength
    }
}

/// What can be told of a record of the entry format without decoding its events.
public enum EventRecord {
    /// Length of the record at the start of `bytes`, which were written by an `EventBuffer`.
    public static func length(at bytes: UnsafeRawBufferPointer) -> Int {
        var length = 12 + Int(bytes.loadLittleEndian(0, as: UInt32.self))
        if bytes[10] == 2 { length += Int(bytes.loadLittleEndian(8, as: UInt16.self)) }
        if bytes[11] & 1 != 0 {
            length += 24 + Int(max(0, bytes.loadLittleEndian(28, as: Int32.self)))
            length += Int(bytes.loadLittleEndian(32, as: UInt32.self))
        }
        return length
    }

    /// The Kafka offset in the record at the start of `bytes`; `nil` if it has none, or `bytes` are empty.
    public static func kafkaOffset(at bytes: UnsafeRawBufferPointer) -> Int64? {
        guard bytes.count >= 36, bytes[11] & 1 != 0 else { return nil }
        let offset: Int64 = bytes.loadLittleEndian(12)
        return offset < 0 ? nil : offset
    }
}
