internal import Glibc
internal import IngestCore

/// An answer that was read to its end.
public struct ServiceResponse: Sendable {
    /// The HTTP status.
    public let status: Int
    /// Header fields, names in lower case.
    public let headers: [String: String]
    /// The body.
    public let body: [UInt8]

    /// The body as text.
    public var text: String { String(decoding: body, as: UTF8.self) }
}

/// One HTTP/1.1 connection to the service, kept alive between requests. It blocks, so it belongs to a thread of its own;
/// it never repeats a request, so that a test knows what was sent how often.
public final class ServiceConnection {
    /// The connection is over: refused, reset, closed in the middle of an answer, or silent for too long. What became
    /// of the request is not known.
    public struct Broken: Error, CustomStringConvertible {
        /// Which of these.
        public let description: String
    }

    private let socket: CInt
    private var received: [UInt8] = []
    /// Whether the server announced that it closes the connection.
    public private(set) var isOver = false

    /// Connects.
    /// - Parameter timeoutSeconds: of each wait for the server.
    public init(port: UInt16, timeoutSeconds: Int = 30) throws(Broken) {
        guard let socket = LoopbackSocket.connect(port: port) else { throw Broken(description: "nobody listens") }
        self.socket = socket
        var limit = timeval(tv_sec: timeoutSeconds, tv_usec: 0)
        setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var yes: CInt = 1
        setsockopt(socket, CInt(IPPROTO_TCP), TCP_NODELAY, &yes, socklen_t(MemoryLayout<CInt>.size))
    }

    deinit { close(socket) }

    /// Sends a request and reads its answer.
    public func request(
        _ method: String, _ target: String, _ body: [UInt8] = [], headers: [String: String] = [:]
    ) throws(Broken) -> ServiceResponse {
        var head = "\(method) \(target) HTTP/1.1\r\nHost: test\r\n"
        for (name, value) in headers { head += "\(name): \(value)\r\n" }
        if method == "POST" { head += "Content-Length: \(body.count)\r\n" }
        try send(Array((head + "\r\n").utf8) + body)
        return try readResponse()
    }

    /// Sends bytes as they are, such as part of a request.
    public func send(_ bytes: [UInt8]) throws(Broken) {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(socket, $0.baseAddress! + sent, bytes.count - sent, CInt(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw broken("send") }
            sent += count
        }
    }

    private func readResponse() throws(Broken) -> ServiceResponse {
        let headEnd = Array("\r\n\r\n".utf8)
        var end = received.firstRange(of: headEnd)
        while end == nil {
            try receive()
            end = received.firstRange(of: headEnd)
        }
        let lines = String(decoding: received[..<end!.lowerBound], as: UTF8.self).split(separator: "\r\n")
        guard let status = lines.first?.split(separator: " ").dropFirst().first.flatMap({ Int($0) }) else {
            throw Broken(description: "the answer is not HTTP: \(lines.first ?? "")")
        }
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            headers[line[..<colon].lowercased()] = String(line[colon...].dropFirst().drop { $0 == " " })
        }
        guard let length = headers["content-length"].flatMap({ Int($0) }) else {
            throw Broken(description: "an answer without a length")
        }
        while received.count < end!.upperBound + length { try receive() }
        let body = Array(received[end!.upperBound..<(end!.upperBound + length)])
        received.removeFirst(end!.upperBound + length)
        if headers["connection"]?.lowercased() == "close" { isOver = true }
        return ServiceResponse(status: status, headers: headers, body: body)
    }

    private func receive() throws(Broken) {
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        let count = recv(socket, &buffer, buffer.count, 0)
        guard count > 0 else { throw count == 0 ? Broken(description: "closed by the service") : broken("receive") }
        received += buffer[..<count]
    }

    private func broken(_ action: String) -> Broken {
        isOver = true
        return Broken(description: "\(action): \(String(cString: strerror(errno)))")
    }

    /// Sends one request on a connection of its own, without blocking the caller's thread.
    public static func request(
        port: UInt16, _ method: String, _ target: String, _ body: [UInt8] = [], headers: [String: String] = [:],
        timeoutSeconds: Int = 30
    ) async throws -> ServiceResponse {
        try await withCheckedThrowingContinuation { continuation in
            _ = DedicatedThread(name: "service-request") {
                continuation.resume(
                    with: Result {
                        try ServiceConnection(port: port, timeoutSeconds: timeoutSeconds)
                            .request(method, target, body, headers: headers)
                    })
            }
        }
    }
}
