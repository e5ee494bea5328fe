import Foundation
import Testing

@testable import Benchmarks

@Suite struct EventBodyTests {
    private func lines(_ body: EventBody) throws -> [[String: Any]] {
        var events: [[String: Any]] = []
        try body.forEachLine { line in
            events.append(try #require(try JSONSerialization.jsonObject(with: Data(line)) as? [String: Any]))
        }
        return events
    }

    @Test(arguments: [160, 217, 1_000])
    func fixedEventsHaveTheSizeAskedFor(eventBytes: Int) throws {
        var generator = EventGenerator(eventBytes: eventBytes, prefix: "run-", seed: 1)
        let events = generator.events(3)
        #expect(events.allSatisfy { $0.line.count == eventBytes + 1 })
        var body = EventBody(events) { Array("POST \($0)\n".utf8) }
        #expect(body.bytes.starts(with: "POST \(3 * (eventBytes + 1))\n".utf8))
        body.renumber(from: 1_000_000_000_098)
        #expect(
            try lines(body).map { $0["event_id"] as? String } == [
                "run-0001000000000098", "run-0001000000000099", "run-0001000000000100",
            ])
        #expect(body.eventBytes == 3 * (eventBytes + 1))
    }

    @Test func realisticEventsVaryAroundTheirMean() throws {
        var generator = EventGenerator(sizes: .realistic, eventBytes: 1_000, prefix: "run-", seed: 7)
        let events = generator.events(5_000)
        let sizes = events.map { $0.line.count - 1 }
        let mean = Double(sizes.reduce(0, +)) / 5_000
        #expect((900...1_100).contains(mean), "\(mean)")
        #expect(sizes.max()! > 5 * sizes.sorted()[2_500])
        #expect(Set(events.map(\.line)).count == 5_000)
        #expect(try lines(EventBody(events)).count == 5_000)
    }

    @Test func theSeedDecides() {
        func events(_ seed: UInt64) -> [[UInt8]] {
            var generator = EventGenerator(sizes: .realistic, eventBytes: 300, prefix: "run-", seed: seed)
            return generator.events(50).map(\.line)
        }
        #expect(events(3) == events(3))
        #expect(events(3) != events(4))
    }

    @Test func numbersCarry() {
        var digits = EventNumber.digits(999_999)
        EventNumber.increment(&digits)
        #expect(digits == EventNumber.digits(1_000_000))
        #expect(EventNumber.text(9_999_999_999_999_999) == "9999999999999999")
    }
}
