import IngestCore

/// Durations and sizes as text.
enum Units {
    private static let sizes = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
    private static let durations = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)]

    /// Decimal digits and nothing else; `nil` otherwise, also when the number is too large.
    static func digits(_ text: some StringProtocol) -> Int? {
        guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        return Int(text)
    }

    static func parseSize(_ text: String) throws(InvalidValue) -> Int {
        let (number, unit) = try split(text)
        if unit.isEmpty { return number }
        guard let factor = sizes.first(where: { $0.0.lowercased() == unit.lowercased() })?.1 else {
            throw InvalidValue("has an unknown unit")
        }
        return try multiply(number, factor)
    }

    static func parseDuration(_ text: String) throws(InvalidValue) -> Duration {
        let (number, unit) = try split(text)
        if unit.isEmpty {
            guard number == 0 else { throw InvalidValue("has no unit: add one, such as \(number)s or \(number)ms") }
            return .zero
        }
        guard let factor = durations.first(where: { $0.0 == unit })?.1 else {
            throw InvalidValue("has an unknown unit")
        }
        return .milliseconds(try multiply(number, factor))
    }

    /// With the largest unit that leaves a whole number.
    static func size(_ bytes: Int) -> String {
        for (unit, factor) in sizes where bytes >= factor && bytes % factor == 0 { return "\(bytes / factor)\(unit)" }
        return String(bytes)
    }

    /// With the largest unit that leaves a whole number. Exact for whole milliseconds, which is all that can be set.
    static func duration(_ duration: Duration) -> String {
        let (seconds, attoseconds) = duration.components
        let milliseconds = Int(seconds) * 1_000 + Int(attoseconds / 1_000_000_000_000_000)
        for (unit, factor) in durations where milliseconds >= factor && milliseconds % factor == 0 {
            return "\(milliseconds / factor)\(unit)"
        }
        return "0s"
    }

    private static func split(_ text: String) throws(InvalidValue) -> (number: Int, unit: Substring) {
        let number = text.prefix { ("0"..."9").contains($0) }
        guard !number.isEmpty else { throw InvalidValue("does not begin with a whole number") }
        guard let value = digits(number) else { throw InvalidValue("is too large") }
        return (value, text.dropFirst(number.count))
    }

    private static func multiply(_ number: Int, _ factor: Int) throws(InvalidValue) -> Int {
        let (product, overflow) = number.multipliedReportingOverflow(by: factor)
        guard !overflow else { throw InvalidValue("is too large") }
        return product
    }
}

