/// What an operator decides about the HTTP side.
public struct HTTPIngestConfiguration: Sendable {
    /// Address to listen on.
    public var host: String
    /// Port to listen on; 0 takes a free one (`HTTPIngestService.boundPort()` tells which).
    public var port: Int
    /// Bytes of one request's body, at most `HTTPIngestConfiguration.largestBodyBytes`. More is answered with 413. Of
    /// a compressed body both sizes count.
    public var maxBodyBytes: Int
    /// Bytes of bodies being received at one time, over all connections. More is answered with 503, so that many slow
    /// or large requests can't take all memory. At least `maxBodyBytes`.
    public var maxBufferedBytes: Int
    /// Open connections; further ones wait in the listen queue.
    public var maxConnections: Int
    /// A request's head (and with TLS the handshake before it) must be complete within this time after its first byte,
    /// or after the connection is there; else it is answered with 408 and the connection closed.
    public var headerTimeout: Duration
    /// A connection is closed when a request stalls, or none begins, for this long.
    public var idleTimeout: Duration
    /// Receiving one whole request may take this long; else it is answered with 408 and the connection closed.
    public var requestTimeout: Duration
    /// Events of one request. More is answered with 413.
    public var maxRequestEvents: Int
    /// Bytes of one event. A larger one is a bad event.
    public var maxEventBytes: Int
    /// How many times its compressed size a body may have once it is larger than 1 MiB. More is answered with 413.
    public var maxCompressionRatio: Int
    /// How long an `Idempotency-Key` is remembered; zero switches it off.
    public var idempotencyWindow: Duration
    /// The bearer token of everyone: ingest into all streams, and the operations routes unless there is a token only
    /// for those. `nil`, without `tokensPath`, lets everyone ingest.
    public var token: String?
    /// The bearer token of the operations routes: dead letters, held streams, metrics and status.
    public var operationsToken: String?
    /// A file of tokens with their rights (docs/security.md has the format), read again when it changes.
    public var tokensPath: String?
    /// Serves HTTPS; `nil` serves HTTP.
    public var tls: TLS?
    /// Origins whose pages may read answers: exact (`https://app.example`), or `*` for all. None switches CORS off.
    public var corsOrigins: [String]
    /// Name of the top-level field that holds the event id.
    public var eventIDField: String
    /// Database of the streams whose table is named without one, for the interface that is ClickHouse's.
    public var clickHouseDatabase = "default"
    /// Whether an event's own fields are its row (`ROW_MODE=flat`): only then can a ClickHouse client's INSERT be
    /// carried, whose fields are the table's columns.
    public var rowsAreFlat = false
    /// The service's version, as `/openapi.yaml` tells it.
    public var serviceVersion = "0"

    /// How often the files of tokens and certificates are looked at.
    public var reloadInterval = Duration.seconds(2)

    /// Where certificates are: PEM files, which are read again when they change.
    public struct TLS: Sendable, Equatable {
        /// The certificate, followed by those that lead from it to its root.
        public var certificatePath: String
        /// The certificate's private key, not encrypted.
        public var keyPath: String
        /// Authorities one of which must have signed the certificate that each client then has to show (mutual TLS);
        /// `nil` asks clients for none.
        public var clientCAPath: String?

        /// Collects the paths.
        public init(certificatePath: String, keyPath: String, clientCAPath: String? = nil) {
            self.certificatePath = certificatePath
            self.keyPath = keyPath
            self.clientCAPath = clientCAPath
        }
    }

    /// The largest body that may be configured: 1 GiB.
    public static let largestBodyBytes = 1 << 30

    /// Collects the parts; the defaults are those of the settings.
    public init(
        host: String = "127.0.0.1", port: Int = 8_080, maxBodyBytes: Int = 32 << 20,
        maxBufferedBytes: Int = 256 << 20, maxConnections: Int = 4_096, headerTimeout: Duration = .seconds(10),
        idleTimeout: Duration = .seconds(60), requestTimeout: Duration = .seconds(300),
        maxRequestEvents: Int = 1_000_000, maxEventBytes: Int = 32 << 20, maxCompressionRatio: Int = 200,
        idempotencyWindow: Duration = .seconds(3_600), token: String? = nil, operationsToken: String? = nil,
        tokensPath: String? = nil, tls: TLS? = nil, corsOrigins: [String] = [], eventIDField: String = "event_id"
    ) {
        self.host = host
        self.port = port
        self.maxBodyBytes = maxBodyBytes
        self.maxBufferedBytes = maxBufferedBytes
        self.maxConnections = maxConnections
        self.headerTimeout = headerTimeout
        self.idleTimeout = idleTimeout
        self.requestTimeout = requestTimeout
        self.maxRequestEvents = maxRequestEvents
        self.maxEventBytes = maxEventBytes
        self.maxCompressionRatio = maxCompressionRatio
        self.idempotencyWindow = idempotencyWindow
        self.token = token
        self.operationsToken = operationsToken
        self.tokensPath = tokensPath
        self.tls = tls
        self.corsOrigins = corsOrigins
        self.eventIDField = eventIDField
    }
}

/// Why the HTTP side can't start as configured, in words for the operator.
public struct HTTPConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What is wrong and what to do about it.
    public let description: String
}
