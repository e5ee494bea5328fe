import IngestCore

/// What all benchmarks work on: events of 217 bytes that differ in their ids only.
enum Sample {
    /// Events of a body, and of an entry.
    static let count = 1_000
    /// Where the id is in `event`.
    static let id = EventIDLocation.payloadSlice(offset: 13, length: 16)
    /// One event.
    static let event = make(0)
    /// `count` events, one a line.
    static let body: [UInt8] = (0..<count).reduce(into: []) { $0 += make($1) + [0x0A] }

    private static func make(_ number: Int) -> [UInt8] {
        let digits = String(number)
        let head =
            "{\"event_id\":\"micro-" + String(repeating: "0", count: 10 - digits.utf8.count) + digits
            + "\",\"type\":\"page_view\",\"user\":{\"id\":48151623,\"plan\":\"pro\"},"
            + "\"path\":\"/docs/getting-started\",\"ms\":37,\"note\":\""
        let words = String(repeating: "lorem ipsum dolor sit amet ", count: 8)
        return Array((head + words.prefix(217 - head.utf8.count - 2) + "\"}").utf8)
    }

    /// `count` events as records.
    static func records() -> EventBuffer {
        let buffer = EventBuffer(capacity: 512 << 10)
        event.withUnsafeBytes { event in
            for _ in 0..<count { buffer.append(payload: event, id: id) }
        }
        return buffer
    }

    /// `records` as an entry, as the journal packs it but for the checksum, which is the journal's.
    static func pack(_ records: EventBuffer, into target: UnsafeMutableRawBufferPointer) {
        let offset = EntryView.writeHeader(
            into: target, origin: .http, eventCount: records.eventCount, firstSequence: 1,
            receivedAt: 1_700_000_000_000)
        UnsafeMutableRawBufferPointer(rebasing: target[offset...]).copyMemory(from: records.records)
    }

    /// Memory for the entry of `records`.
    static func room(for records: EventBuffer) -> UnsafeMutableRawBufferPointer {
        .allocate(byteCount: EntryView.headerLength + records.byteCount, alignment: 16)
    }

    /// An entry of `count` events; whoever asks frees its bytes.
    static func entry() throws -> EntryView {
        let records = records()
        let room = room(for: records)
        pack(records, into: room)
        return try EntryView(UnsafeRawBufferPointer(room))
    }
}
