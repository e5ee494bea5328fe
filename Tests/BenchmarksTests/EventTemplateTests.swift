import Foundation
import Testing

@testable import Benchmarks

@Suite struct EventTemplateTests {
    @Test(arguments: [150, 217, 1_000])
    func eventsAreValidJSONOfTheSizeAskedFor(eventBytes: Int) throws {
        var template = EventTemplate(eventCount: 3, eventBytes: eventBytes, prefix: "run-")
        template.renumber(from: 98)
        let lines = String(decoding: template.body, as: UTF8.self).split(separator: "\n")
        #expect(lines.count == 3)
        for (index, line) in lines.enumerated() {
            #expect(line.utf8.count == max(eventBytes, template.eventBytes))
            let event = try #require(
                try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            #expect(
                event["event_id"] as? String == "run-" + String(repeating: "0", count: index < 2 ? 14 : 13)
                    + "\(98 + index)")
        }
    }

    @Test func quantilesAreThoseOfTheSortedValues() {
        var latencies = Latencies()
        for value in (1...100).reversed() { latencies.add(UInt64(value) * 1_000_000) }
        #expect(latencies.milliseconds(at: [0, 0.5, 0.99, 1]) == [1, 51, 100, 100])
    }
}
