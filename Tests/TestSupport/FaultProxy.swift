import Glibc
import IngestCore
import Synchronization

/// A TCP proxy on loopback that breaks connections in the ways networks do. One thread moves all bytes.
///
/// Changing the mode breaks the connections that are open (reset), so that a test knows which mode each one is under.
public final class FaultProxy: Sendable {
    /// What happens to a connection.
    public enum Mode: Sendable, Equatable {
        /// Everything goes through.
        case pass
        /// Nobody listens: connections are refused.
        case refuse
        /// Connections are accepted and nothing is ever read.
        case hang
        /// After this many bytes from the client both sides are broken off: the server sees the end of the
        /// connection, the client a reset.
        case cutRequest(afterBytes: Int)
        /// After this many bytes of the answer the client sees the end of the connection.
        case cutAnswer(afterBytes: Int)
        /// The server gets all of the request, and its answer is dropped: the client sees a reset when the answer
        /// would have begun.
        case swallowAnswer
    }

    /// The port to connect to.
    public let port: UInt16
    private let loop: ProxyLoop
    private let thread: DedicatedThread

    /// The address to connect to.
    public var url: String { "http://127.0.0.1:\(port)" }
    /// Connections accepted so far.
    public var acceptedConnections: Int { loop.accepted.load(ordering: .acquiring) }
    /// Bytes passed to the server so far.
    public var requestBytes: Int { loop.requestBytes.load(ordering: .acquiring) }

    /// Starts a proxy in mode `pass`.
    /// - Parameter upstream: port of the server on loopback; nobody needs to listen there yet.
    public init(to upstream: UInt16) {
        let listener = LoopbackSocket.listen(port: 0)
        port = LoopbackSocket.port(of: listener)
        let loop = ProxyLoop(listener: listener, port: port, upstream: upstream)
        self.loop = loop
        thread = DedicatedThread(name: "fault-proxy") { loop.run() }
    }

    deinit {
        loop.command(.stop)
        thread.join()
    }

    /// Changes the mode and breaks all connections; returns when that is done.
    public func setMode(_ mode: Mode) { loop.command(.mode(mode)) }
}

/// TCP sockets on loopback. Calls can't fail but for want of descriptors.
public enum LoopbackSocket {
    /// A listening socket; port 0 takes a free one.
    public static func listen(port: UInt16) -> CInt {
        let listener = socket(AF_INET, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var yes: CInt = 1
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<CInt>.size))
        let result = withAddress(port: port) { bind(listener, $0, $1) }
        precondition(result == 0 && Glibc.listen(listener, 128) == 0, "can't listen on loopback")
        return listener
    }

    /// The port that a socket is bound to.
    public static func port(of socket: CInt) -> UInt16 {
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = getsockname(socket, $0, &length) }
        }
        return UInt16(bigEndian: address.sin_port)
    }

    /// Connects, or returns `nil` if nobody listens.
    static func connect(port: UInt16) -> CInt? {
        let client = socket(AF_INET, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        if withAddress(port: port, { Glibc.connect(client, $0, $1) }) == 0 { return client }
        close(client)
        return nil
    }

    /// Closes with a reset instead of an orderly end.
    static func reset(_ socket: CInt) {
        var lingering = linger(l_onoff: 1, l_linger: 0)
        setsockopt(socket, SOL_SOCKET, SO_LINGER, &lingering, socklen_t(MemoryLayout<linger>.size))
        close(socket)
    }

    static func setNonBlocking(_ socket: CInt) {
        _ = fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK)
    }

    private static func withAddress(port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> CInt) -> CInt {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}
