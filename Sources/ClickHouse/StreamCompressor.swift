import CZstd

/// One zstd frame, written piece by piece; level 1, which costs least per byte saved. Owns its context; used by one
/// thread at a time, and reused from frame to frame.
final class StreamCompressor {
    /// What zstd says is wrong.
    struct Failure: Error {
        let reason: String
    }

    private let context: OpaquePointer

    init() throws(Failure) {
        guard let context = ZSTD_createCCtx() else { throw Failure(reason: "out of memory") }
        self.context = context
        try Self.check(ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, 1))
    }

    deinit { ZSTD_freeCCtx(context) }

    /// Begins a new frame, whatever became of the old one.
    func reset() {
        ZSTD_CCtx_reset(context, ZSTD_reset_session_only)
    }

    /// Compresses as much of `source` as `target` has room for.
    /// - Parameter isLast: no more source will come: the frame is to be ended.
    /// - Returns: bytes read and written, and whether the frame is ended.
    func compress(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer, isLast: Bool
    ) throws(Failure) -> (read: Int, written: Int, isFinished: Bool) {
        var input = ZSTD_inBuffer(src: source.baseAddress, size: source.count, pos: 0)
        var output = ZSTD_outBuffer(dst: target.baseAddress, size: target.count, pos: 0)
        let left = ZSTD_compressStream2(context, &output, &input, isLast ? ZSTD_e_end : ZSTD_e_continue)
        try Self.check(left)
        return (input.pos, output.pos, isLast && left == 0)
    }

    private static func check(_ code: Int) throws(Failure) {
        if ZSTD_isError(code) != 0 { throw Failure(reason: String(cString: ZSTD_getErrorName(code))) }
    }
}
