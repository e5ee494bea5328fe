import CCurl
import IngestCore
import Synchronization

/// Wakes the thread that waits in `curl_multi_poll`.
///
/// `@unchecked`: a multi handle belongs to one thread, but `curl_multi_wakeup` may be called from any
/// [curl.se/libcurl/c/curl_multi_wakeup.html], and nothing else is done with it here.
struct WakeHandle: @unchecked Sendable {
    private let multi: UnsafeMutableRawPointer

    init(_ multi: UnsafeMutableRawPointer) {
        self.multi = multi
    }

    /// Does not block and calls nothing back. It can only fail where the pipe is full, and then the thread wakes up.
    func wake() { _ = curl_multi_wakeup(multi) }
}

/// Where other threads leave requests for the transfer loop, and where it leaves its health for them.
final class RequestQueue: Sendable {
    /// The outcome of what a shutdown interrupts or keeps from starting.
    static let shuttingDown = InsertOutcome.failed(
        InsertFailure(failureClass: .transient, message: "the ClickHouse client is shutting down"))

    private struct State {
        var requests: [InsertRequest] = []
        /// There from the loop's start to `close`; only used under the lock, so never after the handle is gone.
        var wakeHandle: WakeHandle?
        var isClosed = false
        /// Since when and why nothing goes through; `nil` while it does, or nothing was tried.
        var trouble: (since: Int64, message: String)?
        var everSucceeded = false
    }

    private let state = Mutex(State())

    /// The loop is there: wake it from now on.
    func open(_ handle: WakeHandle) {
        state.withLock { state in
            if !state.isClosed { state.wakeHandle = handle }
        }
    }

    /// Leaves a request. False if the queue is closed: the request is not taken.
    func put(_ request: InsertRequest) -> Bool {
        state.withLock { state in
            guard !state.isClosed else { return false }
            state.requests.append(request)
            if state.requests.count == 1 { state.wakeHandle?.wake() }
            return true
        }
    }

    /// Takes what was left; `nil` if the queue is closed.
    func take() -> [InsertRequest]? {
        state.withLock { state in
            guard !state.isClosed else { return nil }
            defer { state.requests = [] }
            return state.requests
        }
    }

    /// Lets nothing in any more and wakes the loop.
    func close() {
        state.withLock { state in
            state.isClosed = true
            state.wakeHandle?.wake()
            state.wakeHandle = nil
        }
    }

    /// Takes what the closed queue still holds.
    func drain() -> [InsertRequest] {
        state.withLock { state in
            defer { state.requests = [] }
            return state.requests
        }
    }

    func noteSuccess() {
        state.withLock { state in
            state.everSucceeded = true
            state.trouble = nil
        }
    }

    func noteFailure(_ message: String) {
        let now = WallClock.milliseconds
        state.withLock { state in state.trouble = (since: state.trouble?.since ?? now, message: message) }
    }

    var health: ComponentHealth {
        let (trouble, everSucceeded, isClosed) = state.withLock { ($0.trouble, $0.everSucceeded, $0.isClosed) }
        let detail: String
        if isClosed {
            detail = "shut down"
        } else if let trouble {
            detail = "since \(Timestamp.iso8601(milliseconds: trouble.since)): \(trouble.message)"
        } else {
            detail = everSucceeded ? "inserting" : "nothing inserted yet"
        }
        return ComponentHealth(
            component: "clickhouse", isHealthy: trouble == nil && !isClosed, isRequired: false, detail: detail)
    }
}
