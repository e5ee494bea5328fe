internal import IngestCore
internal import Synchronization

/// What the poll thread and the rest of the process tell each other. Usable from any thread.
final class SourceControl: Sendable {
    /// What wakes the poll thread.
    enum Signal: Sendable {
        /// Something below has changed, or the consumer queue has something.
        case wake
        /// The journal has answered the submission of this assignment.
        case answered(assignment: Int, Result<Receipt, IntakeError>)
    }

    private struct State {
        var stopIsRequested = false
        var isStopped = false
        var closeIsRequested = false
        var isClosed = false
        var stopWaiters: [CheckedContinuation<Void, Never>] = []
        var closeWaiters: [CheckedContinuation<Void, Never>] = []
        var isHealthy = false
        var detail = "not started"
        var partitions: [KafkaPartitionStatus] = []
    }

    let mailbox = Mailbox<Signal>()
    private let state = Mutex(State())
    private let queueIsReady = Atomic(false)

    // MARK: From the consumer queue

    /// The consumer queue is not empty. Called by librdkafka's threads with the queue's lock held; wakes the poll
    /// thread once until it looks.
    func queueBecameReady() {
        if !queueIsReady.exchange(true, ordering: .acquiringAndReleasing) { mailbox.send(.wake) }
    }

    /// The poll thread looks into the queue now.
    func beginPolling() { queueIsReady.store(false, ordering: .sequentiallyConsistent) }

    // MARK: Stop and close

    /// Whether messages may still be taken.
    var stopIsRequested: Bool { state.withLock { $0.stopIsRequested } }
    var closeIsRequested: Bool { state.withLock { $0.closeIsRequested } }

    /// Asks the poll thread to take no more messages, and returns when it has stopped.
    func requestStop() async {
        await withCheckedContinuation { continuation in
            let isDone = state.withLock { state in
                state.stopIsRequested = true
                if !state.isStopped { state.stopWaiters.append(continuation) }
                return state.isStopped
            }
            if isDone { continuation.resume() } else { mailbox.send(.wake) }
        }
    }

    /// Asks the poll thread to end, and returns when it is about to return.
    func requestClose() async {
        await withCheckedContinuation { continuation in
            let isDone = state.withLock { state in
                state.stopIsRequested = true
                state.closeIsRequested = true
                if !state.isClosed { state.closeWaiters.append(continuation) }
                return state.isClosed
            }
            if isDone { continuation.resume() } else { mailbox.send(.wake) }
        }
    }

    /// No message is taken and nothing is submitted from here on.
    func confirmStop() {
        let waiters = state.withLock { state in
            state.isStopped = true
            defer { state.stopWaiters = [] }
            return state.stopWaiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// The poll thread has nothing left to do.
    func confirmClose() {
        mailbox.close()
        confirmStop()
        let waiters = state.withLock { state in
            state.isClosed = true
            state.isHealthy = false
            state.detail = "closed"
            state.partitions = []
            defer { state.closeWaiters = [] }
            return state.closeWaiters
        }
        for waiter in waiters { waiter.resume() }
    }

    // MARK: Status

    func setHealth(isHealthy: Bool, _ detail: String) {
        state.withLock { state in
            state.isHealthy = isHealthy
            state.detail = detail
        }
    }

    func setPartitions(_ partitions: [KafkaPartitionStatus]) { state.withLock { $0.partitions = partitions } }

    var health: ComponentHealth {
        state.withLock {
            ComponentHealth(component: "kafka", isHealthy: $0.isHealthy, isRequired: false, detail: $0.detail)
        }
    }

    var partitions: [KafkaPartitionStatus] { state.withLock { $0.partitions } }
}
