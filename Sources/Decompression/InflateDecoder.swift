internal import CZlib

/// gzip and deflate, by zlib.
final class InflateDecoder: StreamDecoder {
    private let coding: ContentCoding
    /// At a fixed address: zlib's state points back to it.
    private let stream: UnsafeMutablePointer<z_stream>
    /// The first bytes of a deflate stream, which tell its kind.
    private var head: [UInt8] = []
    private var isKindKnown: Bool
    private(set) var isAtEnd = false

    /// zlib's state and its window of 32 KiB, rounded up (zconf.h).
    let memoryBytes = 48 << 10

    private static let headLength = 2

    init(_ coding: ContentCoding) throws(DecompressionError) {
        self.coding = coding
        isKindKnown = coding == .gzip
        stream = .allocate(capacity: 1)
        stream.initialize(to: z_stream())
        // 16 on top of the window's size means gzip.
        let code = inflateInit2_(stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
        guard code == Z_OK else {
            precondition(code == Z_MEM_ERROR, "zlib.h and the library don't fit each other")
            stream.deallocate()
            throw .noMemory
        }
    }

    deinit {
        inflateEnd(stream)
        stream.deallocate()
    }

    func reset() {
        inflateReset(stream)
        head.removeAll(keepingCapacity: true)
        isKindKnown = coding == .gzip
        isAtEnd = false
    }

    func decode(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(DecompressionError) -> (read: Int, written: Int) {
        guard !isKindKnown else { return try inflate(source, into: target) }
        let missing = source.prefix(Self.headLength - head.count)
        head += missing
        guard head.count == Self.headLength else { return (missing.count, 0) }
        // A negative size means raw.
        inflateReset2(stream, Self.isZlib(head[0], head[1]) ? 15 : -15)
        isKindKnown = true
        // Two bytes make one at most, so they are read whole.
        let first = try withHead { head throws(DecompressionError) in try inflate(head, into: target) }
        guard first.written < target.count else { return (missing.count, first.written) }
        let rest: (read: Int, written: Int)
        do throws(DecompressionError) {
            rest = try inflate(
                UnsafeRawBufferPointer(rebasing: source[missing.count...]),
                into: UnsafeMutableRawBufferPointer(rebasing: target[first.written...]))
        } catch .corrupt(let reason, let offset) {
            throw .corrupt(reason: reason, byteOffset: missing.count + offset)
        }
        return (missing.count + rest.read, first.written + rest.written)
    }

    /// A raw stream does not begin like this: it would be a stored block whose padding is not zero.
    private static func isZlib(_ first: UInt8, _ second: UInt8) -> Bool {
        first & 15 == 8 && first >> 4 <= 7 && (Int(first) << 8 | Int(second)) % 31 == 0
    }

    private func withHead<Result>(
        _ body: (UnsafeRawBufferPointer) throws(DecompressionError) -> Result
    ) throws(DecompressionError) -> Result {
        var pair = (head[0], head[1])
        return try withUnsafeBytes(of: &pair, body)
    }

    private func inflate(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(DecompressionError) -> (read: Int, written: Int) {
        precondition(source.count <= UInt32.max && target.count <= UInt32.max, "a piece of 4 GiB or more")
        stream.pointee.next_in = UnsafeMutablePointer(mutating: source.baseAddress?.assumingMemoryBound(to: UInt8.self))
        stream.pointee.avail_in = UInt32(source.count)
        stream.pointee.next_out = target.baseAddress!.assumingMemoryBound(to: UInt8.self)
        stream.pointee.avail_out = UInt32(target.count)
        while true {
            if isAtEnd {
                guard stream.pointee.avail_in > 0 else { break }
                guard coding == .gzip else { throw corrupt("bytes behind the end of the stream", in: source) }
                inflateReset(stream)
                isAtEnd = false
            }
            let code = CZlib.inflate(stream, Z_NO_FLUSH)
            switch code {
            case Z_STREAM_END: isAtEnd = true
            case Z_OK where stream.pointee.avail_in > 0 && stream.pointee.avail_out > 0: continue
            case Z_OK, Z_BUF_ERROR: return progress(source, target)
            case Z_NEED_DICT: throw corrupt("the stream needs a dictionary", in: source)
            case Z_MEM_ERROR: throw .noMemory
            default: throw corrupt(stream.pointee.msg.map { String(cString: $0) } ?? "zlib error \(code)", in: source)
            }
        }
        return progress(source, target)
    }

    private func progress(
        _ source: UnsafeRawBufferPointer, _ target: UnsafeMutableRawBufferPointer
    ) -> (read: Int, written: Int) {
        (source.count - Int(stream.pointee.avail_in), target.count - Int(stream.pointee.avail_out))
    }

    private func corrupt(_ reason: String, in source: UnsafeRawBufferPointer) -> DecompressionError {
        .corrupt(reason: reason, byteOffset: source.count - Int(stream.pointee.avail_in))
    }
}
