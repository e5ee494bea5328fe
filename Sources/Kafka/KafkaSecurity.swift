internal import Glibc

/// How clients prove to brokers who they are, and brokers to clients: the usual settings, for consumer, producer and
/// administration alike. What is not here can be set as a librdkafka property; one that is set both ways is an error.
///
/// Errors name the environment variables that the fields come from. Descriptions show no secret.
public struct KafkaSecurity: Sendable, Equatable {
    /// librdkafka's `security.protocol`.
    public enum SecurityProtocol: String, Sendable, CaseIterable {
        /// Neither encrypted nor authenticated.
        case plaintext
        /// TLS.
        case ssl
        /// User and password without TLS: with the mechanism `plain`, everyone on the way can read the password.
        case saslPlaintext = "sasl_plaintext"
        /// User and password within TLS.
        case saslSSL = "sasl_ssl"

        var usesTLS: Bool { self == .ssl || self == .saslSSL }
        var usesSASL: Bool { self == .saslPlaintext || self == .saslSSL }
    }

    /// How the password is proved.
    public enum Mechanism: String, Sendable, CaseIterable {
        /// The password is sent.
        case plain
        /// The password is not sent (RFC 5802).
        case scramSHA256 = "scram-sha-256"
        /// The password is not sent (RFC 5802).
        case scramSHA512 = "scram-sha-512"
    }

    /// KAFKA_SECURITY_PROTOCOL; `nil` leaves it to the properties, and to `plaintext` if they don't say.
    public var securityProtocol: SecurityProtocol?
    /// KAFKA_SASL_MECHANISM.
    public var mechanism: Mechanism?
    /// KAFKA_SASL_USERNAME.
    public var username: String?
    /// KAFKA_SASL_PASSWORD; a secret.
    public var password: String?
    /// KAFKA_TLS_CA: path of a PEM file, or of a folder as `openssl rehash` leaves it, with the authorities that may
    /// sign brokers' certificates; `nil` takes the system's.
    public var caPath: String?
    /// KAFKA_TLS_CERTIFICATE: path of a PEM file with this client's certificate and what leads from it to an authority.
    public var certificatePath: String?
    /// KAFKA_TLS_KEY: path of a PEM file with the certificate's key.
    public var keyPath: String?
    /// KAFKA_TLS_KEY_PASSWORD: what the key is encrypted with; a secret.
    public var keyPassword: String?

    /// Sets nothing.
    public init() {}
}

extension KafkaSecurity: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// Which settings are set; no values.
    public var description: String { "KafkaSecurity(\(settings.map(\.variable).joined(separator: ", ")))" }

    /// The same.
    public var debugDescription: String { description }

    /// Nothing to look into: `dump` and string interpolation of what contains this show no secret either.
    public var customMirror: Mirror { Mirror(self, children: [(label: String?, value: Any)]()) }
}

/// Properties by the names that librdkafka knows them by.
typealias KafkaProperties = [(name: String, value: String)]

extension KafkaSecurity {
    /// A field that is set.
    private struct Setting {
        let variable: String
        let property: String
        let value: String
    }

    private var settings: [Setting] {
        [
            ("KAFKA_SECURITY_PROTOCOL", "security.protocol", securityProtocol?.rawValue),
            // librdkafka compares with the names that brokers use.
            ("KAFKA_SASL_MECHANISM", "sasl.mechanism", mechanism?.rawValue.uppercased()),
            ("KAFKA_SASL_USERNAME", "sasl.username", username), ("KAFKA_SASL_PASSWORD", "sasl.password", password),
            ("KAFKA_TLS_CA", "ssl.ca.location", caPath),
            ("KAFKA_TLS_CERTIFICATE", "ssl.certificate.location", certificatePath),
            ("KAFKA_TLS_KEY", "ssl.key.location", keyPath), ("KAFKA_TLS_KEY_PASSWORD", "ssl.key.password", keyPassword),
        ].compactMap { variable, property, value in
            value.map { Setting(variable: variable, property: property, value: $0) }
        }
    }

