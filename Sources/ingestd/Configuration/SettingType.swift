import IngestCore

/// Why a text is not a value of its type.
struct InvalidValue: Error, Equatable {
    /// Completes "the value ...": `is not a whole number`. Never contains a secret.
    let reason: String
    /// The text may hold a secret although the setting is none.
    let hidesText: Bool

    init(_ reason: String, hidesText: Bool = false) {
        self.reason = reason
        self.hidesText = hidesText
    }
}

/// How the text of a setting becomes a value, and back.
struct SettingType<Value: Sendable>: Sendable {
    /// What is allowed, for errors and documentation.
    let allowed: String
    /// Whether the text must never be printed, and may come from a file.
    var isSecret = false
    /// Whether several values, separated by commas, make sense.
    var isList = false
    /// Whether a flag without a value means `true`.
    var isSwitch = false
    let parse: @Sendable (String) throws(InvalidValue) -> Value
    /// The text that gives this value, secrets redacted; `nil` where the value stands for "not set".
    let format: @Sendable (Value) -> String?

    /// The same, for a setting that can be left out.
    func optional() -> SettingType<Value?> {
        SettingType<Value?>(
            allowed: allowed, isSecret: isSecret, isList: isList, isSwitch: isSwitch,
            parse: { text throws(InvalidValue) in try parse(text) }, format: { $0.flatMap(format) })
    }

    /// The same, where an empty text stands for "not set".
    func emptyIsNone() -> SettingType<Value?> {
        SettingType<Value?>(
            allowed: "\(allowed), or empty for none", isSecret: isSecret, isList: isList, isSwitch: isSwitch,
            parse: { text throws(InvalidValue) in text.isEmpty ? nil : try parse(text) },
            format: { $0.map { format($0) ?? "" } ?? "" })
    }
}

// MARK: - Numbers, sizes, durations, choices

extension SettingType where Value == Int {
    static func integer(_ range: ClosedRange<Int>, of noun: String = "a whole number") -> Self {
        SettingType(
            allowed: "\(noun) from \(range.lowerBound) to \(range.upperBound)",
            parse: { text throws(InvalidValue) in
                guard let value = Units.digits(text) else { throw InvalidValue("is not a whole number") }
                try requireIn(range, value)
                return value
            },
            format: { String($0) })
    }

    static let port = integer(0...65_535, of: "a port")

    /// Bytes: `65536`, `64KiB`, `16MiB`.
    static func size(_ range: ClosedRange<Int>) -> Self {
        SettingType(
            allowed: "a size from \(Units.size(range.lowerBound)) to \(Units.size(range.upperBound)),"
                + " in bytes or with a unit: 65536, 64KiB, 16MiB, 8GiB",
            parse: { text throws(InvalidValue) in
                let value = try Units.parseSize(text)
                try requireIn(range, value)
                return value
            },
            format: { Units.size($0) })
    }
}

extension SettingType where Value == Duration {
    /// A duration with its unit: `500ms`, `2s`, `24h`. Milliseconds are the finest.
    static func duration(_ range: ClosedRange<Duration>) -> Self {
        SettingType(
            allowed: "a duration from \(Units.duration(range.lowerBound)) to \(Units.duration(range.upperBound)),"
                + " with a unit: 500ms, 2s, 1m, 24h, 7d",
            parse: { text throws(InvalidValue) in
                let value = try Units.parseDuration(text)
                try requireIn(range, value)
                return value
            },
            format: { Units.duration($0) })
    }
}

private func requireIn<Value: Comparable>(_ range: ClosedRange<Value>, _ value: Value) throws(InvalidValue) {
    guard value >= range.lowerBound else { throw InvalidValue("is too small") }
    guard value <= range.upperBound else { throw InvalidValue("is too large") }
}

extension SettingType where Value == Bool {
    static let bool = SettingType(
        allowed: "true or false", isSwitch: true,
        parse: { text throws(InvalidValue) in
            switch text.lowercased() {
            case "true", "yes", "on", "1": return true
            case "false", "no", "off", "0": return false
            default: throw InvalidValue("is neither true nor false")
            }
        },
        format: { String($0) })
}

extension SettingType where Value: CaseIterable & RawRepresentable, Value.RawValue == String {
    /// One of the words.
    static func choice() -> Self {
        let words = Value.allCases.map(\.rawValue).joined(separator: ", ")
        return SettingType(
            allowed: "one of \(words)",
            parse: { text throws(InvalidValue) in
                guard let value = Value(rawValue: text.lowercased()) else {
                    throw InvalidValue("is none of the choices")
                }
                return value
            },
            format: { $0.rawValue })
    }
}

// MARK: - Texts

