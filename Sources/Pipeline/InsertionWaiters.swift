import IngestCore
import Synchronization

/// Requests with `ack=inserted`, waiting for the flushed position to pass their events.
final class InsertionWaiters: Sendable {
    private struct Waiter {
        let end: UInt64
        let continuation: CheckedContinuation<Bool, Never>
    }

    private struct State {
        var positions: [StreamID: UInt64] = [:]
        var waiters: [StreamID: [UInt64: Waiter]] = [:]
        var nextNumber: UInt64 = 0
        var isClosed = false
    }

    private let state = Mutex(State())

    /// The position moved. Called on the journal's writer thread.
    func advanced(_ stream: StreamID, to position: UInt64) {
        let passed = state.withLock { state in
            state.positions[stream] = max(position, state.positions[stream] ?? 0)
            let passed = (state.waiters[stream] ?? [:]).filter { $0.value.end <= position }
            for number in passed.keys { state.waiters[stream]?[number] = nil }
            return passed
        }
        for waiter in passed.values { waiter.continuation.resume(returning: true) }
    }

    /// Waits until the position reaches `end`; false when `timeout` passed first or `close` was called.
    func wait(for end: UInt64, in stream: StreamID, timeout: Duration) async -> Bool {
        let number = state.withLock { state in
            state.nextNumber += 1
            return state.nextNumber
        }
        let timer = Task {
            // Cancelled when the wait is over.
            guard (try? await Task.sleep(for: timeout)) != nil else { return }
            expire(number, in: stream)
        }
        defer { timer.cancel() }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let answer: Bool? = state.withLock { state in
                    if end <= state.positions[stream] ?? 0 { return true }
                    if state.isClosed || Task.isCancelled { return false }
                    state.waiters[stream, default: [:]][number] = Waiter(end: end, continuation: continuation)
                    return nil
                }
                if let answer { continuation.resume(returning: answer) }
            }
        } onCancel: {
            expire(number, in: stream)
        }
    }

    /// Answers everyone; later waits are answered at once.
    func close() {
        let waiting = state.withLock { state in
            state.isClosed = true
            defer { state.waiters = [:] }
            return state.waiters.values.flatMap(\.values)
        }
        for waiter in waiting { waiter.continuation.resume(returning: false) }
    }

    private func expire(_ number: UInt64, in stream: StreamID) {
        let waiter = state.withLock { $0.waiters[stream]?.removeValue(forKey: number) }
        waiter?.continuation.resume(returning: false)
    }
}
