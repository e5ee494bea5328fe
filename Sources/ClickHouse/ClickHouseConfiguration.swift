public import IngestCore

/// Where ClickHouse is and how to talk to it.
///
/// Its descriptions and its mirror leave the password out, so that it can't get into a log by accident.
public struct ClickHouseConfiguration: Sendable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    /// Whether bodies are compressed.
    public enum Compression: String, Sendable, CaseIterable {
        /// zstd where it pays: the endpoint is not on this machine, and the server is version 21 or newer.
        case auto
        /// Never.
        case none
        /// Always zstd, whatever the server.
        case zstd
    }

    /// Base URLs (`http://host:8123`, `https://host:8443`, also with a path), tried in turn: when one can't be reached
    /// or answers with a passing failure, the next one is used from then on. They must lead to the same tables
    /// (replicas), because a batch may be sent again to another one, and only those deduplicate among each other.
    public var endpoints: [String]
    /// The database of tables that are named without one.
    public var database: String
    /// User name; sent as a header.
    public var user: String
    /// Password; sent as a header, never logged.
    public var password: String
    /// What a row is.
    public var rowMode: RowMode
    /// Whether bodies are compressed.
    public var compression: Compression
    /// How long a connection may take to be made.
    public var connectTimeout: Duration
    /// How long an INSERT may take, connection and answer included. Then its outcome is unknown, and the failure is
    /// transient.
    public var requestTimeout: Duration
    /// Requests at the same time, each on its own connection; more wait their turn.
    public var maximumConnections: Int
    /// Failure classes that differ from `ErrorClasses`' table, by exception code.
    public var failureClassOverrides: [Int: FailureClass]

    /// Collects the parts.
    public init(
        endpoints: [String] = ["http://127.0.0.1:8123"], database: String = "default", user: String = "default",
        password: String = "", rowMode: RowMode = .envelope, compression: Compression = .auto,
        connectTimeout: Duration = .seconds(5), requestTimeout: Duration = .seconds(120), maximumConnections: Int = 8,
        failureClassOverrides: [Int: FailureClass] = [:]
    ) {
        self.endpoints = endpoints
        self.database = database
        self.user = user
        self.password = password
        self.rowMode = rowMode
        self.compression = compression
        self.connectTimeout = connectTimeout
        self.requestTimeout = requestTimeout
        self.maximumConnections = maximumConnections
        self.failureClassOverrides = failureClassOverrides
    }

    /// The values without the password.
    public var description: String {
        "ClickHouse at \(endpoints.joined(separator: ", ")), database \(database), user \(user), rows \(rowMode), "
            + "compression \(compression)"
    }

    /// The same as `description`.
    public var debugDescription: String { description }

    /// What `dump` shows: the description.
    public var customMirror: Mirror { Mirror(self, children: ["summary": description]) }

    /// What is wrong with the values, in words for the operator; empty if nothing is.
    public func problems() -> [String] { checked().problems }

    /// The endpoints taken apart, and what is wrong with any of the values.
    func checked() -> (endpoints: [EndpointURL], problems: [String]) {
        var urls: [EndpointURL] = []
        var problems: [String] = []
        if endpoints.isEmpty { problems.append("no ClickHouse URL is given") }
        for text in endpoints {
            do throws(EndpointURL.Invalid) {
                urls.append(try EndpointURL(text))
            } catch {
                problems.append(error.message)
            }
        }
        if !InsertStatement.isIdentifier(database) {
            problems.append("the ClickHouse database's name is empty or has control characters")
        }
        for (name, value) in [("user", user), ("password", password)] where value.utf8.contains(where: { $0 < 0x20 }) {
            problems.append("the ClickHouse \(name) has control characters, which no HTTP header can carry")
        }
        if user.isEmpty { problems.append("the ClickHouse user is empty") }
        if connectTimeout < .milliseconds(1) { problems.append("the ClickHouse connect timeout is below 1 ms") }
        if requestTimeout < .milliseconds(1) { problems.append("the ClickHouse request timeout is below 1 ms") }
        if maximumConnections < 1 { problems.append("at least one ClickHouse connection is needed") }
        return (urls, problems)
    }
}

/// Values that no client can work with.
public struct InvalidClickHouseConfiguration: Error, CustomStringConvertible {
    /// What is wrong, in words for the operator.
    public let problems: [String]

    /// All problems in one line.
    public var description: String { problems.joined(separator: "; ") }
}
