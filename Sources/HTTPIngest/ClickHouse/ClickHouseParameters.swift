internal import HTTPTypes

/// What the head of a request to the ClickHouse endpoint says: parameters of the URL and headers.
struct ClickHouseParameters {
    /// The parameter `query`; empty if there is none.
    private(set) var query = ""
    /// The current database, for tables named without one.
    private(set) var database: String?
    /// The user's name, which is told back and means nothing.
    private(set) var user: String?
    /// What stands for the password; `nil` if there is none or it is empty.
    private(set) var secret: String?
    private(set) var queryID: String?
    private(set) var format: String?
    private(set) var compressesAnswer = false
    private(set) var hasParameters = false
    /// Values of `{name:Identifier}`.
    private(set) var substitutions: [String: String] = [:]
    private(set) var settings: [ClickHouseSetting] = []

    private static let maxPairs = 256

    /// - Parameter query: what follows the `?`, if anything does; `+` stands for a space.
    /// - Throws: codes 36, 516.
    init(_ query: String?, _ headers: HTTPFields) throws(ClickHouseError) {
        var password: String?
        var names: Set<String> = []
        var count = 0
        for pair in (query ?? "").utf8.split(separator: UInt8(ascii: "&")) {
            count += 1
            guard count <= Self.maxPairs else { throw ClickHouseError(.BAD_ARGUMENTS, "more than 256 parameters") }
            let parts = pair.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = Self.decode(parts[0]), let value = parts.count == 2 ? Self.decode(parts[1]) : "" else {
                throw ClickHouseError(.BAD_ARGUMENTS, "the URL's parameters are not percent-encoded UTF-8")
            }
            guard names.insert(name).inserted else {
                throw ClickHouseError(
                    .BAD_ARGUMENTS, "the parameter \(ClickHouseTokens.printable(name)) occurs more than once")
            }
            hasParameters = true
            switch name {
            case "": break
            case "query": self.query = value
            case "database": database = value.isEmpty ? nil : value
            case "user": user = value
            case "password": password = value
            case "query_id": queryID = value.isEmpty ? nil : value
            case "default_format": format = value.isEmpty ? nil : value
            case "compress": compressesAnswer = !["0", "false", ""].contains(value)
            case _ where name.hasPrefix("param_"): substitutions[String(name.dropFirst("param_".count))] = value
            default: settings.append(ClickHouseSetting(name: name, value: value))
            }
        }
        if let header = headers[.clickHouseDatabase], !header.isEmpty { database = header }
        if let header = headers[.clickHouseFormat], !header.isEmpty { format = header }
        if queryID == nil, let header = headers[.clickHouseQueryID], !header.isEmpty { queryID = header }
        try readCredentials(headers, password: password)
        if let queryID, !Self.isPrintable(queryID) {
            throw ClickHouseError(.BAD_ARGUMENTS, "query_id is at most 256 printable ASCII characters")
        }
    }

    /// Where ClickHouse looks for them, and like ClickHouse refuses more than one place.
    private mutating func readCredentials(_ headers: HTTPFields, password: String?) throws(ClickHouseError) {
        let hasParameters = user != nil || password != nil
        var found = password
        if headers[.clickHouseUser] != nil || headers[.clickHouseKey] != nil {
            guard !hasParameters, headers[.authorization] == nil else { throw Self.mixed }
            (user, found) = (headers[.clickHouseUser], headers[.clickHouseKey])
        } else if let authorization = headers[.authorization] {
            guard !hasParameters else { throw Self.mixed }
            let parts = authorization.split(separator: " ", maxSplits: 1)
            switch parts.first?.lowercased() {
            case "bearer": found = parts.count == 2 ? String(parts[1]) : nil
            case "basic":
                guard parts.count == 2, let decoded = Base64.decode(parts[1].utf8) else {
                    throw ClickHouseError(.AUTHENTICATION_FAILED, "Authorization: Basic holds no base64")
                }
                let pair = decoded.split(
                    separator: UInt8(ascii: ":"), maxSplits: 1, omittingEmptySubsequences: false)
                user = String(decoding: pair[0], as: UTF8.self)
                found = pair.count == 2 ? String(decoding: pair[1], as: UTF8.self) : nil
            default:
                throw ClickHouseError(
                    .AUTHENTICATION_FAILED, "Authorization takes Basic (the token as password) or Bearer")
            }
        }
        secret = found.flatMap { $0.isEmpty ? nil : $0 }
    }

    private static var mixed: ClickHouseError {
        ClickHouseError(
            .AUTHENTICATION_FAILED,
            "Invalid authentication: send the token in one place: X-ClickHouse-Key, Authorization, or password")
    }

    private static func decode(_ text: Substring.UTF8View) -> String? {
        PercentEncoding.decode(text.lazy.map { $0 == UInt8(ascii: "+") ? UInt8(ascii: " ") : $0 })
    }

    private static func isPrintable(_ text: String) -> Bool {
        text.utf8.count <= 256 && text.utf8.allSatisfy { (0x21...0x7e).contains($0) }
    }
}

/// Base64 of RFC 4648, section 4.
enum Base64 {
    private static let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")

    static func encode(_ bytes: some Sequence<UInt8>) -> String {
        var text = ""
        var bits: UInt32 = 0
        var count = 0
        for byte in bytes {
            bits = bits << 8 | UInt32(byte)
            count += 8
            while count >= 6 {
                count -= 6
                text.append(digits[Int(bits >> UInt32(count) & 63)])
            }
        }
        if count > 0 { text.append(digits[Int(bits << UInt32(6 - count) & 63)]) }
        while text.utf8.count % 4 > 0 { text.append("=") }
        return text
    }

    /// The decoded bytes; `nil` if it is none. Padding may lack.
    static func decode(_ text: some Sequence<UInt8>) -> [UInt8]? {
        var bytes: [UInt8] = []
        var bits: UInt32 = 0
        var count = 0
        var padding = 0
        for character in text {
            let value: UInt8
            switch character {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"): value = character - UInt8(ascii: "A")
            case UInt8(ascii: "a")...UInt8(ascii: "z"): value = character - UInt8(ascii: "a") + 26
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = character - UInt8(ascii: "0") + 52
            case UInt8(ascii: "+"): value = 62
            case UInt8(ascii: "/"): value = 63
            case UInt8(ascii: "="):
                padding += 1
                continue
            default: return nil
            }
            guard padding == 0 else { return nil }
            bits = bits << 6 | UInt32(value)
            count += 1
            if count % 4 == 0 {
                bytes += [UInt8(truncatingIfNeeded: bits >> 16), UInt8(truncatingIfNeeded: bits >> 8)]
                bytes.append(UInt8(truncatingIfNeeded: bits))
            }
        }
        guard padding <= 2 else { return nil }
        switch count % 4 {
        case 0: break
        case 2: bytes.append(UInt8(truncatingIfNeeded: bits >> 4))
        case 3: bytes += [UInt8(truncatingIfNeeded: bits >> 10), UInt8(truncatingIfNeeded: bits >> 2)]
        default: return nil
        }
        return bytes
    }
}
