import Glibc

/// A body of events that differ in their ids only, prepared once and renumbered in place before each request, so that
/// making events costs the load generator next to nothing.
struct EventTemplate {
    /// Digits of the number within an id.
    static let digits = 16
    /// The body: one JSON object a line.
    private(set) var body: [UInt8]
    /// Events of the body.
    let eventCount: Int
    private let idOffset: Int
    private let stride: Int

    /// - Parameters:
    ///   - eventBytes: of one event, without its newline; at least what id and frame need.
    ///   - prefix: of all ids, so that runs don't collide.
    init(eventCount: Int, eventBytes: Int, prefix: String) {
        let head = "{\"event_id\":\"\(prefix)"
        let middle =
            "\",\"type\":\"page_view\",\"user\":{\"id\":48151623,\"plan\":\"pro\"},\"path\":\"/docs/getting-started\","
            + "\"ms\":37,\"note\":\""
        let tail = "\"}\n"
        let frame = head.utf8.count + Self.digits + middle.utf8.count + tail.utf8.count - 1
        let filler = String(repeating: "lorem ipsum dolor sit amet ", count: 1 + max(0, eventBytes - frame) / 27)
            .prefix(max(0, eventBytes - frame))
        let line = Array((head + String(repeating: "0", count: Self.digits) + middle + filler + tail).utf8)
        self.eventCount = eventCount
        idOffset = head.utf8.count
        stride = line.count
        body = Array(repeatElement(line, count: eventCount).joined())
    }

    /// Bytes of one event, without its newline.
    var eventBytes: Int { stride - 1 }

    /// Gives the events the numbers from `first` on.
    mutating func renumber(from first: UInt64) {
        for index in 0..<eventCount {
            var number = first + UInt64(index)
            var position = index * stride + idOffset + Self.digits
            for _ in 0..<Self.digits {
                position -= 1
                body[position] = 0x30 + UInt8(number % 10)
                number /= 10
            }
        }
    }
}

/// Durations in nanoseconds, for percentiles.
struct Latencies {
    private var values: [UInt64] = []

    mutating func add(_ nanoseconds: UInt64) { values.append(nanoseconds) }

    mutating func merge(_ other: Latencies) { values += other.values }

    /// The values at these quantiles, in milliseconds.
    func milliseconds(at quantiles: [Double]) -> [Double] {
        guard !values.isEmpty else { return quantiles.map { _ in .nan } }
        let sorted = values.sorted()
        return quantiles.map { Double(sorted[min(sorted.count - 1, Int(Double(sorted.count) * $0))]) / 1e6 }
    }
}

/// A number with thousands separated.
func grouped(_ number: Double) -> String {
    let digits = Array(String(Int(number.rounded())))
    var text = ""
    for (index, digit) in digits.enumerated() {
        if index > 0 && (digits.count - index).isMultiple(of: 3) { text.append(",") }
        text.append(digit)
    }
    return text
}
