/// What an operator decides about the HTTP side.
public struct HTTPIngestConfiguration: Sendable {
    /// Address to listen on.
    public var host: String
    /// Port to listen on; 0 takes a free one (`HTTPIngestService.boundPort()` tells which).
    public var port: Int
    /// Bytes of one request's body, at most `HTTPIngestConfiguration.largestBodyBytes`. More is answered with 413.
    public var maxBodyBytes: Int
    /// Bytes of bodies being received at one time, over all connections. More is answered with 503, so that many slow
    /// or large requests can't take all memory. At least `maxBodyBytes`.
    public var maxBufferedBytes: Int
    /// Open connections; further ones wait in the listen queue.
    public var maxConnections: Int
    /// A connection is closed when a request stalls, or none begins, for this long.
    public var idleTimeout: Duration
    /// The bearer token that requests must carry which bring events, or concern dead letters or held streams; `nil`
    /// lets everyone in. Health, metrics and status are open to all.
    public var token: String?
    /// Name of the top-level field that holds the event id.
    public var eventIDField: String

    /// The largest body that may be configured: 1 GiB.
    public static let largestBodyBytes = 1 << 30

    /// Collects the parts; the defaults are those of the settings.
    public init(
        host: String = "127.0.0.1", port: Int = 8_080, maxBodyBytes: Int = 32 << 20,
        maxBufferedBytes: Int = 256 << 20, maxConnections: Int = 4_096, idleTimeout: Duration = .seconds(60),
        token: String? = nil, eventIDField: String = "event_id"
    ) {
        self.host = host
        self.port = port
        self.maxBodyBytes = maxBodyBytes
        self.maxBufferedBytes = maxBufferedBytes
        self.maxConnections = maxConnections
        self.idleTimeout = idleTimeout
        self.token = token
        self.eventIDField = eventIDField
    }
}
