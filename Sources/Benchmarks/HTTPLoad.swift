import Glibc
import IngestCore
import Synchronization

/// An HTTP load run: connections that each send a request, wait for its answer, and send the next (closed loop).
public struct HTTPLoad: Sendable {
    /// What to send, where, and for how long.
    public struct Options: Sendable {
        /// IPv4 address of the service. Load goes to loopback unless the operator says otherwise.
        public var host = "127.0.0.1"
        /// Its port.
        public var port: UInt16 = 8_080
        /// Path of the requests.
        public var path = "/v1/events"
        /// Connections, shared by `threads`.
        public var connections = 16
        /// Threads of the generator.
        public var threads = 1
        /// Events in each request.
        public var eventsPerRequest = 1_000
        /// Bytes of one event.
        public var eventBytes = 217
        /// How long to send, seconds.
        public var seconds = 10.0
        /// Prefix of all event ids.
        public var prefix = "bench-"
        /// Bearer token, if the service wants one.
        public var token: String?

        /// The defaults.
        public init() {}
    }

    /// What came of it.
    public struct Result: Sendable {
        /// Requests answered with 202.
        public var requests = 0
        /// Events in them.
        public var events = 0
        /// Bytes of their bodies.
        public var bytes = 0
        /// Requests answered otherwise, by status.
        public var refused: [Int: Int] = [:]
        /// Seconds from the first request to the last answer.
        public var seconds = 0.0
        /// Milliseconds from request to answer: median, 99th percentile, largest.
        public var latency: (median: Double, p99: Double, max: Double) = (.nan, .nan, .nan)
        /// The number behind the last that was given to an event; ids are `prefix` and the number with 16 digits.
        public var nextNumber: UInt64 = 0
    }

    /// A failed connection or an answer that is none.
    public struct Failure: Error, CustomStringConvertible {
        /// What happened.
        public let description: String
    }

    private let options: Options

    /// Nothing is sent before `run`.
    public init(_ options: Options) { self.options = options }

    /// Sends until the time is up. Blocks.
    public func run() throws -> Result {
        let numbers = NumberSource()
        let deadline = MonotonicClock.now + UInt64(options.seconds * 1e9)
        let outcomes = Mutex<[Swift.Result<Worker.Outcome, Failure>]>([])
        let start = MonotonicClock.now
        let threads = (0..<max(1, options.threads)).map { index in
            let connections =
                options.connections / options.threads
                + (index < options.connections % options.threads ? 1 : 0)
            return DedicatedThread(name: "load-\(index)") {
                let outcome = Swift.Result { () throws(Failure) in
                    var worker = try Worker(options, connections: connections, numbers: numbers)
                    return try worker.run(until: deadline)
                }
                outcomes.withLock { $0.append(outcome) }
            }
        }
        for thread in threads { thread.join() }
        var result = Result()
        var latencies = Latencies()
        for outcome in outcomes.withLock({ $0 }) {
            let outcome = try outcome.get()
            result.requests += outcome.accepted
            result.refused.merge(outcome.refused) { $0 + $1 }
            latencies.merge(outcome.latencies)
        }
        result.events = result.requests * options.eventsPerRequest
        result.bytes = result.events * options.eventBytes
        result.seconds = Double(MonotonicClock.now - start) / 1e9
        let quantiles = latencies.milliseconds(at: [0.5, 0.99, 1])
        result.latency = (quantiles[0], quantiles[1], quantiles[2])
        result.nextNumber = numbers.next
        return result
    }
}

/// Gives out ranges of event numbers.
private final class NumberSource: Sendable {
    private let counter = Atomic<UInt64>(0)
    var next: UInt64 { counter.load(ordering: .relaxed) }
    func take(_ count: Int) -> UInt64 { counter.add(UInt64(count), ordering: .relaxed).oldValue }
}

/// One thread's connections.
private struct Worker {
    struct Outcome: Sendable {
        var accepted = 0
        var refused: [Int: Int] = [:]
        var latencies = Latencies()
    }

    private struct Connection {
        let socket: CInt
        var request: [UInt8] = []
        var sent = 0
        var answer: [UInt8] = []
        var start: UInt64 = 0
        var isIdle = true
    }

    private let options: HTTPLoad.Options
    private let numbers: NumberSource
    private var connections: [Connection] = []
    private var template: EventTemplate
    private let head: [UInt8]
    private var outcome = Outcome()
    private var buffer = [UInt8](repeating: 0, count: 16_384)

