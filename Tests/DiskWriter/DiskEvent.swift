import Glibc

/// Events whose bytes follow from what is written at their beginning, so that whoever reads one back can tell that
/// nothing of it is missing, and whose it is.
///
///     {"u":SUBMISSION,"i":INDEX,"n":BYTES,"f":"... BYTES bytes ..."}
struct DiskEvent: Equatable {
    /// Number of the submission: unique in a journal's life.
    let submission: Int
    /// Place in the submission.
    let index: Int
    /// Length of the filler.
    let bytes: Int

    /// Printable bytes that don't repeat at any distance that matters.
    private static let block: [UInt8] = {
        var random = SeededGenerator(seed: 1)
        return (0..<(1 << 20)).map { _ in 0x61 + UInt8(truncatingIfNeeded: random.next() % 26) }
    }()

    private var filler: ArraySlice<UInt8> {
        let start = (submission &* 7_919 &+ index &* 104_729) % (Self.block.count - bytes)
        return Self.block[start..<(start + bytes)]
    }

    /// The event as it is submitted.
    var payload: [UInt8] {
        Array(#"{"u":\#(submission),"i":\#(index),"n":\#(bytes),"f":""#.utf8) + filler + [0x22, 0x7D]
    }

    init(submission: Int, index: Int, bytes: Int) {
        self.submission = submission
        self.index = index
        self.bytes = bytes
    }

    /// Recognizes an event; `nil` unless every byte is as it was made.
    init?(payload: UnsafeRawBufferPointer) {
        var place = 0
        func number(after label: StaticString) -> Int? {
            guard payload.count - place > label.utf8CodeUnitCount else { return nil }
            place += label.utf8CodeUnitCount
            var value = 0
            while place < payload.count, payload[place] &- 0x30 < 10, value < 1 << 40 {
                value = value * 10 + Int(payload[place] - 0x30)
                place += 1
            }
            return value
        }
        guard let submission = number(after: #"{"u":"#), let index = number(after: #","i":"#),
            let bytes = number(after: #","n":"#), bytes < Self.block.count
        else { return nil }
        self.init(submission: submission, index: index, bytes: bytes)
        let isEqual = self.payload.withUnsafeBytes {
            $0.count == payload.count && memcmp($0.baseAddress!, payload.baseAddress!, payload.count) == 0
        }
        guard isEqual else { return nil }
    }
}

/// A generator whose numbers follow from its seed (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