    /// Other properties that say the same as one of ours.
    private static let equivalents: [String: [String]] = [
        "sasl.mechanism": ["sasl.mechanisms"], "ssl.ca.location": ["ssl.ca.pem"],
        "ssl.certificate.location": ["ssl.certificate.pem", "ssl.keystore.location"],
        "ssl.key.location": ["ssl.key.pem", "ssl.keystore.location"],
    ]

    /// Properties whose values nobody may see. Those of certificates are in it because a PEM text can hold a key too.
    private static let secretProperties: Set<String> = [
        "sasl.password", "ssl.key.password", "ssl.key.pem", "ssl.keystore.password", "ssl.certificate.pem",
        "sasl.oauthbearer.config", "sasl.oauthbearer.client.secret",
    ]

    /// What librdkafka's texts about these settings need before anybody reads them.
    func words(with properties: KafkaProperties) -> KafkaSettingWords {
        KafkaSettingWords(
            variables: settings.map { ($0.property, $0.variable) },
            redaction: SecretRedaction(
                secrets: (settings.map { ($0.property, $0.value) } + properties.map { ($0.name, $0.value) })
                    .filter { Self.secretProperties.contains($0.0) }.map(\.1)))
    }

    /// Sets librdkafka's properties.
    func apply(to handle: borrowing PropertiesHandle) throws(KafkaConfigurationError) {
        for setting in settings { try handle.set(setting.property, setting.value) }
    }

    /// Checks what can be checked without a connection: nothing set twice, nothing that would be ignored, nothing
    /// missing, files readable.
    /// - Parameter properties: librdkafka properties that are set besides.
    public func validate(
        with properties: [(name: String, value: String)] = []
    ) throws(KafkaConfigurationError) {
        for setting in settings {
            let names = [setting.property] + (Self.equivalents[setting.property] ?? [])
            if let twice = properties.first(where: { names.contains($0.name) }) {
                throw KafkaConfigurationError(
                    property: setting.variable,
                    reason: "is set, and KAFKA_PROPERTIES has \(twice.name), which says the same; set one of them")
            }
        }
        for setting in settings
        where Self.secretProperties.contains(setting.property) || setting.property == "sasl.username" {
            guard setting.value.utf8.first.map({ $0 == 0x20 || (0x09...0x0d).contains($0) }) ?? false else { continue }
            throw KafkaConfigurationError(
                property: setting.variable, reason: "begins with white space, which librdkafka would drop")
        }
        try checkCombinations(properties)
        try checkFiles()
    }

    private func checkCombinations(_ properties: KafkaProperties) throws(KafkaConfigurationError) {
        func property(_ names: String...) -> String? { properties.last { names.contains($0.name) }?.value }
        let name = securityProtocol?.rawValue ?? property("security.protocol")?.lowercased() ?? "plaintext"
        // librdkafka has its own words for a name that is none.
        guard let protocolInUse = SecurityProtocol(rawValue: name) else { return }
        for setting in settings where setting.property.hasPrefix("ssl.") && !protocolInUse.usesTLS {
            throw KafkaConfigurationError(
                property: setting.variable,
                reason: "is set, but connections would not be encrypted: KAFKA_SECURITY_PROTOCOL is \(name); set it "
                    + "to ssl or sasl_ssl")
        }
        for setting in settings where setting.property.hasPrefix("sasl.") && !protocolInUse.usesSASL {
            throw KafkaConfigurationError(
                property: setting.variable,
                reason: "is set, but nobody would be asked for it: KAFKA_SECURITY_PROTOCOL is \(name); set it to "
                    + "sasl_ssl or sasl_plaintext")
        }
        if protocolInUse.usesSASL {
            let mechanismInUse = mechanism?.rawValue ?? property("sasl.mechanism", "sasl.mechanisms")?.lowercased()
            // Left to the properties altogether, it is librdkafka's GSSAPI.
            guard mechanismInUse != nil || (securityProtocol == nil && username == nil && password == nil) else {
                throw KafkaConfigurationError(
                    property: "KAFKA_SASL_MECHANISM",
                    reason: "is not set, but KAFKA_SECURITY_PROTOCOL is \(name); set it to plain, scram-sha-256 or "
                        + "scram-sha-512")
            }
            if let mechanismInUse, Mechanism(rawValue: mechanismInUse) != nil {
                for (variable, value, name) in [
                    ("KAFKA_SASL_USERNAME", username, "sasl.username"),
                    ("KAFKA_SASL_PASSWORD", password, "sasl.password"),
                ] where (value ?? property(name) ?? "").isEmpty {
                    throw KafkaConfigurationError(
                        property: variable, reason: "is not set or empty, but the mechanism \(mechanismInUse) needs it")
                }
            }
        }
        let hasKey = keyPath != nil || property("ssl.key.location", "ssl.key.pem", "ssl.keystore.location") != nil
        let hasCertificate =
            certificatePath != nil
            || property("ssl.certificate.location", "ssl.certificate.pem", "ssl.keystore.location") != nil
        if certificatePath != nil, !hasKey {
            throw KafkaConfigurationError(
                property: "KAFKA_TLS_KEY",
                reason: "is not set, but KAFKA_TLS_CERTIFICATE is; a certificate needs its key")
        }
        if keyPath != nil, !hasCertificate {
            throw KafkaConfigurationError(
                property: "KAFKA_TLS_CERTIFICATE",
                reason: "is not set, but KAFKA_TLS_KEY is; a key needs its certificate")
        }
        if keyPassword != nil, !hasKey {
            throw KafkaConfigurationError(
                property: "KAFKA_TLS_KEY",
                reason: "is not set, but KAFKA_TLS_KEY_PASSWORD is; there is nothing to decrypt")
        }
    }

