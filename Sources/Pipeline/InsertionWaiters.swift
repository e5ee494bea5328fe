import IngestCore
import Synchronization

/// Requests with `ack=inserted`, waiting for the flushed position to pass their events.
final class InsertionWaiters: Sendable {
    /// Events of a waiter that became dead letters.
    struct Losses: Equatable, Sendable {
        fileprivate(set) var count = 0
        /// At most `Limits.reportedProblems`.
        fileprivate(set) var eventIDs: [String] = []

        /// - Parameter events: how many are lost with this letter.
        fileprivate mutating func add(_ eventID: String, events: Int) {
            guard events > 0 else { return }
            count += events
            if eventIDs.count < Limits.reportedProblems { eventIDs.append(eventID) }
        }
    }

    private struct Waiter {
        let sequences: Range<UInt64>
        var losses: Losses
        let continuation: CheckedContinuation<Losses?, Never>
    }

    private struct StreamWaits {
        var position: UInt64 = 0
        var waiters: [UInt64: Waiter] = [:]
        /// The last dead letters, for those who begin to wait when their events have been passed already.
        var recentLosses: [(sequences: Range<UInt64>, eventID: String)] = []

        func losses(in sequences: Range<UInt64>) -> Losses {
            var losses = Losses()
            for loss in recentLosses { losses.add(loss.eventID, events: loss.sequences.clamped(to: sequences).count) }
            return losses
        }
    }

    private struct State {
        var streams: [StreamID: StreamWaits] = [:]
        var nextNumber: UInt64 = 0
        var isClosed = false
    }

    /// A request begins to wait within moments of its commit; far fewer events are rejected in that time.
    private static let keptLosses = 4_096

    private let state = Mutex(State())

    /// Events became a dead letter: one, or all of a damaged entry. To be called before the position is said to have
    /// passed them; on the journal's writer thread.
    func lost(_ sequences: Range<UInt64>, eventID: String, in stream: StreamID) {
        state.withLock { state in
            var waits = state.streams[stream] ?? StreamWaits()
            if waits.recentLosses.count == 2 * Self.keptLosses { waits.recentLosses.removeFirst(Self.keptLosses) }
            waits.recentLosses.append((sequences, eventID))
            for (number, waiter) in waits.waiters {
                waits.waiters[number]?.losses.add(
                    eventID, events: sequences.clamped(to: waiter.sequences).count)
            }
            state.streams[stream] = waits
        }
    }

    /// The position moved. Called on the journal's writer thread.
    func advanced(_ stream: StreamID, to position: UInt64) {
        let passed = state.withLock { state in
            var waits = state.streams[stream] ?? StreamWaits()
            waits.position = max(position, waits.position)
            let passed = waits.waiters.filter { $0.value.sequences.upperBound <= position }
            for number in passed.keys { waits.waiters[number] = nil }
            state.streams[stream] = waits
            return passed
        }
        for waiter in passed.values { waiter.continuation.resume(returning: waiter.losses) }
    }

    /// Waits until the position has passed the events.
    /// - Returns: what became dead letters; `nil` when `timeout` passed first or `close` was called.
    func wait(for sequences: Range<UInt64>, in stream: StreamID, timeout: Duration) async -> Losses? {
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
                let answer: Losses?? = state.withLock { state in
                    let waits = state.streams[stream] ?? StreamWaits()
                    let losses = waits.losses(in: sequences)
                    if sequences.upperBound <= waits.position { return .some(losses) }
                    if state.isClosed || Task.isCancelled { return .some(nil) }
                    state.streams[stream, default: StreamWaits()].waiters[number] = Waiter(
                        sequences: sequences, losses: losses, continuation: continuation)
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
            let waiting = state.streams.values.flatMap(\.waiters.values)
            for stream in state.streams.keys { state.streams[stream]?.waiters = [:] }
            return waiting
        }
        for waiter in waiting { waiter.continuation.resume(returning: nil) }
    }

    private func expire(_ number: UInt64, in stream: StreamID) {
        let waiter = state.withLock { $0.streams[stream]?.waiters.removeValue(forKey: number) }
        waiter?.continuation.resume(returning: nil)
    }
}
