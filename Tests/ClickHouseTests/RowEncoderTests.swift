import Foundation
import IngestCore
import TestSupport
import Testing

@testable import ClickHouse

struct RowEncoderTests {
    /// All rows of a batch, encoded with a buffer that starts small and in runs of `eventsPerRun`.
    private func rows(
        _ batch: ClickHouseTestBatch, _ mode: RowMode, eventsPerRun: Int = .max, limit: Int = .max
    ) throws -> [UInt8] {
        var encoder = RowEncoder(mode: mode, capacity: 256)
        let reader = batch.makeReader(eventsPerRun: eventsPerRun)
        var rows: [UInt8] = []
        var count = 0
        while try reader.read({ run in
            count += try encoder.append(&run, until: limit)
            rows += encoder.bytes
            encoder.removeFirst(encoder.count)
        }) {}
        #expect(count == batch.rowCount)
        return rows
    }

    private func objects(_ rows: [UInt8]) throws -> [[String: Any]] {
        #expect(rows.last == 0x0A)
        return try rows.split(separator: 0x0A).map {
            try #require(try JSONSerialization.jsonObject(with: Data($0)) as? [String: Any])
        }
    }

    @Test func envelopeOfAnHTTPEvent() throws {
        let batch = ClickHouseTestBatch([ClickHouseTestEvent(#"{"a":"b"}"#)])
        let expected =
            #"{"event_id":"\#(EventID.derive(from: Array(#"{"a":"b"}"#.utf8)))","#
            + #""payload":"{\"a\":\"b\"}","source":"http","received_at":"2026-11-23T01:40:00.123Z"}"# + "\n"
        #expect(String(decoding: try rows(batch, .envelope), as: UTF8.self) == expected)
    }

    @Test func envelopeOfAKafkaEvent() throws {
        let batch = ClickHouseTestBatch(
            [
                ClickHouseTestEvent(
                    payload: Array(#"{"event_id":"x-1"}"#.utf8), id: .payloadSlice(offset: 13, length: 3),
                    kafka: (offset: 9_007_199_254_740_993, key: Array("user \"7\"".utf8))),
                ClickHouseTestEvent(
                    payload: Array("{}".utf8), id: .stored, storedID: Array("a\"b\\c\n".utf8),
                    kafka: (offset: 0, key: nil)),
                ClickHouseTestEvent(
                    payload: Array("{}".utf8), id: .stored, storedID: [0x31], kafka: (offset: 10, key: [])),
            ], origin: .kafka(TopicPartition(topic: "a\"b", partition: 12), offsets: 0..<100))
        let text = String(decoding: try rows(batch, .envelope), as: UTF8.self)
        let common = #""source":"kafka","received_at":"2026-11-23T01:40:00.123Z","partition":12,"topic":"a\"b""#
        #expect(
            text == """
                {"event_id":"x-1","payload":"{\\"event_id\\":\\"x-1\\"}",\(common),"offset":9007199254740993,\
                "key":"user \\"7\\""}
                {"event_id":"a\\"b\\\\c\\n","payload":"{}",\(common),"offset":0}
                {"event_id":"1","payload":"{}",\(common),"offset":10,"key":""}

                """)
    }

    @Test func envelopesHoldTheTrace() throws {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        // Of a later version, with what JSON can't hold as it is.
        let odd = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-\"\\"
        func events(_ kafka: (offset: Int64, key: [UInt8]?)?) -> [ClickHouseTestEvent] {
            [text, odd, nil].map {
                ClickHouseTestEvent(
                    payload: Array("{}".utf8), id: .stored, storedID: [0x31], kafka: kafka,
                    traceparent: $0.flatMap(TraceParent.init))
            }
        }
        let http = String(decoding: try rows(ClickHouseTestBatch(events(nil)), .envelope), as: UTF8.self)
        let row = #"{"event_id":"1","payload":"{}","source":"http","received_at":"2026-11-23T01:40:00.123Z""#
        let oddInJSON = odd.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
        #expect(
            http == row + #","traceparent":"\#(text)"}"# + "\n" + row + #","traceparent":"\#(oddInJSON)"}"# + "\n"
                + row + "}\n")
        let origin = EventOrigin.kafka(TopicPartition(topic: "t", partition: 0), offsets: 0..<9)
        let kafka = String(
            decoding: try rows(ClickHouseTestBatch(events((5, [0x6B])), origin: origin), .envelope), as: UTF8.self)
        #expect(
            kafka.split(separator: "\n").first?.hasSuffix(#","offset":5,"key":"k","traceparent":"\#(text)"}"#) == true)
        #expect(kafka.hasSuffix(#","offset":5,"key":"k"}"# + "\n"))
        #expect(try rows(ClickHouseTestBatch(events(nil)), .flat) == Array("{}\n{}\n{}\n".utf8))
    }

    @Test func flatRowsAreThePayloads() throws {
        let batch = ClickHouseTestBatch(delicatePayloads.map { ClickHouseTestEvent($0) }, eventsPerEntry: 3)
        #expect(
            String(decoding: try rows(batch, .flat, limit: 1), as: UTF8.self)
                == delicatePayloads.map { $0 + "\n" }.joined())
    }

    @Test func delicatePayloadsComeBackFromFoundation() throws {
        // Foundation loses a byte order mark within a string; real servers do not (InsertTests).
        let payloads = delicatePayloads.map { $0.replacing("\u{FEFF}", with: "") }
        let batch = ClickHouseTestBatch(payloads.map { ClickHouseTestEvent($0) }, eventsPerEntry: 4)
        let objects = try objects(try rows(batch, .envelope))
        #expect(objects.map { $0["payload"] as? String } == payloads)
        #expect(objects.map { $0["event_id"] as? String } == payloads.map { EventID.derive(from: Array($0.utf8)) })
    }

    @Test(arguments: [1, 2, 3, 4])
    func anyBytesComeBack(seed: UInt64) throws {
        var random = SeededGenerator(state: seed)
        // Bytes that need escapes are frequent; all others occur too. Lengths around the word size matter most.
        let frequent: [UInt8] = [0x22, 0x5C, 0x0A, 0x00, 0x1F, 0x20, 0x7F, 0x80, 0xFF, 0x61]
        var events: [ClickHouseTestEvent] = []
        for index in 0..<2_000 {
            func bytes(_ length: Int) -> [UInt8] {
                (0..<length).map { _ in
                    Bool.random(using: &random)
                        ? frequent.randomElement(using: &random)! : UInt8.random(in: 0...255, using: &random)
                }
            }
            let length = index % 50 == 0 ? Int.random(in: 0...20_000, using: &random) : index % 70
            events.append(
                ClickHouseTestEvent(
                    payload: bytes(length), id: .stored, storedID: bytes(Int.random(in: 0...40, using: &random)),
                    kafka: (offset: Int64.random(in: 0...Int64.max, using: &random), key: bytes(index % 33))))
        }
        let batch = ClickHouseTestBatch(
            events, origin: .kafka(TopicPartition(topic: "t", partition: 0), offsets: 0..<1), eventsPerEntry: 333)
        let lines = try rows(batch, .envelope, eventsPerRun: 100, limit: 4_096)
            .split(separator: 0x0A, omittingEmptySubsequences: true)
        try #require(lines.count == events.count)
        for (line, event) in zip(lines, events) {
            #expect(try unescaped(try field("event_id", line)) == event.storedID)
            #expect(try unescaped(try field("payload", line)) == event.payload)
            #expect(try unescaped(try field("key", line)) == event.kafka!.key)
            #expect(String(decoding: line, as: UTF8.self).contains(#""offset":\#(event.kafka!.offset),"#))
        }
    }

    /// The raw value of a string field.
    private func field(_ name: String, _ line: ArraySlice<UInt8>) throws -> ArraySlice<UInt8> {
        let start = try #require(line.firstRange(of: Array("\"\(name)\":\"".utf8))).upperBound
        var end = start
        while line[end] != 0x22 { end += line[end] == 0x5C ? 2 : 1 }
        return line[start..<end]
    }

    @Test func stopsAtTheLimitAndGoesOn() throws {
        let batch = ClickHouseTestBatch.numbered(100)
        var encoder = RowEncoder(mode: .flat, capacity: 256)
        let reader = batch.makeReader()
        var runs = 0
        var rows = 0
        while try reader.read({ run in
            let taken = try encoder.append(&run, until: encoder.count + 1_000)
            #expect(taken > 0 && taken < 20)
            rows += taken
            runs += 1
        }) {}
        #expect(rows == 100)
        #expect(runs > 5)
        #expect(encoder.bytes.count { $0 == 0x0A } == 100)
    }

    @Test func removesFromTheFrontAndResets() throws {
        var encoder = RowEncoder(mode: .flat)
        _ = try ClickHouseTestBatch([ClickHouseTestEvent(#"{"a":1}"#)]).makeReader().read { run in
            _ = try encoder.append(&run, until: 100)
        }
        encoder.removeFirst(5)
        #expect(Array(encoder.bytes) == Array("1}\n".utf8))
        encoder.reset()
        #expect(encoder.count == 0)
    }
}

struct TimestampTests {
    @Test(arguments: [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_795_398_000_123, "2026-11-23T01:40:00.123Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (Int64.max, "9999-12-31T23:59:59.999Z"),
        (Int64.min, "0001-01-01T00:00:00.000Z"),
    ])
    func isISO8601(milliseconds: Int64, text: String) {
        #expect(Timestamp.iso8601(milliseconds: milliseconds) == text)
    }

    @Test func agreesWithFoundation() {
        var random = SeededGenerator(state: 7)
        let style = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
        for _ in 0..<2_000 {
            let seconds = Int64.random(in: -10_000_000_000...100_000_000_000, using: &random)
            #expect(
                Timestamp.iso8601(milliseconds: seconds * 1_000)
                    == Date(timeIntervalSince1970: Double(seconds)).formatted(style))
        }
    }
}

extension EventID {
    static func derive(from bytes: [UInt8]) -> String { bytes.withUnsafeBytes { derive(from: $0) } }
}
