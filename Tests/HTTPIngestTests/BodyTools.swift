import Glibc
import NIOCore
import TestSupport

extension RawConnection {
    /// Sends a request whose body is no text.
    func post(_ target: String, _ body: [UInt8], headers: [String] = []) async throws {
        let lines = ["POST \(target) HTTP/1.1", "Host: test", "Content-Length: \(body.count)"] + headers
        var bytes = ByteBuffer(string: lines.joined(separator: "\r\n") + "\r\n\r\n")
        bytes.writeBytes(body)
        try await send(bytes)
    }
}

/// Members of a MiB of spaces each: as dense as gzip gets.
enum GzipBomb {
    static func bytes(mebibytes: Int) -> [UInt8] {
        let member = Compression.gzip.compress([UInt8](repeating: 0x20, count: 1 << 20))
        return (0..<mebibytes).flatMap { _ in member }
    }
}

/// The memory of this process that is in use (Linux).
enum ResidentMemory {
    struct Unreadable: Error {}

    /// Lets the peak begin anew.
    /// - Returns: bytes in use now.
    static func beginPeak() throws -> Int {
        guard let file = fopen("/proc/self/clear_refs", "w") else { throw Unreadable() }
        fputs("5", file)
        guard fclose(file) == 0 else { throw Unreadable() }
        return try read("VmRSS:")
    }

    /// The most bytes in use since the peak began.
    static func peak() throws -> Int { try read("VmHWM:") }

    private static func read(_ name: String) throws -> Int {
        guard let file = fopen("/proc/self/status", "r") else { throw Unreadable() }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        while fgets(&line, 256, file) != nil {
            let text = String(decoding: line.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            guard text.hasPrefix(name) else { continue }
            guard let kibibytes = Int(text.dropFirst(name.count).filter(\.isNumber)) else { throw Unreadable() }
            return kibibytes << 10
        }
        throw Unreadable()
    }
}
