import Glibc

/// Hands values from many threads to one that sleeps while there are none.
///
/// `@unchecked Sendable`: all state is guarded by the pthread mutex. A condition variable is what `Mutex` of package
/// Synchronization lacks.
public final class Mailbox<Message: Sendable>: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var messages: [Message] = []
    private var isWaiting = false
    private var isClosed = false

    /// Makes an empty mailbox.
    public init() {
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        // Deadlines are monotonic: a step of the wall clock neither wakes nor delays anyone.
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Adds a message; wakes the reader if it sleeps.
    /// - Returns: false if the mailbox is closed: the message was not taken.
    @discardableResult
    public func send(_ message: Message) -> Bool {
        pthread_mutex_lock(mutex)
        let isOpen = !isClosed
        if isOpen { messages.append(message) }
        let wake = isWaiting && isOpen
        if wake { isWaiting = false }
        pthread_mutex_unlock(mutex)
        if wake { pthread_cond_signal(condition) }
        return isOpen
    }

    /// Takes no more messages. Those that were sent before are still received.
    public func close() {
        pthread_mutex_lock(mutex)
        isClosed = true
        pthread_mutex_unlock(mutex)
        pthread_cond_signal(condition)
    }

    /// Moves all waiting messages into `batch` (emptied first; its memory is reused for the next ones).
    /// Sleeps while there are none, at most until `deadline`. For one reading thread only.
    /// - Parameter deadline: nanoseconds of `MonotonicClock`; `nil` waits without limit.
    /// - Returns: false when the mailbox is closed and everything sent was received.
    public func receive(into batch: inout [Message], until deadline: UInt64? = nil) -> Bool {
        batch.removeAll(keepingCapacity: true)
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while messages.isEmpty {
            if isClosed { return false }
            isWaiting = true
            guard let deadline else {
                pthread_cond_wait(condition, mutex)
                continue
            }
            var time = timespec(tv_sec: Int(deadline / 1_000_000_000), tv_nsec: Int(deadline % 1_000_000_000))
            if pthread_cond_timedwait(condition, mutex, &time) == ETIMEDOUT { break }
        }
        isWaiting = false
        swap(&batch, &messages)
        return true
    }
}

/// Time that never steps back, in nanoseconds since an arbitrary start. State machines get it as a parameter.
public enum MonotonicClock {
    /// Now.
    public static var now: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}

/// The time of day.
public enum WallClock {
    /// Milliseconds since 1970-01-01 UTC.
    public static var milliseconds: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1_000 + Int64(time.tv_nsec) / 1_000_000
    }
}
