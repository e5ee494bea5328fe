import EventJSON
import IngestCore
import Testing

/// One event at a time: what is an event, and where its id is.
@Suite struct ScanTests {
    private let scanner = EventScanner(eventIDField: "event_id")

    private func scan(_ text: String) throws -> (id: EventIDLocation, text: String?) {
        try scan(Array(text.utf8))
    }

    private func scan(_ bytes: [UInt8]) throws -> (id: EventIDLocation, text: String?) {
        try bytes.withUnsafeBytes { bytes in
            let event = try scanner.scan(bytes)
            switch event.id {
            case .derived: return (event.id, nil)
            case .payloadSlice(let offset, let length):
                return (event.id, String(decoding: bytes[offset..<(offset + length)], as: UTF8.self))
            case .stored: return (event.id, String(decoding: event.storedID!, as: UTF8.self))
            }
        }
    }

    private func problem(_ text: String) -> InvalidEvent? { problem(Array(text.utf8)) }

    private func problem(_ bytes: [UInt8]) -> InvalidEvent? {
        do {
            _ = try scan(bytes)
            return nil
        } catch { return error as? InvalidEvent }
    }

    @Test(arguments: [
        "{}", " \t\r\n{} \n", #"{"a":1}"#, #"{"a":[]}"#, #"{"a":[1,2,{"b":[[]]}],"c":{}}"#,
        #"{"a":-0,"b":0.5e-7,"c":1E+9,"d":[-1.25,0]}"#, #"{"a":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}"#,
        #"{"":""}"#, "{\"\u{7f}\":\"é😀\u{2028}\"}", #"{ "a" : true , "b" : [ false , null ] }"#,
        // Numbers that fit neither 64 bits nor a double.
        #"{"a":123456789012345678901234567890123456789,"b":1e400,"c":-1e-400,"d":0.1234567890123456789012345}"#,
        #"{"a":1,"a":2}"#,
    ])
    func acceptsOneObject(text: String) throws {
        #expect(try scan(text).id == .derived)
    }

    @Test(arguments: [
        "", " ", "{", "}", "{]", "[}", #"{"a"}"#, #"{"a":}"#, #"{"a":1,}"#, "{,}", #"{"a":1 "b":2}"#, #"{"a" 1}"#,
        "{a:1}", "{'a':1}", "{1:2}", #"{"a":01}"#, #"{"a":-}"#, #"{"a":1.}"#, #"{"a":.5}"#, #"{"a":1e}"#,
        #"{"a":1e+}"#, #"{"a":+1}"#, #"{"a":0x1}"#, #"{"a":1_0}"#, #"{"a":NaN}"#, #"{"a":Infinity}"#,
        #"{"a":-Infinity}"#, #"{"a":tru}"#, #"{"a":truex}"#, #"{"a":nulll}"#, #"{"a":True}"#, #"{"a":true"b":1}"#,
        #"{"a":1"b":1}"#, #"{"a":"x"y}"#, #"{"a":"x""#, #"{"a":"x}"#, #"{"a":"\x"}"#, #"{"a":"\u12"}"#,
        #"{"a":"\u12g4"}"#, #"{"a":"\ud800"}"#, #"{"a":"\udc00"}"#, #"{"a":"\ud800\u0041"}"#, #"{"a":"\ud800x"}"#,
        #"{"a":"\"}"#, "{\"a\":\"\n\"}", "{\"a\":\"\u{1}\"}", "{\"a\":\u{b}1}", "{\"a\":\u{a0}1}", #"{\"a":1}"#,
        #"{"a"\:1}"#, #"{"a":1\}"#, #"{"a":[1}"#, #"{"a":[1,]}"#, #"{"a":[,1]}"#, #"{"a":[1 2]}"#, #"{"a":{"b":1}"#,
        // More than one value.
        "{}{}", "{} {}", "{},", "{};", "{}\n{}", #"{"a":1}x"#, #"{"a":1}]"#, #"{}"a""#, "{}null", "{}\u{0}",
        "\u{feff}{}", "//\n{}", "{}//", "{/**/}",
    ])
    func rejectsInvalidJSON(text: String) {
        #expect(problem(text)?.kind == "invalid_json")
    }

