import Glibc

/// An event whose id is to be filled in.
struct PreparedEvent {
    /// The JSON object and a line feed.
    var line: [UInt8]
    /// Where the 16 digits of its number are.
    var numberOffset: Int
}

/// Which sizes generated events have.
public enum EventSizes: String, Sendable, CaseIterable, Encodable {
    /// All the same, and the same content but for the id.
    case fixed
    /// A log-normal distribution around the size asked for, with content that differs: a few are ten times as long as
    /// most, as among real events.
    case realistic
}

/// Makes events. The same seed makes the same events.
struct EventGenerator {
    private let sizes: EventSizes
    private let eventBytes: Int
    private let prefix: String
    private var random: Random

    /// - Parameters:
    ///   - eventBytes: of one event without its line feed, or their mean; at least what id and frame need.
    ///   - prefix: of all ids, so that runs don't collide.
    init(sizes: EventSizes = .fixed, eventBytes: Int, prefix: String, seed: UInt64) {
        self.sizes = sizes
        self.eventBytes = eventBytes
        self.prefix = prefix
        random = Random(state: seed)
    }

    mutating func events(_ count: Int) -> [PreparedEvent] { (0..<count).map { _ in next() } }

    mutating func next() -> PreparedEvent {
        switch sizes {
        case .fixed:
            event(
                "\",\"type\":\"page_view\",\"user\":{\"id\":48151623,\"plan\":\"pro\"},\"path\":\"/docs/getting-started\","
                    + "\"ms\":37,\"note\":\"", bytes: eventBytes)
        case .realistic: realistic()
        }
    }

    private mutating func realistic() -> PreparedEvent {
        let type = Self.types[random.index(Self.types.count)]
        let middle =
            "\",\"type\":\"\(type)\",\"user\":{\"id\":\(random.next() % 10_000_000),\"plan\":"
            + "\"\(Self.plans[random.index(Self.plans.count)])\"},\"session\":\"\(String(random.next(), radix: 16))\","
            + "\"path\":\"/\(word())/\(word())\",\"ms\":\(random.next() % 5_000),\"note\":\""
        // The mean of a log-normal distribution is exp(mu + sigma^2/2).
        let sigma = 0.7
        let size = exp(log(Double(eventBytes)) - sigma * sigma / 2 + sigma * random.normal())
        return event(middle, bytes: min(Int(size), 32 * eventBytes))
    }

    private mutating func event(_ middle: String, bytes: Int) -> PreparedEvent {
        let head = "{\"event_id\":\"\(prefix)"
        let tail = "\"}\n"
        let frame = head.utf8.count + EventNumber.length + middle.utf8.count + tail.utf8.count - 1
        var filler = ""
        while filler.utf8.count < bytes - frame {
            filler += sizes == .fixed ? "lorem ipsum dolor sit amet " : word() + " "
        }
        filler = String(filler.prefix(max(0, bytes - frame)))
        return PreparedEvent(
            line: Array((head + EventNumber.text(0) + middle + filler + tail).utf8), numberOffset: head.utf8.count)
    }

    private mutating func word() -> String { Self.words[random.index(Self.words.count)] }

    private static let types = [
        "page_view", "click", "search", "add_to_cart", "purchase", "sign_in", "sign_out", "error", "scroll", "share",
    ]
    private static let plans = ["free", "pro", "team", "enterprise"]
    private static let words = """
        account answer basket batch button cable camera cart change checkout column coupon detail device disk docs \
        error event export field filter form gift help image import invoice item journal key label language ledger \
        letter light list login machine map market message note offer order page parcel part payment phone plan price \
        product profile query queue reader refund report result return review route rule search seat session setting \
        shelf shop signal size stock store stream table tag test ticket token total tour upload user value version \
        video view visit voucher week window word writer zone
        """.split(separator: " ").map(String.init)
}

/// A small seeded generator (SplitMix64; Steele, Lea and Flood, 2014).
struct Random: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// Below `count`.
    mutating func index(_ count: Int) -> Int { Int(next() % UInt64(count)) }

    /// From 0 to below 1.
    mutating func fraction() -> Double { Double(next() >> 11) / Double(1 << 53) }

    /// Of the standard normal distribution (Box and Muller, 1958).
    mutating func normal() -> Double {
        let radius = sqrt(-2 * log(1 - fraction()))
        return radius * cos(2 * Double.pi * fraction())
    }
}
