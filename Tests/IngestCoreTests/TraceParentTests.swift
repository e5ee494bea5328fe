import IngestCore
import TestSupport
import Testing

@Suite struct TraceParentTests {
    private static let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    private static let other = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"

    @Test(arguments: [
        valid, other, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff",
        // Later versions can have more behind, which is kept as well.
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-will-be-like",
        "fe-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-\"\\",
        valid.replacing("00-0", with: "0f-0") + "-" + String(repeating: "x", count: 200),
    ])
    func validOnesComeBackAsTheyWere(text: String) throws {
        let trace = try #require(TraceParent(text))
        #expect(trace.text == text)
        #expect(found(in: trace.headers) == text)
        #expect(trace.headers.count == 17 + text.utf8.count)
    }

    @Test(arguments: [
        "", "00", String(valid.dropLast()), valid + "-", valid + "0", " " + valid, valid + "\n",
        valid.uppercased(), valid.replacing("0a", with: "0A"), valid.replacing("0a", with: "0g"),
        valid.replacing("-01", with: "-0x"), valid.replacing("-", with: "_"), valid + "," + valid,
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-é",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-a b",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-" + String(repeating: "x", count: 201),
        // The shape of the standard with every letter of it, but not its text.
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331é1",
    ])
    func whatIsNotValidIsNone(text: String) {
        #expect(TraceParent(text) == nil)
        #expect(found(in: headers(("traceparent", text))) == nil)
    }

    @Test func isFoundAmongOthers() {
        let (valid, other) = (Self.valid, Self.other)
        #expect(found(in: headers()) == nil)
        #expect(found(in: headers(("a", "b"), ("traceparent", valid), ("tracestate", "x=y"))) == valid)
        #expect(found(in: headers(("traceparent", nil), ("", nil), ("traceparent", valid))) == valid)
        // The first valid one, and that of a CloudEvent before it.
        #expect(found(in: headers(("traceparent", "no"), ("traceparent", valid), ("traceparent", other))) == valid)
        #expect(found(in: headers(("traceparent", valid), ("ce_traceparent", other))) == other)
        #expect(found(in: headers(("traceparent", valid), ("ce_traceparent", "no"))) == valid)
        // Names of as many letters, and other cases: Kafka's are exact.
        #expect(found(in: headers(("tracechild1", valid), ("Traceparent", valid), ("ce-traceparent", valid))) == nil)
    }

    @Test func malformedHeadersEndTheSearch() {
        let good = headers(("traceparent", Self.valid))
        for length in 0..<good.count { #expect(found(in: Array(good[..<length])) == nil) }
        for position in 0..<6 {
            for byte in [UInt8(0x7F), 0xFF] {
                var bad = good
                bad[position] = byte
                #expect(found(in: bad) == nil || position >= 2)
            }
        }
        #expect(found(in: [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]) == nil)
    }

    // MARK: In entries

    /// The bytes that every version has written for an event from HTTP without anything beside it.
    private static let plainEntry: [UInt8] =
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0xD2, 4, 0, 0, 0, 0, 0, 0]
        + [59, 0, 0, 0, 0, 0, 0, 0] + [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] + Array(#"{"a":1}"#.utf8)

    @Test func anEventWithoutOneIsWrittenAsEver() throws {
        let events = EventBuffer()
        events.append(#"{"a":1}"#)
        #expect(entry(events) == Self.plainEntry)
        try Self.plainEntry.withUnsafeBytes { bytes in
            var cursor = try EntryView(bytes).events
            let event = try #require(try cursor.next())
            #expect(event.traceparent == nil && event.headers.isEmpty && event.kafka == nil)
            #expect(event.payload.elementsEqual(#"{"a":1}"#.utf8))
        }
    }

    /// Requests that share an entry keep what is theirs.
    @Test func eventsWithAndWithoutStandSideBySide() throws {
        let events = EventBuffer()
        let traces = [nil, Self.valid, Self.valid, nil, Self.other]
        for (index, trace) in traces.enumerated() {
            let payload = Array(#"{"n":\#(index)}"#.utf8)
            payload.withUnsafeBytes { payload in
                (trace.flatMap(TraceParent.init)?.headers ?? []).withUnsafeBytes { headers in
                    events.append(
                        payload: payload, id: .payloadSlice(offset: 5, length: 1),
                        kafka: trace == nil ? nil : .headersOnly(headers))
                }
            }
        }
        #expect(EventRecord.kafkaOffset(at: events.records) == nil)
        try entry(events).withUnsafeBytes { bytes in
            #expect(bytes.count == 40 + 5 * (12 + 7) + 3 * 96)
            let view = try EntryView(bytes)
            #expect(view.source == .http && view.kafka == nil)
            var cursor = view.events
            for (index, trace) in traces.enumerated() {
                let event = try #require(try cursor.next())
                #expect(event.traceparent.map { String(decoding: $0, as: UTF8.self) } == trace)
                #expect(event.kafka == nil, "no message of Kafka")
                #expect(event.explicitID?.elementsEqual("\(index)".utf8) == true)
            }
            #expect(try cursor.next() == nil)
        }
        let traced = UnsafeRawBufferPointer(rebasing: events.records[(12 + 7)...])
        #expect(EventRecord.length(at: traced) == 12 + 7 + 96 && EventRecord.kafkaOffset(at: traced) == nil)
    }

    private func entry(_ events: EventBuffer) -> [UInt8] {
        var bytes = [UInt8](repeating: 0xAA, count: EntryView.headerLength + events.byteCount)
        bytes.withUnsafeMutableBytes { target in
            let start = EntryView.writeHeader(
                into: target, origin: .http, eventCount: events.eventCount, firstSequence: 7, receivedAt: 1234)
            UnsafeMutableRawBufferPointer(rebasing: target[start...]).copyMemory(from: events.records)
        }
        return bytes
    }

    /// Headers in the entry format's encoding, written down independently.
    private func headers(_ headers: (name: String, value: String?)...) -> [UInt8] {
        var bytes: [UInt8] = []
        for (name, value) in headers {
            let length = value.map { Int32($0.utf8.count) } ?? -1
            bytes += [UInt8(name.utf8.count), 0]
            bytes += (0..<4).map { (byte: Int) -> UInt8 in UInt8(truncatingIfNeeded: length >> (8 * byte)) }
            bytes += Array(name.utf8)
            bytes += Array((value ?? "").utf8)
        }
        return bytes
    }

    private func found(in headers: [UInt8]) -> String? {
        // A copy of exactly this size, so that a read beyond it is one that a sanitizer sees.
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: headers.count, alignment: 1)
        defer { copy.deallocate() }
        copy.copyBytes(from: headers)
        return TraceParent.find(in: UnsafeRawBufferPointer(copy)).map { String(decoding: $0, as: UTF8.self) }
    }
}
