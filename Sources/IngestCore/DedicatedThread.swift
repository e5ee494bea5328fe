import Glibc
import Synchronization

/// An operating-system thread for work that blocks in C: the journal's writer, the Kafka poll loop, the curl loop and
/// the flusher have one each. Swift's cooperative pool and NIO's event loops must never block.
public final class DedicatedThread: Sendable {
    private let handle: pthread_t
    private let isJoined = Atomic(false)

    /// Starts the thread. It ends when `body` returns.
    /// - Parameter name: shown by `top -H` and debuggers; cut to 15 bytes (Linux' limit).
    public init(name: String, body: @escaping @Sendable () -> Void) {
        let box = Unmanaged.passRetained(Box(name: name, body: body))
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { argument in
                let box = Unmanaged<Box>.fromOpaque(argument!).takeRetainedValue()
                setName(box.name)
                box.body()
                return nil
            }, box.toOpaque())
        precondition(code == 0, "pthread_create failed with \(code): the process is out of threads or memory")
        handle = thread
    }

    /// Waits until the thread has ended. Blocks; call it from anywhere but the thread itself. Later calls return at once.
    public func join() {
        guard !isJoined.exchange(true, ordering: .acquiringAndReleasing) else { return }
        pthread_join(handle, nil)
    }

    deinit {
        if !isJoined.load(ordering: .acquiring) { pthread_detach(handle) }
    }

    private final class Box: Sendable {
        let name: String
        let body: @Sendable () -> Void

        init(name: String, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }
}

/// Names the calling thread. A name is a convenience: where `/proc` is missing the thread goes without.
private func setName(_ name: String) {
    let descriptor = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    _ = name.withCString { write(descriptor, $0, strlen($0)) }
    close(descriptor)
}
