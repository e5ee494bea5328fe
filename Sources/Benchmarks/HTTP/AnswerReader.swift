import Glibc

/// Finds the answers in what a connection delivers. Knows as much of HTTP/1.1 as servers of short answers use: a status
/// line, `Content-Length`, a body.
struct AnswerReader {
    private var bytes: [UInt8] = []
    private var start = 0

    /// Adds what was received.
    mutating func append(_ received: UnsafeRawBufferPointer) {
        if start == bytes.count {
            bytes.removeAll(keepingCapacity: true)
            start = 0
        }
        bytes += received
    }

    /// Takes the next complete answer.
    /// - Returns: its status; `nil` while bytes are missing.
    mutating func next() throws(BenchmarkFailure) -> Int? {
        guard let headEnd = endOfHead() else { return nil }
        guard headEnd - start >= 16, bytes[start..<(start + 9)].elementsEqual("HTTP/1.1 ".utf8),
            let status = number(from: start + 9), 100...999 ~= status
        else {
            throw BenchmarkFailure(
                "not an HTTP/1.1 answer: \(String(decoding: bytes[start..<headEnd].prefix(80), as: UTF8.self))")
        }
        let length = try contentLength(until: headEnd)
        guard bytes.count >= headEnd + length else { return nil }
        start = headEnd + length
        return status
    }

    /// Behind the empty line.
    private func endOfHead() -> Int? {
        var index = start
        while index + 4 <= bytes.count {
            if bytes[index] == 0x0D && bytes[index + 1] == 0x0A && bytes[index + 2] == 0x0D && bytes[index + 3] == 0x0A
            {
                return index + 4
            }
            index += 1
        }
        return nil
    }

    private func contentLength(until end: Int) throws(BenchmarkFailure) -> Int {
        var index = start
        while index < end {
            if bytes[index] == 0x0A {
                if isField("content-length:", at: index + 1) {
                    guard let length = number(from: index + 16) else {
                        throw BenchmarkFailure("an answer's Content-Length is no number")
                    }
                    return length
                }
                if isField("transfer-encoding:", at: index + 1) {
                    throw BenchmarkFailure("an answer in chunks, which this client can't read")
                }
            }
            index += 1
        }
        return 0
    }

    private func isField(_ name: StaticString, at position: Int) -> Bool {
        guard position + name.utf8CodeUnitCount <= bytes.count else { return false }
        for index in 0..<name.utf8CodeUnitCount {
            let byte = bytes[position + index]
            let lower = 0x41...0x5A ~= byte ? byte | 0x20 : byte
            guard lower == name.utf8Start[index] else { return false }
        }
        return true
    }

    private func number(from position: Int) -> Int? {
        var index = position
        while index < bytes.count && bytes[index] == 0x20 { index += 1 }
        var number: Int?
        while index < bytes.count, 0x30...0x39 ~= bytes[index], (number ?? 0) < 1 << 40 {
            number = (number ?? 0) * 10 + Int(bytes[index] - 0x30)
            index += 1
        }
        return number
    }
}
