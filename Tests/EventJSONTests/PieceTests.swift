import EventJSON
import IngestCore
import Testing

/// What is kept of bad events: every byte of a body is in one event, good or bad.
@Suite struct PieceTests {
    private let scanner = EventScanner(eventIDField: "event_id")

    private struct Piece: Equatable {
        let isGood: Bool
        let bytes: [UInt8]
        let id: String?
        /// What stands between this piece and the one before, without white space.
        let gap: String

        var text: String { (isGood ? "+" : "-") + String(decoding: bytes, as: UTF8.self) }
    }

    /// Cuts a body into the events that the scanner found.
    private func cut(
        _ body: [UInt8], _ format: BodyFormat, sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> (pieces: [Piece], tail: String) {
        let buffer = EventBuffer()
        let report = body.withUnsafeBytes {
            scanner.appendEvents(of: $0, format: format, to: buffer, reportedProblems: .max)
        }
        #expect(report.problems.count == report.rejected, sourceLocation: sourceLocation)
        var good = try BufferedEvent.all(in: buffer)[...]
        var bad = report.problems[...]
        var position = 0
        func gap(to end: Int) -> String {
            let bytes = body[position..<end].filter { !Array(" \t\r\n".utf8).contains($0) }
            return String(decoding: bytes, as: UTF8.self)
        }
        var pieces: [Piece] = []
        for index in 0..<(report.accepted + report.rejected) {
            let text = String(decoding: body, as: UTF8.self)
            if let problem = bad.first, problem.index == index {
                bad.removeFirst()
                try #require(problem.offset >= position, "\(text)", sourceLocation: sourceLocation)
                let end = problem.offset + problem.length
                try #require(end <= body.count, "\(text)", sourceLocation: sourceLocation)
                let bytes = Array(body[problem.offset..<end])
                pieces.append(Piece(isGood: false, bytes: bytes, id: problem.eventID, gap: gap(to: problem.offset)))
                position = end
            } else {
                let event = try #require(good.first, "\(text)", sourceLocation: sourceLocation)
                good.removeFirst()
                let bytes = Array(event.payload.utf8)
                let start = try #require(
                    body[position...].firstIndex(of: UInt8(ascii: "{")), "\(text)", sourceLocation: sourceLocation)
                try #require(body[start...].starts(with: bytes), "\(text)", sourceLocation: sourceLocation)
                pieces.append(Piece(isGood: true, bytes: bytes, id: event.id, gap: gap(to: start)))
                position = start + bytes.count
            }
        }
        #expect(good.isEmpty && bad.isEmpty, sourceLocation: sourceLocation)
        return (pieces, gap(to: body.count))
    }

    private func texts(_ body: String, _ format: BodyFormat) throws -> [String] {
        try cut(Array(body.utf8), format).pieces.map(\.text)
    }

