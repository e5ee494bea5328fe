internal import Decompression
internal import HummingbirdCore
internal import NIOCore
internal import Synchronization

/// Bytes that may be held at one time, over all connections.
final class ByteBudget: Sendable {
    private let limit: Int
    private let used = Atomic(0)

    init(limit: Int) { self.limit = limit }

    /// Takes `count` bytes if there is room for them.
    func take(_ count: Int) -> Bool {
        let isWithin = used.add(count, ordering: .relaxed).newValue <= limit
        if !isWithin { give(count) }
        return isWithin
    }

    func give(_ count: Int) { used.subtract(count, ordering: .relaxed) }
}

/// Receives a request's body into one piece, decompressed while it arrives. A body that arrives in one piece and is not
/// compressed is not copied.
struct BodyCollector: Sendable {
    /// Bytes of one body, as sent and decompressed.
    let limit: Int
    private let budget: ByteBudget
    /// Decompressors hold up to half as much again.
    private let decompressorBudget: ByteBudget
    private let decompressors: DecompressorPool

    init(_ configuration: HTTPIngestConfiguration) {
        limit = configuration.maxBodyBytes
        budget = ByteBudget(limit: configuration.maxBufferedBytes)
        decompressorBudget = ByteBudget(limit: max(configuration.maxBufferedBytes / 2, 16 << 20))
        decompressors = DecompressorPool(
            limits: DecompressionLimits(
                maxBytes: configuration.maxBodyBytes, maxRatio: configuration.maxCompressionRatio))
    }

    /// - Parameter content: what the request says about its body.
    /// - Returns: what `use` returns, called with the body, which counts against the budget until then.
    /// - Throws: `Problem` (too large, no room, not what it is said to be), or the connection's error if the client went
    ///   away.
    func collect<Result>(
        _ body: inout RequestBody.AsyncIterator, _ content: ContentDescription, _ use: (ByteBuffer) throws -> Result
    ) async throws -> Result {
        if let coding = content.coding { return try await decompress(&body, coding, length: content.length, use) }
        let length = content.length
        var whole = ByteBuffer()
        var taken = 0
        defer { budget.give(taken) }
        while var piece = try await body.next() {
            let count = piece.readableBytes
            guard taken + count <= limit else { throw Problem.tooLarge(limit: limit) }
            guard budget.take(count) else { throw Problem.overloaded }
            if taken == 0 {
                whole = piece
            } else {
                // What is announced is believed up to a MiB; beyond that memory grows with what has come.
                let expected = min(length ?? taken * 2, max(1 << 20, taken * 2))
                if whole.writableBytes < count {
                    whole.reserveCapacity(minimumWritableBytes: max(count, expected - taken))
                }
                whole.writeBuffer(&piece)
            }
            taken += count
        }
        // Less than announced: the client went away.
        if let length, taken != length { throw ConnectionClosed() }
        return try use(whole)
    }

    /// What has come is decompressed before more is read, so only decompressed bytes are held; they count.
    private func decompress<Result>(
        _ body: inout RequestBody.AsyncIterator, _ coding: ContentCoding, length: Int?,
        _ use: (ByteBuffer) throws -> Result
    ) async throws -> Result {
        var received = 0
        var output: BodyDecompression?
        defer { output?.end() }
        while let piece = try await body.next() {
            received += piece.readableBytes
            guard received <= limit else { throw Problem.tooLarge(limit: limit) }
            let current = try output ?? BodyDecompression(coding, decompressors, budget, decompressorBudget)
            output = current
            try current.append(piece)
        }
        if let length, received != length { throw ConnectionClosed() }
        try output?.finish()
        return try use(output?.whole ?? ByteBuffer())
    }
}
