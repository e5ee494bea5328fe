/// How large batches are cut at present: smaller while the server finds them too large, rarer while it has too many
/// parts, and back to what is configured as inserts succeed.
struct BatchLimits {
    private static let smallestShare = 256
    private static let longestStretch: UInt64 = 16
    /// Inserts in a row after which batches grow by one step.
    private static let growAfter = 4

    private let configuration: FlushConfiguration
    private var divisor = 1
    private var stretch: UInt64 = 1
    private var successes = 0

    init(_ configuration: FlushConfiguration) { self.configuration = configuration }

    var maxRows: Int { max(1, configuration.batchMaxRows / divisor) }
    var maxBytes: Int { max(1, configuration.batchMaxBytes / divisor) }
    var maxAge: UInt64 { configuration.batchMaxAge * stretch }

    /// The server could not take a batch because of its size.
    mutating func shrink() {
        divisor = min(divisor * 2, Self.smallestShare)
        successes = 0
    }

    /// The server has too many small parts.
    mutating func stretchAge() {
        stretch = min(stretch * 2, Self.longestStretch)
        successes = 0
    }

    mutating func noteSuccess() {
        guard divisor > 1 || stretch > 1 else { return }
        successes += 1
        guard successes == Self.growAfter else { return }
        successes = 0
        divisor = max(1, divisor / 2)
        stretch = max(1, stretch / 2)
    }
}
