internal import Glibc
internal import HTTPTypes
internal import NIOCore
internal import NIOHTTP1

/// Thrown to whoever reads a request's body that takes too long.
struct RequestTimedOut: Error {}

/// How long a connection may take for what.
struct ConnectionLimits: Sendable {
    /// From the first byte of a request's head, or the start of the connection, to the head's end.
    let header: TimeAmount
    /// Between requests, and between two pieces of a body.
    let idle: TimeAmount
    /// From a request's head to its end; and for what has been answered to be taken by the client.
    let request: TimeAmount
    /// A client that is told to go away gets this long to read why, while what it still sends is thrown away. Closing
    /// at once would make its system drop the answer (RFC 9112, section 9.6).
    let linger = TimeAmount.seconds(2)
    /// The same for a client that goes on sending.
    let longestLinger = TimeAmount.seconds(30)

    /// Bytes of a request's head or trailers; more is answered with 431.
    static let headBytes = 64 << 10
    /// Fields of a request's head; more is answered with 431.
    static let headFields = 256

    init(_ configuration: HTTPIngestConfiguration) {
        header = TimeAmount(configuration.headerTimeout)
        idle = TimeAmount(configuration.idleTimeout)
        request = TimeAmount(configuration.requestTimeout)
    }
}

/// Watches over one connection: bounds how long a client may take for each part of its requests, answers what is no
/// HTTP, and ends the connection, politely where that is possible.
///
/// It stands between HTTP's decoder and the request handler, and knows which of these is going on:
///
///     opening  --head-->  busy  --all answered-->  idle  --first byte-->  head  --complete-->  busy ...
///        any  --last answer, refusal-->  lingering  --client's end, time-->  closed
///
/// There is one timer, which is moved to an earlier time only: a request that comes whole sets none. Time counts only
/// while we wait for the client.
final class ConnectionGuard: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    private enum Phase {
        /// The first head is not complete. With TLS this begins before the handshake.
        case opening
        /// Nothing of the next request has come.
        case idle
        /// A part of the next request's head has come.
        case head
        /// Requests are not answered, or not complete.
        case busy
        /// The last answer is written; what comes is thrown away.
        case lingering
    }

    private let limits: ConnectionLimits
    /// Where the encoder of answers stands.
    private let encoder: ChannelHandlerContext
    /// Its own; `nil` before and after its time in the pipeline.
    private var context: ChannelHandlerContext?
    private var phase = Phase.opening
    /// Requests that are not answered; more than one if the client does not wait for answers (pipelining).
    private var openRequests = 0
    /// Whether the end of the last request is missing.
    private var isReceiving = false
    /// Whether bytes have come that are no complete head.
    private var hasPartOfHead = false
    /// Whether a part of a request came since the last `channelReadComplete`.
    private var hasRead = false
    /// When the oldest request must have come whole.
    private var requestDeadline: NIODeadline?
    private var lingerDeadline = NIODeadline.distantFuture
    /// The client or the server has said so: the answer that is being written ends the connection.
    private var closesAfterAnswer = false
    /// Requests behind the last that came are not looked at.
    private var hasLastRequest = false
    /// What follows the open requests is no HTTP: the answer to that.
    private var refusal: Problem?
    private var isStopping = false

    private var deadline: NIODeadline?
    private var timer: (task: Scheduled<Void>, time: NIODeadline)?
    /// Runs while the client does not take what we send.
    private var stall: Scheduled<Void>?

    init(limits: ConnectionLimits, encoder: ChannelHandlerContext) {
        self.limits = limits
        self.encoder = encoder
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        wait(limits.header, context)
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        cancelTimers()
        self.context = nil
    }

    func channelInactive(context: ChannelHandlerContext) {
        cancelTimers()
        context.fireChannelInactive()
    }

    // MARK: What the client sends

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        hasRead = true
        guard phase != .lingering else { return }
        switch unwrapInboundIn(data) {
        case .head(var head):
            guard !hasLastRequest else { return }
            phase = .busy
            openRequests += 1
            isReceiving = true
            hasPartOfHead = false
            deadline = nil
            if isLast(head) {
                hasLastRequest = true
                // The request handler must know, too.
                head.headers.replaceOrAdd(name: "connection", value: "close")
                context.fireChannelRead(wrapInboundOut(.head(head)))
                return
            }
        case .body:
            guard isReceiving else { return }
        case .end:
            guard isReceiving else { return }
            isReceiving = false
            requestDeadline = nil
            deadline = nil
            if openRequests == 0 { waitForNext(context) }
        }
        context.fireChannelRead(data)
    }

    /// Whether the connection ends with this request. After CONNECT and Upgrade, which we do not follow, the decoder
    /// takes what comes for another protocol.
    private func isLast(_ head: HTTPRequestHead) -> Bool {
        !head.isKeepAlive || head.version.minor == 0 || head.method == .CONNECT
            || head.headers.contains(name: "upgrade")
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        defer { hasRead = false }
        switch phase {
        case .opening: hasPartOfHead = true
        case .idle where !hasRead:
            phase = .head
            wait(limits.header, context)
        case .busy where isReceiving: waitForRest(context)
        case .busy: hasPartOfHead = hasPartOfHead || !hasRead
        case .lingering: wait(until: min(lingerDeadline, .now() + limits.linger), context)
        case .idle, .head: break
        }
        context.fireChannelReadComplete()
    }

    /// A request's rest is waited for, once those before it are answered.
    private func waitForRest(_ context: ChannelHandlerContext) {
        guard openRequests <= 1 else { return }
        let now = NIODeadline.now()
        let end = requestDeadline ?? now + limits.request
        requestDeadline = end
        wait(until: min(end, now + limits.idle), context)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case is ChannelShouldQuiesceEvent:
            isStopping = true
            if openRequests == 0 { context.close(promise: nil) }
        case ChannelEvent.inputClosed where phase == .lingering:
            context.close(promise: nil)
        default:
            context.fireUserInboundEventTriggered(event)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard phase != .lingering else { return }
        switch error {
        case HTTPParserError.headerOverflow where !isReceiving:
            refuse(context, .headersTooLarge)
        case is HTTPParserError where !isReceiving:
            refuse(context, .malformed)
        case is HTTPParserError where openRequests == 0:
            // The rest of a body that was answered already.
            context.close(promise: nil)
        case is ByteToMessageDecoderError, is ByteToMessageDecoderError.PayloadTooLargeError:
            // The decoder has stopped, and throws away what comes. The first is about what comes after another error,
            // the second about what follows an Upgrade.
            break
        default:
            context.fireErrorCaught(error)
        }
    }

    // MARK: What is answered

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        // An answer to nobody: the client was told to go away in the meantime.
        guard openRequests > 0, phase != .lingering else {
            promise?.succeed()
            return
        }
        switch unwrapOutboundIn(data) {
        case .head(var head) where head.status.code >= 200:
            if head.headers.contains(name: "connection") {
                closesAfterAnswer = true
            } else if hasLastRequest, openRequests == 1 {
                closesAfterAnswer = true
                head.headers.add(name: "connection", value: "close")
                context.write(wrapOutboundOut(.head(head)), promise: promise)
                return
            }
            context.write(data, promise: promise)
        case .head, .body:
            context.write(data, promise: promise)
        case .end:
            openRequests -= 1
            if closesAfterAnswer {
                context.writeAndFlush(data, promise: promise)
                linger(context)
            } else if isStopping, openRequests == 0 {
                closeBehind(data, promise, context)
            } else {
                context.write(data, promise: promise)
                waitForNext(context)
            }
        }
    }

    /// Writes an answer that is encoded already, in one piece: most of what a small answer costs otherwise is its way
    /// through the handlers, part by part.
    /// - Parameter answer: makes it; head and body, without `Connection`.
    /// - Returns: false, without a call of `answer`, if the connection may end with this answer: then it is to be written
    ///   like all others.
    func write(encoded answer: () -> ByteBuffer) -> Bool {
        guard let context, openRequests > 0, phase == .busy, !hasLastRequest, !closesAfterAnswer, !isStopping else {
            return false
        }
        encoder.writeAndFlush(NIOAny(answer()), promise: nil)
        openRequests -= 1
        waitForNext(context)
        return true
    }

    private func waitForNext(_ context: ChannelHandlerContext) {
        if isReceiving {
            waitForRest(context)
        } else if openRequests == 0, let refusal {
            refuse(context, refusal)
        } else if openRequests == 0, isStopping {
            context.close(promise: nil)
        } else if openRequests == 0 {
            phase = hasPartOfHead ? .head : .idle
            wait(hasPartOfHead ? limits.header : limits.idle, context)
        }
    }

    private func closeBehind(_ data: NIOAny, _ promise: EventLoopPromise<Void>?, _ context: ChannelHandlerContext) {
        let written = promise ?? context.eventLoop.makePromise(of: Void.self)
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        written.futureResult.whenComplete { _ in bound.value.close(promise: nil) }
        context.writeAndFlush(data, promise: written)
    }

    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        if phase == .lingering, mode == .output {
            promise?.succeed()
        } else {
            context.close(mode: mode, promise: promise)
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        stall?.cancel()
        stall = nil
        if !context.channel.isWritable {
            stall = context.eventLoop.assumeIsolated().scheduleTask(in: limits.request) { context.close(promise: nil) }
        }
        context.fireChannelWritabilityChanged()
    }

    /// Answers what never became a request, once the requests before it are answered.
    private func refuse(_ context: ChannelHandlerContext, _ problem: Problem) {
        guard openRequests == 0 else {
            refusal = problem
            return
        }
        let answer = problem.answer
        var headers = HTTPHeaders()
        for field in answer.headers { headers.add(name: field.name.rawName, value: field.value) }
        headers.add(name: "date", value: HTTPDate.format(time(nil)))
        headers.add(name: "content-length", value: String(answer.body.readableBytes))
        headers.add(name: "connection", value: "close")
        let status = HTTPResponseStatus(
            statusCode: answer.status.code, reasonPhrase: answer.status.reasonPhrase)
        context.write(
            wrapOutboundOut(.head(HTTPResponseHead(version: .http1_1, status: status, headers: headers))), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(answer.body))), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        linger(context)
    }

    private func linger(_ context: ChannelHandlerContext) {
        phase = .lingering
        lingerDeadline = .now() + limits.longestLinger
        wait(limits.linger, context)
        context.close(mode: .output, promise: nil)
    }

    // MARK: Time

    private func wait(_ amount: TimeAmount, _ context: ChannelHandlerContext) { wait(until: .now() + amount, context) }

    private func wait(until time: NIODeadline, _ context: ChannelHandlerContext) {
        deadline = time
        if let timer {
            guard time < timer.time else { return }
            timer.task.cancel()
        }
        let task = context.eventLoop.assumeIsolated().scheduleTask(deadline: time) { self.timerFired(context) }
        timer = (task, time)
    }

    private func timerFired(_ context: ChannelHandlerContext) {
        timer = nil
        guard let deadline else { return }
        guard deadline <= .now() else { return wait(until: deadline, context) }
        self.deadline = nil
        switch phase {
        case .opening where hasPartOfHead, .head:
            refuse(context, .headTimedOut)
        case .busy where openRequests > 0:
            // The handler answers. The client's time to take the answer is bounded, like that of any.
            context.fireErrorCaught(RequestTimedOut())
        case .opening, .idle, .busy, .lingering:
            context.close(promise: nil)
        }
    }

    private func cancelTimers() {
        timer?.task.cancel()
        timer = nil
        deadline = nil
        stall?.cancel()
        stall = nil
    }
}
