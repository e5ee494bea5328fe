import Decompression
import Testing
import TestSupport

/// How far a decompression goes before it is stopped.
@Suite struct LimitTests {
    private static let room = 64 << 10

    /// Counts what comes out until an error stops it.
    private func run(
        _ source: [UInt8], _ decompressor: Decompressor
    ) throws -> (produced: Int, memory: Int, (any Error)?) {
        var target = [UInt8](repeating: 0, count: Self.room)
        var (produced, memory) = (0, 0)
        var rest = source[...]
        var written = 0
        repeat {
            do {
                let step = try target.withUnsafeMutableBytes { target in
                    try rest.withUnsafeBytes { try decompressor.decompress($0, into: target) }
                }
                rest = rest.dropFirst(step.read)
                written = step.written
                produced += written
            } catch { return (produced, memory, error) }
            memory = max(memory, decompressor.memoryBytes)
        } while !rest.isEmpty || written == Self.room
        return (produced, memory, nil)
    }

    /// 64 MiB of spaces.
    private static func bomb(_ compression: Compression) -> [UInt8] {
        if compression == .zstd { return Compression.zstdBomb(blocks: 512) }
        return compression.compress([UInt8](repeating: 0x20, count: 64 << 20))
    }

    @Test(arguments: Compression.allCases)
    func aBombIsStoppedEarly(compression: Compression) throws {
        let bomb = Self.bomb(compression)
        for (limits, expected) in [
            (DecompressionLimits(maxBytes: 32 << 20, maxRatio: 200), DecompressionError.ratio(maxRatio: 200)),
            (DecompressionLimits(maxBytes: 1 << 20, maxRatio: 200), .tooLarge(maxBytes: 1 << 20)),
            (DecompressionLimits(maxBytes: 3 << 20, maxRatio: 1 << 20), .tooLarge(maxBytes: 3 << 20)),
        ] {
            // All in one piece, so that a ratio looks as good as it can.
            let decompressor = try DecompressionTests.decompressor(compression, limits)
            let (produced, memory, error) = try run(bomb, decompressor)
            #expect(error as? DecompressionError == expected)
            let most = expected == .ratio(maxRatio: 200) ? 1 << 20 + 200 * (64 << 10) : limits.maxBytes
            #expect(produced <= most + Self.room, "\(produced)")
            #expect(memory < 1 << 20, "\(memory)")
        }
        let (produced, _, error) = try run(bomb, DecompressionTests.decompressor(compression))
        #expect(produced == 64 << 20 && error == nil)
    }

    @Test(arguments: Compression.allCases)
    func whatFitsExactlyIsTaken(compression: Compression) throws {
        let text = [UInt8](repeating: 0x20, count: 1 << 20)
        let source = compression.compress(text)
        // A ratio of a thousand, which does not matter up to a MiB.
        let fitting = DecompressionLimits(maxBytes: text.count, maxRatio: 10)
        #expect(try DecompressionTests.decompress(source, with: .init(coding(compression), limits: fitting)) == text)
        let less = DecompressionLimits(maxBytes: text.count - 1, maxRatio: 10)
        #expect(throws: DecompressionError.tooLarge(maxBytes: text.count - 1)) {
            try DecompressionTests.decompress(source, with: .init(coding(compression), limits: less))
        }
    }

    private func coding(_ compression: Compression) throws -> ContentCoding {
        try #require(ContentCoding(name: compression.contentEncoding))
    }

    @Test func theWindowIsBounded() throws {
        let largest = Compression.zstdBomb(blocks: 1, windowLog: 23)
        let decompressor = try DecompressionTests.decompressor(.zstd)
        let (_, memory, error) = try run(largest, decompressor)
        #expect(error == nil)
        // What a frame announces is counted before any of it has come.
        #expect((8 << 20...9 << 20).contains(memory))
        let beyond = Compression.zstdBomb(blocks: 1, windowLog: 24)
        let refused = try DecompressionTests.error(beyond, .zstd)
        guard case .corrupt(let reason, _) = refused else {
            Issue.record("\(refused)")
            return
        }
        #expect(reason.contains("8 MiB"))
    }

    /// Frames of zstd before 1.0, which the library may know and we don't.
    @Test func oldFramesAreRefused() throws {
        for version in 0x22...0x27 as ClosedRange<UInt8> {
            let error = try DecompressionTests.error([version, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0, 0], .zstd)
            #expect(error == .corrupt(reason: "no zstd frame begins here", byteOffset: 0))
        }
    }

    @Test func aPoolKeepsFewAndSmallOnes() throws {
        let pool = DecompressorPool(limits: DecompressionTests.roomy)
        let first = try pool.take(.zstd)
        pool.give(first)
        #expect(try pool.take(.gzip) !== first)
        let again = try pool.take(.zstd)
        #expect(again === first)
        // With a window of 8 MiB it is not kept; one that was left in the middle of a stream is as good as new.
        _ = try run(Compression.zstdBomb(blocks: 1, windowLog: 23), again)
        pool.give(again)
        let other = try pool.take(.zstd)
        #expect(other !== again)
        _ = try run(Array(Compression.zstd.compress("text").dropLast()), other)
        pool.give(other)
        #expect(try pool.take(.zstd) === other)
        #expect(try DecompressionTests.decompress(Compression.zstd.compress("text"), with: other) == Array("text".utf8))
        let many = try (0..<20).map { _ in try pool.take(.gzip) }
        for one in many { pool.give(one) }
        let kept = try (0..<20).map { _ in try pool.take(.gzip) }.filter { one in many.contains { $0 === one } }
        #expect(kept.count == 8)
    }
}
