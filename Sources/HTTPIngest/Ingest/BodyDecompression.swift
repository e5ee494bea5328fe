internal import Decompression
internal import NIOCore

/// One body that is being decompressed, and what it holds of the budgets until `end()`.
final class BodyDecompression {
    /// What has come out.
    private(set) var whole = ByteBuffer()
    private let decompressor: Decompressor
    private let pool: DecompressorPool
    private let budget: ByteBudget
    private let decompressorBudget: ByteBudget
    private var taken = 0
    private var takenByDecompressor = 0

    /// Bytes that room is made for at least, and the most that are written before the budget is asked.
    private static let leastRoom = 4 << 10
    private static let step = 64 << 10

    /// - Parameters:
    ///   - budget: for what comes out.
    ///   - decompressorBudget: for the decompressor's own memory.
    init(
        _ coding: ContentCoding, _ pool: DecompressorPool, _ budget: ByteBudget, _ decompressorBudget: ByteBudget
    ) throws(Problem) {
        do throws(DecompressionError) {
            decompressor = try pool.take(coding)
        } catch { throw Problem(error, isBodyRead: false) }
        self.pool = pool
        self.budget = budget
        self.decompressorBudget = decompressorBudget
    }

    /// Gives everything back.
    func end() {
        pool.give(decompressor)
        budget.give(taken)
        decompressorBudget.give(takenByDecompressor)
        (taken, takenByDecompressor) = (0, 0)
    }

    /// Takes what comes next.
    func append(_ piece: ByteBuffer) throws {
        try piece.withUnsafeReadableBytes { bytes in
            var rest = bytes
            var isRoomUsedUp = false
            repeat {
                let (read, written, room) = try decompress(rest)
                rest = UnsafeRawBufferPointer(rebasing: rest[read...])
                isRoomUsedUp = written == room
                guard budget.take(written, beside: taken) else { throw Problem.overloaded }
                taken += written
                try countDecompressor()
            } while !rest.isEmpty || isRoomUsedUp
        }
    }

    private func decompress(_ source: UnsafeRawBufferPointer) throws -> (read: Int, written: Int, room: Int) {
        var (read, room) = (0, 0)
        let written = try whole.writeWithUnsafeMutableBytes(minimumWritableBytes: Self.leastRoom) { target in
            room = min(target.count, Self.step)
            do throws(DecompressionError) {
                let step = try decompressor.decompress(
                    source, into: UnsafeMutableRawBufferPointer(rebasing: target[..<room]))
                read = step.read
                return step.written
            } catch { throw Problem(error, isBodyRead: false) }
        }
        return (read, written, room)
    }

    /// Its memory is the system's promise until it is written to, and grows with a frame's window.
    private func countDecompressor() throws(Problem) {
        let more = decompressor.memoryBytes - takenByDecompressor
        guard more > 0 else { return }
        guard decompressorBudget.take(more, beside: takenByDecompressor) else { throw .overloaded }
        takenByDecompressor += more
    }

    /// No more will come.
    func finish() throws(Problem) {
        do throws(DecompressionError) { try decompressor.finish() } catch { throw Problem(error, isBodyRead: true) }
    }
}
