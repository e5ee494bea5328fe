import Glibc
import IngestCore
import Synchronization
import TestSupport

@testable import ClickHouse

/// An HTTP server that answers as a test tells it: for what a real server can't be made to do.
final class ScriptedServer: Sendable {
    struct Request: Sendable {
        /// The path and query.
        let target: String
        /// Header lines, as they came.
        let headers: [String]
        /// Empty where the reply came before it.
        var body: [UInt8]
        /// Number of the connection, from 0, and of the request on it.
        let connection: Int
        let position: Int

        var isCapabilityQuery: Bool { target.contains("version%28%29") }
    }

    enum Reply: Sendable {
        /// Reads the body and answers.
        case answer(String)
        /// Answers before the body is read.
        case early(String)
        /// Reads the body and closes the connection.
        case close
    }

    let port: UInt16
    private let listener: CInt
    private let handler: @Sendable (Request) -> Reply
    private let received = Mutex<[Request]>([])
    private let threads = Mutex<[DedicatedThread]>([])
    private let connections = Mutex<[CInt]>([])

    var url: String { "http://127.0.0.1:\(port)" }
    /// Requests so far, with their bodies.
    var requests: [Request] { received.withLock { $0 } }
    /// The INSERTs among them.
    var inserts: [Request] { requests.filter { !$0.isCapabilityQuery } }

    /// - Parameter handler: decides from the request's head.
    init(_ handler: @escaping @Sendable (Request) -> Reply) {
        self.handler = handler
        listener = LoopbackSocket.listen(port: 0)
        port = LoopbackSocket.port(of: listener)
    }

    /// Accepts connections until `stop`.
    func start() -> ScriptedServer {
        let acceptor = DedicatedThread(name: "scripted") { [self] in
            var count = 0
            while case let client = accept(listener, nil, nil), client >= 0 {
                let number = count
                count += 1
                connections.withLock { $0.append(client) }
                threads.withLock { $0.append(DedicatedThread(name: "scripted") { [self] in serve(client, number) }) }
            }
        }
        threads.withLock { $0.append(acceptor) }
        return self
    }

    func stop() {
        shutdown(listener, CInt(SHUT_RDWR))
        close(listener)
        for client in connections.withLock({ $0 }) { shutdown(client, CInt(SHUT_RDWR)) }
        for thread in threads.withLock({ $0 }) { thread.join() }
        for client in connections.withLock({ $0 }) { close(client) }
    }

    /// An answer with its length.
    static func http(_ status: Int, headers: [String] = [], body: String = "") -> String {
        (["HTTP/1.1 \(status) Scripted", "Content-Length: \(body.utf8.count)"] + headers).joined(separator: "\r\n")
            + "\r\n\r\n" + body
    }

    /// What a server that knows these settings answers to the client's first question.
    static func capabilities(version: String, settings: [String]) -> String {
        http(200, body: "version\t\(version)\n" + settings.map { "setting\t\($0)\n" }.joined())
    }

    private func serve(_ client: CInt, _ number: Int) {
        var buffer: [UInt8] = []
        var position = 0
        while let head = readHead(client, &buffer) {
            var lines = head.components(separatedBy: "\r\n")
            let target = lines.removeFirst().split(separator: " ")[1]
            var request = Request(
                target: String(target), headers: lines, body: [], connection: number, position: position)
            let reply = handler(request)
            position += 1
            if case .early(let text) = reply {
                received.withLock { [request] in $0.append(request) }
                write(client, text)
            }
            if head.lowercased().contains("transfer-encoding: chunked") {
                guard let body = readChunks(client, &buffer) else { break }
                request.body = body
            } else if let length = Self.contentLength(lines) {
                while buffer.count < length, readMore(client, &buffer) {}
                guard buffer.count >= length else { break }
                request.body = Array(buffer.prefix(length))
                buffer.removeFirst(length)
            }
            switch reply {
            case .early: continue
            case .answer(let text):
                received.withLock { [request] in $0.append(request) }
                write(client, text)
            case .close:
                received.withLock { [request] in $0.append(request) }
                shutdown(client, CInt(SHUT_RDWR))
                return
            }
        }
        shutdown(client, CInt(SHUT_RDWR))
    }

    private static func contentLength(_ headers: [String]) -> Int? {
        headers.first { $0.lowercased().hasPrefix("content-length:") }
            .flatMap { $0.split(separator: " ").last.flatMap { Int($0) } }
    }

    private func write(_ client: CInt, _ text: String) {
        _ = text.withCString { send(client, $0, strlen($0), CInt(MSG_NOSIGNAL)) }
    }

    private func readHead(_ client: CInt, _ buffer: inout [UInt8]) -> String? {
        while true {
            if let end = buffer.firstRange(of: Array("\r\n\r\n".utf8)) {
                defer { buffer.removeSubrange(..<end.upperBound) }
                return String(decoding: buffer[..<end.lowerBound], as: UTF8.self)
            }
            guard readMore(client, &buffer) else { return nil }
        }
    }

    private func readChunks(_ client: CInt, _ buffer: inout [UInt8]) -> [UInt8]? {
        var body: [UInt8] = []
        while true {
            guard let end = buffer.firstRange(of: [0x0D, 0x0A]) else {
                guard readMore(client, &buffer) else { return nil }
                continue
            }
            guard let length = Int(String(decoding: buffer[..<end.lowerBound], as: UTF8.self), radix: 16) else {
                return nil
            }
            while buffer.count < end.upperBound + length + 2 {
                guard readMore(client, &buffer) else { return nil }
            }
            body += buffer[end.upperBound..<(end.upperBound + length)]
            buffer.removeSubrange(..<(end.upperBound + length + 2))
            if length == 0 { return body }
        }
    }

    private func readMore(_ client: CInt, _ buffer: inout [UInt8]) -> Bool {
        withUnsafeTemporaryAllocation(byteCount: 1 << 16, alignment: 1) { bytes in
            let count = recv(client, bytes.baseAddress, bytes.count, 0)
            if count > 0 { buffer.append(contentsOf: bytes.prefix(count)) }
            return count > 0
        }
    }
}

extension String {
    fileprivate func components(separatedBy separator: String) -> [String] {
        split(separator: separator, omittingEmptySubsequences: false).map(String.init)
    }
}