/// What names, hosts and lists look like.
enum Syntax {
    static func isLetterOrDigit(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x5a).contains(byte) || (0x61...0x7a).contains(byte)
    }

    static func hasNoControlCharacters(_ text: String) -> Bool {
        text.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7f }
    }

    /// A ClickHouse identifier that needs no quotes.
    static func isIdentifier(_ text: String) -> Bool {
        guard let first = text.utf8.first, !(0x30...0x39).contains(first), text.utf8.count <= 200 else { return false }
        return text.utf8.allSatisfy { isLetterOrDigit($0) || $0 == 0x5f }
    }

    static func isTable(_ text: String) -> Bool {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count <= 2 && parts.allSatisfy { isIdentifier(String($0)) }
    }

    /// Kafka's rule (org.apache.kafka.common.internals.Topic).
    static func isTopic(_ text: String) -> Bool {
        (1...249).contains(text.utf8.count) && text != "." && text != ".."
            && text.utf8.allSatisfy { isLetterOrDigit($0) || [0x2e, 0x5f, 0x2d].contains($0) }
    }

    /// A topic's name, or a pattern of topics.
    static func checkTopicOrPattern(_ text: String) throws(InvalidValue) {
        guard TopicPattern.isPattern(text) else {
            guard isTopic(text) else { throw InvalidValue("has a bad topic name") }
            return
        }
        guard hasNoControlCharacters(text), text.utf8.count <= 1_000 else {
            throw InvalidValue("has a pattern with control characters, or a too long one")
        }
        do throws(TopicPattern.Invalid) {
            _ = try TopicPattern(text)
        } catch {
            throw InvalidValue("has a bad pattern (\(error))")
        }
    }

    /// `*`, or an origin as browsers send it (RFC 6454): scheme, host and port, without a slash at the end.
    static func isOrigin(_ text: String) -> Bool {
        if text == "*" { return true }
        guard let end = text.firstRange(of: "://") else { return false }
        return ["http", "https"].contains(String(text[..<end.lowerBound]))
            && isHostAndPort(String(text[end.upperBound...]))
    }

    /// A name, an IPv4 address, or an IPv6 address without brackets.
    static func isHost(_ text: String) -> Bool {
        let isName = text.utf8.allSatisfy { isLetterOrDigit($0) || [0x2e, 0x5f, 0x2d].contains($0) }
        let isIPv6 = text.contains(":") && text.utf8.allSatisfy { isHexDigitOrColon($0) || $0 == 0x2e }
        return !text.isEmpty && text.utf8.count <= 253 && (isName || isIPv6)
    }

    static func isHostAndPort(_ text: String) -> Bool { hostAndPort(text[...]) != nil }

    /// `host`, `host:port`, `[::1]` or `[::1]:port`.
    static func hostAndPort(_ text: Substring) -> (host: String, port: Int?)? {
        let hostEnd: Substring.Index
        if text.first == "[" {
            guard let bracket = text.firstIndex(of: "]") else { return nil }
            let address = String(text[text.index(after: text.startIndex)..<bracket])
            guard address.contains(":"), isHost(address) else { return nil }
            hostEnd = text.index(after: bracket)
        } else {
            hostEnd = text.firstIndex(of: ":") ?? text.endIndex
            guard isHost(String(text[..<hostEnd])) else { return nil }
        }
        let host = String(text[..<hostEnd])
        let rest = text[hostEnd...]
        if rest.isEmpty { return (host, nil) }
        guard rest.first == ":", let port = Units.digits(rest.dropFirst()), (1...65_535).contains(port) else {
            return nil
        }
        return (host, port)
    }

    private static func isHexDigitOrColon(_ byte: UInt8) -> Bool {
        (0x30...0x3a).contains(byte) || (0x41...0x46).contains(byte) || (0x61...0x66).contains(byte)
    }

    // MARK: - Lists

    /// Splits at commas and trims spaces; an empty text has no items. `\,` is a comma and `\\` a backslash within an
    /// item; before anything else a backslash is itself.
    static func items(_ text: String) -> [String] {
        guard text.unicodeScalars.contains(where: { $0 != " " }) else { return [] }
        var items: [String] = []
        var item = String.UnicodeScalarView()
        var isEscape = false
        for scalar in text.unicodeScalars {
            if isEscape {
                if scalar != "," && scalar != "\\" { item.append("\\") }
                item.append(scalar)
                isEscape = false
            } else if scalar == "\\" {
                isEscape = true
            } else if scalar == "," {
                items.append(trimmed(item))
                item = .init()
            } else {
                item.append(scalar)
            }
        }
        if isEscape { item.append("\\") }
        items.append(trimmed(item))
        return items
    }

    /// The text that `items(_:)` splits into these.
    static func joined(_ items: [String]) -> String {
        items.map { item in
            var result = String.UnicodeScalarView()
            for scalar in item.unicodeScalars {
                if scalar == "," || scalar == "\\" { result.append("\\") }
                result.append(scalar)
            }
            return String(result)
        }.joined(separator: ",")
    }

    /// Items of the form `name=value`, each name once.
    static func pairs<Item>(
        _ text: String, _ make: (String, String) throws(InvalidValue) -> Item
    ) throws(InvalidValue) -> [Item] {
        var names: Set<String> = []
        var result: [Item] = []
        for (index, item) in items(text).enumerated() {
            do throws(InvalidValue) {
                guard let equals = item.unicodeScalars.firstIndex(of: "=") else { throw InvalidValue("has no \"=\"") }
                let name = trimmed(item.unicodeScalars[..<equals])
                let value = trimmed(item.unicodeScalars[item.unicodeScalars.index(after: equals)...])
                let made = try make(name, value)
                guard names.insert(name).inserted else { throw InvalidValue("names \(name) again") }
                result.append(made)
            } catch {
                throw InvalidValue("has a bad item: item \(index + 1) \(error.reason)")
            }
        }
        return result
    }

    private static func trimmed(_ scalars: some BidirectionalCollection<Unicode.Scalar>) -> String {
        var rest = scalars[...]
        while rest.first == " " { rest = rest.dropFirst() }
        while rest.last == " " { rest = rest.dropLast() }
        var result = String.UnicodeScalarView()
        result.append(contentsOf: rest)
        return String(result)
    }
}
