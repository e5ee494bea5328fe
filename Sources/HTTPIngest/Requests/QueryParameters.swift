/// The parameters of a request, each at most once.
struct QueryParameters {
    /// Names and values, decoded; a parameter without `=` has an empty value.
    let pairs: [(name: String, value: String)]

    /// - Parameter query: what follows the `?`, if anything does.
    /// - Throws: `Problem` 400.
    init(_ query: String?) throws(Problem) {
        var pairs: [(name: String, value: String)] = []
        for pair in (query ?? "").utf8.split(separator: UInt8(ascii: "&")) {
            let parts = pair.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = PercentEncoding.decode(parts[0]),
                let value = parts.count == 2 ? PercentEncoding.decode(parts[1]) : ""
            else { throw Problem.badParameter("the query is not percent-encoded UTF-8") }
            guard !pairs.contains(where: { $0.name == name }) else {
                throw Problem.badParameter("\"\(name)\" occurs more than once")
            }
            // More than any route knows: one of them is unknown.
            guard pairs.count < 16 else { throw Problem.badParameter("too many parameters") }
            pairs.append((name, value))
        }
        self.pairs = pairs
    }

    /// For routes that know none.
    /// - Throws: `Problem` 400.
    static func checkNone(_ query: String?) throws(Problem) {
        if let first = try QueryParameters(query).pairs.first { throw Problem.unknownParameter(first.name) }
    }
}
