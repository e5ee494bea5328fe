internal import Decompression
internal import HummingbirdCore
internal import NIOCore
internal import Synchronization

/// Bytes that may be held at one time, over all connections.
///
/// A part is kept for small holders, so that a few slow large ones can't keep everybody out.
final class ByteBudget: Sendable {
    private let limit: Int
    /// What all may have taken together for one that holds more than `smallBytes` to get more.
    private let limitOfLarge: Int
    private let used = Atomic(0)

    private static let smallBytes = 64 << 10

    /// - Parameter largest: what one must be able to hold; the part for small ones is what there is beyond it, an eighth
    ///   of the whole at most.
    init(limit: Int, largest: Int) {
        self.limit = limit
        limitOfLarge = limit - min(limit / 8, max(0, limit - largest))
    }

    /// Takes `count` bytes if there is room for them.
    /// - Parameter held: what the holder has already.
    func take(_ count: Int, beside held: Int) -> Bool {
        let limit = held + count > Self.smallBytes ? limitOfLarge : limit
        let isWithin = used.add(count, ordering: .relaxed).newValue <= limit
        if !isWithin { give(count) }
        return isWithin
    }

    func give(_ count: Int) { used.subtract(count, ordering: .relaxed) }
}

/// What has come of an uncompressed body.
struct CollectedBody {
    /// What was announced.
    let length: Int?
    private(set) var whole = ByteBuffer()
    /// Bytes so far, which count against the budget.
    private(set) var taken = 0

    init(length: Int?) { self.length = length }

    fileprivate mutating func append(_ piece: ByteBuffer) {
        let count = piece.readableBytes
        if taken == 0 {
            whole = piece
        } else {
            // What is announced is believed up to a MiB; beyond that memory grows with what has come.
            let expected = min(length ?? taken * 2, max(1 << 20, taken * 2))
            if whole.writableBytes < count {
                whole.reserveCapacity(minimumWritableBytes: max(count, expected - taken))
            }
            whole.writeImmutableBuffer(piece)
        }
        taken += count
    }
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
        budget = ByteBudget(limit: configuration.maxBufferedBytes, largest: configuration.maxBodyBytes)
        let decompressorBytes = max(configuration.maxBufferedBytes / 2, 16 << 20)
        decompressorBudget = ByteBudget(limit: decompressorBytes, largest: decompressorBytes)
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
        var collected = CollectedBody(length: content.length)
        defer { give(&collected) }
        while let piece = try await body.next() { try add(piece, to: &collected) }
        // Less than announced: the client went away.
        if let length = content.length, collected.taken != length { throw ConnectionClosed() }
        return try use(collected.whole)
    }

    /// Puts the next piece of an uncompressed body to the others.
    /// - Throws: `Problem` (too large, no room).
    func add(_ piece: ByteBuffer, to body: inout CollectedBody) throws(Problem) {
        let count = piece.readableBytes
        guard body.taken + count <= limit else { throw Problem.tooLarge(limit: limit) }
        guard budget.take(count, beside: body.taken) else { throw Problem.overloaded }
        body.append(piece)
    }

    /// Gives back what a body took of the budget. To be called once it is done with, in whatever way.
    func give(_ body: inout CollectedBody) {
        budget.give(body.taken)
        body = CollectedBody(length: nil)
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
