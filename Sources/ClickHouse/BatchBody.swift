import IngestCore

/// The body of one INSERT, encoded piece by piece as curl asks for it: memory stays at one piece (about 384 KiB)
/// whatever the batch's size, unless a single event is larger.
///
/// A body that is cut short must not be taken for a whole one. Modern servers see to that themselves: a chunked body
/// without its last chunk is an exception, and nothing is inserted [ClickHouse: src/IO/HTTPChunkedReadBuffer.cpp]. Old
/// ones do not: 18.16 takes the end of the connection for the end of the data, answers 200 and inserts the rows that
/// arrived (tried). Therefore the last closing brace of what is encoded is held back until more rows or the end of the
/// batch follow it: whatever curl was given before the end stops in the middle of a row, and a server that parses it
/// finds an error there and inserts nothing (tried; a batch below the server's `max_insert_block_size`, a million
/// rows, is one block). That holds when the reader fails and when the transfer is canceled. When this process dies, or
/// the network breaks, the cut can be anywhere: only one exactly between two rows can still have an old server insert
/// the rows before it, which the retry then repeats, as any retry does on servers without deduplication tokens.
///
/// Used by one thread at a time; reused from batch to batch for its buffers.
final class BatchBody {
    /// The body can't be had: the journal failed, or delivered something else than the batch.
    struct Unreadable: Error {
        let message: String
        /// The entry to set aside, if it is one entry that is the matter.
        var damaged: DamagedEntry?
    }

    private static let pieceBytes = 384 << 10

    /// Whether all of it was handed out.
    private(set) var isComplete = false
    /// Bytes of memory held for rows.
    var bufferBytes: Int { encoder.capacity }
    private var encoder: RowEncoder
    private var makeReader: (@Sendable () throws -> any EventReader)?
    private var reader: (any EventReader)?
    private var expectedRows = 0
    private var rows = 0
    private var readerEnded = false
    /// Encoded bytes that were handed out already, and those that may be.
    private var handedOut = 0
    private var available = 0
    private var compressor: StreamCompressor?
    private var compresses = false

    init(mode: RowMode) {
        encoder = RowEncoder(mode: mode)
    }

    /// Begins another batch. Nothing is read yet.
    func start(_ request: InsertRequest, compresses: Bool) {
        makeReader = request.makeReader
        expectedRows = request.rowCount
        self.compresses = compresses
        rewind()
    }

    /// Begins the same batch anew: curl sends it again when a kept connection turned out to be dead.
    func rewind() {
        reader = nil
        rows = 0
        readerEnded = false
        isComplete = false
        handedOut = 0
        available = 0
        encoder.reset()
        compressor?.reset()
    }

    /// Lets go of the batch and its reader.
    func finish() {
        rewind()
        makeReader = nil
    }

    /// Writes the next bytes to `target`.
    /// - Returns: how many; 0 at the end of the body.
    /// - Throws: `Unreadable`. The transfer must then be broken off, not ended.
    func read(into target: UnsafeMutableRawBufferPointer) throws(Unreadable) -> Int {
        while !isComplete {
            if handedOut == available && !readerEnded { try fill() }
            let source = UnsafeRawBufferPointer(rebasing: encoder.bytes[handedOut..<available])
            let written: Int
            if compresses {
                written = try compress(source, into: target)
            } else {
                written = min(source.count, target.count)
                target.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[..<written]))
                handedOut += written
                isComplete = readerEnded && handedOut == available
            }
            if written > 0 { return written }
        }
        return 0
    }

    private func compress(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(Unreadable) -> Int {
        do throws(StreamCompressor.Failure) {
            if compressor == nil { compressor = try StreamCompressor() }
            let step = try compressor!.compress(source, into: target, isLast: readerEnded)
            handedOut += step.read
            isComplete = step.isFinished
            return step.written
        } catch {
            throw Unreadable(message: "compressing a batch failed: \(error.reason)")
        }
    }

    /// Encodes the next piece behind what was held back.
    private func fill() throws(Unreadable) {
        encoder.removeFirst(handedOut)
        handedOut = 0
        available = 0
        do {
            let reader = try self.reader ?? makeReader!()
            self.reader = reader
            while available == 0 && !readerEnded {
                let limit = encoder.count + Self.pieceBytes
                while encoder.count < limit {
                    let hasMore = try reader.read { run in
                        rows += try encoder.append(&run, until: limit)
                    }
                    guard hasMore else {
                        readerEnded = true
                        break
                    }
                }
                available = readerEnded ? encoder.count : lastBrace() ?? 0
            }
        } catch {
            throw Unreadable(
                message: "reading a batch from the journal failed: \(error)", damaged: error as? DamagedEntry)
        }
        // Checked while the last brace is still held back. More rows or fewer under the batch's token would be lost.
        guard rows <= expectedRows && (!readerEnded || rows == expectedRows) else {
            throw Unreadable(message: "the journal delivered \(rows) events of a batch of \(expectedRows)")
        }
    }

    /// Where the last closing brace is. Payloads are JSON objects, so there is one near the end.
    private func lastBrace() -> Int? {
        encoder.bytes.lastIndex(of: 0x7D)
    }
}
