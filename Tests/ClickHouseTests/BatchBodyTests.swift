import CZstd
import Foundation
import IngestCore
import TestSupport
import Testing

@testable import ClickHouse

struct BatchBodyTests {
    private func request(
        _ batch: ClickHouseTestBatch, rowCount: Int? = nil, eventsPerRun: Int = .max, failsAfter: Int? = nil
    ) -> InsertRequest {
        InsertRequest(
            table: "t", token: "t", rowCount: rowCount ?? batch.rowCount,
            makeReader: { batch.makeReader(eventsPerRun: eventsPerRun, failsAfter: failsAfter) }, completion: { _ in })
    }

    /// Reads to the end; the pieces that were handed out before an error, and the error.
    private func pieces(
        _ body: BatchBody, bufferBytes: Int = 512 << 10
    ) -> (pieces: [[UInt8]], error: BatchBody.Unreadable?) {
        var pieces: [[UInt8]] = []
        var buffer = [UInt8](repeating: 0, count: bufferBytes)
        while true {
            do throws(BatchBody.Unreadable) {
                var count = 0
                // The closure form would hide the error's type.
                let target = UnsafeMutableRawBufferPointer.allocate(byteCount: bufferBytes, alignment: 16)
                defer { target.deallocate() }
                count = try body.read(into: target)
                buffer.withUnsafeMutableBytes {
                    $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: target[..<count]))
                }
                if count == 0 { return (pieces, nil) }
                pieces.append(Array(buffer[..<count]))
            } catch {
                return (pieces, error)
            }
        }
    }

    @Test(arguments: [1, 100, 4_096, 512 << 10], [1, 999, Int.max])
    func deliversAllRows(bufferBytes: Int, eventsPerRun: Int) throws {
        let count = bufferBytes == 1 ? 20 : 8_000
        let batch = ClickHouseTestBatch.numbered(count)
        let body = BatchBody(mode: .flat)
        body.start(request(batch, eventsPerRun: eventsPerRun), compresses: false)
        let (pieces, error) = pieces(body, bufferBytes: bufferBytes)
        #expect(error == nil)
        #expect(body.isComplete)
        let lines = Array(pieces.joined()).split(separator: 0x0A)
        try #require(lines.count == count)
        #expect(String(decoding: lines[count - 1], as: UTF8.self).hasPrefix(#"{"id":\#(count - 1),"#))
    }

    /// What keeps old servers from taking a body that was broken off for a whole one.
    @Test(arguments: [RowMode.flat, .envelope])
    func noPieceButTheLastEndsBehindARow(mode: RowMode) {
        let events = (0..<20_000).map { ClickHouseTestEvent(#" {"id":\#($0),"text":"\#($0)"} "#) }
        let body = BatchBody(mode: mode)
        body.start(request(ClickHouseTestBatch(events)), compresses: false)
        let (pieces, _) = pieces(body)
        #expect(pieces.count > 1)
        var text: [UInt8] = []
        for piece in pieces.dropLast() {
            text += piece
            // The last line, complete but for its end.
            let line = text[text.index(after: text.lastIndex(of: 0x0A)!)...]
            #expect(!line.isEmpty)
            #expect(throws: (any Error).self) { try JSONSerialization.jsonObject(with: Data(line)) }
        }
        #expect(text.count + pieces.last!.count > 500_000)
    }

    @Test func aFailingReaderEndsWithinARow() throws {
        let body = BatchBody(mode: .flat)
        body.start(request(.numbered(10_000), failsAfter: 9_000), compresses: false)
        let (pieces, error) = pieces(body)
        #expect(try #require(error).message.contains("ReadFailure"))
        #expect(!body.isComplete)
        let text = Array(pieces.joined())
        #expect(text.count > 100_000)
        #expect(!text[text.lastIndex(of: 0x0A)!...].contains(0x7D))
    }

    @Test(arguments: [9_999, 10_001, 5, 0])
    func aBatchOfAnotherSizeIsUnreadable(rowCount: Int) throws {
        let body = BatchBody(mode: .flat)
        body.start(request(.numbered(10_000), rowCount: rowCount), compresses: false)
        let (pieces, error) = pieces(body)
        #expect(try #require(error).message.contains("of a batch of \(rowCount)"))
        #expect(pieces.joined().reversed().prefix(1) != [0x0A])
        #expect(!body.isComplete)
    }

    @Test func anEventLargerThanAPiece() throws {
        let payload = #"{"text":"\#(String(repeating: "\"x", count: 0))\#(String(repeating: "y", count: 3 << 20))"}"#
        let batch = ClickHouseTestBatch([
            ClickHouseTestEvent("{}"), ClickHouseTestEvent(payload), ClickHouseTestEvent("{}"),
        ])
        let body = BatchBody(mode: .flat)
        body.start(request(batch), compresses: false)
        let (pieces, error) = pieces(body)
        #expect(error == nil)
        #expect(Array(pieces.joined()) == Array("{}\n\(payload)\n{}\n".utf8))
    }

    @Test func memoryDoesNotGrowWithTheBatch() {
        let body = BatchBody(mode: .envelope)
        body.start(request(.numbered(20_000, textBytes: 500)), compresses: false)
        let delivered = pieces(body).pieces.map(\.count)
        #expect(delivered.reduce(0, +) > 10 << 20)
        #expect(delivered.max()! < 512 << 10)
        #expect(body.bufferBytes < 1 << 20)
        let large = ClickHouseTestEvent(#"{"text":"\#(String(repeating: "y", count: 6 << 20))"}"#)
        body.start(request(ClickHouseTestBatch([large])), compresses: false)
        _ = pieces(body)
        #expect(body.bufferBytes > 6 << 20)
        body.finish()
        #expect(body.bufferBytes < 1 << 20)
    }

    @Test func rewindsAndIsUsedAgain() throws {
        let body = BatchBody(mode: .flat)
        for count in [5_000, 1, 7_000] {
            body.start(request(.numbered(count)), compresses: false)
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 16)
            defer { buffer.deallocate() }
            _ = try body.read(into: buffer)
            body.rewind()
            let (pieces, error) = pieces(body)
            #expect(error == nil)
            #expect(pieces.joined().count { $0 == 0x0A } == count)
            body.finish()
        }
    }

    @Test(arguments: [100, 4_096, 512 << 10])
    func compressedBodiesAreTheSame(bufferBytes: Int) throws {
        let body = BatchBody(mode: .envelope)
        let batch = ClickHouseTestBatch.numbered(9_000)
        body.start(request(batch), compresses: false)
        let plain = Array(pieces(body).pieces.joined())
        for _ in 0..<2 {
            body.start(request(batch), compresses: true)
            let (compressed, error) = pieces(body, bufferBytes: bufferBytes)
            #expect(error == nil)
            let bytes = Array(compressed.joined())
            #expect(bytes.count < plain.count / 3)
            let result = [UInt8](unsafeUninitializedCapacity: plain.count) { target, count in
                count = ZSTD_decompress(target.baseAddress, target.count, bytes, bytes.count)
            }
            #expect(result == plain)
        }
    }

    @Test func aCompressedBodyOfAFailingReaderHasNoEnd() {
        let body = BatchBody(mode: .flat)
        body.start(request(.numbered(20_000), failsAfter: 19_000), compresses: true)
        let (compressed, error) = pieces(body, bufferBytes: 4_096)
        #expect(error != nil)
        let bytes = Array(compressed.joined())
        #expect(ZSTD_isError(ZSTD_findFrameCompressedSize(bytes, bytes.count)) != 0)
    }
}
