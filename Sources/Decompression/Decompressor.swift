/// Decompresses one stream, piece by piece. Used by one thread at a time.
///
/// Memory: what `memoryBytes` says, whatever the compressed bytes are; the output belongs to the caller.
public final class Decompressor {
    /// What it undoes.
    public let coding: ContentCoding
    private let decoder: any StreamDecoder
    private let limits: DecompressionLimits
    private var consumed = 0
    private var produced = 0

    /// - Throws: `DecompressionError.noMemory`.
    public init(_ coding: ContentCoding, limits: DecompressionLimits) throws(DecompressionError) {
        self.coding = coding
        self.limits = limits
        switch coding {
        case .gzip, .deflate: decoder = try InflateDecoder(coding)
        case .zstd: decoder = try ZstdDecoder()
        }
    }

    /// Decompresses as much of `source` as `target` has room for. If all of `target` was used there may be more, also
    /// without further source.
    /// - Parameter target: not empty.
    /// - Returns: bytes read, all of them unless `target` is used up, and bytes written.
    /// - Throws: `DecompressionError`; after that the stream can only be reset.
    public func decompress(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(DecompressionError) -> (read: Int, written: Int) {
        // One byte beyond the limit tells that there are more.
        let room = min(target.count, limits.maxBytes - produced + 1)
        let step: (read: Int, written: Int)
        do {
            step = try decoder.decode(source, into: UnsafeMutableRawBufferPointer(rebasing: target[..<room]))
        } catch .corrupt(let reason, let offset) {
            throw .corrupt(reason: reason, byteOffset: consumed + offset)
        }
        consumed += step.read
        produced += step.written
        if produced > limits.maxBytes { throw .tooLarge(maxBytes: limits.maxBytes) }
        if produced > DecompressionLimits.ratioFreeBytes, produced / limits.maxRatio > consumed {
            throw .ratio(maxRatio: limits.maxRatio)
        }
        return step
    }

    /// Checks that the stream has come to its end. Nothing at all is a stream of nothing.
    /// - Throws: `DecompressionError.truncated`.
    public func finish() throws(DecompressionError) {
        guard consumed == 0 || decoder.isAtEnd else { throw .truncated(coding) }
    }

    /// Begins a new stream, whatever became of the old one.
    public func reset() {
        decoder.reset()
        consumed = 0
        produced = 0
    }

    /// Bytes that it holds at this moment. Grows at most once a stream for gzip and deflate, with a frame's window for
    /// zstd.
    public var memoryBytes: Int { decoder.memoryBytes }
}

/// What a library does for one kind of stream, without limits on the output.
protocol StreamDecoder: AnyObject {
    /// As `Decompressor.decompress`, with the offset of what is corrupt counted from the start of `source`.
    func decode(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(DecompressionError) -> (read: Int, written: Int)
    /// Whether a stream could end here.
    var isAtEnd: Bool { get }
    func reset()
    var memoryBytes: Int { get }
}
