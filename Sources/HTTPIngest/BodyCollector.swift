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

/// Receives a request's body into one piece. A body that arrives in one piece is not copied.
struct BodyCollector {
    let limit: Int
    let budget: ByteBudget

    /// - Parameter length: from `Content-Length`, if known.
    /// - Returns: what `use` returns, called with the body, which counts against the budget until then.
    /// - Throws: `Problem` (too large, no room), or the connection's error if the client went away.
    func collect<Result>(
        _ body: inout RequestBody.AsyncIterator, length: Int?, _ use: (ByteBuffer) throws -> Result
    ) async throws -> Result {
        var whole = ByteBuffer()
        var taken = 0
        defer { budget.give(taken) }
        while var piece = try await body.next() {
            let count = piece.readableBytes
            guard taken + count <= limit else { throw Problem.tooLarge(limit: limit) }
            guard budget.take(count) else {
                var problem = Problem.unavailable(
                    "overloaded", "more bytes are being received than may be; send again", retryAfter: 1)
                problem.closesConnection = true
                throw problem
            }
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
}
