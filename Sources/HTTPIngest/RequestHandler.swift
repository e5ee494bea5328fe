internal import HTTPTypes
internal import HummingbirdCore
internal import NIOCore
internal import Synchronization

/// Finds the route of a request, writes its answer, and decides whether the connection lives on.
final class RequestHandler: Sendable {
    private let ingest: IngestRoute
    private let operations: OperationsRoutes
    private let date = HTTPDate()
    private let isDraining = Atomic(false)

    /// A client that is told to go away gets this long to read why, while what it still sends is thrown away.
    /// Closing at once would make its system drop the answer (RFC 9112, section 9.6).
    private let lingerTime = TimeAmount.seconds(2)
    /// A rejected request's body up to this size is read and thrown away, to keep the connection.
    private let skippedBodyBytes = 64 << 10

    init(ingest: IngestRoute, operations: OperationsRoutes) {
        self.ingest = ingest
        self.operations = operations
    }

    func beginDraining() { isDraining.store(true, ordering: .releasing) }

    func serve(_ request: Request, _ writer: consuming ResponseWriter, _ channel: any Channel) async throws {
        var body = request.body.makeAsyncIterator()
        var answer: Answer
        do {
            answer = try await answerTo(request, &body, writer)
        } catch let problem as Problem {
            answer = problem.answer
            if !problem.isBodyRead, mustClose(unreadBodyOf: request) { answer.closesConnection = true }
        }
        if answer.closesConnection { answer.headers[.connection] = "close" }
        answer.headers[.date] = date.now()
        answer.headers[.contentLength] = String(answer.body.readableBytes)
        let head = HTTPResponse(status: answer.status, headerFields: answer.headers)
        let isHead = request.method == .head
        try await writer.write(response: head, body: isHead ? ResponseBody() : ResponseBody(byteBuffer: answer.body))
        if answer.closesConnection { try await linger(channel, &body) }
    }

    private func answerTo(
        _ request: Request, _ body: inout RequestBody.AsyncIterator, _ writer: borrowing ResponseWriter
    ) async throws -> Answer {
        let isDraining = isDraining.load(ordering: .acquiring)
        switch Route(path: request.uri.path) {
        case .events(let stream):
            guard request.method == .post else { throw Problem.methodNotAllowed("POST") }
            let admission = try ingest.admit(request, stream: stream, isDraining: isDraining)
            if admission.expectsContinue { try await writer.writeInformationalHead(HTTPResponse(status: .continue)) }
            return try await ingest.take(admission, &body)
        case .operation(let operation):
            guard request.method == .get || request.method == .head else {
                throw Problem.methodNotAllowed("GET, HEAD")
            }
            return operations.answer(to: operation, isDraining: isDraining)
        case nil:
            throw Problem.notFound
        }
    }

    private func mustClose(unreadBodyOf request: Request) -> Bool {
        if request.headers[.expect] != nil { return true }
        if let length = request.headers[.contentLength].flatMap({ Int($0) }) { return length > skippedBodyBytes }
        return request.headers[.transferEncoding] != nil
    }

    /// Ends the connection politely, by throwing: the caller then closes it.
    private func linger(_ channel: any Channel, _ body: inout RequestBody.AsyncIterator) async throws {
        let deadline = channel.eventLoop.scheduleTask(in: lingerTime) { channel.close(promise: nil) }
        defer { deadline.cancel() }
        try await channel.close(mode: .output).get()
        while try await body.next() != nil {}
        throw ConnectionClosed()
    }
}

/// Thrown to Hummingbird's connection loop to end a connection whose answer said so.
struct ConnectionClosed: Error {}

/// Where a request goes.
enum Route: Equatable {
    /// Ingest; `nil` without a stream's name.
    case events(stream: String?)
    case operation(Operation)

    enum Operation: Equatable {
        case liveness, readiness, metrics, status
    }

    /// - Parameter path: as sent, percent-encoded.
    init?(path: String) {
        switch path {
        case "/v1/events": self = .events(stream: nil)
        case "/livez": self = .operation(.liveness)
        case "/readyz": self = .operation(.readiness)
        case "/metrics": self = .operation(.metrics)
        case "/v1/status": self = .operation(.status)
        default:
            let prefix = "/v1/events/"
            guard path.hasPrefix(prefix) else { return nil }
            let encoded = path.utf8.dropFirst(prefix.utf8.count)
            guard !encoded.contains(UInt8(ascii: "/")), let name = PercentEncoding.decode(encoded), !name.isEmpty
            else { return nil }
            self = .events(stream: name)
        }
    }
}

/// What is sent back.
struct Answer {
    var status: HTTPResponse.Status
    var headers: HTTPFields = [:]
    var body: ByteBuffer
    var closesConnection = false

    static func json(_ status: HTTPResponse.Status, _ text: JSONText) -> Answer {
        Answer(status: status, headers: [.contentType: "application/json"], body: text.buffer)
    }
}
