import Foundation
import Logging
import Synchronization
import TestSupport
import Testing

@testable import ServiceLog

@Suite struct EventLogTests {
    /// Keeps lines.
    private final class Lines: Sendable {
        struct Line: Sendable {
            let level: Logger.Level
            let message: String
            let metadata: Logger.Metadata

            var suppressed: String? { metadata["suppressed"].map { "\($0)" } }
        }

        private let lines = Mutex<[Line]>([])

        func logger(_ level: Logger.Level) -> Logger {
            Logger(label: "test") { _ in Handler(lines: self, logLevel: level) }
        }

        func take() -> [Line] {
            lines.withLock { lines in
                defer { lines = [] }
                return lines
            }
        }

        private struct Handler: LogHandler {
            let lines: Lines
            var logLevel: Logger.Level
            var metadata: Logger.Metadata = [:]

            subscript(metadataKey key: String) -> Logger.MetadataValue? {
                get { metadata[key] }
                set { metadata[key] = newValue }
            }

            func log(event: Logging.LogEvent) {
                let line = Line(
                    level: event.level, message: event.message.description, metadata: event.metadata ?? [:])
                lines.lines.withLock { $0.append(line) }
            }
        }
    }

    @Test func eachLineHasTheNameAndLevelOfItsEvent() throws {
        let lines = Lines()
        let log = EventLog(lines.logger(.debug))
        for event in LoggedEvent.allCases {
            log.write(event, "message", ["key": "value"])
            let line = try #require(lines.take().first)
            #expect(line.metadata["event"] == .string(event.rawValue) && line.metadata["key"] == "value")
            #expect(line.level.rawValue == event.definition.severity.rawValue && line.message == "message")
        }
        log.write(.kafkaLibrary, severity: .notice, "message")
        #expect(lines.take().first?.level == .notice)
    }

    @Test func repeatsAreCountedAndTheNextLineSaysHowMany() {
        let lines = Lines()
        let start = ContinuousClock.now
        let offset = Mutex(Duration.zero)
        let log = EventLog(lines.logger(.info)) { start + offset.withLock { $0 } }
        let limit = LoggedEvent.clickHouseInsertFailed.definition.limit
        func write(_ count: Int, about subject: String = "a") -> [String?] {
            for _ in 0..<count { log.write(.clickHouseInsertFailed, about: subject, "failed") }
            return lines.take().map(\.suppressed)
        }
        #expect(write(limit.lines + 25).count == limit.lines)
        // Another stream's lines, and those of another event, are not held back.
        #expect(write(1, about: "b") == [nil])
        log.write(.streamHeld, about: "a", "held")
        #expect(lines.take().count == 1)
        offset.withLock { $0 = .seconds(limit.seconds) - .milliseconds(1) }
        #expect(write(1).isEmpty)
        offset.withLock { $0 = .seconds(limit.seconds) }
        #expect(write(2) == ["26", nil])
        // Copies share the count.
        let copy = log
        for _ in 0..<100 { copy.write(.clickHouseInsertFailed, about: "a", "failed") }
        #expect(lines.take().count == limit.lines - 2)
    }

    @Test func lessThanTheLoggersLevelCostsNothing() {
        let lines = Lines()
        let log = EventLog(lines.logger(.error))
        var built = 0
        func message() -> String {
            built += 1
            return "m"
        }
        for _ in 0..<100 { log.write(.clickHouseInsertFailed, message(), ["m": message()]) }
        #expect(built == 0 && lines.take().isEmpty)
        for _ in 0..<100 { log.write(.streamHeld, message()) }
        #expect(built == 10 && lines.take().count == 10)
    }

    /// Who asks for debug lines wants all of them.
    @Test func debugLinesAreNotLimited() {
        let lines = Lines()
        let log = EventLog(lines.logger(.debug))
        for _ in 0..<100 { log.write(.kafkaPaused, "paused") }
        for _ in 0..<100 { log.write(.kafkaLibrary, severity: .debug, "line") }
        #expect(lines.take().count == 200)
    }

    @Test func evenManySubjectsAreBounded() {
        let lines = Lines()
        let log = EventLog(lines.logger(.info))
        for number in 0..<100_000 { log.write(.streamHeld, about: "\(number)", "held") }
        #expect(lines.take().count <= 1_010)
    }

    @Test func manyThreadsShareTheLimit() async {
        let lines = Lines()
        let log = EventLog(lines.logger(.info))
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 { group.addTask { for _ in 0..<1_000 { log.write(.streamHeld, "held") } } }
        }
        #expect(lines.take().count == 10)
    }

    @Test func namesAreOfOneForm() throws {
        for event in LoggedEvent.allCases where event != .library {
            #expect(event.rawValue.wholeMatch(of: /[a-z]+(_[a-z]+)*\.[a-z]+(_[a-z]+)*/) != nil, "\(event.rawValue)")
            #expect(event.definition.meaning.hasSuffix("."))
        }
    }

    /// The page that operators have is the table that the service has.
    @Test func thePageListsEveryEvent() throws {
        let page = try String(contentsOfFile: ServiceProcess.projectPath("docs/logs.md"), encoding: .utf8)
        let rows = LoggedEvent.allCases.map { event in
            let definition = event.definition
            let level = event == .library || event == .kafkaLibrary ? "its own" : definition.severity.rawValue
            return "| `\(event.rawValue)` | \(level) | \(definition.meaning) |"
        }
        let listed = page.split(separator: "\n").filter {
            $0.wholeMatch(of: /\| `[a-z_.]+` \| [^|]* \| .*\.? \|/) != nil
        }
        let events = listed.filter { row in LoggedEvent.allCases.contains { row.hasPrefix("| `\($0.rawValue)` |") } }
        #expect(events.map(String.init) == rows, "docs/logs.md must have:\n\(rows.joined(separator: "\n"))")
    }
}
