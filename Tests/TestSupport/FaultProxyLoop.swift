import Glibc
import Synchronization

/// The proxy's thread.
///
/// `@unchecked Sendable`: only the thread touches what is not atomic or behind the lock.
final class ProxyLoop: @unchecked Sendable {
    enum Command {
        case mode(FaultProxy.Mode)
        case stop
    }

    /// One direction of a connection: bytes read and not yet written.
    private struct Flow {
        var bytes: [UInt8] = []
        var passed = 0
        var isEnded = false
    }

    private final class Pair {
        let client: CInt
        let server: CInt
        var request = Flow()
        var answer = Flow()

        init(client: CInt, server: CInt) {
            self.client = client
            self.server = server
        }
    }

    let accepted = Atomic(0)
    let requestBytes = Atomic(0)
    private let port: UInt16
    private let upstream: UInt16
    private var listener: CInt?
    private var mode = FaultProxy.Mode.pass
    private var pairs: [Pair] = []
    private var hanging: [CInt] = []
    /// Commands and their answers go through pipes: the sender waits for its answer.
    private let commands = Mutex<[Command]>([])
    private let wake: (read: CInt, write: CInt)
    private let done: (read: CInt, write: CInt)

    init(listener: CInt, port: UInt16, upstream: UInt16) {
        self.listener = listener
        self.port = port
        self.upstream = upstream
        LoopbackSocket.setNonBlocking(listener)
        wake = Self.makePipe()
        done = Self.makePipe()
    }

    deinit {
        for file in [wake.read, wake.write, done.read, done.write] { close(file) }
    }

    /// Carries out a command on the thread and returns when it is done. One at a time.
    func command(_ command: Command) {
        commands.withLock { commands in
            commands.append(command)
            var byte: UInt8 = 0
            _ = write(wake.write, &byte, 1)
        }
        var byte: UInt8 = 0
        _ = read(done.read, &byte, 1)
    }

    func run() {
        while true {
            var files = [pollfd(fd: wake.read, events: Int16(POLLIN), revents: 0)]
            files.append(pollfd(fd: listener ?? -1, events: Int16(POLLIN), revents: 0))
            for pair in pairs {
                files.append(interest(pair.client, reads: pair.request, writes: pair.answer))
                files.append(interest(pair.server, reads: pair.answer, writes: pair.request))
            }
            poll(&files, nfds_t(files.count), -1)
            var ended: [Int] = []
            for (index, pair) in pairs.enumerated()
            where files[2 + 2 * index].revents != 0 || files[3 + 2 * index].revents != 0 {
                if !serve(pair, clientEvents: files[2 + 2 * index].revents, serverEvents: files[3 + 2 * index].revents)
                {
                    ended.append(index)
                }
            }
            for index in ended.reversed() { pairs.remove(at: index) }
            if files[1].revents != 0 { acceptConnections() }
            if files[0].revents != 0 && !obey() { return }
        }
    }

    private func interest(_ file: CInt, reads: Flow, writes: Flow) -> pollfd {
        var events = 0
        if !reads.isEnded && reads.bytes.count < 1 << 20 { events |= Int(POLLIN) }
        if !writes.bytes.isEmpty { events |= Int(POLLOUT) }
        // A closed side without interest would wake us again and again.
        return pollfd(fd: events == 0 ? -1 : file, events: Int16(events), revents: 0)
    }

    private func obey() -> Bool {
        var byte: UInt8 = 0
        _ = read(wake.read, &byte, 1)
        var isRunning = true
        for command in commands.withLock({ commands in
            defer { commands = [] }; return commands
        }) {
            for pair in pairs { reset(pair) }
            for socket in hanging { LoopbackSocket.reset(socket) }
            pairs = []
            hanging = []
            if case .mode(let mode) = command { self.mode = mode } else { isRunning = false }
            if mode == .refuse || !isRunning {
                if let listener { close(listener) }
                listener = nil
            } else if listener == nil {
                let listener = LoopbackSocket.listen(port: port)
                LoopbackSocket.setNonBlocking(listener)
                self.listener = listener
            }
            _ = write(done.write, &byte, 1)
        }
        return isRunning
    }

