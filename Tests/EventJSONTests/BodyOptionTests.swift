import EventJSON
import IngestCore
import Testing

/// What is told to a scanner body by body.
@Suite struct BodyOptionTests {
    private let scanner = EventScanner(eventIDField: "event_id")

    private func split(
        _ text: String, _ format: BodyFormat = .detect, defaultID: String? = nil, maxEvents: Int = .max
    ) throws -> (ids: [String?], report: BodyReport) {
        let buffer = EventBuffer()
        let id = defaultID.map { Array($0.utf8) }
        let report = Array(text.utf8).withUnsafeBytes { bytes in
            if let id {
                id.withUnsafeBytes {
                    scanner.appendEvents(of: bytes, format: format, to: buffer, defaultID: $0, maxEvents: maxEvents)
                }
            } else {
                scanner.appendEvents(of: bytes, format: format, to: buffer, maxEvents: maxEvents)
            }
        }
        return (try BufferedEvent.all(in: buffer).map(\.id), report)
    }

    @Test func aDefaultIDFillsGaps() throws {
        let outcome = try split(
            #"[{},{"event_id":"own"},{"event_id":null},{"n":01},{"event_id":"x","n":01}]"#, defaultID: "é")
        #expect(outcome.ids == ["é", "own", "é"])
        #expect(outcome.report.problems.map(\.eventID) == ["é", "x"])
    }

    @Test func oneObjectIsOneObject() throws {
        #expect(try split(" {\n} ", .object).report.accepted == 1)
        for text in ["[{}]", "{}\n{}", "1", ""] { #expect(try split(text, .object).report.accepted == 0, "\(text)") }
    }

    @Test func tooManyEventsEndAScan() throws {
        for count in [1, 127, 128, 129, 500] {
            let lines = String(repeating: "{}\nx\n", count: count)
            #expect(try !split(lines, .ndjson, maxEvents: 2 * count).report.isCutShort)
            #expect(try split(lines, .ndjson, maxEvents: 2 * count - 1).report.isCutShort)
            let array = "[" + Array(repeating: "{}", count: count).joined(separator: ",") + "]"
            #expect(try !split(array, maxEvents: count).report.isCutShort)
            #expect(try split(array, maxEvents: count - 1).report.isCutShort)
        }
        let report = try split(String(repeating: "{}\n", count: 10_000), maxEvents: 100).report
        #expect(report.accepted < 300)
    }
}
