internal import Glibc
internal import Synchronization

/// Where log lines go: one file descriptor, one `write(2)` per line under a lock, so that lines of different threads
/// never interleave. Callable from any thread; blocks while the reader of a pipe does not read.
///
/// The process should ignore SIGPIPE; then a line for which there is no reader is lost and counted.
public final class LogOutput: Sendable {
    /// Standard error.
    public static let standardError = LogOutput(fileDescriptor: STDERR_FILENO)

    private struct State {
        var lostLines = 0
        /// The last line got out in part only; the next must not continue it.
        var isLineOpen = false
    }

    private let fileDescriptor: Int32
    private let patienceMilliseconds: Int32
    private let state = Mutex(State())

    /// - Parameters:
    ///   - fileDescriptor: where to write; stays the caller's.
    ///   - patienceMilliseconds: how long a line waits for room in a non-blocking descriptor before it is lost.
    public init(fileDescriptor: Int32, patienceMilliseconds: Int32 = 1_000) {
        self.fileDescriptor = fileDescriptor
        self.patienceMilliseconds = patienceMilliseconds
    }

    /// Whether a person reads it.
    public var isTerminal: Bool { isatty(fileDescriptor) == 1 }

    /// Lines that could not be written (no reader, no room). There is nowhere to report them but here.
    public var lostLines: Int { state.withLock { $0.lostLines } }

    /// Writes a line, which must end in a line feed and contain no other.
    public func write(line: [UInt8]) {
        state.withLock { state in
            let bytes = state.isLineOpen ? [0x0a] + line : line
            let written = writeAll(bytes)
            if written == bytes.count {
                state.isLineOpen = false
            } else {
                state.lostLines += 1
                if written > 0 { state.isLineOpen = true }
            }
        }
    }

    /// - Returns: bytes written; fewer than there are if the descriptor takes no more.
    private func writeAll(_ bytes: [UInt8]) -> Int {
        bytes.withUnsafeBytes { bytes in
            var offset = 0
            while offset < bytes.count {
                let count = Glibc.write(fileDescriptor, bytes.baseAddress! + offset, bytes.count - offset)
                if count >= 0 {
                    offset += count
                } else if errno == EAGAIN {
                    var wanted = pollfd(fd: fileDescriptor, events: Int16(POLLOUT), revents: 0)
                    let ready = poll(&wanted, 1, patienceMilliseconds)
                    guard ready > 0 || (ready < 0 && errno == EINTR) else { break }
                } else if errno != EINTR {
                    break
                }
            }
            return offset
        }
    }
}