    @Test(
        arguments: [
            [0x22, 0xff, 0x22], [0x22, 0xc3, 0x22], [0x22, 0xc0, 0x80, 0x22], [0x22, 0xed, 0xa0, 0x80, 0x22],
            [0x22, 0xf5, 0x80, 0x80, 0x80, 0x22], [0xc3, 0xa9], [0x22, 0x00, 0x22], [0x00],
        ] as [[UInt8]])
    func rejectsBytesThatAreNotText(value: [UInt8]) {
        #expect(problem(Array(#"{"a":"#.utf8) + value + [0x7d])?.kind == "invalid_json")
    }

    @Test(arguments: ["[]", "[{}]", "1", "-1.5", #""text""#, "true", "null", " [ 1 ] "])
    func rejectsValuesThatAreNoObject(text: String) {
        #expect(problem(text)?.kind == "not_an_object")
    }

    @Test func tellsWhereTheGrammarBreaks() {
        #expect(problem(#"{"a":1,"b":01}"#)?.byteOffset == 11)
        #expect(problem(#"  {"a":1 "b":2}"#)?.byteOffset == 9)
        #expect(problem(#"{"a":"0123\x"}"#)?.byteOffset == 10)
        #expect(problem(#"{"a":1} {"#)?.byteOffset == 8)
        #expect(problem(#"{"a":[1,2"#)?.byteOffset == 9)
    }

    /// What simdjson finds without telling where.
    @Test func tellsWhereStringsBreak() {
        #expect(problem("{\"a\":\"0\\\"1\n\"}")?.byteOffset == 10)
        #expect(problem("{\n\"a\":\"0\\\n\"}")?.byteOffset == 9)
        #expect(problem(#"{"a":"b","c":"d\\\"}"#)?.byteOffset == 13)
        for (bytes, offset) in [
            ([0x22, 0x61, 0xff, 0x22], 2), ([0x22, 0xc3, 0xa9, 0xe2, 0x82, 0x22], 3),
            ([0x22, 0xed, 0xa0, 0x80, 0x22], 1),
            ([0x22, 0xf4, 0x90, 0x80, 0x80, 0x22], 1), ([0x22, 0xc0, 0x80, 0x22], 1),
            ([0x22, 0xe0, 0x9f, 0xbf, 0x22], 1),
            ([0x22, 0xf0, 0x9f, 0x98, 0x80, 0xf5, 0x22], 5), ([0x80], 0),
        ] as [([UInt8], Int)] {
            #expect(problem(Array(#"{"a":"#.utf8) + bytes)?.byteOffset == 5 + offset, "\(bytes)")
        }
        // A line and an element, each by itself.
        for body in ["{}\n{\"a\":\"\t\"}\n{}", "[{},{\"a\":\"\t\"},{}]"] {
            let report = Array(body.utf8).withUnsafeBytes {
                scanner.appendEvents(of: $0, format: .detect, to: EventBuffer())
            }
            let tab = body.utf8.firstIndex(of: 9).map { body.utf8.distance(from: body.utf8.startIndex, to: $0) }
            #expect(report.problems.map(\.error.byteOffset) == [tab])
        }
    }

    @Test func limitsDepth() throws {
        func nested(_ depth: Int) -> String {
            #"{"a":"# + String(repeating: "[", count: depth - 1) + String(repeating: "]", count: depth - 1) + "}"
        }
        #expect(try scan(nested(Limits.jsonDepth)).id == .derived)
        #expect(problem(nested(Limits.jsonDepth + 1))?.kind == "invalid_json")
    }

    @Test func limitsSize() throws {
        func event(_ size: Int) -> [UInt8] {
            Array(#"{"a":""#.utf8) + [UInt8](repeating: 0x61, count: size - 8) + Array(#""}"#.utf8)
        }
        #expect(try scan(event(Limits.eventBytes)).id == .derived)
        #expect(problem(event(Limits.eventBytes + 1))?.kind == "too_large")
    }

    // MARK: Event ids

    @Test func findsIDAsWritten() throws {
        #expect(try scan(#"{"event_id":"abc"}"#).id == .payloadSlice(offset: 13, length: 3))
        #expect(try scan(#"  {"event_id":"abc"}"#).id == .payloadSlice(offset: 15, length: 3))
        #expect(try scan(#"{"x":{"event_id":"no"},"event_id" : "é😀" ,"y":1}"#).text == "é😀")
        #expect(try scan(#"{"event_id":42}"#).text == "42")
        #expect(try scan(#"{"event_id":-0 }"#).text == "-0")
        let large = "123456789012345678901234567890"
        #expect(try scan(#"{"event_id":\#(large)}"#).text == large)
        // A backslash elsewhere makes no difference.
        #expect(try scan(#"{"a\n":"\\","event_id":"abc","b":"\""}"#).id == .payloadSlice(offset: 24, length: 3))
    }

    @Test func unescapesID() throws {
        let escaped = try scan(#"{"event_id":"a\"\\\/\b\f\n\r\t\u0041\u00e9\u20ac\ud83d\ude00z"}"#)
        #expect(escaped.id == .stored)
        #expect(escaped.text == "a\"\\/\u{8}\u{c}\n\r\tAé€😀z")
        #expect(try scan(#"{"event_id":"\u0000"}"#).text == "\0")
    }

    @Test func findsEscapedKey() throws {
        #expect(try scan(#"{"event\u005fid":"abc"}"#).text == "abc")
        #expect(try scan(#"{"event\\u005fid":"abc"}"#).id == .derived)
        #expect(problem(#"{"event\u005fid":"abc","event_id":"abc"}"#)?.kind == "duplicate_key")
    }

    @Test func ignoresOtherKeysAndLevels() throws {
        for text in [
            #"{"event_i":"a","event_idd":"a","Event_id":"a","":1}"#, #"{"a":"event_id"}"#,
            #"{"a":[{"event_id":"b"}]}"#, #"{"event_id":null}"#, #"{"event_id" : null , "a":1}"#,
        ] {
            #expect(try scan(text).id == .derived, "\(text)")
        }
    }

    @Test(arguments: [
        "1.0", "1e3", "true", "false", "{}", "[]", #"["a"]"#, #"{"event_id":"a"}"#, #""""#,
    ])
    func rejectsOtherIDs(value: String) {
        #expect(problem(#"{"event_id":\#(value),"a":1}"#)?.kind == "invalid_event_id")
    }

    @Test func limitsIDLength() throws {
        let longest = String(repeating: "x", count: Limits.eventIDBytes)
        #expect(try scan(#"{"event_id":"\#(longest)"}"#).text == longest)
        #expect(problem(#"{"event_id":"\#(longest)x"}"#)?.kind == "invalid_event_id")
        let escaped = String(repeating: #"\u0061"#, count: Limits.eventIDBytes)
        #expect(try scan(#"{"event_id":"\#(escaped)"}"#).text == String(repeating: "a", count: Limits.eventIDBytes))
        #expect(problem(#"{"event_id":"\#(escaped)\n"}"#)?.kind == "invalid_event_id")
        #expect(problem(#"{"event_id":\#(String(repeating: "1", count: 1_025))}"#)?.kind == "invalid_event_id")
    }

    @Test func rejectsTwoIDs() {
        let error = problem(#"{"event_id":"a","b":1,"event_id":"a"}"#)
        #expect(error?.kind == "duplicate_key")
        #expect(error?.byteOffset == 22)
    }

    @Test func brokenJSONCountsMoreThanABadID() {
        #expect(problem(#"{"event_id":1.5,"a":}"#)?.kind == "invalid_json")
    }

    @Test(arguments: ["", "é", "a\"b", #"a\b"#, "a b", String(repeating: "k", count: 5_000)])
    func anyFieldNameWorks(name: String) throws {
        let scanner = EventScanner(eventIDField: name)
        var key = ""
        for scalar in name.unicodeScalars {
            key += scalar == "\"" || scalar == "\\" ? "\\\(scalar)" : String(scalar)
        }
        let text = Array(#"{"x\\y":0,"\#(key)":"id"}"#.utf8)
        text.withUnsafeBytes { bytes in
            let event = try? scanner.scan(bytes)
            #expect(event?.id == .payloadSlice(offset: text.count - 4, length: 2))
        }
    }
}
