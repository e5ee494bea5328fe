import HTTPIngest
import NIOCore
import Synchronization
import Testing

/// What one connection may take: time, size and order. Nothing of a request that is not complete is handed over.
@Suite(.timeLimit(.minutes(1))) struct ConnectionTests {
    private static let short = Duration.milliseconds(60)

    // MARK: Time

    @Test(arguments: ["P", "POST /v1/events HTTP/1.1\r\n", "POST /v1/events HTTP/1.1\r\nHost: t\r\nX-A: 1\r\n", "\r\n"])
    func aHeadThatIsNotCompletedIsAnswered(start: String) async throws {
        try await withServer({ $0.headerTimeout = Self.short }) { server in
            // The first of a connection, and a later one.
            for isLater in [false, true] {
                let connection = try await server.connect()
                if isLater {
                    try await connection.post("/v1/events", "{}")
                    #expect(try await connection.response().status == 202)
                }
                try await connection.send(start)
                let response = try await connection.response()
                expectProblem(response, 408, "request_timeout")
                #expect(response.headers["connection"] == "close" && response.headers["date"] != nil)
                #expect(await connection.closed() == "")
            }
            #expect(server.intake.records.count == 1)
        }
    }

    @Test func aHeadThatTricklesIsCutOff() async throws {
        try await withServer({
            $0.headerTimeout = .milliseconds(200)
            $0.idleTimeout = .seconds(60)
        }) { server in
            let connection = try await server.connect()
            try await connection.send("GET /livez HTTP/1.1\r\n")
            // The connection is never silent, yet ends.
            let trickle = connection.trickle("X-A: b\r\n")
            expectProblem(try await connection.response(), 408, "request_timeout")
            trickle.cancel()
            _ = await trickle.result
        }
    }

    @Test func aSilentConnectionIsClosed() async throws {
        try await withServer({ $0.headerTimeout = Self.short }) { server in
            let connection = try await server.connect()
            #expect(await connection.closed() == "")
        }
        try await withServer({ $0.idleTimeout = Self.short }) { server in
            let connection = try await server.connect()
            try await connection.get("/livez")
            #expect(try await connection.response().status == 200)
            #expect(await connection.closed() == "")
        }
    }

    @Test func betweenRequestsOnlyTheIdleTimeCounts() async throws {
        try await withServer({
            $0.headerTimeout = .milliseconds(30)
            $0.requestTimeout = .milliseconds(30)
        }) { server in
            let connection = try await server.connect()
            for _ in 0..<3 {
                try await connection.post("/v1/events", "{}")
                #expect(try await connection.response().status == 202)
                // Longer than any other of its times: that nothing happens meanwhile is what is tested.
                try await Task.sleep(for: .milliseconds(60))
            }
        }
    }

    @Test(arguments: [false, true])
    func aBodyThatIsNotCompletedIsAnswered(isTrickling: Bool) async throws {
        try await withServer({
            $0.idleTimeout = isTrickling ? .seconds(60) : Self.short
            $0.requestTimeout = isTrickling ? .milliseconds(200) : .seconds(60)
        }) { server in
            let connection = try await server.connect()
            try await connection.send("POST /v1/events HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n{}\n")
            let trickle = isTrickling ? connection.trickle("{}\n") : nil
            let response = try await connection.response()
            expectProblem(response, 408, "request_timeout")
            #expect(response.headers["connection"] == "close")
            trickle?.cancel()
            _ = await trickle?.result
            #expect(server.intake.records.isEmpty)
        }
    }

    @Test func timeDoesNotCountWhileTheServerWorks() async throws {
        try await withServer({
            $0.headerTimeout = .milliseconds(30)
            $0.idleTimeout = .milliseconds(30)
            $0.requestTimeout = .milliseconds(30)
        }) { server in
            server.intake.mode = .hold
            let connection = try await server.connect()
            // The second one's rest is not late while the first is not answered.
            try await connection.post("/v1/events", "{}")
            try await connection.send("POST /v1/events HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n{")
            try await server.intake.received(1)
            try await Task.sleep(for: .milliseconds(100))
            server.intake.mode = .accept
            server.intake.release()
            #expect(try await connection.response().status == 202)
            try await connection.send("}")
            #expect(try await connection.response().status == 202)
        }
    }

    @Test func answersThatAreNotTakenEndTheConnection() async throws {
        try await withServer({
            $0.requestTimeout = .milliseconds(300)
            $0.idleTimeout = .milliseconds(300)
        }) { server in
            server.operations.script.withLock { $0.metrics = Array(repeating: UInt8(ascii: "x"), count: 8 << 20) }
            let connection = try await server.connect(reads: false)
            for _ in 0..<8 { try await connection.get("/metrics") }
            // Stopping waits for connections: it would hang on one whose answer is never taken.
            try await server.service.stop()
        }
    }

    // MARK: Size

    @Test(arguments: [
        "GET /" + String(repeating: "x", count: 70_000) + " HTTP/1.1\r\nHost: t\r\n\r\n",
        "GET /livez HTTP/1.1\r\nX-A: " + String(repeating: "x", count: 70_000) + "\r\n\r\n",
        "GET /livez HTTP/1.1\r\n" + String(repeating: "X-A: \(String(repeating: "x", count: 1_000))\r\n", count: 70)
            + "\r\n",
        "GET /livez HTTP/1.1\r\n" + String(repeating: "A: b\r\n", count: 300) + "\r\n",
    ])
    func largeHeadsAreRefused(head: String) async throws {
        try await withServer { server in
            let connection = try await server.connect()
            try await connection.get("/livez", headers: ["X-A: " + String(repeating: "x", count: 60_000)])
            #expect(try await connection.response().status == 200)
            try await connection.send(head)
            let response = try await connection.response()
            expectProblem(response, 431, "headers_too_large")
            #expect(response.headers["connection"] == "close")
            #expect(await connection.closed() == "")
        }
    }

    @Test func aRefusalBehindAnOpenRequestWaitsForItsAnswer() async throws {
        try await withServer { server in
            server.intake.mode = .hold
            let connection = try await server.connect()
            try await connection.post("/v1/events", "{}")
            try await server.intake.received(1)
            try await connection.send("what?\r\n\r\n")
            for _ in 0..<3 { #expect(try await server.get("/livez").status == 200) }
            server.intake.release()
            #expect(try await connection.response().status == 202)
            expectProblem(try await connection.response(), 400, "malformed_request")
            #expect(await connection.closed() == "")
        }
    }

    /// A refused client reads why, however much it still sends.
    @Test func whoIsRefusedIsToldWhileSending() async throws {
        try await withServer({ $0.maxBodyBytes = 1_000 }) { server in
            for framing in ["Content-Length: 50000000", "Transfer-Encoding: chunked"] {
                let connection = try await server.connect()
                try await connection.send("POST /v1/events HTTP/1.1\r\nHost: t\r\n\(framing)\r\n\r\n")
                let isChunked = framing.hasSuffix("chunked")
                let piece = String(repeating: "x", count: 1 << 20)
                for _ in 0..<20 { try await connection.send(isChunked ? "100000\r\n\(piece)\r\n" : piece) }
                let response = try await connection.response()
                expectProblem(response, 413, "too_large")
                #expect(response.headers["connection"] == "close")
            }
            #expect(server.intake.records.isEmpty)
        }
    }

    @Test(arguments: [
        "POST /v1/events HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}",
        "POST /v1/events HTTP/1.1\r\nHost: t\r\nConnection: Close\r\nContent-Length: 2\r\n\r\n{}",
        "POST /v1/events HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}",
        "POST /v1/events HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
    ])
    func theLastRequestOfAConnection(request: String) async throws {
        try await withServer { server in
            let connection = try await server.connect()
            // What follows is thrown away, and never kept.
            try await connection.send(request + String(repeating: "GET /livez HTTP/1.1\r\n\r\n", count: 50_000))
            let response = try await connection.response()
            #expect(response.status == 202)
            #expect(response.headers["connection"] == "close")
            #expect(await connection.closed() == "")
            #expect(server.intake.records.count == 1)
        }
    }

    // MARK: Framing

    /// What two programs in a row could read differently is refused (RFC 9112, section 11.2).
    @Test(arguments: [
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        "Content-Length: 2, 3\r\n\r\n{}", "Content-Length: +2\r\n\r\n{}", "Content-Length: -2\r\n\r\n{}",
        "Content-Length: 0x2\r\n\r\n{}", "Content-Length : 2\r\n\r\n{}",
        "Content-Length: 99999999999999999999999\r\n\r\n{}",
        "Transfer-Encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding:\u{b}chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2;x\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
        "X: a\u{0}b\r\nContent-Length: 2\r\n\r\n{}", ": 2\r\nContent-Length: 2\r\n\r\n{}",
    ])
    func ambiguousFramingIsRefused(rest: String) async throws {
        try await withServer { server in
            let connection = try await server.connect()
            try await connection.send(
                "POST /v1/events HTTP/1.1\r\nHost: t\r\n" + rest + "GET /livez HTTP/1.1\r\nHost: t\r\n\r\n")
            expectProblem(try await connection.response(), 400, "malformed_request")
            // The smuggled request is not answered.
            #expect(await connection.closed() == "")
            #expect(server.intake.records.isEmpty)
        }
    }

    @Test(arguments: [
        "GET\r\n\r\n", "GET /livez\r\n\r\n", "GET /livez HTTP/2.0\r\n\r\n", "GET /li vez HTTP/1.1\r\n\r\n",
        "G\u{0}T /livez HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}",
    ])
    func badRequestLinesAreRefused(line: String) async throws {
        try await withServer { server in
            let connection = try await server.connect()
            try await connection.send(line)
            expectProblem(try await connection.response(), 400, "malformed_request")
            #expect(await connection.closed() == "")
        }
    }

    @Test(arguments: ["CONNECT example.org:443", "TRACE /livez", "BREW /livez", "PURGE http://t/v1/events?x=1"])
    func otherMethodsAreRefused(line: String) async throws {
        try await withServer { server in
            let connection = try await server.connect()
            try await connection.send(line + " HTTP/1.1\r\nHost: t\r\n\r\n")
            let response = try await connection.response()
            #expect([400, 404, 405].contains(response.status))
        }
    }

    @Test func pipelinedRequestsAreAnsweredInOrder() async throws {
        try await withServer({ $0.token = "t" }) { server in
            let connection = try await server.connect()
            var text = ""
            for number in 0..<50 {
                let token = number % 5 == 0 ? "x" : "t"
                text += "POST /v1/events HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer \(token)\r\n"
                text += "Content-Length: 2\r\n\r\n{}GET /livez HTTP/1.1\r\nHost: t\r\n\r\n"
            }
            try await connection.send(text)
            for number in 0..<50 {
                #expect(try await connection.response().status == (number % 5 == 0 ? 403 : 202))
                #expect(try await connection.response().status == 200)
            }
            #expect(server.intake.records.count == 40)
        }
    }

    // MARK: Connections

    @Test func furtherConnectionsWait() async throws {
        try await withServer({ $0.maxConnections = 2 }) { server in
            var held: [RawConnection] = []
            for _ in 0..<2 {
                let connection = try await server.connect()
                try await connection.get("/livez")
                #expect(try await connection.response().status == 200)
                held.append(connection)
            }
            let waiting = try await server.connect()
            try await waiting.post("/v1/events", "{}")
            for _ in 0..<3 {
                try await held[0].get("/livez")
                #expect(try await held[0].response().status == 200)
            }
            #expect(server.intake.records.isEmpty)
            held.removeLast()
            #expect(try await waiting.response().status == 202)
        }
    }

    /// Nobody holds a connection by doing nothing: the next in the queue gets it.
    @Test func stalledConnectionsMakeRoom() async throws {
        try await withServer({
            $0.maxConnections = 3
            $0.headerTimeout = Self.short
            $0.idleTimeout = Self.short
        }) { server in
            let silent = try await server.connect()
            let partial = try await server.connect()
            try await partial.send("POST /v1/ev")
            let slow = try await server.connect()
            try await slow.send("POST /v1/events HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\n{")
            #expect(try await server.post("/v1/events", "{}").status == 202)
            _ = (silent, partial, slow)
        }
    }

    @Test func healthAnswersWhileIngestIsFull() async throws {
        try await withServer({
            $0.maxBodyBytes = 1_000
            $0.maxBufferedBytes = 1_000
        }) { server in
            let slow = try await server.connect()
            try await slow.send("POST /v1/events HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n")
            try await slow.send(String(repeating: " ", count: 995))
            var response = try await server.post("/v1/events", #"{"a":12345}"#)
            while response.status == 202 { response = try await server.post("/v1/events", #"{"a":12345}"#) }
            expectProblem(response, 503, "overloaded")
            for path in ["/livez", "/readyz", "/metrics", "/v1/status"] {
                #expect(try await server.get(path).status == 200)
            }
        }
    }

    /// Of 160,000 bytes 20,000 are for bodies of up to 64 KiB.
    @Test func largeBodiesLeaveRoomForSmallOnes() async throws {
        func event(_ size: Int) -> String { #"{"a":""# + String(repeating: "x", count: size - 8) + #""}"# }
        try await withServer({
            $0.maxBodyBytes = 100_000
            $0.maxBufferedBytes = 160_000
        }) { server in
            let slow = try await server.connect()
            let text = event(100_000)
            try await slow.send(
                "POST /v1/events HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n" + text.prefix(80_000))
            // Once those have arrived, 75,000 more would leave nothing for small ones.
            let deadline = ContinuousClock.now + .seconds(20)
            var response = try await server.post("/v1/events", event(75_000))
            while response.status == 202, ContinuousClock.now < deadline {
                response = try await server.post("/v1/events", event(75_000))
            }
            expectProblem(response, 503, "overloaded")
            #expect(try await server.post("/v1/events", event(64_000)).status == 202)
            try await slow.send(String(text.dropFirst(80_000)))
            #expect(try await slow.response().status == 202)
            #expect(try await server.post("/v1/events", event(75_000)).status == 202)
        }
    }
}
