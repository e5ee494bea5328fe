import IngestCore

/// An event as it stands in a buffer, read back through the entry format.
struct BufferedEvent {
    let payload: String
    let id: String?

    static func all(in buffer: EventBuffer) throws -> [BufferedEvent] {
        guard buffer.eventCount > 0 else { return [] }
        let length = EntryView.headerLength + buffer.byteCount
        let entry = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 16)
        defer { entry.deallocate() }
        let start = EntryView.writeHeader(
            into: entry, origin: .http, eventCount: buffer.eventCount, firstSequence: 0, receivedAt: 0)
        UnsafeMutableRawBufferPointer(rebasing: entry[start...]).copyMemory(from: buffer.records)
        var cursor = try EntryView(UnsafeRawBufferPointer(entry)).events
        var events: [BufferedEvent] = []
        while let event = try cursor.next() {
            events.append(
                BufferedEvent(
                    payload: String(decoding: event.payload, as: UTF8.self),
                    id: event.explicitID.map { String(decoding: $0, as: UTF8.self) }))
        }
        return events
    }
}

/// SplitMix64: small, good enough, and the same everywhere.
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}
