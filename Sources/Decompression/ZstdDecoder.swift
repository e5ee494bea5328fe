internal import CZstd

/// zstd frames, by libzstd.
final class ZstdDecoder: StreamDecoder {
    private let context: OpaquePointer
    /// The bytes of a frame's magic number that have come.
    private var magic: UInt32 = 0
    private var magicLength = 0
    private(set) var isAtEnd = true

    /// 8 MiB: what RFC 9659 allows to a client and asks of a server.
    private static let windowLog: Int32 = 23
    private static let magicBytes = 4

    init() throws(DecompressionError) {
        guard let context = ZSTD_createDCtx() else { throw .noMemory }
        self.context = context
        let code = ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, Self.windowLog)
        precondition(ZSTD_isError(code) == 0, "libzstd refuses a window of 8 MiB")
    }

    deinit { ZSTD_freeDCtx(context) }

    func reset() {
        ZSTD_DCtx_reset(context, ZSTD_reset_session_only)
        (magic, magicLength, isAtEnd) = (0, 0, true)
    }

    var memoryBytes: Int { ZSTD_sizeof_DCtx(context) }

    func decode(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(DecompressionError) -> (read: Int, written: Int) {
        var input = ZSTD_inBuffer(src: source.baseAddress, size: source.count, pos: 0)
        var output = ZSTD_outBuffer(dst: target.baseAddress, size: target.count, pos: 0)
        while true {
            if magicLength < Self.magicBytes {
                while magicLength < Self.magicBytes, input.pos < source.count {
                    magic |= UInt32(source[input.pos]) << (8 * UInt32(magicLength))
                    magicLength += 1
                    input.pos += 1
                    isAtEnd = false
                }
                guard magicLength == Self.magicBytes else { break }
                try beginFrame(at: input.pos)
            }
            if try decode(&input, into: &output) {
                (magic, magicLength, isAtEnd) = (0, 0, true)
                if input.pos == input.size { break }
            } else if input.pos == input.size || output.pos == output.size {
                break
            }
        }
        return (input.pos, output.pos)
    }

    /// Frames of versions before 1.0 are not let through: Debian's library would decode them, with memory that is not
    /// counted and without our limit on it.
    private func beginFrame(at offset: Int) throws(DecompressionError) {
        let isSkippable = magic & 0xffff_fff0 == 0x184d_2a50
        guard magic == 0xfd2f_b528 || isSkippable else {
            throw .corrupt(reason: "no zstd frame begins here", byteOffset: max(0, offset - Self.magicBytes))
        }
        var bytes = magic.littleEndian
        try withUnsafeBytes(of: &bytes) { bytes throws(DecompressionError) in
            var input = ZSTD_inBuffer(src: bytes.baseAddress, size: bytes.count, pos: 0)
            var output = ZSTD_outBuffer()
            _ = try decode(&input, into: &output)
        }
    }

    /// - Returns: whether a frame has ended.
    private func decode(
        _ input: inout ZSTD_inBuffer, into output: inout ZSTD_outBuffer
    ) throws(DecompressionError) -> Bool {
        let left = ZSTD_decompressStream(context, &output, &input)
        guard ZSTD_isError(left) != 0 else { return left == 0 }
        switch ZSTD_getErrorCode(left) {
        case ZSTD_error_memory_allocation: throw .noMemory
        case ZSTD_error_frameParameter_windowTooLarge:
            throw .corrupt(reason: "a window of more than 8 MiB", byteOffset: input.pos)
        default: throw .corrupt(reason: String(cString: ZSTD_getErrorName(left)), byteOffset: input.pos)
        }
    }
}
