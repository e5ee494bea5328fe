internal import HTTPTypes
internal import IngestCore
internal import NIOCore
internal import NIOHTTP1
internal import NIOHTTPTypes

/// Takes plain ingest requests where they arrive, on their connection's event loop, and passes all others on to the task
/// that serves the connection. A request then costs no task switch, which is most of what a small one would cost.
///
/// It stands behind the connection's guard, which bounds times, and before the task's channel. Answers keep the order of
/// their requests: a request is taken here only while the task has none to answer, and what comes behind it waits until
/// it is answered.
final class DirectIngest: ChannelDuplexHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    private enum State {
        /// No request is here.
        case passing
        /// Its body comes.
        case receiving
        /// Its events are on their way to stable storage.
        case storing
    }

    private struct Request {
        let head: HTTPRequest
        let admission: IngestRoute.Admission
        var body: CollectedBody
    }

    /// What came behind a request that is not answered.
    private enum Waiting {
        case part(HTTPRequestPart)
        case event(Any)
        case error(any Error)
    }

    private let requests: RequestHandler
    private let connectionGuard: ConnectionGuard
    private var state = State.passing
    /// `nil` while passing.
    private var request: Request?
    /// Requests that the task has not answered.
    private var passedRequests = 0
    /// What two reads from the socket brought at most: no more is read while something waits.
    private var waiting = CircularBuffer<Waiting>()
    private var isResuming = false
    private var wantsRead = false

    init(_ requests: RequestHandler, _ connectionGuard: ConnectionGuard) {
        self.requests = requests
        self.connectionGuard = connectionGuard
    }

    // MARK: What the client sends

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let part = unwrapInboundIn(data)
        if case .storing = state { waiting.append(.part(part)) } else { receive(part, context) }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        // The client may close its side as soon as it has sent a request; the task would end the connection then.
        if case .passing = state { context.fireUserInboundEventTriggered(event) } else { waiting.append(.event(event)) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if case .storing = state { waiting.append(.error(error)) } else { take(error, context) }
    }

    func read(context: ChannelHandlerContext) {
        if waiting.isEmpty { context.read() } else { wantsRead = true }
    }

    func channelInactive(context: ChannelHandlerContext) {
        end()
        context.fireChannelInactive()
    }

    func handlerRemoved(context: ChannelHandlerContext) { end() }

    private func end() {
        giveBody()
        state = .passing
        waiting.removeAll()
    }

    private func giveBody() {
        if request != nil { requests.ingest.give(&request!.body) }
        request = nil
    }

    private func receive(_ part: HTTPRequestPart, _ context: ChannelHandlerContext) {
        switch state {
        case .passing:
            if case .head(let head) = part {
                if passedRequests == 0, let admission = requests.admitDirectly(head) {
                    let body = CollectedBody(length: admission.content.length)
                    request = Request(head: head, admission: admission, body: body)
                    state = .receiving
                    return
                }
                passedRequests += 1
            }
            context.fireChannelRead(wrapInboundOut(part))
        case .receiving:
            guard case .body(let piece) = part else { return store(context) }
            do throws(Problem) {
                try requests.ingest.add(piece, to: &request!.body)
            } catch {
                // The rest of the body is not waited for: the connection's guard throws it away.
                var refusal = error.answer
                refusal.closesConnection = true
                answer(refusal, context)
            }
        case .storing:
            preconditionFailure("a part that has to wait")
        }
    }

    private func take(_ error: any Error, _ context: ChannelHandlerContext) {
        switch (state, error) {
        case (.receiving, is RequestTimedOut): answer(Problem.requestTimedOut.answer, context)
        case (.receiving, is HTTPParserError): answer(Problem.malformed.answer, context)
        default: context.fireErrorCaught(error)
        }
    }

    // MARK: What is answered

    private func store(_ context: ChannelHandlerContext) {
        state = .storing
        let admission = request!.admission
        let here = NIOLoopBound((handler: self, context: context), eventLoop: context.eventLoop)
        do throws(Problem) {
            try requests.ingest.submit(&request!.body, for: admission) { [loop = context.eventLoop] result, contents in
                loop.execute {
                    let (handler, context) = here.value
                    // Also counts what was accepted, so it must be made even if the client has gone away.
                    let answer = handler.requests.ingest.answer(result, contents, for: admission)
                    if case .storing = handler.state { handler.answer(answer, context) }
                }
            }
        } catch {
            answer(error.answer, context)
        }
    }

    private func answer(_ answer: Answer, _ context: ChannelHandlerContext) {
        let head = requests.head(of: answer, to: request!.head.headerFields)
        giveBody()
        state = .passing
        // Nothing is taken from a client that is told to go away.
        if answer.closesConnection { waiting.removeAll() }
        let isWritten =
            !answer.closesConnection && connectionGuard.write { head.encoded(with: answer.body) }
        if !isWritten {
            context.write(wrapOutboundOut(.head(head)), promise: nil)
            context.write(wrapOutboundOut(.body(answer.body)), promise: nil)
            context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        }
        if !isResuming { resume(context) }
    }

    /// Goes on with what has waited.
    private func resume(_ context: ChannelHandlerContext) {
        guard !waiting.isEmpty else { return }
        isResuming = true
        defer { isResuming = false }
        while let next = waiting.first {
            if case .storing = state { return }
            waiting.removeFirst()
            switch next {
            case .part(let part): receive(part, context)
            case .event(let event): userInboundEventTriggered(context: context, event: event)
            case .error(let error): take(error, context)
            }
        }
        // The task's channel hands over what it was passed when it hears that.
        context.fireChannelReadComplete()
        if wantsRead {
            wantsRead = false
            context.read()
        }
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        if case .end = unwrapOutboundIn(data) { passedRequests -= 1 }
        context.write(data, promise: promise)
    }
}

extension HTTPResponse {
    /// The bytes of HTTP/1.1 for it, body included. Its fields were checked when they were made.
    fileprivate func encoded(with body: ByteBuffer) -> ByteBuffer {
        var bytes = ByteBufferAllocator().buffer(capacity: 256 + body.readableBytes)
        bytes.writeStaticString("HTTP/1.1 ")
        bytes.writeString(status.description)
        bytes.writeStaticString("\r\n")
        for field in headerFields {
            bytes.writeString(field.name.rawName)
            bytes.writeStaticString(": ")
            bytes.writeString(field.value)
            bytes.writeStaticString("\r\n")
        }
        bytes.writeStaticString("\r\n")
        bytes.writeImmutableBuffer(body)
        return bytes
    }
}