    private func checkFiles() throws(KafkaConfigurationError) {
        for (variable, path) in [
            ("KAFKA_TLS_CA", caPath), ("KAFKA_TLS_CERTIFICATE", certificatePath), ("KAFKA_TLS_KEY", keyPath),
        ] {
            guard let path, access(path, R_OK) != 0 else { continue }
            throw KafkaConfigurationError(
                property: variable, reason: "\"\(path)\" can't be read: \(String(cString: strerror(errno)))")
        }
    }
}

/// Turns librdkafka's texts about settings into what an operator may read.
final class KafkaSettingWords: Sendable {
    private let variables: [(property: String, variable: String)]
    let redaction: SecretRedaction

    init(variables: [(property: String, variable: String)], redaction: SecretRedaction) {
        self.variables = variables
        self.redaction = redaction
    }

    /// The error with the name of the variable that the property was set by, and no secret.
    func explain(_ error: KafkaConfigurationError) -> KafkaConfigurationError {
        let reason = redaction.text(error.reason)
        let name = variables.first { property, _ in
            error.property.map { $0 == property } ?? reason.contains(property)
        }
        return KafkaConfigurationError(property: name?.variable ?? error.property, reason: reason)
    }
}

/// Takes secrets out of texts. librdkafka shows none in what it logs; this is for what it quotes, and for what a later
/// version may do.
struct SecretRedaction: Sendable {
    /// Longest first, so that a secret within another is not what is found.
    private let secrets: [String]

    /// - Parameter secrets: what must not be seen. Texts of less than four bytes are left where they are: to take them
    ///   out of everything would tell them.
    init(secrets: [String]) {
        self.secrets = secrets.filter { $0.utf8.count >= 4 }.sorted { $0.utf8.count > $1.utf8.count }
    }

    /// The text with every secret replaced.
    func text(_ text: String) -> String {
        var result = text
        for secret in secrets where result.utf8.count >= secret.utf8.count {
            result = Self.replacing(secret, in: result)
        }
        return result
    }

    private static func replacing(_ secret: String, in text: String) -> String {
        let wanted = Array(secret.utf8)
        var rest = Array(text.utf8)[...]
        var result: [UInt8] = []
        var isFound = false
        while rest.count >= wanted.count {
            if rest.starts(with: wanted) {
                result += "[redacted]".utf8
                rest = rest.dropFirst(wanted.count)
                isFound = true
            } else {
                result.append(rest.removeFirst())
            }
        }
        return isFound ? String(decoding: result + rest, as: UTF8.self) : text
    }
}
