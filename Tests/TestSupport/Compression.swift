import CZlib
import CZstd

/// Compressed bodies for tests.
public enum Compression: String, Sendable, CaseIterable {
    case gzip
    /// What HTTP calls deflate.
    case zlib
    /// What some clients send as deflate.
    case raw
    case zstd

    /// The value of `Content-Encoding`.
    public var contentEncoding: String {
        switch self {
        case .gzip: "gzip"
        case .zlib, .raw: "deflate"
        case .zstd: "zstd"
        }
    }

    /// One member, stream or frame.
    public func compress(_ bytes: [UInt8]) -> [UInt8] {
        switch self {
        case .gzip: Self.deflate(bytes, windowBits: 15 + 16)
        case .zlib: Self.deflate(bytes, windowBits: 15)
        case .raw: Self.deflate(bytes, windowBits: -15)
        case .zstd: Self.frame(bytes)
        }
    }

    /// The same for text.
    public func compress(_ text: String) -> [UInt8] { compress(Array(text.utf8)) }

    private static func deflate(_ bytes: [UInt8], windowBits: Int32) -> [UInt8] {
        let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
        stream.initialize(to: z_stream())
        defer { stream.deallocate() }
        let begun = deflateInit2_(
            stream, 9, Z_DEFLATED, windowBits, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION,
            Int32(MemoryLayout<z_stream>.size))
        precondition(begun == Z_OK, "zlib: \(begun)")
        defer { deflateEnd(stream) }
        var input = bytes
        return [UInt8](unsafeUninitializedCapacity: Int(deflateBound(stream, UInt(bytes.count)))) { output, count in
            input.withUnsafeMutableBufferPointer {
                stream.pointee.next_in = $0.baseAddress
                stream.pointee.avail_in = UInt32($0.count)
                stream.pointee.next_out = output.baseAddress
                stream.pointee.avail_out = UInt32(output.count)
                let ended = CZlib.deflate(stream, Z_FINISH)
                precondition(ended == Z_STREAM_END, "zlib: \(ended)")
            }
            count = output.count - Int(stream.pointee.avail_out)
        }
    }

    private static func frame(_ bytes: [UInt8]) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: ZSTD_compressBound(bytes.count)) { output, count in
            count = bytes.withUnsafeBytes {
                ZSTD_compress(output.baseAddress, output.count, $0.baseAddress, $0.count, 3)
            }
            precondition(ZSTD_isError(count) == 0, "zstd")
        }
    }

    /// A zstd frame made by hand: its window, and blocks of 128 KiB of one repeated byte.
    /// - Parameter windowLog: from 10 to 41.
    public static func zstdBomb(blocks: Int, windowLog: Int = 17) -> [UInt8] {
        // Magic number; a descriptor without anything; the window (RFC 8878, section 3.1.1).
        var frame: [UInt8] = [0x28, 0xb5, 0x2f, 0xfd, 0x00, UInt8((windowLog - 10) << 3)]
        for block in 1...blocks {
            let header = UInt32(1 << 17) << 3 | 1 << 1 | (block == blocks ? 1 : 0)
            frame += [UInt8(header & 255), UInt8(header >> 8 & 255), UInt8(header >> 16), 0x20]
        }
        return frame
    }
}
