internal import Synchronization

/// Decompressors for reuse: making one takes longer than decompressing a small body.
///
/// `@unchecked`: a decompressor is not `Sendable`, but it is either in the pool, under the lock, or with the one who took
/// it out.
public final class DecompressorPool: @unchecked Sendable {
    private let limits: DecompressionLimits
    private let lock = Mutex(())
    private var idle: [Decompressor] = []

    /// Decompressors of one coding that are kept, and the most memory that one of them may hold then.
    private static let keptOfEach = 8
    private static let keptBytes = 4 << 20

    /// - Parameter limits: of each decompressor.
    public init(limits: DecompressionLimits) { self.limits = limits }

    /// One that is at the start of a stream.
    /// - Throws: `DecompressionError.noMemory`.
    public func take(_ coding: ContentCoding) throws(DecompressionError) -> Decompressor {
        let found = lock.withLock { _ in
            idle.lastIndex { $0.coding == coding }.map { idle.remove(at: $0) }
        }
        if let found { return found }
        return try Decompressor(coding, limits: limits)
    }

    /// Takes one back, wherever in its stream it is.
    public func give(_ decompressor: Decompressor) {
        decompressor.reset()
        guard decompressor.memoryBytes <= Self.keptBytes else { return }
        lock.withLock { _ in
            guard idle.count(where: { $0.coding == decompressor.coding }) < Self.keptOfEach else { return }
            idle.append(decompressor)
        }
    }
}
