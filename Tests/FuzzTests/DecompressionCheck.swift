import Decompression

/// What comes out stays within its limits, whatever goes in, and is the same however it is cut into pieces.
enum DecompressionCheck {
    private static let limits = DecompressionLimits(maxBytes: 1 << 20, maxRatio: 100)

    static func run(_ bytes: UnsafeRawBufferPointer) throws {
        try bytes.withOptions { options, rest in
            let coding = ContentCoding.allCases[Int(options) % ContentCoding.allCases.count]
            let whole = try outcome(coding, rest, pieceLength: max(rest.count, 1), room: 64 << 10)
            let pieces = try outcome(coding, rest, pieceLength: Int(rest.first ?? 0) % 7 + 1, room: 1_000)
            // Where it fails may depend on the pieces; that it fails does not.
            try demand((whole == nil) == (pieces == nil), "pieces make a difference")
            if let whole, let pieces { try demand(whole == pieces, "pieces give something else") }
        }
    }

    /// `nil` if it is refused.
    private static func outcome(
        _ coding: ContentCoding, _ bytes: UnsafeRawBufferPointer, pieceLength: Int, room: Int
    ) throws -> [UInt8]? {
        let target = UnsafeMutableRawBufferPointer.allocate(byteCount: room, alignment: 1)
        defer { target.deallocate() }
        var output: [UInt8] = []
        do throws(DecompressionError) {
            let decompressor = try Decompressor(coding, limits: limits)
            var start = 0
            while start < bytes.count {
                var piece = UnsafeRawBufferPointer(rebasing: bytes[start..<min(start + pieceLength, bytes.count)])
                start += piece.count
                var isFull = false
                repeat {
                    let step = try decompressor.decompress(piece, into: target)
                    precondition(step.written <= room && step.read <= piece.count, "more than there is room for")
                    precondition(step.read > 0 || step.written > 0 || piece.isEmpty || isFull, "no progress")
                    output += target[..<step.written]
                    precondition(output.count <= limits.maxBytes, "more than the limit")
                    piece = UnsafeRawBufferPointer(rebasing: piece[step.read...])
                    isFull = step.written == room
                } while !piece.isEmpty || isFull
                precondition(decompressor.memoryBytes <= 32 << 20, "more memory than a decompressor may have")
            }
            try decompressor.finish()
        } catch {
            return nil
        }
        return output
    }
}
