import EventJSON
import IngestCore
import Testing

/// A second field that holds the id where the first one does not.
@Suite struct FallbackIDTests {
    private let scanner = EventScanner(eventIDField: "event_id", fallbackIDField: "id")

    private func id(_ text: String) throws -> String? {
        try Array(text.utf8).withUnsafeBytes { bytes in
            let event = try scanner.scan(bytes)
            switch event.id {
            case .derived: return nil
            case .payloadSlice(let offset, let length):
                return String(decoding: bytes[offset..<(offset + length)], as: UTF8.self)
            case .stored: return String(decoding: event.storedID!, as: UTF8.self)
            }
        }
    }

    private func problem(_ text: String) throws -> InvalidEvent {
        try #require(throws: InvalidEvent.self) { try id(text) }
    }

    @Test func standsInForTheFirst() throws {
        #expect(try id(#"{"id":"a"}"#) == "a")
        #expect(try id(#"{"x":{"id":"no","event_id":"no"}, "id" : 17 }"#) == "17")
        #expect(try id(#"{"event_id":null,"id":"a"}"#) == "a")
        #expect(try id(#"{"id":"a\n","event_id":null}"#) == "a\n")
        #expect(try id(#"{"\u0069d":"a"}"#) == "a")
        for text in ["{}", #"{"id":null}"#, #"{"event_id":null,"id":null}"#, #"{"idx":1,"i":2}"#] {
            #expect(try id(text) == nil, "\(text)")
        }
    }

    @Test func countsOnlyWithoutTheFirst() throws {
        for other in [#""b""#, "1.5", "{}", #""""#, "null", #""b","id":"c""#] {
            #expect(try id(#"{"event_id":"a","id":\#(other)}"#) == "a")
            #expect(try id(#"{"id":\#(other),"event_id":"a"}"#) == "a")
        }
    }

    @Test func hasTheSameRules() throws {
        let empty = try problem(#"{"event_id":null,"id":""}"#)
        #expect(empty.kind == "invalid_event_id" && empty.message.contains(#""id""#) && empty.byteOffset == 23)
        #expect(try problem(#"{"id":1.5}"#).kind == "invalid_event_id")
        let long = String(repeating: "x", count: Limits.eventIDBytes + 1)
        #expect(try problem(#"{"id":"\#(long)"}"#).message.contains("longer than"))
        let twice = try problem(#"{"id":"a","id":"a"}"#)
        #expect(twice.kind == "duplicate_key" && twice.message.contains(#""id""#) && twice.byteOffset == 10)
        // What is wrong with the first field is told of the first field.
        #expect(try problem(#"{"event_id":1.5,"id":"a"}"#).message.contains(#""event_id""#))
        #expect(try problem(#"{"event_id":null,"id":"a","event_id":null}"#).kind == "duplicate_key")
    }

    @Test func worksInBodies() throws {
        let body = Array("{\"id\":\"a\"}\n{\"id\":\"b\",\"event_id\":\"c\"}\n{\"id\":\"d\",\"n\":01}\n{}\n".utf8)
        let buffer = EventBuffer()
        let report = body.withUnsafeBytes { scanner.appendEvents(of: $0, format: .ndjson, to: buffer) }
        #expect(try BufferedEvent.all(in: buffer).map(\.id) == ["a", "c", nil])
        #expect(report.problems.map(\.eventID) == ["d"])
    }

    @Test func sizeIsBoundedAsAsked() throws {
        let small = EventScanner(eventIDField: "event_id", maxEventBytes: 20)
        let buffer = EventBuffer()
        for format in [BodyFormat.ndjson, .json] {
            let (fits, large) = (#"{"a":"0123456789ab"}"#, #"{"a":"0123456789abc"}"#)
            let text = format == .json ? "[\(fits),\(large),{}]" : "\(fits)\n\(large)\n{}"
            let report = Array(text.utf8).withUnsafeBytes { small.appendEvents(of: $0, format: format, to: buffer) }
            #expect(report.accepted == 2)
            #expect(report.problems.map(\.error.kind) == ["too_large"])
            #expect(report.problems.first?.error.message == "larger than 20 bytes")
        }
    }
}
