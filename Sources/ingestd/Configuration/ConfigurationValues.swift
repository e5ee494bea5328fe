/// A password, token or the like. Prints, dumps and interpolates as `<redacted>`; only `value` gives it away.
struct Secret: Sendable, Equatable, CustomStringConvertible, CustomReflectable {
    /// The secret itself: not for logs or errors.
    let value: String

    init(_ value: String) { self.value = value }

    var description: String { "<redacted>" }

    var customMirror: Mirror { Mirror(self, children: []) }
}

/// One librdkafka property. The value may be a secret (`sasl.password`) and is kept as one.
struct KafkaProperty: Sendable, Equatable {
    let name: String
    let value: Secret
}

/// A route of the setting `STREAMS`: events of this topic, or posted to this path, go to this table.
struct StreamRoute: Sendable, Equatable {
    /// Kafka topic or `{stream}` part of the path, or a pattern of topics that begins with `^`.
    let name: String
    /// `table` or `database.table`.
    let table: String
}

/// Where the events of a Kafka topic have their ids (setting `EVENT_ID_SOURCES`).
struct EventIDSource: Sendable, Equatable {
    enum Place: String, Sendable, CaseIterable {
        /// A top-level field of the payload.
        case field
        case header
    }

    /// A name, or a pattern that begins with `^`.
    let topic: String
    let place: Place
    /// The field's or header's name.
    let name: String
}

/// Scheme, host and port of a server: no path, no query, no user.
struct ServerURL: Sendable, Equatable, CustomStringConvertible {
    enum Scheme: String, Sendable, CaseIterable {
        case http, https
    }

    let scheme: Scheme
    /// A name or an address; an IPv6 address in brackets.
    let host: String
    /// `nil` is the scheme's own.
    let port: Int?

    /// `http://host:8123`, without a slash at the end.
    var description: String { "\(scheme.rawValue)://\(host)" + (port.map { ":\($0)" } ?? "") }
}
