import Synchronization

/// What was sent and what was acknowledged. An event's id is `<source>-<number>`; a source is an HTTP client or a Kafka
/// partition, and counts its events from 0.
final class EventLedger: Sendable {
    /// A body whose 202 was read to its end, or messages that Kafka has.
    struct Acknowledgement {
        let source: Int
        let numbers: Range<Int>
        /// The kills before it.
        let cycle: Int
        /// What the service said, for messages of failed tests.
        let answer: String
    }

    private struct State {
        var sent: [Int]
        var acknowledgements: [Acknowledgement] = []
        var cycle = 0
    }

    private let state: Mutex<State>

    init(sources: Int) { state = Mutex(State(sent: Array(repeating: 0, count: sources))) }

    /// The service was started once more.
    func beginCycle(_ cycle: Int) { state.withLock { $0.cycle = cycle } }

    /// Takes the next numbers of a source; from now on they may arrive.
    func take(_ count: Int, from source: Int) -> Range<Int> {
        state.withLock { state in
            let start = state.sent[source]
            state.sent[source] += count
            return start..<(start + count)
        }
    }

    /// From now on they must arrive.
    func acknowledge(_ numbers: Range<Int>, of source: Int, answer: String) {
        state.withLock { state in
            state.acknowledgements.append(
                Acknowledgement(source: source, numbers: numbers, cycle: state.cycle, answer: answer))
        }
    }

    /// Number of events sent by a source.
    func sent(_ source: Int) -> Int { state.withLock { $0.sent[source] } }

    /// Number of acknowledged events.
    var acknowledgedCount: Int { state.withLock { $0.acknowledgements.reduce(0) { $0 + $1.numbers.count } } }

    /// The event with a number of a source, about a hundred bytes.
    static func event(_ source: Int, _ number: Int) -> String {
        #"{"event_id":"\#(source)-\#(number)","text":"\"quoted\" \\ 日本 🙂","n":\#(number)}"#
    }

    /// Compares with the ids that arrived.
    /// - Parameter ids: one on each line.
    func compare(_ ids: some Sequence<UInt8>) -> Comparison {
        let state = state.withLock { $0 }
        var arrived = state.sent.map { Array(repeating: false, count: $0) }
        var comparison = Comparison()
        var source: Int?
        var number = 0
        var digits = 0
        func finish() {
            guard digits > 0 else { return }
            if let source, source < arrived.count, number < arrived[source].count {
                arrived[source][number] = true
                comparison.arrivedCount += 1
            } else {
                comparison.unknown.append("\(source.map { "\($0)-" } ?? "")\(number)")
            }
        }
        for byte in ids {
            switch byte {
            case UInt8(ascii: "-"):
                source = number
                number = 0
            case UInt8(ascii: "\n"):
                finish()
                source = nil
                number = 0
                digits = 0
            default:
                number = number * 10 + Int(byte) - 48
                digits += 1
            }
        }
        finish()
        for acknowledgement in state.acknowledgements {
            let missing = acknowledgement.numbers.filter { !arrived[acknowledgement.source][$0] }
            guard !missing.isEmpty else { continue }
            comparison.missingCount += missing.count
            comparison.missing.append(
                "\(missing.count) of source \(acknowledgement.source) from \(missing[0]) on, acknowledged after "
                    + "\(acknowledgement.cycle) kills with \(acknowledgement.answer)")
        }
        return comparison
    }

    /// What the comparison found.
    struct Comparison {
        var arrivedCount = 0
        var missingCount = 0
        /// One line for each acknowledgement with events that are missing.
        var missing: [String] = []
        /// Ids that nobody sent.
        var unknown: [String] = []
    }
}

/// A seeded generator (Steele, Lea and Flood, 2014), so that a run's schedule can be had again.
struct SplitMix64: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
