import IngestCore
import TestSupport
import Testing

@Suite struct EntryFormatTests {
    /// An entry as the journal writes it, without the checksum.
    private func entry(_ events: EventBuffer, origin: EventOrigin, first: UInt64 = 7) -> [UInt8] {
        var bytes = [UInt8](
            repeating: 0xAA, count: EntryView.headerLength + EntryView.sourceLength(of: origin) + events.byteCount)
        bytes.withUnsafeMutableBytes { target in
            let start = EntryView.writeHeader(
                into: target, origin: origin, eventCount: events.eventCount, firstSequence: first, receivedAt: 1234)
            UnsafeMutableRawBufferPointer(rebasing: target[start...]).copyMemory(from: events.records)
        }
        return bytes
    }

    @Test func httpEventsComeBackAsTheyWere() throws {
        let events = EventBuffer()
        let payload = Array(#"{"event_id":"abc","v":1}"#.utf8)
        payload.withUnsafeBytes {
            events.append(payload: $0, id: .payloadSlice(offset: 13, length: 3))
            events.append(payload: $0, id: .derived)
        }
        Array("other\"id".utf8).withUnsafeBytes { id in
            payload.withUnsafeBytes { events.append(payload: $0, id: .stored, storedID: id) }
        }
        try entry(events, origin: .http).withUnsafeBytes { bytes in
            let view = try EntryView(bytes)
            #expect(view.source == .http && view.eventCount == 3 && view.receivedAt == 1234)
            #expect(view.sequences == 7..<10)
            var cursor = view.events
            let first = try #require(try cursor.next())
            #expect(String(decoding: first.explicitID!, as: UTF8.self) == "abc")
            #expect(first.payload.elementsEqual(payload) && first.kafka == nil && first.sequence == 7)
            #expect(try cursor.next()?.explicitID == nil)
            let position = cursor.position
            let third = try #require(try cursor.next())
            #expect(String(decoding: third.explicitID!, as: UTF8.self) == "other\"id")
            #expect(try cursor.next() == nil)
            var resumed = EventCursor(view, at: position)
            #expect(try resumed.next()?.sequence == 9)
        }
    }

    @Test func kafkaMetadataComesBackAsItWas() throws {
        let events = EventBuffer()
        let key = Array("k1".utf8)
        let headers: [UInt8] = [1, 0, 1, 0, 0, 0, 65, 66]
        let payload = Array("{}".utf8)
        payload.withUnsafeBytes { payload in
            key.withUnsafeBytes { key in
                headers.withUnsafeBytes { headers in
                    events.append(
                        payload: payload, id: .derived,
                        kafka: KafkaMetadata(offset: 41, timestamp: 99, key: key, headers: headers))
                }
            }
        }
        events.append("{\"a\":1}", kafka: 43)
        let partition = TopicPartition(topic: "événements", partition: 3)
        try entry(events, origin: .kafka(partition, offsets: 40..<44)).withUnsafeBytes { bytes in
            let view = try EntryView(bytes)
            #expect(String(decoding: view.kafka!.topic, as: UTF8.self) == "événements")
            #expect(view.kafka!.partition == 3 && view.kafka!.offsets == 40..<44)
            var cursor = view.events
            let first = try #require(try cursor.next())
            #expect(first.kafka!.offset == 41 && first.kafka!.timestamp == 99)
            #expect(first.kafka!.key!.elementsEqual(key) && first.headers.elementsEqual(headers))
            let second = try #require(try cursor.next())
            #expect(second.kafka!.key == nil && second.kafka!.timestamp == -1)
        }
    }

    /// Whatever is in the bytes, decoding ends with events or an error, and never reads outside of them.
    @Test func damagedEntriesAreErrors() throws {
        let events = EventBuffer(payloads: ["{\"a\":1}", "{\"b\":2}"])
        events.append("{\"c\":3}", kafka: 5)
        let good = entry(events, origin: .kafka(TopicPartition(topic: "t", partition: 0), offsets: 0..<9))
        func decode(_ bytes: [UInt8]) -> Int? {
            // A copy of exactly this size, so that a read beyond it is one that a sanitizer sees.
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
            defer { copy.deallocate() }
            copy.copyBytes(from: bytes)
            do {
                var cursor = try EntryView(UnsafeRawBufferPointer(copy)).events
                var count = 0
                while try cursor.next() != nil { count += 1 }
                return count
            } catch {
                return nil
            }
        }
        #expect(decode(good) == 3)
        for length in 0..<good.count { #expect(decode(Array(good[..<length])) == nil) }
        var random = SystemRandomNumberGenerator()
        for position in good.indices where !(16..<32).contains(position) && position >= 8 {
            var bad = good
            bad[position] ^= UInt8.random(in: 1...255, using: &random)
            _ = decode(bad)
        }
        #expect(decode(good + [0]) == nil)
    }

    @Test func derivedIDIsLowerCaseHexSHA256() {
        let id = Array("{\"a\":1}".utf8).withUnsafeBytes { EventID.derive(from: $0) }
        // From `printf '{"a":1}' | sha256sum`.
        #expect(id == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862")
    }
}
