import EventJSON
import IngestCore
import Testing

/// Bodies: objects, arrays and lines.
@Suite struct BodyTests {
    private struct Outcome {
        var events: [String]
        var ids: [String?]
        var report: BodyReport
        var bad: [Int] { report.problems.map(\.index) }
        var kinds: [String] { report.problems.map(\.error.kind) }
        var offsets: [Int] { report.problems.map(\.offset) }
    }

    private func split(_ text: String, _ format: BodyFormat) throws -> Outcome {
        try split(Array(text.utf8), format)
    }

    private func split(_ body: [UInt8], _ format: BodyFormat) throws -> Outcome {
        let buffer = EventBuffer()
        let scanner = EventScanner(eventIDField: "event_id")
        let report = body.withUnsafeBytes { scanner.appendEvents(of: $0, format: format, to: buffer) }
        #expect(buffer.eventCount == report.accepted)
        #expect(report.problems.count == min(report.rejected, Limits.reportedProblems))
        let events = try BufferedEvent.all(in: buffer)
        return Outcome(events: events.map(\.payload), ids: events.map(\.id), report: report)
    }

    // MARK: One object

    @Test func oneObject() throws {
        for format in [BodyFormat.json, .ndjson, .detect] {
            let outcome = try split(#"  {"a": 1, "event_id": "x"} "# + "\r\n", format)
            #expect(outcome.events == [#"{"a": 1, "event_id": "x"}"#])
            #expect(outcome.ids == ["x"])
        }
    }

    @Test func oneObjectOverSeveralLines() throws {
        let text = "{\n  \"a\": [\n 1 ],\n  \"event_id\": 7\n}"
        for format in [BodyFormat.json, .detect] {
            let outcome = try split("\n" + text + "\n\n", format)
            #expect(outcome.events == [text])
            #expect(outcome.ids == ["7"])
            #expect(outcome.report.rejected == 0)
        }
        #expect(try split(text, .ndjson).report.rejected > 0)
    }

    @Test func jsonIsOneValue() throws {
        for text in ["{}{}", "{}\n{}", "{},{}", "1", "{}x", "", " \n "] {
            let outcome = try split(text, .json)
            #expect(outcome.report.accepted == 0)
            #expect(outcome.report.rejected == (["", " \n "].contains(text) ? 0 : 1), "\(text)")
        }
    }

    // MARK: Arrays

    @Test(arguments: [BodyFormat.json, .detect])
    func arrayElementsAreAsWritten(format: BodyFormat) throws {
        let outcome = try split(
            "\n [ {\"a\":[1,2]} ,\n{ \"event_id\" : \"x\\n\" },{},{\"event_id\":5}\n]\n", format)
        #expect(outcome.events == [#"{"a":[1,2]}"#, #"{ "event_id" : "x\n" }"#, "{}", #"{"event_id":5}"#])
        #expect(outcome.ids == [nil, "x\n", nil, "5"])
        #expect(outcome.report.rejected == 0)
    }

    @Test func emptyArray() throws {
        for text in ["[]", " [ ] ", "[\n]"] {
            let outcome = try split(text, .json)
            #expect(outcome.report.accepted == 0 && outcome.report.rejected == 0)
        }
    }

    @Test func badElementsAreNamed() throws {
        let text = #"[{"a":1},2,{"b":[}]},{"event_id":1.5},{"c":"\#u{1}"},{"d":1},,{"e":tru},"x",{"f":1}]"#
        let outcome = try split(text, .json)
        #expect(outcome.events.first == #"{"a":1}"#)
        #expect(outcome.bad.starts(with: [1, 2]))
        #expect(outcome.kinds.starts(with: ["not_an_object", "invalid_json"]))
    }

    @Test func elementsBehindABrokenOneAreStillNamed() throws {
        let outcome = try split(#"[{"a":1},{"b":01},{"c":1},{"d"},[],{"e":1}]"#, .json)
        #expect(outcome.events == [#"{"a":1}"#, #"{"c":1}"#, #"{"e":1}"#])
        #expect(outcome.bad == [1, 3, 4])
        #expect(outcome.kinds == ["invalid_json", "invalid_json", "not_an_object"])
        #expect(outcome.offsets == [9, 26, 32])
        #expect(outcome.report.problems.map(\.error.byteOffset) == [14, 30, 32])
    }

    @Test func elementsThatAreNotUTF8AreNamed() throws {
        let body = Array(#"[{"a":"x"},{"b":""#.utf8) + [0xe9] + Array(#""},{"c":"]"},{"d":"\#n"},{"e":1} ]"#.utf8)
        let outcome = try split(body, .json)
        #expect(outcome.events == [#"{"a":"x"}"#, #"{"c":"]"}"#, #"{"e":1}"#])
        #expect(outcome.bad == [1, 3])
    }

    @Test(arguments: [
        "[", "[{}", "[{},", "[{},]", "[,]", "[,{}]", "[{}{}]", "[{} {}]", "[{}]]", "[{}] {}", "[{}]x", "[{};{}]",
        "[{}}", #"[{}]"a"#, #"[]"a"#, "[]\u{1}", #"[{"a":1]"#, #"[{"a":"]"#, "[{}\n[{}]", "[{}]\n[{}]", "[]{}",
    ])
    func brokenArraysHaveAProblem(text: String) throws {
        #expect(try split(text, .json).report.rejected > 0)
        #expect(try split(text, .detect).report.rejected > 0)
    }

    // MARK: Lines

    @Test(arguments: [BodyFormat.ndjson, .detect])
    func lines(format: BodyFormat) throws {
        let outcome = try split("\n{\"a\":1}\r\n\r\n \t\n  {\"event_id\":\"x\"}  \n{}", format)
        #expect(outcome.events == [#"{"a":1}"#, #"{"event_id":"x"}"#, "{}"])
        #expect(outcome.ids == [nil, "x", nil])
        #expect(outcome.report.rejected == 0)
    }

    @Test(arguments: [BodyFormat.ndjson, .detect])
    func badLinesAreNamedAndCostOnlyThemselves(format: BodyFormat) throws {
        let body =
            Array("{\"a\":1}\n{\"b\":\"\n\"}\n\n[{}]\n{}{}\n{\"c\":1}\n{\"d\":\"".utf8) + [0xff]
            + Array("\"}\n{\"e\":\n1}\n{\"f\":1}\n{\"event_id\":[]}\n{\"g\":1".utf8)
        let outcome = try split(body, format)
        #expect(outcome.events == [#"{"a":1}"#, #"{"c":1}"#, #"{"f":1}"#])
        #expect(outcome.bad == [1, 2, 3, 4, 6, 7, 8, 10, 11])
        #expect(
            outcome.kinds == [
                "invalid_json", "invalid_json", "not_an_object", "invalid_json", "invalid_json", "invalid_json",
                "invalid_json", "invalid_event_id", "invalid_json",
            ])
        #expect(outcome.offsets.first == 8)
        #expect(outcome.report.problems.first?.length == 6)
    }

    @Test func problemsAreCountedButListedUpToABound() throws {
        let outcome = try split(String(repeating: "x\n{}\n", count: 1_000), .ndjson)
        #expect(outcome.report.rejected == 1_000 && outcome.report.accepted == 1_000)
        #expect(outcome.bad == (0..<Limits.reportedProblems).map { $0 * 2 })
    }

    @Test func linesOfAllLengthsCrossTheWindows() throws {
        // Windows are 32 KiB: lines around and beyond that, with bad ones among them.
        var random = SeededRandom(seed: 11)
        var lines: [String] = []
        var good: [String] = []
        for index in 0..<400 {
            let length = index % 20 == 0 ? Int.random(in: 32_600...33_000, using: &random) : 20 + index
            let isBad = index % 37 == 5
            let text = String(repeating: "é", count: length / 2)
            lines.append(#"{"event_id":\#(index),"\#(isBad ? "\\q" : "\\n")":"\#(text)"}"#)
            if !isBad { good.append(lines[index]) }
        }
        let outcome = try split(lines.joined(separator: "\n"), .ndjson)
        #expect(outcome.events == good)
        #expect(outcome.bad == Array(lines.indices.filter { $0 % 37 == 5 }.prefix(Limits.reportedProblems)))
    }

    @Test func aLineMayBeAsLargeAsAnEvent() throws {
        func event(_ size: Int) -> [UInt8] {
            Array(#"{"a":""#.utf8) + [UInt8](repeating: 0x61, count: size - 8) + Array(#""}"#.utf8)
        }
        let newline = [UInt8(ascii: "\n")]
        let body = Array("{}".utf8) + newline + event(Limits.eventBytes) + newline + event(Limits.eventBytes + 1)
        let outcome = try split(body + newline + Array("{}".utf8), .ndjson)
        #expect(outcome.events.map(\.utf8.count) == [2, Limits.eventBytes, 2])
        #expect(outcome.bad == [2] && outcome.kinds == ["too_large"])
        let array = [UInt8(ascii: "[")] + event(Limits.eventBytes + 1) + Array(",{}]".utf8)
        #expect(try split(array, .json).kinds == ["too_large"])
    }
}
