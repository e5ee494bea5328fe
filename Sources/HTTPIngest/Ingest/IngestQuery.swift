/// The parameters of an ingest request.
struct IngestQuery: Equatable {
    /// How long to wait until the events are in ClickHouse (`ack=inserted`); `nil` answers once they are on stable
    /// storage.
    private(set) var insertionTimeout: Duration?
    /// Whether bad events become dead letters (`on_error=dead_letter`); else one of them refuses the whole request.
    private(set) var keepsBadEvents = false

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
        for (name, value) in try QueryParameters(query).pairs {
            switch name {
            case "ack":
                guard value == "inserted" else {
                    throw .badParameter(
                        "ack can be \"inserted\"; without it the answer comes once the events are on stable storage")
                }
                isInserted = true
            case "timeout":
                guard let duration = Self.duration(value), duration > .zero, duration <= Self.longestTimeout else {
                    throw .badParameter("timeout is a number and a unit, 500ms, 10s or 2m; 5m at most")
                }
                timeout = duration
            case "on_error":
                guard value == "dead_letter" else {
                    throw .badParameter(
                        "on_error can be \"dead_letter\"; without it a bad event refuses the whole request")
                }
                keepsBadEvents = true
            default:
                throw .unknownParameter(name)
            }
        }
        guard isInserted || timeout == nil else { throw .badParameter("timeout goes with ack=inserted") }
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
