import HTTPIngest
import IngestCore
import NIOCore
import TestSupport
import Testing

/// `Content-Encoding`.
@Suite(.timeLimit(.minutes(1))) struct CompressedBodyTests {
    private static let ndjson = "Content-Type: application/x-ndjson"
    private static let events = (0..<3_000).map { #"{"event_id":"e\#($0)","n":\#($0 * 7919 % 1_000)}"# }

    private func post(
        _ server: Server, _ body: [UInt8], _ encoding: String, target: String = "/v1/events", headers: [String] = []
    ) async throws -> RawConnection.Response {
        let connection = try await server.connect()
        try await connection.post(target, body, headers: ["Content-Encoding: \(encoding)", Self.ndjson] + headers)
        return try await connection.response()
    }

    @Test func everyCodingIsUndone() async throws {
        let text = Self.events.joined(separator: "\n")
        try await withServer { server in
            for compression in Compression.allCases {
                let response = try await post(server, compression.compress(text), compression.contentEncoding)
                #expect(response.status == 202, "\(compression): \(response.body)")
                #expect(response.body.contains(#""accepted":3000"#))
            }
            for encoding in ["GZIP", "x-gzip", "gzip, identity", "identity,gzip", " gzip ,"] {
                let response = try await post(server, Compression.gzip.compress(text), encoding)
                #expect(response.status == 202, "\(encoding): \(response.body)")
            }
            for encoding in ["identity", "Identity, identity", ""] {
                #expect(try await post(server, Array(text.utf8), encoding).status == 202)
            }
            // Members one after the other, as log shippers make them.
            let parts = Self.events.flatMap { Compression.gzip.compress($0 + "\n") }
            #expect(try await post(server, parts, "gzip").status == 202)
            for record in server.intake.records { #expect(record.payloads == Self.events) }
            #expect(server.intake.records.count == Compression.allCases.count + 5 + 3 + 1)
        }
    }

    /// Decompressed while it arrives: in chunks of any size, on a connection that goes on.
    @Test(arguments: Compression.allCases)
    func chunksMayEndAnywhere(compression: Compression) async throws {
        try await withServer { server in
            let body = compression.compress(Self.events[..<200].joined(separator: "\n"))
            let connection = try await server.connect()
            for size in [1, 7, body.count] {
                try await connection.send(
                    "POST /v1/events HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\(Self.ndjson)\r\n"
                        + "Content-Encoding: \(compression.contentEncoding)\r\n\r\n")
                for start in stride(from: 0, to: body.count, by: size) {
                    let chunk = body[start..<min(start + size, body.count)]
                    var bytes = ByteBuffer(string: String(chunk.count, radix: 16) + "\r\n")
                    bytes.writeBytes(chunk)
                    bytes.writeString("\r\n")
                    try await connection.send(bytes)
                }
                try await connection.send("0\r\n\r\n")
                #expect(try await connection.response().status == 202)
            }
            for record in server.intake.records { #expect(record.payloads == Array(Self.events[..<200])) }
            #expect(server.intake.records.count == 3)
        }
    }

    @Test(arguments: ["br", "compress", "gzip, gzip", "zstd, deflate", "gzip, br", "gzip;q=1"])
    func otherCodingsAreRefused(encoding: String) async throws {
        try await withServer { server in
            let response = try await post(server, Array("{}".utf8), encoding)
            expectProblem(response, 415, "unsupported_type")
            #expect(response.headers["accept-encoding"] == "gzip, deflate, zstd")
            #expect(server.intake.records.isEmpty)
        }
    }

    @Test(arguments: Compression.allCases)
    func whatIsBrokenIsTold(compression: Compression) async throws {
        try await withServer { server in
            let body = compression.compress(Self.events.joined(separator: "\n"))
            let cut = try await post(server, Array(body.dropLast(3)), compression.contentEncoding)
            expectProblem(cut, 400, "bad_compression")
            #expect(cut.body.contains("ends before"))
            #expect(cut.headers["connection"] == nil)
            let trailing = try await post(server, body + Array("more".utf8), compression.contentEncoding)
            expectProblem(trailing, 400, "bad_compression")
            let plain = try await post(server, Array("{\"a\":1}\n{\"b\":2}".utf8), compression.contentEncoding)
            expectProblem(plain, 400, "bad_compression")
            #expect(plain.body.contains("can't be decompressed") && plain.body.contains("about byte"))
            let empty = try await post(server, [], compression.contentEncoding)
            expectProblem(empty, 400, "empty")
            let emptyStream = try await post(server, compression.compress(""), compression.contentEncoding)
            expectProblem(emptyStream, 400, "empty")
            #expect(server.intake.records.isEmpty)
        }
    }

    @Test func offsetsAreOfTheDecompressedBody() async throws {
        try await withServer { server in
            let body = Compression.gzip.compress("{\"a\":1}\n{\"b\":01}\n")
            let response = try await post(server, body, "gzip")
            expectProblem(response, 400, "invalid_events")
            #expect(response.body.contains(#""index":1,"byte_offset":13,"#), "\(response.body)")
            #expect(response.body.contains("byte offsets are those of the decompressed body"))
            let kept = try await post(server, body, "gzip", target: "/v1/events?on_error=dead_letter")
            #expect(kept.status == 202 && kept.body.contains(#""dead_lettered":1,"#))
            #expect(server.intake.records.map(\.deadLetters.count) == [1])
        }
    }

    @Test(arguments: Compression.allCases)
    func theLimitIsOfTheDecompressedBody(compression: Compression) async throws {
        try await withServer({
            $0.maxBodyBytes = 100_000
            $0.maxBufferedBytes = 100_000
        }) { server in
            func body(_ size: Int) -> [UInt8] {
                compression.compress(#"{"a":""# + String(repeating: "x", count: size - 8) + #""}"#)
            }
            let encoding = compression.contentEncoding
            // All of what may be buffered is free again after each request, whatever became of it.
            for _ in 0..<3 {
                #expect(try await post(server, body(100_000), encoding).status == 202)
                let large = try await post(server, body(100_001), encoding)
                expectProblem(large, 413, "too_large")
                #expect(large.body.contains("100000 bytes once decompressed"))
                expectProblem(try await post(server, Array(body(90_000).dropLast()), encoding), 400, "bad_compression")
            }
        }
    }

    /// 1 GiB in about a MiB or less, in each coding: refused for its ratio while hardly any memory is used.
    @Test func bombsTakeNoMemory() async throws {
        let bombs = [
            ("gzip", GzipBomb.bytes(mebibytes: 1_024)), ("zstd", Compression.zstdBomb(blocks: 8_192)),
            ("zstd", Compression.zstdBomb(blocks: 8_192, windowLog: 23)),
        ]
        try await withServer { server in
            // So that pools and buffers have their size.
            for compression in Compression.allCases {
                #expect(try await post(server, compression.compress("{}"), compression.contentEncoding).status == 202)
            }
            let before = try ResidentMemory.beginPeak()
            for _ in 0..<3 {
                for (encoding, bomb) in bombs {
                    expectProblem(try await post(server, bomb, encoding), 413, "compression_ratio")
                }
            }
            let growth = try ResidentMemory.peak() - before
            #expect(growth < 64 << 20, "\(growth >> 20) MiB")
        }
    }

    /// The bytes that come out count, over all connections: the second request finds no room.
    @Test func decompressedBytesAreBudgeted() async throws {
        try await withServer({
            $0.maxBodyBytes = 1 << 20
            $0.maxBufferedBytes = 1 << 20
        }) { server in
            let large = #"{"a":""# + String(repeating: "x", count: 700_000) + #""}"#
            // The first holds its 700 kB until its last byte comes.
            let body = Compression.gzip.compress(large)
            var first = try await server.connect()
            try await eventually("the second is refused") {
                // Anew: a second one that comes too early takes the room itself.
                first = try await server.connect()
                try await first.send(
                    "POST /v1/events HTTP/1.1\r\nHost: test\r\nContent-Encoding: gzip\r\nContent-Length: \(body.count)"
                        + "\r\n\r\n")
                try await first.send(ByteBuffer(bytes: body.dropLast()))
                let second = try await post(server, body, "gzip")
                if second.status == 503 {
                    expectProblem(second, 503, "overloaded")
                    #expect(second.headers["retry-after"] == "1")
                    return true
                }
                // The first one's room must be free again before the next one comes; perhaps it was refused and closed.
                try? await first.send(ByteBuffer(bytes: body.suffix(1)))
                _ = try? await first.response()
                return false
            }
            try await first.send(ByteBuffer(bytes: body.suffix(1)))
            #expect(try await first.response().status == 202)
            #expect(try await post(server, body, "gzip").status == 202)
        }
    }

    /// What a frame announces is counted before it comes: a few bytes can't take 8 MiB on each connection.
    @Test func windowsAreBudgeted() async throws {
        try await withServer({
            $0.maxBodyBytes = 1 << 20
            $0.maxBufferedBytes = 1 << 20
        }) { server in
            let frame = Compression.zstdBomb(blocks: 1, windowLog: 23)
            let head =
                "POST /v1/events HTTP/1.1\r\nHost: test\r\nContent-Encoding: zstd\r\n"
                + "Content-Length: \(frame.count)\r\n\r\n"
            let first = try await server.connect()
            try await first.send(head)
            try await first.send(ByteBuffer(bytes: frame.dropLast()))
            try await eventually("a second window finds no room") {
                let second = try await post(server, frame, "zstd")
                return second.status == 503
            }
            #expect(try await post(server, Compression.zstd.compress("{}"), "zstd").status == 202)
            try await first.send(ByteBuffer(bytes: frame.suffix(1)))
            // 128 KiB of spaces.
            #expect(try await first.response().status == 400)
            #expect(try await post(server, frame, "zstd").status == 400)
        }
    }

    /// A client that goes away in the middle leaves nothing, and gives its room back.
    @Test func halfABodyIsNothing() async throws {
        try await withServer({
            $0.maxBodyBytes = 1 << 20
            $0.maxBufferedBytes = 1 << 20
        }) { server in
            let body = Compression.zstd.compress(#"{"a":""# + String(repeating: "x", count: 900_000) + #""}"#)
            for _ in 0..<4 {
                let connection = try await server.connect()
                try await connection.send(
                    "POST /v1/events HTTP/1.1\r\nHost: test\r\nContent-Encoding: zstd\r\n"
                        + "Content-Length: \(body.count)\r\n\r\n")
                try await connection.send(ByteBuffer(bytes: body.dropLast()))
                try await connection.reset()
            }
            try await eventually("the room is free again") { try await post(server, body, "zstd").status == 202 }
            #expect(server.intake.records.allSatisfy { $0.payloads.count == 1 })
        }
    }
}
