/// The parameters of an ingest request.
struct IngestQuery: Equatable {
    /// How long to wait until the events are in ClickHouse (`ack=inserted`); `nil` answers once they are on stable
    /// storage.
    private(set) var insertionTimeout: Duration?

    /// Wait of `ack=inserted` without `timeout`.
    static let defaultTimeout = Duration.seconds(10)
    /// Longest wait that may be asked for.
    static let longestTimeout = Duration.seconds(300)

    /// - Parameter query: what follows the `?`, if anything does.
    /// - Throws: `Problem` 400 at anything unknown: a typing error must not weaken what the client relies on.
    init(_ query: String?) throws(Problem) {
        guard let query, !query.isEmpty else { return }
        var isInserted = false
        var timeout: Duration?
        for pair in query.utf8.split(separator: UInt8(ascii: "&")) {
            let parts = pair.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            let name = PercentEncoding.decode(parts[0]) ?? ""
            let value = parts.count == 2 ? PercentEncoding.decode(parts[1]) ?? "" : ""
            switch name {
            case "ack":
                guard value == "inserted" else {
                    throw .badRequest(
                        "bad_parameter",
                        "ack can be \"inserted\"; without it the answer comes once the events are on stable storage")
                }
                isInserted = true
            case "timeout":
                guard let duration = Self.duration(value), duration > .zero, duration <= Self.longestTimeout else {
                    throw .badRequest("bad_parameter", "timeout is a number and a unit, 500ms, 10s or 2m; 5m at most")
                }
                timeout = duration
            default:
                throw .badRequest("bad_parameter", "unknown parameter \"\(name)\"")
            }
        }
        guard isInserted || timeout == nil else {
            throw .badRequest("bad_parameter", "timeout goes with ack=inserted")
        }
        if isInserted { insertionTimeout = timeout ?? Self.defaultTimeout }
    }

    private static func duration(_ text: String) -> Duration? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard digits.count <= 9, let number = Int(digits) else { return nil }
        switch text.dropFirst(digits.count) {
        case "ms": return .milliseconds(number)
        case "s": return .seconds(number)
        case "m": return .seconds(number * 60)
        default: return nil
        }
    }
}
