/// The header `Accept` (RFC 9110, section 12.5.1).
enum AcceptHeader {
    /// Whether a client takes answers of a type.
    /// - Parameters:
    ///   - type: in lower case, without parameters.
    ///   - value: of the header.
    static func allows(_ type: String, _ value: String) -> Bool {
        if value == "*/*" || value == type || value.isEmpty { return true }
        let family = type.prefix { $0 != "/" } + "/*"
        // Of the ranges that cover the type the most specific one counts.
        var specificity = 0
        var isAllowed = false
        for element in value.split(separator: ",") {
            let parts = element.split(separator: ";").map { $0.filter { $0 != " " && $0 != "\t" }.lowercased() }
            guard let range = parts.first else { continue }
            let rank = range == type ? 3 : range == family ? 2 : range == "*/*" ? 1 : 0
            guard rank > 0, rank >= specificity else { continue }
            let isDeclined = parts.dropFirst().contains { isZeroWeight($0) }
            isAllowed = rank == specificity ? isAllowed || !isDeclined : !isDeclined
            specificity = rank
        }
        return isAllowed
    }

    /// Whether a client asks for a type by its full name.
    /// - Parameters: as above.
    static func names(_ type: String, _ value: String) -> Bool {
        value.split(separator: ",").contains { element in
            let parts = element.split(separator: ";").map { $0.filter { $0 != " " && $0 != "\t" }.lowercased() }
            return parts.first == type && !parts.dropFirst().contains { isZeroWeight($0) }
        }
    }

    /// Whether a parameter is `q=0`, `q=0.0` and so on.
    private static func isZeroWeight(_ parameter: String) -> Bool {
        parameter.hasPrefix("q=0") && parameter.dropFirst(3).allSatisfy { $0 == "0" || $0 == "." }
    }
}
