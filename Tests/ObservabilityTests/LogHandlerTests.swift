import Foundation
import Logging
import Observability
import ServiceLog
import Testing

@Suite struct JSONLogHandlerTests {
    @Test func writesExactlyThisLine() {
        let log = LogCapture()
        log.jsonLogger(label: "journal").info("compacted", metadata: ["path": "/j", "bytes": .stringConvertible(4096)])
        #expect(
            log.writes() == [
                #"{"ts":"2026-02-03T04:05:06.789Z","level":"info","logger":"journal","event":"library","#
                    + #""msg":"compacted","bytes":4096,"path":"/j"}"# + "\n"
            ])
    }

    @Test func eventsHaveTheirPlace() throws {
        let log = LogCapture()
        let logger = log.jsonLogger(label: "l")
        EventLog(logger).write(.serviceStopped, "stopped", ["flushed": "true"])
        // Of a library that has a key of this name.
        logger.info("m", metadata: ["event": "click"])
        logger.info("m", metadata: ["event": ["id": "1"]])
        let lines = log.writes()
        #expect(lines[0].contains(#""level":"notice","logger":"l","event":"service.stopped","msg":"stopped","#))
        #expect(lines[0].contains(#","flushed":"true"}"#))
        #expect(lines[1].contains(#""event":"library","msg":"m","field.event":"click"}"#))
        #expect(lines[2].contains(#""event":"library","msg":"m","event.id":"1"}"#))
    }

    @Test func everyCharacterSurvives() throws {
        let log = LogCapture()
        var text = "quote \" backslash \\ slash / ключ 🗝 \u{2028} \u{7f} "
        for value in 0..<0x20 as Range<UInt32> { text.unicodeScalars.append(Unicode.Scalar(value)!) }
        log.jsonLogger(label: text).info("\(text)", metadata: [text: "\(text)"])
        let lines = log.writes()
        #expect(lines.count == 1)
        #expect(lines[0].utf8.count { $0 == 0x0a } == 1)
        let object = try #require(try JSONSerialization.jsonObject(with: Data(lines[0].utf8)) as? [String: Any])
        #expect(object["msg"] as? String == text)
        #expect(object["logger"] as? String == text)
        #expect(object[text] as? String == text)
    }

    @Test func metadataBecomesFields() throws {
        let log = LogCapture()
        let provider = Logger.MetadataProvider { ["from": "provider", "request": "r1"] }
        var logger = log.jsonLogger(label: "l", provider: provider)
        logger[metadataKey: "from"] = "logger"
        logger[metadataKey: "stream"] = "events"
        logger.info(
            "m",
            metadata: [
                "from": "event", "outer": ["inner": ["deep": "1"], "flat": "2"], "list": ["a", ["k": "v"]],
                "yes": .stringConvertible(true), "ratio": .stringConvertible(0.5),
                "undefined": .stringConvertible(Double.nan), "offset": .stringConvertible(UInt64.max),
                "level": "taken", "msg": "taken", "error": "free", "source": "free",
            ])
        let line = try #require(log.writes().first)
        #expect(line.contains(#""offset":18446744073709551615"#))
        let object = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        #expect(object["from"] as? String == "event")
        #expect(object["stream"] as? String == "events")
        #expect(object["request"] as? String == "r1")
        #expect(object["outer.inner.deep"] as? String == "1")
        #expect(object["outer.flat"] as? String == "2")
        #expect((object["list"] as? [Any])?.first as? String == "a")
        #expect((object["list"] as? [Any])?.last as? [String: String] == ["k": "v"])
        #expect(object["yes"] as? Bool == true)
        #expect(object["ratio"] as? Double == 0.5)
        #expect(object["undefined"] as? String == "nan")
        #expect(object["level"] as? String == "info")
        #expect(object["field.level"] as? String == "taken")
        #expect(object["field.msg"] as? String == "taken")
        #expect(object["error"] as? String == "free")
        #expect(object["source"] as? String == "free")
    }

    @Test func aKeyNeverOccursTwice() throws {
        let log = LogCapture()
        log.jsonLogger(label: "l").info("m", metadata: ["a.b": "1", "a": ["b": "2"], "level": "3", "field.level": "4"])
        let line = try #require(log.writes().first)
        for key in ["a.b", "field.a.b", "level", "field.level", "field.field.level"] {
            #expect(line.components(separatedBy: #""\#(key)":"#).count == 2, "\(key) once in \(line)")
        }
    }

    @Test func errorsHaveTheirField() throws {
        struct Trouble: Error, CustomStringConvertible { let description = "no \"room\"" }
        let log = LogCapture()
        log.jsonLogger(label: "l").error("failed", error: Trouble(), metadata: ["error": "other"])
        let object = try #require(try log.objects().first)
        #expect(object["error"] as? String == "no \"room\"")
        #expect(object["field.error"] as? String == "other")
    }

    @Test func sourceIsForDebugging() throws {
        let log = LogCapture()
        log.jsonLogger(label: "l", level: .info).error("m")
        log.jsonLogger(label: "l", level: .debug).debug("m")
        let objects = try log.objects()
        #expect(objects[0]["source"] == nil)
        #expect((objects[1]["source"] as? String)?.hasPrefix("ObservabilityTests/LogHandlerTests.swift:") == true)
    }

    @Test func levelsAndMetadataAreValues() throws {
        let log = LogCapture()
        var first = log.jsonLogger(label: "l", level: .info)
        first.debug("not written")
        first.logLevel = .debug
        first[metadataKey: "only-on"] = "first"
        var second = first
        second.logLevel = .error
        second[metadataKey: "only-on"] = "second"
        first.debug("written")
        second.warning("not written")
        second.error("written")
        #expect(first.logLevel == .debug)
        let objects = try log.objects()
        #expect(objects.map { $0["only-on"] as? String } == ["first", "second"])
    }

    @Test func levelsHaveTheirNames() throws {
        let log = LogCapture()
        let logger = log.jsonLogger(label: "l", level: .trace)
        for level in Logger.Level.allCases { logger.log(level: level, "m") }
        #expect(try log.objects().map { $0["level"] as? String } == Logger.Level.allCases.map(\.rawValue))
    }
}

@Suite struct TextLogHandlerTests {
    private func afterTime(_ line: String) throws -> String {
        let match = try #require(try Regex(#"^\d\d:05:06\.789 "#).firstMatch(in: line), "\(line)")
        return String(line[match.range.upperBound...])
    }

    @Test func writesForPeople() throws {
        let log = LogCapture()
        log.textLogger(label: "journal").warning(
            "nearly full",
            metadata: ["path": "/a folder/j", "bytes": "4096", "empty": "", "q": "say \"x\"", "o": ["i": "1"]])
        let line = try #require(log.writes().first)
        #expect(
            try afterTime(line)
                == #"warning journal: nearly full bytes=4096 empty="" o.i=1 path="/a folder/j" q="say \"x\"""# + "\n")
    }

    @Test func neitherLinesNorTheTerminalCanBeForged() throws {
        let log = LogCapture()
        let text = "a\n12:00:00 error x: forged\r\u{1b}[2J\u{9b}31m\t\0"
        log.textLogger(label: "l").info("\(text)", metadata: ["k": "\(text)", text: "v"])
        let line = try #require(log.writes().first)
        #expect(line.hasSuffix("\n"))
        let controls = line.dropLast().unicodeScalars.filter { $0.value < 0x20 || (0x7f...0x9f).contains($0.value) }
        #expect(controls.isEmpty)
        #expect(line.contains(#"a\n12:00:00 error x: forged\r\u{1b}[2J\u{9b}31m\t\u{0}"#))
    }
}
