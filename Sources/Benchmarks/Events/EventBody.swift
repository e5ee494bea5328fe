/// A body of events that differ from request to request in their ids only: prepared once, and renumbered in place before
/// it is sent, so that making events costs the load generator next to nothing.
struct EventBody {
    /// What is sent: `head`, then one JSON object a line.
    private(set) var bytes: [UInt8]
    /// Where the numbers within the events' ids are.
    private let numberOffsets: [Int]
    /// Behind each event, where its line feed is.
    private let lineEnds: [Int]
    /// Bytes before the first event.
    let headLength: Int

    /// - Parameters:
    ///   - head: what comes before the events, given their length; for an HTTP request its header.
    init(_ events: [PreparedEvent], head: (_ length: Int) -> [UInt8] = { _ in [] }) {
        bytes = head(events.reduce(0) { $0 + $1.line.count })
        headLength = bytes.count
        var offsets: [Int] = []
        var ends: [Int] = []
        for event in events {
            offsets.append(bytes.count + event.numberOffset)
            bytes += event.line
            ends.append(bytes.count - 1)
        }
        numberOffsets = offsets
        lineEnds = ends
    }

    /// Events of the body.
    var eventCount: Int { numberOffsets.count }

    /// Bytes of the events, with their line feeds.
    var eventBytes: Int { bytes.count - headLength }

    /// Gives the events the numbers from `first` on.
    mutating func renumber(from first: UInt64) {
        var digits = EventNumber.digits(first)
        bytes.withUnsafeMutableBytes { target in
            for offset in numberOffsets {
                target.storeBytes(of: digits, toByteOffset: offset, as: SIMD16<UInt8>.self)
                EventNumber.increment(&digits)
            }
        }
    }

    /// The lines without their line feeds, in order.
    func forEachLine(_ body: (UnsafeRawBufferPointer) throws -> Void) rethrows {
        try bytes.withUnsafeBytes { bytes in
            var start = headLength
            for end in lineEnds {
                try body(UnsafeRawBufferPointer(rebasing: bytes[start..<end]))
                start = end + 1
            }
        }
    }
}

/// The number at the end of a generated event's id.
///
/// Ids are a prefix and 16 digits: 4 of a *lane* (a connection, a producer) and 12 that count within it. So what a lane
/// has sent is a range of numbers, ids of a range are neighbors in the order of strings too, and what was acknowledged
/// takes two numbers of a ledger, however much it was.
enum EventNumber {
    /// Digits.
    static let length = 16
    /// Numbers of one lane.
    static let laneSize: UInt64 = 1_000_000_000_000
    /// Lanes that the digits have room for.
    static let lanes = 10_000

    /// As ASCII.
    static func digits(_ number: UInt64) -> SIMD16<UInt8> {
        var digits = SIMD16<UInt8>(repeating: 0x30)
        var rest = number
        var index = length - 1
        while rest > 0 && index >= 0 {
            digits[index] = 0x30 + UInt8(rest % 10)
            rest /= 10
            index -= 1
        }
        return digits
    }

    /// Adds 1.
    @inline(__always)
    static func increment(_ digits: inout SIMD16<UInt8>) {
        var index = length - 1
        while digits[index] == 0x39 && index > 0 {
            digits[index] = 0x30
            index -= 1
        }
        digits[index] += 1
    }

    /// As text.
    static func text(_ number: UInt64) -> String {
        let digits = digits(number)
        return String(decoding: (0..<length).map { digits[$0] }, as: UTF8.self)
    }
}
