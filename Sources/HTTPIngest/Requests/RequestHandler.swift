internal import HTTPTypes
internal import HummingbirdCore
internal import NIOCore
internal import NIOHTTP1
internal import Synchronization

/// Finds the route of a request, writes its answer, and decides whether the connection lives on.
final class RequestHandler: Sendable {
    let ingest: IngestRoute
    private let observation: ObservationRoutes
    private let management: ManagementRoutes
    private let clickHouse: ClickHouseRoute
    private let statusPage = StatusPage()
    /// `nil` while no origin is configured.
    private let crossOrigin: CrossOrigin?
    private let date = HTTPDate()
    private let isDraining = Atomic(false)

    /// A body that nobody wants, of a rejected request for example, is read and thrown away up to this size, to keep the
    /// connection.
    private let skippedBodyBytes = 64 << 10

    init(
        ingest: IngestRoute, observation: ObservationRoutes, management: ManagementRoutes, clickHouse: ClickHouseRoute,
        crossOrigin: CrossOrigin?
    ) {
        self.ingest = ingest
        self.observation = observation
        self.management = management
        self.clickHouse = clickHouse
        self.crossOrigin = crossOrigin
    }

    func beginDraining() { isDraining.store(true, ordering: .releasing) }

    /// A request that `DirectIngest` takes; `nil` for all others.
    func admitDirectly(_ request: HTTPRequest) -> IngestRoute.Admission? {
        guard request.method == .post, let path = request.path, path.utf8.starts(with: "/v1/events".utf8),
            !path.utf8.contains(where: { $0 == UInt8(ascii: "?") || $0 == UInt8(ascii: "#") }),
            case .events(let stream) = Route(path: path),
            request.headerFields.value(.accept).map({ AcceptHeader.allows("application/json", $0) }) ?? true
        else { return nil }
        return ingest.admitDirectly(
            request.headerFields, stream: stream, isDraining: isDraining.load(ordering: .acquiring))
    }

    func serve(_ request: Request, _ writer: consuming ResponseWriter, _ channel: any Channel) async throws {
        var body = request.body.makeAsyncIterator()
        var answer: Answer
        do {
            answer = try await answerTo(request, &body, writer)
        } catch let problem as Problem {
            answer = problem.answer
            if !problem.isBodyRead, mustClose(unreadBodyOf: request) { answer.closesConnection = true }
        } catch let error as ClickHouseError {
            answer = error.answer
            if !error.isBodyRead, mustClose(unreadBodyOf: request) { answer.closesConnection = true }
        } catch is RequestTimedOut {
            answer = Problem.requestTimedOut.answer
        } catch is HTTPParserError {
            answer = Problem.malformed.answer
        }
        let head = head(of: answer, to: request.headers)
        let isHead = request.method == .head
        try await writer.write(response: head, body: isHead ? ResponseBody() : ResponseBody(byteBuffer: answer.body))
        if answer.closesConnection { try await linger(channel, &body) }
    }

    /// What every answer begins with.
    func head(of answer: Answer, to headers: HTTPFields) -> HTTPResponse {
        var answer = answer
        if let crossOrigin { crossOrigin.mark(&answer, for: headers) }
        if answer.closesConnection { answer.headers[.connection] = "close" }
        answer.headers.append(HTTPField(name: .date, value: date.now()))
        answer.headers.append(HTTPField(name: .contentLength, value: String(answer.body.readableBytes)))
        return HTTPResponse(status: answer.status, headerFields: answer.headers)
    }

    private func answerTo(
        _ request: Request, _ body: inout RequestBody.AsyncIterator, _ writer: borrowing ResponseWriter
    ) async throws -> Answer {
        guard let route = Route(path: request.uri.path) else {
            if request.method == .options, request.head.path == "*" { return options(of: request, Route.allMethods) }
            throw Problem.notFound
        }
        guard route.methods.contains(request.method) else { throw Problem.methodNotAllowed(route.methods) }
        if request.method == .options { return options(of: request, route.methods) }
        if let type = route.answerType, let accept = request.headers[.accept], !AcceptHeader.allows(type, accept) {
            throw Problem.notAcceptable(type)
        }
        let isDraining = isDraining.load(ordering: .acquiring)
        var answer: Answer
        switch route {
        case .events(let stream):
            let admission = try ingest.admit(
                request.headers, query: request.uri.query, stream: stream, isDraining: isDraining)
            if admission.expectsContinue { try await writer.writeInformationalHead(HTTPResponse(status: .continue)) }
            return try await ingest.take(admission, &body)
        case .clickHouse(.query) where StatusPage.isAskedFor(by: request):
            answer = statusPage.answer(to: request)
        case .clickHouse(let route):
            let (clickHouseAnswer, isBodyRead) = try await clickHouse.answer(
                to: request, at: route, &body, isDraining: isDraining, writer)
            if isBodyRead { return clickHouseAnswer }
            answer = clickHouseAnswer
        case .observation(let what):
            answer = try observation.answer(to: request, at: what, isDraining: isDraining)
        case .management(let route):
            answer = try await management.answer(to: request, at: route)
        }
        // These take no body: one that comes all the same is thrown away.
        if mustClose(unreadBodyOf: request) { answer.closesConnection = true }
        return answer
    }

    private func mustClose(unreadBodyOf request: Request) -> Bool {
        if request.headers[.expect] != nil { return true }
        if let length = request.headers[.contentLength].flatMap({ Int($0) }) { return length > skippedBodyBytes }
        return request.headers[.transferEncoding] != nil
    }

    /// What a path takes: for whoever asks, and for browsers that ask before a page may send (CORS).
    private func options(of request: Request, _ methods: [HTTPRequest.Method]) -> Answer {
        var answer = Answer(status: .noContent, body: ByteBuffer())
        answer.headers[.allow] = methods.map(\.rawValue).joined(separator: ", ")
        if let crossOrigin { crossOrigin.answerPreflight(&answer, request, methods) }
        if mustClose(unreadBodyOf: request) { answer.closesConnection = true }
        return answer
    }

    /// Waits until the connection's guard has closed it, in which time what the client still sends is thrown away.
    private func linger(_ channel: any Channel, _ body: inout RequestBody.AsyncIterator) async throws {
        while try await body.next() != nil {}
        try await channel.closeFuture.get()
        throw ConnectionClosed()
    }
}

/// Thrown to Hummingbird's connection loop to end a connection whose answer said so.
struct ConnectionClosed: Error {}

/// What is sent back.
struct Answer {
    var status: HTTPResponse.Status
    var headers: HTTPFields = [:]
    var body: ByteBuffer
    var closesConnection = false

    static func json(_ status: HTTPResponse.Status, _ text: JSONText) -> Answer {
        Answer(status: status, headers: [.contentType: "application/json"], body: text.buffer)
    }

    static func json(_ document: [UInt8]) -> Answer {
        Answer(status: .ok, headers: [.contentType: "application/json"], body: ByteBuffer(bytes: document))
    }
}
