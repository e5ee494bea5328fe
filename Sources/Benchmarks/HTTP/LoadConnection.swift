import Glibc

/// One connection of the load generator: what it sends, and which requests wait for their answers.
struct LoadConnection {
    /// A request that was begun.
    struct Request {
        /// From when its latency counts.
        let start: UInt64
        /// The numbers of its events.
        let numbers: Range<UInt64>
        /// Bytes of its events.
        let byteCount: Int
        /// Whether the same was sent before.
        let isRepeat: Bool
    }

    let socket: CInt
    var answers = AnswerReader()
    /// Whether epoll tells when the socket takes more.
    var isWatchedForRoom = false
    /// Whether it stands in the row of connections that can begin a request.
    var isOffered = true
    /// Begun and not answered, the oldest first.
    private(set) var unanswered: [Request] = []
    private var bodies: [EventBody]
    private var current = 0
    private var sent = 0
    /// Whether a part of a request is still to be sent.
    private(set) var isSending = false
    private var nextNumber: UInt64

    /// - Parameter bodies: are sent in turn.
    init(socket: CInt, lane: Int, bodies: [EventBody]) {
        self.socket = socket
        self.bodies = bodies
        nextNumber = UInt64(lane) * EventNumber.laneSize
    }

    /// Whether there is a last request to repeat.
    var hasSent: Bool { nextNumber % EventNumber.laneSize > 0 }

    /// Begins the next request.
    mutating func begin(at start: UInt64) {
        precondition(!isSending, "a request was begun within another")
        current = (current + 1) % bodies.count
        bodies[current].renumber(from: nextNumber)
        let numbers = nextNumber..<(nextNumber + UInt64(bodies[current].eventCount))
        nextNumber = numbers.upperBound
        begin(numbers, at: start, isRepeat: false)
    }

    /// Begins the last request once more.
    mutating func repeatLast(at start: UInt64) {
        precondition(!isSending, "a request was begun within another")
        begin(nextNumber - UInt64(bodies[current].eventCount)..<nextNumber, at: start, isRepeat: true)
    }

    private mutating func begin(_ numbers: Range<UInt64>, at start: UInt64, isRepeat: Bool) {
        sent = 0
        isSending = true
        unanswered.append(
            Request(start: start, numbers: numbers, byteCount: bodies[current].eventBytes, isRepeat: isRepeat))
    }

    /// Sends as much as the socket takes.
    mutating func send() throws(BenchmarkFailure) {
        while isSending {
            let written = bodies[current].bytes.withUnsafeBytes {
                Glibc.send(socket, $0.baseAddress! + sent, $0.count - sent, CInt(MSG_NOSIGNAL))
            }
            if written < 0 && errno == EAGAIN { return }
            if written < 0 && errno == EINTR { continue }
            guard written >= 0 else { throw BenchmarkFailure(call: "sending a request") }
            sent += written
            isSending = sent < bodies[current].bytes.count
        }
    }

    /// The request that the next answer is for.
    mutating func takeAnswered() -> Request? { unanswered.isEmpty ? nil : unanswered.removeFirst() }

    /// Connects; the socket does not block.
    static func connect(host: String, port: UInt16) throws(BenchmarkFailure) -> CInt {
        let descriptor = Glibc.socket(AF_INET, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw BenchmarkFailure(call: "socket") }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        var isConnected = false
        defer { if !isConnected { close(descriptor) } }
        guard inet_pton(AF_INET, host, &address.sin_addr) == 1 else {
            throw BenchmarkFailure("\(host) is no IPv4 address")
        }
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard code == 0 else { throw BenchmarkFailure(call: "can't connect to \(host):\(port)") }
        var on: CInt = 1
        setsockopt(descriptor, CInt(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<CInt>.size))
        guard fcntl(descriptor, F_SETFL, O_NONBLOCK) == 0 else { throw BenchmarkFailure(call: "fcntl") }
        isConnected = true
        return descriptor
    }
}