extension SettingType where Value == String {
    /// A text that `isValid` accepts, of 1 to `maximumBytes` bytes.
    static func text(
        _ allowed: String, maximumBytes: Int = 4_096, where isValid: @escaping @Sendable (String) -> Bool
    ) -> Self {
        SettingType(
            allowed: allowed,
            parse: { text throws(InvalidValue) in
                guard !text.isEmpty else { throw InvalidValue("is empty") }
                guard text.utf8.count <= maximumBytes else { throw InvalidValue("is too long") }
                guard isValid(text) else { throw InvalidValue("is not allowed") }
                return text
            },
            format: { $0 })
    }

    static let path = text("a path", where: Syntax.hasNoControlCharacters)
    static let line = text("a text without control characters", where: Syntax.hasNoControlCharacters)
    static let host = text("a host name or IP address", where: Syntax.isHost)
    static let topic = text(
        "a topic name: up to 249 letters, digits, dots, underscores and hyphens", where: Syntax.isTopic)
    static let topicOrPattern = SettingType(
        allowed:
            "a topic name (up to 249 letters, digits, dots, underscores and hyphens) or a pattern, which is a POSIX"
            + " extended regular expression that begins with ^",
        parse: { text throws(InvalidValue) in
            try Syntax.checkTopicOrPattern(text)
            return text
        },
        format: { $0 })
    static let origin = text(
        "* or an origin such as https://app.example.com", maximumBytes: 1_000, where: Syntax.isOrigin)
    static let identifier = text(
        "a name of letters, digits and underscores that does not begin with a digit", where: Syntax.isIdentifier)
    static let table = text(
        "table or database.table, of letters, digits and underscores", where: Syntax.isTable)
    static let server = text("host or host:port", where: Syntax.isHostAndPort)
}

extension SettingType where Value == Secret {
    /// What fits behind `Authorization: Bearer`. An empty one is an error: it would look like protection.
    static let token = SettingType(
        allowed: "visible ASCII characters without spaces, at most 4096; leave the setting out for no token",
        isSecret: true,
        parse: { text throws(InvalidValue) in
            guard !text.isEmpty else { throw InvalidValue("is empty") }
            guard text.utf8.count <= 4_096, text.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
                throw InvalidValue("has characters that a token cannot have, or too many")
            }
            return Secret(text)
        },
        format: { $0.description })

    /// May be empty. It travels in an HTTP header.
    static let password = SettingType(
        allowed: "a text without control characters, at most 4096 bytes", isSecret: true,
        parse: { text throws(InvalidValue) in
            guard text.utf8.count <= 4_096, Syntax.hasNoControlCharacters(text) else {
                throw InvalidValue("has control characters (a line feed?), or is too long")
            }
            return Secret(text)
        },
        format: { $0.value.isEmpty ? "" : $0.description })
}

// MARK: - Lists

extension SettingType {
    /// Items separated by commas; spaces around them are ignored. No item may occur twice.
    /// - Parameter count: how many items there may be.
    static func list<Item: Sendable & Equatable>(
        of type: SettingType<Item>, count: ClosedRange<Int> = 0...1_000
    ) -> SettingType<[Item]> where Value == [Item] {
        SettingType<[Item]>(
            allowed: "\(type.allowed); several separated by commas" + (count.lowerBound == 0 ? ", or empty" : ""),
            isList: true,
            parse: { text throws(InvalidValue) in
                var items: [Item] = []
                for (index, part) in Syntax.items(text).enumerated() {
                    do throws(InvalidValue) {
                        let item = try type.parse(part)
                        guard !items.contains(item) else { throw InvalidValue("occurs twice") }
                        items.append(item)
                    } catch {
                        throw InvalidValue(
                            "has a bad item: item \(index + 1) \(error.reason)", hidesText: error.hidesText)
                    }
                }
                guard items.count >= count.lowerBound else { throw InvalidValue("is empty") }
                guard items.count <= count.upperBound else { throw InvalidValue("has too many items") }
                return items
            },
            format: { Syntax.joined($0.map { type.format($0) ?? "" }) })
    }
}

extension SettingType where Value == ServerURL {
    static let url = SettingType(
        allowed: "http://host:port or https://host:port, without path and query",
        parse: { text throws(InvalidValue) in
            guard !text.contains("@") else {
                throw InvalidValue(
                    "has a user or password in it; they belong into CLICKHOUSE_USER and CLICKHOUSE_PASSWORD",
                    hidesText: true)
            }
            guard let end = text.firstRange(of: "://"),
                let scheme = ServerURL.Scheme(rawValue: text[..<end.lowerBound].lowercased())
            else { throw InvalidValue("does not begin with http:// or https://") }
            var rest = text[end.upperBound...]
            if rest.hasSuffix("/") { rest = rest.dropLast() }
            guard !rest.contains(where: { $0 == "/" || $0 == "?" || $0 == "#" }) else {
                throw InvalidValue("has a path, query or fragment", hidesText: true)
            }
            guard let (host, port) = Syntax.hostAndPort(rest) else { throw InvalidValue("has no valid host and port") }
            return ServerURL(scheme: scheme, host: host, port: port)
        },
        format: { $0.description })
}

