import Decompression
import Testing
import TestSupport

/// What comes out, whatever way it comes in.
@Suite struct DecompressionTests {
    static let text = Array(
        (0..<2_000).map { #"{"event_id":"e\#($0)","n":\#($0 * 7919 % 1000)}"# }.joined(separator: "\n").utf8)
    static let roomy = DecompressionLimits(maxBytes: 1 << 30, maxRatio: 1 << 20)

    /// All that comes out of `source`, given in pieces of `piece` bytes, into room for `room` bytes at a time.
    static func decompress(
        _ source: [UInt8], with decompressor: Decompressor, piece: Int = 1 << 16, room: Int = 1 << 16
    ) throws -> [UInt8] {
        var result: [UInt8] = []
        var target = [UInt8](repeating: 0, count: room)
        for start in stride(from: 0, to: source.count, by: piece) {
            var rest = source[start..<min(start + piece, source.count)]
            var written = 0
            repeat {
                let step = try target.withUnsafeMutableBytes { target in
                    try rest.withUnsafeBytes { try decompressor.decompress($0, into: target) }
                }
                #expect(step.read == rest.count || step.written == room)
                rest = rest.dropFirst(step.read)
                written = step.written
                result += target[..<written]
            } while !rest.isEmpty || written == room
        }
        try decompressor.finish()
        return result
    }

    static func decompressor(
        _ compression: Compression, _ limits: DecompressionLimits = roomy
    ) throws -> Decompressor {
        try Decompressor(#require(ContentCoding(name: compression.contentEncoding)), limits: limits)
    }

    static func error(
        _ source: [UInt8], _ compression: Compression, piece: Int = 1 << 16
    ) throws -> DecompressionError {
        let decompressor = try decompressor(compression)
        return try #require(throws: DecompressionError.self) {
            _ = try decompress(source, with: decompressor, piece: piece)
        }
    }

    @Test(
        arguments: Compression.allCases, [(1, 7), (1, 1 << 16), (2, 16), (3, 1_000), (1 << 20, 64), (1 << 20, 1 << 20)])
    func anyPieces(compression: Compression, sizes: (piece: Int, room: Int)) throws {
        let source = compression.compress(Self.text)
        let decompressor = try Self.decompressor(compression)
        for _ in 0..<2 {
            let result = try Self.decompress(source, with: decompressor, piece: sizes.piece, room: sizes.room)
            #expect(result == Self.text)
            decompressor.reset()
        }
    }

    @Test(arguments: Compression.allCases)
    func nothingAndLittle(compression: Compression) throws {
        for text in [[], [0x7b], Array("{}".utf8)] as [[UInt8]] {
            for piece in [1, 100] {
                let decompressor = try Self.decompressor(compression)
                let result = try Self.decompress(compression.compress(text), with: decompressor, piece: piece)
                #expect(result == text)
            }
        }
        // No bytes at all.
        #expect(try Self.decompress([], with: Self.decompressor(compression)).isEmpty)
    }

    @Test(arguments: [Compression.gzip, .zstd], [1, 5, 1 << 20])
    func onePartAfterTheOther(compression: Compression, piece: Int) throws {
        let skippable: [UInt8] = compression == .zstd ? [0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3] : []
        let source =
            skippable + compression.compress("one ") + compression.compress("") + skippable
            + compression.compress("two") + skippable
        let result = try Self.decompress(source, with: Self.decompressor(compression), piece: piece)
        #expect(String(decoding: result, as: UTF8.self) == "one two")
    }

    @Test(arguments: Compression.allCases)
    func whatIsCutShortIsTold(compression: Compression) throws {
        let source = compression.compress(Self.text)
        for length in [1, 2, 3, 4, 10, source.count / 2, source.count - 1] {
            for piece in [1, 1 << 16] {
                let error = try Self.error(Array(source[..<length]), compression, piece: piece)
                guard case .truncated = error else {
                    Issue.record("\(length): \(error)")
                    continue
                }
            }
        }
        if compression == .gzip || compression == .zstd {
            let error = try Self.error(source + source.dropLast(), compression)
            #expect(error == .truncated(compression == .gzip ? .gzip : .zstd))
        }
    }

    @Test(arguments: Compression.allCases)
    func whatIsCorruptIsTold(compression: Compression) throws {
        var source = compression.compress(Self.text)
        // In the middle: only a checksum or a broken code tells, and raw deflate has no checksum.
        if compression != .raw {
            source[source.count / 2] ^= 0x55
            source[source.count / 2 + 1] ^= 0x55
            guard case .corrupt = try Self.error(source, compression) else {
                Issue.record("not corrupt")
                return
            }
        }
        for junk in ["this is no compressed text at all", "{\"a\":1}\n"] {
            switch try Self.error(Array(junk.utf8), compression) {
            case .corrupt(let reason, let offset): #expect(!reason.isEmpty && offset <= junk.utf8.count)
            // Almost any bytes begin a raw stream.
            case let error: #expect(error == .truncated(.deflate))
            }
        }
    }

    @Test(arguments: Compression.allCases, [1, 1 << 16])
    func nothingMayFollow(compression: Compression, piece: Int) throws {
        let source = compression.compress("{}")
        for trailing in ["\0\0\0\0", "{}{}{}{}"] {
            guard
                case .corrupt(_, let offset) = try Self.error(source + Array(trailing.utf8), compression, piece: piece)
            else {
                Issue.record("not corrupt")
                continue
            }
            #expect((source.count...(source.count + 4)).contains(offset), "\(offset)")
        }
    }

    @Test func namesAreTheRegisteredOnes() {
        #expect(ContentCoding(name: "GZip") == .gzip && ContentCoding(name: "x-gzip") == .gzip)
        #expect(ContentCoding(name: "deflate") == .deflate && ContentCoding(name: "zstd") == .zstd)
        for name in ["br", "identity", "", "gzip2", "compress"] { #expect(ContentCoding(name: name) == nil) }
    }
}