    @Test(arguments: [
        #"{"b":01}"#, #"{"b":NaN}"#, #"{"b":-Infinity,"c":"]"}"#, #"{b:1}"#, #"{"b":None}"#, #"{"b"}"#,
        "{\"b\":\"\n\"}",
        #"{"b":"\q"}"#, #"{"b":"\ud83d"}"#, #"{"b":1,}"#, "[{}]", "null", "2026-11-23", #""},{""#, "\"b\u{1}\"",
        #"{"event_id":[{}]}"#,
    ])
    func aBadElementThatHasAnEndCostsItself(element: String) throws {
        for format in [BodyFormat.json, .detect] {
            #expect(
                try texts(#"[{"a":1}, \#(element) ,{"c":1},\#(element)]"#, format)
                    == [#"+{"a":1}"#, "-\(element)", #"+{"c":1}"#, "-\(element)"])
        }
    }

    /// Each holds, behind what is broken, what must not be taken for an event.
    @Test(arguments: [
        #"{"b":"x},{"text":"},{},{"},{"c":"}"#, #"{"b":x"},{"text":"},{},{"},{"c":1}"#,
        #"{"b":1"},{"text":"},{},{"}"#, #"{"path":"C:\d\"},{"text":"},{},{"},{"q":""}"#, #"{"b":[},{},{}"#,
        #"{'b':'},{},{'}"#, #"{\"b\":\"},{},{\"}"#, "// ,{},\n{}", "{}; ,{}", "/*,{},*/{}", "\u{a0},{}", "{\"b\":1",
        "{\"b\":\"", "]{}", "},{}", ":{},{}", "{}{},{}", "{} {},{}", "{}:{},{}", "[}",
    ])
    func behindWhatHasNoEndNothingIsTaken(rest: String) throws {
        for before in ["", "01,"] {
            let texts = try texts(#"[{"a":1},\#(before)\#(rest)]"#, .json)
            #expect(texts.first == #"+{"a":1}"#)
            let isWhole = rest.hasPrefix("{}")
            #expect(texts.dropFirst().allSatisfy { $0.hasPrefix("-") || (isWhole && $0 == "+{}") }, "\(texts)")
            let last = rest.hasPrefix("]") || isWhole ? String(rest.dropFirst(isWhole ? 2 : 1)) : rest
            let end = last.drop { $0 == " " } + "]"
            #expect(texts.last == "-" + end, "\(texts)")
        }
    }

    @Test func valuesWithoutACommaBetweenThem() throws {
        #expect(try texts(#"[{"a":1}{"b":1},{}]"#, .json) == [#"+{"a":1}"#, #"-{"b":1},{}]"#])
        #expect(try texts("[01,1 2,{}]", .json) == ["-01", "-1", "-2,{}]"])
        #expect(try texts(#"["a""b",{}]"#, .json) == [#"-"a""#, #"-"b",{}]"#])
    }

    @Test func whatIsMissingHasNoBytes() throws {
        #expect(try texts("[{},]", .json) == ["+{}", "-"])
        #expect(try texts("[{},,{}]", .json) == ["+{}", "-", "+{}"])
        #expect(try texts("[,{}]", .json) == ["-", "+{}"])
        #expect(try texts("[{}", .json) == ["+{}", "-"])
        #expect(try texts("[{} , ", .json) == ["+{}", "-"])
        #expect(try texts("[{\"a\":01}", .json) == ["-{\"a\":01}", "-"])
        #expect(try texts("[", .json) == ["-"])
    }

    @Test func whatFollowsAnArrayIsOnePiece() throws {
        #expect(try texts("[{}]\n[{}]\n{}\n", .detect) == ["+{}", "-[{}]\n{}"])
        #expect(try texts("[{},1] {} {} ", .json) == ["+{}", "-1", "-{} {}"])
    }

    @Test(arguments: [
        "{\n  \"a\": [\n    {},\n    {\"event_id\":\"x\"}\n  ],\n  \"b\": 01\n}", "{\"a\":[\n{}\n],\"b\":01}",
        "{\"a\":\n{}\n", "{\n\"a\":\"\n{}\n\"}",
    ])
    func linesOfABrokenObjectAreNoEvents(body: String) throws {
        for format in [BodyFormat.json, .detect] {
            let trimmed = body.last == "\n" ? String(body.dropLast()) : body
            #expect(try texts(body, format) == ["-\(trimmed)"])
        }
    }

    @Test(arguments: [
        #"{"a":"x"#, #"{"a":1"#, #"{"a":01},"#, "x", #"b":1}"#, "{}{}", #"{"a":[}"#, #"{"a":"},{"#, "}",
    ])
    func aBrokenFirstLineCostsOnlyItself(line: String) throws {
        #expect(try texts("\(line)\n{}\n", .detect) == ["-\(line)", "+{}"])
    }

    @Test(arguments: [
        (#"{"event_id":"x","b":01}"#, "x"), (#"{"event_id":"a\nb","b":01}"#, "a\nb"),
        (#"{"event_id":-7,"b":tru}"#, "-7"),
        (#"{"event_id":"é","b":"#, "é"),
        (#"{"b":01,"event_id":"x"}"#, nil), (#"{"event_id":"x"}{"event_id":"y"}"#, nil),
        (#"{"event_id":"x","event_id":"y"}"#, nil), (#"{"event_id":"x","event_id":"x","event_id":"z"}"#, nil),
        (#"{"event_id":"x","event_id":"y","b":01}"#, nil), (#"{"event_id":1.5}"#, nil), (#"{"event_id":""}"#, nil),
        (#"{"event_id":["x"]}"#, nil), (#"{"a":{"event_id":"x"},"b":01}"#, nil), ("[1]", nil),
        (#"{"event_id":"\#(String(repeating: "x", count: Limits.eventIDBytes + 1))"}"#, nil),
    ])
    func idsOfBadEvents(event: String, id: String?) throws {
        for (body, format) in [("{}\n \(event)\n{}", BodyFormat.ndjson), (event, .json)] {
            let bad = try #require(try cut(Array(body.utf8), format).pieces.first { !$0.isGood })
            #expect(bad.id == id)
        }
        guard event.hasSuffix("}"), !event.contains("}{") else { return }
        let bad = try #require(try cut(Array("[{}, \(event)]".utf8), .json).pieces.first { !$0.isGood })
        #expect(bad.id == id)
    }

    /// It may hold many events: it is none of them.
    @Test func theRestOfAnArrayHasNoID() throws {
        let body = #"[{"event_id":"a"},{"event_id":"b","x":[},{"event_id":"c"}]"#
        #expect(try cut(Array(body.utf8), .json).pieces.map(\.id) == ["a", nil])
        #expect(try cut(Array(#"[{}] {"event_id":"c"}"#.utf8), .json).pieces.map(\.id) == [nil, nil])
    }

    /// Nothing is lost and nothing is told twice, whatever the body.
    @Test func everyByteIsInOnePiece() throws {
        var random = SeededRandom(seed: 5)
        let elements = [
            #"{"event_id":"8f3a-11","user":{"id":42,"tags":["a","b",null]}}"#,
            #"{"a":-1.5e+10,"b":[[],{},[{"c":1}]]}"#,
            #"{"text":"caf\u00e9 \ud83d\ude00 \"q\" \\ é😀","event_id":"x\/y\n"}"#, "{ }", "{}", "1", #""},{}""#, "[]",
        ]
        let bytes = Array("{}[]:,\"\\\n\n 01tfna'".utf8) + [0x01, 0xc3, 0xff]
        var counts = (good: 0, bad: 0, rests: 0)
        for round in 0..<30_000 {
            let isLines = round % 2 == 0
            let count = Int.random(in: 0...6, using: &random)
            let chosen = (0..<count).map { _ in elements.randomElement(using: &random)! }
            let text = isLines ? chosen.joined(separator: "\n") : "[" + chosen.joined(separator: ", ") + "]"
            var body = Array(text.utf8)
            for _ in 0..<Int.random(in: 0...4, using: &random) where !body.isEmpty {
                let at = body.indices.randomElement(using: &random)!
                switch Int.random(in: 0..<3, using: &random) {
                case 0: body.remove(at: at)
                case 1: body.insert(bytes.randomElement(using: &random)!, at: at)
                default: body[at] = bytes.randomElement(using: &random)!
                }
            }
            let format = [BodyFormat.json, .ndjson, .detect].randomElement(using: &random)!
            let (pieces, tail) = try cut(body, format)
            let mutated = String(decoding: body, as: UTF8.self)
            let isArray = format.isArray(body)
            for (index, piece) in pieces.enumerated() {
                let isLast = index == pieces.count - 1
                let allowed: Set<String> =
                    !isArray ? [""] : index == 0 ? (isLast ? ["[", "[]"] : ["["]) : isLast ? [",", "", "]"] : [","]
                #expect(allowed.contains(piece.gap), "\(piece.text) behind \(piece.gap) in \(mutated)")
                #expect(piece.bytes.first.map { !Array(" \t\r\n".utf8).contains($0) } ?? true)
                if piece.isGood { counts.good += 1 } else { counts.bad += 1 }
            }
            if isArray {
                let isRest = pieces.last?.isGood == false && tail.isEmpty
                #expect(isRest || tail == (pieces.isEmpty ? "[]" : "]"), "\(mutated)")
                if tail.isEmpty { counts.rests += 1 }
            } else {
                #expect(tail.isEmpty, "\(mutated)")
            }
        }
        #expect(counts.good > 10_000 && counts.bad > 10_000 && counts.rests > 3_000, "\(counts)")
    }
}

extension BodyFormat {
    /// Whether a body is read as an array.
    fileprivate func isArray(_ body: [UInt8]) -> Bool {
        if case .ndjson = self { return false }
        return body.first { !Array(" \t\r\n".utf8).contains($0) } == UInt8(ascii: "[")
    }
}