    init(_ options: HTTPLoad.Options, connections count: Int, numbers: NumberSource) throws(HTTPLoad.Failure) {
        self.options = options
        self.numbers = numbers
        template = EventTemplate(
            eventCount: options.eventsPerRequest, eventBytes: options.eventBytes, prefix: options.prefix)
        let token = options.token.map { "Authorization: Bearer \($0)\r\n" } ?? ""
        head = Array(
            ("POST \(options.path) HTTP/1.1\r\nHost: \(options.host)\r\nContent-Type: application/x-ndjson\r\n"
                + token + "Content-Length: \(template.body.count)\r\n\r\n").utf8)
        for _ in 0..<count { connections.append(Connection(socket: try Self.connect(options))) }
    }

    mutating func run(until deadline: UInt64) throws(HTTPLoad.Failure) -> Outcome {
        defer { for connection in connections { close(connection.socket) } }
        var polls = connections.map { pollfd(fd: $0.socket, events: 0, revents: 0) }
        while true {
            let isOver = MonotonicClock.now >= deadline
            var isBusy = false
            for index in connections.indices {
                if connections[index].isIdle && !isOver { try begin(index) }
                let connection = connections[index]
                isBusy = isBusy || !connection.isIdle
                let isSending = connection.sent < connection.request.count
                polls[index].events = connection.isIdle ? 0 : Int16(isSending ? POLLOUT : POLLIN)
            }
            guard isBusy else { return outcome }
            guard poll(&polls, nfds_t(polls.count), 10_000) > 0 else {
                throw HTTPLoad.Failure(description: "no answer within 10 s")
            }
            for index in polls.indices where polls[index].revents != 0 {
                if connections[index].sent < connections[index].request.count {
                    try send(index)
                } else {
                    try receive(index)
                }
            }
        }
    }

    private mutating func begin(_ index: Int) throws(HTTPLoad.Failure) {
        template.renumber(from: numbers.take(options.eventsPerRequest))
        connections[index].request.removeAll(keepingCapacity: true)
        connections[index].request += head
        connections[index].request += template.body
        connections[index].sent = 0
        connections[index].start = MonotonicClock.now
        connections[index].isIdle = false
        try send(index)
    }

    private mutating func send(_ index: Int) throws(HTTPLoad.Failure) {
        let sent = connections[index].sent
        let written = connections[index].request.withUnsafeBytes {
            Glibc.send(
                connections[index].socket, $0.baseAddress! + sent, $0.count - sent, CInt(MSG_NOSIGNAL))
        }
        if written < 0 && errno == EAGAIN { return }
        guard written >= 0 else { throw HTTPLoad.Failure(description: "send: \(String(cString: strerror(errno)))") }
        connections[index].sent += written
    }

    private mutating func receive(_ index: Int) throws(HTTPLoad.Failure) {
        let count = recv(connections[index].socket, &buffer, buffer.count, 0)
        if count < 0 && errno == EAGAIN { return }
        guard count > 0 else { throw HTTPLoad.Failure(description: "the service closed the connection") }
        connections[index].answer += buffer[..<count]
        guard let status = try Self.status(of: connections[index].answer) else { return }
        connections[index].answer.removeAll(keepingCapacity: true)
        connections[index].isIdle = true
        if status == 202 {
            outcome.accepted += 1
            outcome.latencies.add(MonotonicClock.now - connections[index].start)
        } else {
            outcome.refused[status, default: 0] += 1
        }
    }

    /// The status of a complete answer; `nil` while bytes are missing.
    private static func status(of answer: [UInt8]) throws(HTTPLoad.Failure) -> Int? {
        guard let end = answer.firstRange(of: Array("\r\n\r\n".utf8)) else { return nil }
        let head = String(decoding: answer[..<end.lowerBound], as: UTF8.self)
        var length = 0
        for line in head.split(separator: "\r\n").dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            if parts.count == 2, parts[0].lowercased() == "content-length" {
                length = Int(parts[1].drop { $0 == " " }) ?? 0
            }
        }
        guard answer.count - end.upperBound >= length else { return nil }
        guard head.hasPrefix("HTTP/1.1 "), let status = Int(head.dropFirst(9).prefix(3)) else {
            throw HTTPLoad.Failure(description: "not an HTTP answer: \(head.prefix(80))")
        }
        return status
    }

    private static func connect(_ options: HTTPLoad.Options) throws(HTTPLoad.Failure) -> CInt {
        let descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = options.port.bigEndian
        guard inet_pton(AF_INET, options.host, &address.sin_addr) == 1 else {
            throw HTTPLoad.Failure(description: "\(options.host) is no IPv4 address")
        }
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard code == 0 else {
            throw HTTPLoad.Failure(
                description: "can't connect to \(options.host):\(options.port): \(String(cString: strerror(errno)))")
        }
        var on: CInt = 1
        setsockopt(descriptor, CInt(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<CInt>.size))
        guard fcntl(descriptor, F_SETFL, O_NONBLOCK) == 0 else {
            throw HTTPLoad.Failure(description: "fcntl: \(String(cString: strerror(errno)))")
        }
        return descriptor
    }
}
