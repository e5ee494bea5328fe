internal import Foundation
internal import Glibc
internal import Synchronization

/// One `ingestd serve` over any number of processes: same journal, same port, same settings unless a test changes them.
public final class ServiceInstance: Sendable {
    /// Where its journal is; removed with this object.
    public let folder: TemporaryDirectory
    /// Its HTTP port.
    public let port: UInt16
    private let state: Mutex<(environment: [String: String], process: ServiceProcess?)>

    /// Picks a port and a folder; starts nothing.
    /// - Parameter environment: settings; those that a test does not care about are set to be quick.
    public init(_ environment: [String: String]) throws {
        folder = try TemporaryDirectory("service")
        port = Self.freePort()
        let defaults = [
            "HTTP_PORT": "\(port)", "JOURNAL_PATH": folder.appending("journal"), "JOURNAL_MAX_BYTES": "1GiB",
            "LOG_FORMAT": "json", "KAFKA_CONSUMER_ENABLED": "false", "BATCH_MAX_AGE": "50ms",
            "RETRY_BACKOFF_MIN": "10ms", "RETRY_BACKOFF_MAX": "200ms", "HOLD_RETRY_INTERVAL": "100ms",
        ]
        state = Mutex((defaults.merging(environment) { $1 }, nil))
    }

    /// The journal's folder.
    public var journalPath: String { folder.appending("journal") }

    /// The settings of the next start.
    public var environment: [String: String] {
        get { state.withLock { $0.environment } }
        set { state.withLock { $0.environment = newValue } }
    }

    /// The process that was started last.
    /// - Throws: `ServiceProcess.Failure` before the first.
    public var process: ServiceProcess {
        get throws {
            guard let process = state.withLock({ $0.process }) else {
                throw ServiceProcess.Failure(description: "the service was not started")
            }
            return process
        }
    }

    /// Starts a process and does not wait for anything.
    public func launch() throws {
        let process = try ServiceProcess(["serve"], environment: environment)
        state.withLock { $0.process = process }
    }

    /// Starts a process and waits until it is ready.
    public func start() async throws {
        try launch()
        try await process.logged("ready")
    }

    /// Kills it as a power cut would, and waits until it is gone.
    public func kill() async throws { try await process.kill() }

    /// Ends it with SIGTERM.
    /// - Returns: how it ended.
    @discardableResult
    public func stop(within limit: Duration = .seconds(30)) async throws -> ServiceProcess.Exit {
        let process = try process
        process.signal(SIGTERM)
        return try await process.ended(within: limit)
    }

    /// Sends events.
    public func post(
        _ body: String, to target: String = "/v1/events", headers: [String: String] = [:], timeoutSeconds: Int = 30
    ) async throws -> ServiceResponse {
        try await ServiceConnection.request(
            port: port, "POST", target, Array(body.utf8), headers: headers, timeoutSeconds: timeoutSeconds)
    }

    /// Sends a request without a body.
    public func request(_ method: String, _ target: String) async throws -> ServiceResponse {
        try await ServiceConnection.request(port: port, method, target)
    }

    /// Asks for something.
    public func get(_ target: String) async throws -> ServiceResponse {
        try await ServiceConnection.request(port: port, "GET", target)
    }

    /// `/v1/status`.
    public func status() async throws -> ServiceStatus {
        let response = try await get("/v1/status")
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(ServiceStatus.self, from: Data(response.body))
    }

    /// `ingestd journal stats` of its journal, for messages of failed tests.
    public func journalStatistics() async -> String {
        do {
            return try await ServiceProcess.run(["journal", "stats"], environment: ["JOURNAL_PATH": journalPath]).output
        } catch {
            return "\(error)"
        }
    }

    /// A port below those that the system hands out by itself: nobody takes it while the service is down, and a client
    /// that connects again and again can't be given it as its own, which would connect it to itself.
    private static func freePort() -> UInt16 {
        while true {
            let port = UInt16.random(in: 10_240..<32_768)
            guard let listener = LoopbackSocket.listenIfFree(port: port) else { continue }
            close(listener)
            return port
        }
    }
}

extension LoopbackSocket {
    /// A listening socket, or `nil` if the port is taken.
    fileprivate static func listenIfFree(port: UInt16) -> CInt? {
        let listener = socket(AF_INET, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        if result == 0 { return listener }
        close(listener)
        return nil
    }
}

/// What `/v1/status` says.
public struct ServiceStatus: Decodable, Sendable {
    /// A stream.
    public struct Stream: Decodable, Sendable {
        /// The table.
        public let stream: String
        /// running, retrying, held or stopped.
        public let state: String
        /// Why it does not run.
        public let reason: String?
        /// Events that are not flushed.
        public let pendingEvents: UInt64
        /// Sequence of the next event.
        public let nextSequence: UInt64
        /// Everything before it is flushed.
        public let flushedPosition: UInt64
    }

    /// A Kafka partition.
    public struct Partition: Decodable, Sendable {
        /// Its topic.
        public let topic: String
        /// Its number.
        public let partition: Int32
        /// Offset of the next message to take.
        public let position: Int64?
        /// The group's committed offset.
        public let committed: Int64?
    }

    /// Kafka.
    public struct Kafka: Decodable, Sendable {
        /// Whether there is a consumer.
        public let enabled: Bool
        /// Whether it works.
        public let healthy: Bool
        /// How it is doing.
        public let detail: String
        /// What is assigned.
        public let partitions: [Partition]
    }

    /// The journal.
    public struct Journal: Decodable, Sendable {
        /// Bytes of its entries.
        public let storedBytes: Int
        /// Dead letters in its store.
        public let deadLetters: Int
    }

    /// All streams.
    public let streams: [Stream]
    /// Kafka.
    public let kafka: Kafka
    /// The journal.
    public let journal: Journal

    /// The stream of a table.
    public subscript(table: String) -> Stream? { streams.first { $0.stream == table } }
    /// Events that are not flushed, over all streams.
    public var pendingEvents: UInt64 { streams.reduce(0) { $0 + $1.pendingEvents } }
}
