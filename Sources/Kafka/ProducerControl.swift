internal import IngestCore
internal import Synchronization

/// A message on its way, and who wants to know what became of it.
struct OutgoingMessage: Sendable {
    let message: DeadLetterMessage
    let completion: @Sendable (Result<Void, DeadLetterFailure>) -> Void

    var byteCount: Int { message.key.count + message.value.count }
}

/// What the producer's thread and the rest of the process tell each other. Usable from any thread.
final class ProducerControl: Sendable {
    /// What wakes the producer's thread.
    enum Signal: Sendable {
        /// Something below has changed, or librdkafka's queue has something.
        case wake
        /// A message that there is room for; counted until `release`.
        case send(OutgoingMessage)
        /// A message that there was no room for.
        case refuse(OutgoingMessage)
    }

    private struct State {
        var messageCount = 0
        var byteCount = 0
        var closeDeadline: UInt64?
        var isClosed = false
        var closeWaiters: [CheckedContinuation<Void, Never>] = []
        var isHealthy = false
        var detail = "not started"
    }

    let mailbox = Mailbox<Signal>()
    private let state = Mutex(State())
    private let maximumMessages: Int
    private let maximumBytes: Int

    init(_ configuration: DeadLetterProducerConfiguration) {
        maximumMessages = configuration.maximumMessages
        maximumBytes = configuration.maximumBytes
    }

    // MARK: Messages

    /// Hands a message to the producer's thread.
    func send(_ outgoing: OutgoingMessage) {
        let hasRoom = state.withLock { state in
            guard
                state.messageCount == 0
                    || state.messageCount < maximumMessages && state.byteCount + outgoing.byteCount <= maximumBytes
            else { return false }
            state.messageCount += 1
            state.byteCount += outgoing.byteCount
            return true
        }
        guard !mailbox.send(hasRoom ? .send(outgoing) : .refuse(outgoing)) else { return }
        // The thread is gone. Never answered from within `send`: its caller may hold a lock that the completion takes.
        _ = DedicatedThread(name: "kafka-dlq-closed") { outgoing.completion(.failure(.closed)) }
    }

    /// Makes room: the message will be answered now.
    func release(_ outgoing: OutgoingMessage) {
        state.withLock { state in
            state.messageCount -= 1
            state.byteCount -= outgoing.byteCount
        }
    }

    // MARK: Close

    /// Until when what is under way may still be acknowledged; `nil` while the producer is not being closed.
    var closeDeadline: UInt64? { state.withLock { $0.closeDeadline } }

    /// Asks the thread to end, at once when nothing is under way, at the latest at `deadline`.
    func requestClose(by deadline: UInt64) {
        state.withLock { $0.closeDeadline = min($0.closeDeadline ?? deadline, deadline) }
        mailbox.send(.wake)
    }

    /// Returns when the thread is about to return.
    func waitForClose() async {
        await withCheckedContinuation { continuation in
            let isDone = state.withLock { state in
                if !state.isClosed { state.closeWaiters.append(continuation) }
                return state.isClosed
            }
            if isDone { continuation.resume() }
        }
    }

    /// The thread has answered everything.
    func confirmClose() {
        let waiters = state.withLock { state in
            state.isClosed = true
            state.isHealthy = false
            state.detail = "closed"
            defer { state.closeWaiters = [] }
            return state.closeWaiters
        }
        for waiter in waiters { waiter.resume() }
    }

    // MARK: Health

    func setHealth(isHealthy: Bool, _ detail: String) {
        state.withLock { state in
            state.isHealthy = isHealthy
            state.detail = detail
        }
    }

    var health: ComponentHealth {
        state.withLock {
            ComponentHealth(
                component: "dead_letter_topic", isHealthy: $0.isHealthy, isRequired: false, detail: $0.detail)
        }
    }
}

extension DeadLetterFailure {
    /// The producer was closed before the topic acknowledged the message.
    static let closed = DeadLetterFailure(
        "the producer was closed before the topic acknowledged the message", isMessageAtFault: false)
    /// More is under way than the configuration allows.
    static let noRoom = DeadLetterFailure(
        "too many messages wait for the topic's acknowledgement", isMessageAtFault: false)
}