extension SettingType where Value == [StreamRoute] {
    static let routes = SettingType(
        allowed: "topic-or-path=table, several separated by commas, or empty", isList: true,
        parse: { text throws(InvalidValue) in
            try Syntax.pairs(text) { name, table throws(InvalidValue) in
                try Syntax.checkTopicOrPattern(name)
                guard Syntax.isTable(table) else { throw InvalidValue("has a bad table name") }
                return StreamRoute(name: name, table: table)
            }
        },
        format: { Syntax.joined($0.map { "\($0.name)=\($0.table)" }) })
}

extension SettingType where Value == [EventIDSource] {
    static let eventIDSources = SettingType(
        allowed: "topic=field:NAME or topic=header:NAME, several separated by commas, or empty", isList: true,
        parse: { text throws(InvalidValue) in
            try Syntax.pairs(text) { topic, source throws(InvalidValue) in
                try Syntax.checkTopicOrPattern(topic)
                let parts = source.split(separator: ":", maxSplits: 1)
                guard parts.count == 2, let place = EventIDSource.Place(rawValue: String(parts[0])) else {
                    throw InvalidValue("names neither field: nor header:")
                }
                guard parts[1].utf8.count <= 256, Syntax.hasNoControlCharacters(String(parts[1])) else {
                    throw InvalidValue("has a bad field or header name")
                }
                return EventIDSource(topic: topic, place: place, name: String(parts[1]))
            }
        },
        format: { Syntax.joined($0.map { "\($0.topic)=\($0.place.rawValue):\($0.name)" }) })
}

extension SettingType where Value == [Int: FailureClass] {
    static let errorClasses: Self = {
        let classes = FailureClass.allCases.map(\.rawValue).joined(separator: ", ")
        return SettingType(
            allowed: "code=class, several separated by commas, or empty; classes are \(classes)", isList: true,
            parse: { text throws(InvalidValue) in
                let pairs = try Syntax.pairs(text) { code, name throws(InvalidValue) -> (Int, FailureClass) in
                    guard let code = Units.digits(code), (1...99_999).contains(code) else {
                        throw InvalidValue("has a bad exception code")
                    }
                    guard let failureClass = FailureClass(rawValue: name) else {
                        throw InvalidValue("has an unknown class")
                    }
                    return (code, failureClass)
                }
                return Dictionary(pairs, uniquingKeysWith: { first, _ in first })
            },
            format: { $0.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value.rawValue)" }.joined(separator: ",") })
    }()
}

extension SettingType where Value == [KafkaProperty] {
    /// Properties that the service's guarantees or other settings depend on, and what to do instead.
    private static let reserved = [
        "enable.auto.commit": "the service commits what is in ClickHouse",
        "auto.commit.enable": "the service commits what is in ClickHouse",
        "enable.auto.offset.store": "the service commits what is in ClickHouse",
        "bootstrap.servers": "use KAFKA_BOOTSTRAP_SERVERS",
        "metadata.broker.list": "use KAFKA_BOOTSTRAP_SERVERS",
        "group.id": "use KAFKA_GROUP_ID",
    ]

    /// Names without a dot that librdkafka has. Other names without one are more likely the rest of a password with a
    /// comma in it; so they are refused, and not repeated.
    private static let shortNames: Set = ["debug", "acks", "retries", "partitioner"]

    static let kafkaProperties = SettingType(
        allowed: #"name=value, several separated by commas, or empty; a comma within a value is written "\,""#
            + #" and a backslash before a comma "\\""#,
        isSecret: true, isList: true,
        parse: { text throws(InvalidValue) in
            try Syntax.pairs(text) { name, value throws(InvalidValue) in
                let isName = name.utf8.allSatisfy { byte in
                    Syntax.isLetterOrDigit(byte) || [0x2e, 0x5f, 0x2d].contains(byte)
                }
                guard isName, name.contains(".") || shortNames.contains(name) else {
                    throw InvalidValue("does not begin with the name of a librdkafka property")
                }
                if let instead = reserved[name] { throw InvalidValue("sets \(name), which is not allowed: \(instead)") }
                guard name.hasSuffix(".pem") || !value.contains("\n") else {
                    throw InvalidValue("sets \(name) to more than one line")
                }
                return KafkaProperty(name: name, value: Secret(value))
            }
        },
        format: { $0.map { "\($0.name)=\($0.value)" }.joined(separator: ",") })
}
