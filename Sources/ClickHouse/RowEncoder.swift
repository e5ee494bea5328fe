package import IngestCore

/// What a row of the destination table is.
public enum RowMode: String, Sendable, CaseIterable {
    /// The event inside of an envelope: its id, the payload as one string, and where and when it came from.
    case envelope
    /// The event's own fields are the row.
    case flat
}

/// Turns events into lines of JSONEachRow. The hot path: nothing is allocated for an event but the buffer's growth.
///
/// Every line is exactly one JSON object and a line feed; JSONEachRow is not newline-delimited, so an event that is not
/// exactly one JSON object would shift its neighbors. That is checked where events are accepted, not here.
///
/// An envelope has these fields: `event_id`, `payload`, `source`, `received_at`; for Kafka also `topic`, `partition`,
/// `offset` and, if the message had one, `key`; and `traceparent`, if the event came with a valid one. The payload is an escaped string, which every version of ClickHouse
/// reads back byte for byte (a nested object would be reformatted or refused by old ones). Payload and key may hold any
/// bytes. Used by one thread at a time.
package struct RowEncoder: ~Copyable {
    /// The columns that every table for envelopes has. `traceparent` is not one of them: see `InsertStatement`.
    package static let envelopeColumns = [
        "event_id", "payload", "source", "topic", "partition", "offset", "key", "received_at",
    ]

    /// Input bytes escaped between two checks of the room: what bounds the room asked for in advance.
    private static let sliceBytes = 4_096
    /// A buffer grown beyond this by large events is given back with `reset`.
    private static let keptCapacity = 4 << 20

    /// Bytes encoded and not removed.
    package private(set) var count = 0
    /// Bytes of the buffer.
    package private(set) var capacity: Int
    private let mode: RowMode
    private var storage: UnsafeMutableRawPointer
    private let initialCapacity: Int
    private let scratch: UnsafeMutableRawPointer
    /// The part of an envelope that is the same for all events of an entry: from the payload's closing quote on.
    private var entryPart: [UInt8] = []

    /// Makes an encoder whose buffer starts with `capacity` bytes and grows as needed.
    package init(mode: RowMode, capacity: Int = 640 << 10) {
        self.mode = mode
        initialCapacity = max(capacity, 256)
        self.capacity = initialCapacity
        storage = .allocate(byteCount: initialCapacity, alignment: 16)
        scratch = .allocate(byteCount: JSONEscape.scratchBytes, alignment: 16)
    }

    deinit {
        storage.deallocate()
        scratch.deallocate()
    }

    /// What was encoded and not removed. Valid until the next mutation.
    package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: storage, count: count) }

    /// Encodes events of `run` until it has no more or `count` has reached `limit`; at least one if there is one.
    /// - Returns: number of events taken.
    /// - Throws: `MalformedEntry` from the run.
    package mutating func append(_ run: inout EventRun, until limit: Int) throws(MalformedEntry) -> Int {
        var events = 0
        switch mode {
        case .flat:
            while events == 0 || count < limit, let event = try run.next() {
                reserve(event.payload.count + 1)
                put(event.payload)
                putByte(0x0A)
                events += 1
            }
        case .envelope:
            prepare(run.entry)
            while events == 0 || count < limit, let event = try run.next() {
                appendEnvelope(event)
                events += 1
            }
        }
        return events
    }

    /// Removes the first `length` bytes; the rest moves to the front.
    package mutating func removeFirst(_ length: Int) {
        precondition(length >= 0 && length <= count, "more bytes removed than there are")
        count -= length
        storage.copyMemory(from: storage + length, byteCount: count)
    }

    /// Forgets everything, and gives memory back that only large events needed.
    package mutating func reset() {
        count = 0
        guard capacity > Self.keptCapacity else { return }
        storage.deallocate()
        capacity = initialCapacity
        storage = .allocate(byteCount: capacity, alignment: 16)
    }

    @inline(__always)
    private mutating func appendEnvelope(_ event: EventView) {
        reserve(16 + EventID.derivedLength)
        put(#"{"event_id":""#)
        if let id = event.explicitID {
            putEscaped(id)
        } else {
            EventID.derive(
                from: event.payload,
                into: UnsafeMutableRawBufferPointer(start: storage + count, count: EventID.derivedLength))
            count += EventID.derivedLength
        }
        reserve(16)
        put(#"","payload":""#)
        putEscaped(event.payload)
        reserve(entryPart.count + 64)
        putEntryPart()
        if let kafka = event.kafka {
            put(#","offset":"#)
            putDecimal(kafka.offset)
            if let key = kafka.key {
                put(#","key":""#)
                putEscaped(key)
                reserve(4)
                putByte(0x22)
            }
        }
        if let traceparent = event.traceparent {
            reserve(64)
            put(#","traceparent":""#)
            putEscaped(traceparent)
            reserve(4)
            putByte(0x22)
        }
        putByte(0x7D)
        putByte(0x0A)
    }

    private mutating func prepare(_ entry: EntryView) {
        // Built in the row buffer behind what is there, where escaping works, and then taken out again.
        let start = count
        reserve(64)
        put(entry.source == .kafka ? #"","source":"kafka","received_at":""# : #"","source":"http","received_at":""#)
        Timestamp.write(
            milliseconds: entry.receivedAt,
            into: UnsafeMutableRawBufferPointer(start: storage + count, count: Timestamp.length))
        count += Timestamp.length
        putByte(0x22)
        if let kafka = entry.kafka {
            reserve(64)
            put(#","partition":"#)
            putDecimal(Int64(kafka.partition))
            put(#","topic":""#)
            putEscaped(kafka.topic)
            reserve(4)
            putByte(0x22)
        }
        entryPart.removeAll(keepingCapacity: true)
        entryPart.append(contentsOf: UnsafeRawBufferPointer(start: storage + start, count: count - start))
        count = start
    }

    // MARK: Bytes into the buffer; `put` needs room reserved before.

    @inline(__always)
    private mutating func reserve(_ length: Int) {
        if count + length > capacity { grow(length) }
    }

    @inline(never)
    private mutating func grow(_ length: Int) {
        capacity = max(count + length, capacity * 2)
        let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
        larger.copyMemory(from: storage, byteCount: count)
        storage.deallocate()
        storage = larger
    }

    @inline(__always)
    private mutating func putByte(_ byte: UInt8) {
        storage.storeBytes(of: byte, toByteOffset: count, as: UInt8.self)
        count += 1
    }

    @inline(__always)
    private mutating func put(_ text: StaticString) {
        (storage + count).copyMemory(from: text.utf8Start, byteCount: text.utf8CodeUnitCount)
        count += text.utf8CodeUnitCount
    }

    @inline(__always)
    private mutating func put(_ source: UnsafeRawBufferPointer) {
        guard let start = source.baseAddress else { return }
        (storage + count).copyMemory(from: start, byteCount: source.count)
        count += source.count
    }

    @inline(__always)
    private mutating func putEntryPart() {
        entryPart.withUnsafeBytes { part in
            (storage + count).copyMemory(from: part.baseAddress!, byteCount: part.count)
        }
        count += entryPart.count
    }

    @inline(__always)
    private mutating func putEscaped(_ source: UnsafeRawBufferPointer) {
        guard let start = source.baseAddress else { return }
        var offset = 0
        while offset < source.count {
            let length = min(source.count - offset, Self.sliceBytes)
            reserve(length * JSONEscape.largestExpansion + JSONEscape.slack)
            count += JSONEscape.escape(start + offset, count: length, into: storage + count, scratch: scratch)
            offset += length
        }
    }

    @inline(__always)
    private mutating func putDecimal(_ number: Int64) {
        if number < 0 { putByte(0x2D) }
        var rest = number.magnitude
        var length = 1
        var bound = rest / 10
        while bound > 0 {
            length += 1
            bound /= 10
        }
        for index in stride(from: count + length - 1, through: count, by: -1) {
            storage.storeBytes(of: 0x30 + UInt8(truncatingIfNeeded: rest % 10), toByteOffset: index, as: UInt8.self)
            rest /= 10
        }
        count += length
    }
}
