import Testing

@testable import Benchmarks

@Suite struct AnswerReaderTests {
    private static let answers =
        "HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 503 Later\r\nX: y\r\ncontent-LENGTH:0\r\n\r\n"
        + "HTTP/1.1 204 No Content\r\n\r\n"

    @Test func findsAnswersHoweverTheyAreCut() throws {
        let bytes = Array(Self.answers.utf8)
        for size in 1...bytes.count {
            var reader = AnswerReader()
            var found: [Int] = []
            for start in stride(from: 0, to: bytes.count, by: size) {
                bytes[start..<min(start + size, bytes.count)].withUnsafeBytes { reader.append($0) }
                while let status = try reader.next() { found.append(status) }
            }
            #expect(found == [202, 503, 204], "cut into \(size)")
        }
    }

    @Test(arguments: ["SSH-2.0-server of something\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"])
    func refusesWhatItCantRead(text: String) {
        var reader = AnswerReader()
        Array(text.utf8).withUnsafeBytes { reader.append($0) }
        #expect(throws: BenchmarkFailure.self) { try reader.next() }
    }
}