    private func acceptConnections() {
        while let listener, case let client = accept(listener, nil, nil), client >= 0 {
            accepted.add(1, ordering: .acquiringAndReleasing)
            if mode == .hang {
                hanging.append(client)
            } else if let server = LoopbackSocket.connect(port: upstream) {
                LoopbackSocket.setNonBlocking(client)
                LoopbackSocket.setNonBlocking(server)
                pairs.append(Pair(client: client, server: server))
            } else {
                LoopbackSocket.reset(client)
            }
        }
    }

    /// Moves what can be moved. False if the connection is over.
    private func serve(_ pair: Pair, clientEvents: Int16, serverEvents: Int16) -> Bool {
        let readable = Int16(POLLIN) | Int16(POLLHUP) | Int16(POLLERR)
        if clientEvents & readable != 0 && !fill(&pair.request, from: pair.client) { return reset(pair) }
        if serverEvents & readable != 0 && !fill(&pair.answer, from: pair.server) { return reset(pair) }
        if case .cutRequest(let limit) = mode {
            let room = limit - pair.request.passed
            if pair.request.bytes.count >= room {
                pair.request.bytes.removeLast(pair.request.bytes.count - room)
                while !pair.request.bytes.isEmpty && flush(&pair.request, to: pair.server) {
                    var writable = pollfd(fd: pair.server, events: Int16(POLLOUT), revents: 0)
                    poll(&writable, 1, 1_000)
                }
                requestBytes.add(room, ordering: .acquiringAndReleasing)
                close(pair.server)
                LoopbackSocket.reset(pair.client)
                return false
            }
        }
        if mode == .swallowAnswer && !pair.answer.bytes.isEmpty { return reset(pair) }
        if case .cutAnswer(let limit) = mode {
            let room = limit - pair.answer.passed
            if pair.answer.bytes.count > room {
                pair.answer.bytes.removeLast(pair.answer.bytes.count - room)
                _ = flush(&pair.answer, to: pair.client)
                close(pair.client)
                close(pair.server)
                return false
            }
        }
        let before = pair.request.passed
        guard flush(&pair.request, to: pair.server), flush(&pair.answer, to: pair.client) else { return reset(pair) }
        requestBytes.add(pair.request.passed - before, ordering: .acquiringAndReleasing)
        if pair.request.isEnded && pair.request.bytes.isEmpty { shutdown(pair.server, CInt(SHUT_WR)) }
        if pair.answer.isEnded && pair.answer.bytes.isEmpty {
            close(pair.client)
            close(pair.server)
            return false
        }
        return true
    }

    @discardableResult
    private func reset(_ pair: Pair) -> Bool {
        LoopbackSocket.reset(pair.client)
        LoopbackSocket.reset(pair.server)
        return false
    }

    /// Reads what is there. False if the connection broke.
    private func fill(_ flow: inout Flow, from file: CInt) -> Bool {
        let count = withUnsafeTemporaryAllocation(byteCount: 1 << 16, alignment: 1) { buffer in
            let count = recv(file, buffer.baseAddress, buffer.count, 0)
            if count > 0 { flow.bytes.append(contentsOf: buffer.prefix(count)) }
            return count
        }
        if count == 0 { flow.isEnded = true }
        return count >= 0 || errno == EAGAIN || errno == EINTR
    }

    /// Writes what fits. False if the connection broke.
    private func flush(_ flow: inout Flow, to file: CInt) -> Bool {
        guard !flow.bytes.isEmpty else { return true }
        let count = flow.bytes.withUnsafeBytes { send(file, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
        if count > 0 {
            flow.bytes.removeFirst(count)
            flow.passed += count
        }
        return count > 0 || errno == EAGAIN || errno == EINTR
    }

    private static func makePipe() -> (read: CInt, write: CInt) {
        var files: [CInt] = [-1, -1]
        precondition(pipe(&files) == 0, "out of descriptors")
        return (files[0], files[1])
    }
}
