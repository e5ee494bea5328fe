import EventJSON
import Foundation
import IngestCore
import Testing

/// Seeded mutations of real-looking JSON, judged by Foundation's parser. All bytes lie directly before a page that
/// must not be read.
@Suite struct MutationTests {
    private let scanner = EventScanner(eventIDField: "event_id")
    private let memory = GuardedMemory(byteCount: 64 << 10)

    private static let objects = [
        #"{"event_id":"8f3a-11","type":"page_view","user":{"id":42,"tags":["a","b",null]},"ok":true}"#,
        #"{"a":-1.5e+10,"b":[[],{},[{"c":false}]],"event_id":17}"#,
        #"{"text":"caf\u00e9 \ud83d\ude00 \"q\" \\ é😀","n":0,"event_id":"x\/y\n"}"#,
        "{ \"spaced\" : [ 1 , 2 ] ,\t\"z\" : { } , \"event_id\" : null }",
        #"{"long":"\#(String(repeating: "lorem ipsum ", count: 12))","k":1e-7,"event_id":-9}"#,
    ]
    private static let interesting =
        Array(#"{}[]:,"\ntrue0123456789eE+-./u "#.utf8) + [0x0a, 0x0d, 0x09, 0x01, 0x80, 0xc3, 0xff]

    private static func mutate(_ bytes: inout [UInt8], _ random: inout SeededRandom) {
        for _ in 0..<Int.random(in: 0...3, using: &random) {
            let at = Int.random(in: 0..<max(bytes.count, 1), using: &random)
            guard at < bytes.count else { return }
            switch Int.random(in: 0..<6, using: &random) {
            case 0: bytes.remove(at: at)
            case 1: bytes.insert(interesting.randomElement(using: &random)!, at: at)
            case 2: bytes[at] = interesting.randomElement(using: &random)!
            case 3: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            case 4:
                let end = min(at + Int.random(in: 1...12, using: &random), bytes.count)
                bytes.insert(contentsOf: bytes[at..<end], at: Int.random(in: 0...bytes.count, using: &random))
            default: bytes.removeSubrange(at..<min(at + Int.random(in: 1...4, using: &random), bytes.count))
            }
        }
    }

    private enum Judgement: Equatable {
        case value(isObject: Bool)
        case invalid
        case unknown
    }

    /// Foundation's judgement, where it can be taken: it guesses at other encodings, refuses large numbers and
    /// allows a comma behind the last element.
    private func foundation(_ bytes: [UInt8]) -> Judgement {
        guard !bytes.contains(0), !bytes.starts(with: [0xef, 0xbb, 0xbf]) else { return .unknown }
        do {
            let value = try JSONSerialization.jsonObject(with: Data(bytes), options: .fragmentsAllowed)
            let dense = bytes.filter { !Self.space.contains($0) }
            let hasLooseComma = zip(dense, dense.dropFirst()).contains { $0 == 0x2c && ($1 == 0x5d || $1 == 0x7d) }
            return hasLooseComma ? .unknown : .value(isObject: value is [String: Any])
        } catch {
            return "\(error)".contains("not representable") ? .unknown : .invalid
        }
    }

    private static let space = Array(" \t\r\n".utf8)
    private static func isSpace(_ byte: UInt8) -> Bool { space.contains(byte) }

    @Test func agreesWithFoundationOnEvents() {
        var random = SeededRandom(seed: 1)
        var accepted = 0
        for round in 0..<20_000 {
            var bytes = Array(Self.objects[round % Self.objects.count].utf8)
            Self.mutate(&bytes, &random)
            var problem: InvalidEvent?
            do throws(InvalidEvent) {
                _ = try scanner.scan(memory.hold(bytes))
                accepted += 1
            } catch { problem = error }
            let text = String(decoding: bytes, as: UTF8.self)
            switch (foundation(bytes), problem?.kind) {
            case (.unknown, _): continue
            case (.value(isObject: true), nil), (.value(isObject: true), "invalid_event_id"),
                (.value(isObject: true), "duplicate_key"), (.value(isObject: false), "not_an_object"),
                (.invalid, "invalid_json"), (.invalid, "not_an_object"):
                continue
            case (let judgement, let kind):
                Issue.record("Foundation says \(judgement), the scanner says \(kind ?? "valid"): \(text)")
            }
        }
        #expect(accepted > 4_000 && accepted < 16_000)
    }

    /// Lines scanned together give what each gives alone.
    @Test func linesAgreeWithSingleEvents() throws {
        var random = SeededRandom(seed: 2)
        for _ in 0..<1_000 {
            var body: [UInt8] = []
            for _ in 0..<Int.random(in: 1...12, using: &random) {
                var line = Array(Self.objects.randomElement(using: &random)!.utf8)
                if Int.random(in: 0..<4, using: &random) == 0 { Self.mutate(&line, &random) }
                body += line + [0x0a]
            }
            var good: [String] = []
            var bad: [String] = []
            for line in body.split(separator: 0x0a) where !line.allSatisfy(Self.isSpace) {
                do throws(InvalidEvent) {
                    _ = try scanner.scan(memory.hold(Array(line)))
                    let end = line.lastIndex { !Self.isSpace($0) }!
                    good.append(String(decoding: line[...end].drop(while: Self.isSpace), as: UTF8.self))
                } catch { bad.append(error.message) }
            }
            let buffer = EventBuffer()
            let report = scanner.appendEvents(of: memory.hold(body), format: .ndjson, to: buffer)
            #expect(try BufferedEvent.all(in: buffer).map(\.payload) == good)
            #expect(report.problems.map(\.error.message) == bad)
        }
    }

    /// What an accepted array holds is what was sent, and Foundation accepts it too.
    @Test func acceptedArraysAreExact() throws {
        var random = SeededRandom(seed: 3)
        var accepted = 0
        for _ in 0..<4_000 {
            let elements = (0..<Int.random(in: 0...5, using: &random)).map { _ in
                Self.objects.randomElement(using: &random)!
            }
            var body = Array(("[" + elements.joined(separator: ", ") + "]").utf8)
            Self.mutate(&body, &random)
            guard body.first == UInt8(ascii: "[") else { continue }
            let buffer = EventBuffer()
            let report = scanner.appendEvents(of: memory.hold(body), format: .json, to: buffer)
            let judgement = foundation(body)
            let text = String(decoding: body, as: UTF8.self)
            guard report.rejected == 0 else {
                let isMere = report.problems.allSatisfy { $0.error.kind != "invalid_json" }
                #expect(judgement != .value(isObject: false) || isMere, "\(text)")
                continue
            }
            accepted += 1
            #expect(judgement != .invalid, "\(text)")
            var rest = body[...]
            for event in try BufferedEvent.all(in: buffer) {
                let start = try #require(rest.firstIndex(of: UInt8(ascii: "{")))
                #expect(rest[..<start].allSatisfy { Self.isSpace($0) || $0 == 0x5b || $0 == 0x2c })
                #expect(rest[start...].starts(with: event.payload.utf8))
                rest = rest[start...].dropFirst(event.payload.utf8.count)
            }
            #expect(rest.allSatisfy { Self.isSpace($0) || $0 == 0x5b || $0 == 0x5d })
        }
        #expect(accepted > 800)
    }

    @Test func garbageNeverCrashes() {
        var random = SeededRandom(seed: 4)
        for _ in 0..<20_000 {
            let bytes = (0..<Int.random(in: 0...200, using: &random)).map { _ in
                Self.interesting.randomElement(using: &random)!
            }
            for format in [BodyFormat.json, .ndjson, .detect] {
                let buffer = EventBuffer()
                let report = scanner.appendEvents(of: memory.hold(bytes), format: format, to: buffer)
                #expect(buffer.eventCount == report.accepted)
            }
        }
    }
}

/// Memory that ends where a page begins that can't be read.
final class GuardedMemory {
    private let base: UnsafeMutableRawPointer
    private let byteCount: Int
    private let pageSize = Int(sysconf(Int32(_SC_PAGESIZE)))

    init(byteCount: Int) {
        self.byteCount = byteCount
        base = mmap(nil, byteCount + pageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        precondition(base != MAP_FAILED && mprotect(base + byteCount, pageSize, PROT_NONE) == 0, "no guard page")
    }

    deinit { munmap(base, byteCount + pageSize) }

    func hold(_ bytes: [UInt8]) -> UnsafeRawBufferPointer {
        precondition(bytes.count <= byteCount, "too much for the guarded memory")
        let start = base + (byteCount - bytes.count)
        bytes.withUnsafeBytes { start.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(start), byteCount: $0.count) }
        return UnsafeRawBufferPointer(start: start, count: bytes.count)
    }
}
