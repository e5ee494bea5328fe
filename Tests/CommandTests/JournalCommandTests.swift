import Foundation
import IngestCore
import Journal
import Logging
import TestSupport
import Testing

/// `ingestd journal` as users run it.
@Suite(.serialized) struct JournalCommandTests {
    /// Of the last event.
    private static let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    private struct Verification: Decodable {
        struct Problem: Decodable {
            let place: String
            let firstSequence: UInt64?
            let lastSequence: UInt64?
        }
        let sound: Bool
        let entries: Int
        let events: Int
        let problems: [Problem]
    }

    private struct ExportedEvent: Decodable {
        let stream: String
        let sequence: UInt64
        let eventId: String
        let source: String
        let topic: String?
        let partition: Int32?
        let offset: Int64?
        let key: String?
        let keyEncoding: String?
        let traceparent: String?
        let receivedAt: String
        let payload: [String: String]
    }

    private struct Replay: Decodable {
        let events: Int
        let batches: Int
        let rejected: Int
    }

    /// A journal with an entry of HTTP, one of Kafka, and one more of HTTP, each received a second after the one before;
    /// 5 events, the first 2 of which are flushed.
    /// - Returns: when the first entry was received.
    @discardableResult
    private func makeJournal(_ path: String, retain: Int64 = 3_600_000) async throws -> Int64 {
        let start = WallClock.milliseconds - 60_000
        let journal = try Journal.open(
            JournalConfiguration(path: path, minFreeDiskBytes: 0, retainMilliseconds: retain, tables: ["events"]),
            logger: Logger(label: "test"))
        journal.start { _ in }
        defer { journal.close() }
        let stream = try #require(journal.stream(table: "events")).id
        func append(_ origin: EventOrigin, _ events: EventBuffer, at receivedAt: Int64) async throws {
            _ = try await journal.append(stream: stream, origin: origin, receivedAt: receivedAt, events: events)
        }
        try await append(.http, EventBuffer(payloads: [#"{"n":"one"}"#, "{\"n\":\n\"two\"}"]), at: start)
        let kafka = EventBuffer()
        for (offset, key) in [(7, Array("k\"ey".utf8)), (8, [0xFF])] as [(Int64, [UInt8])] {
            Array(#"{"n":"kafka \#(offset)"}"#.utf8).withUnsafeBytes { payload in
                key.withUnsafeBytes { key in
                    kafka.append(
                        payload: payload, id: .derived,
                        kafka: KafkaMetadata(
                            offset: offset, timestamp: -1, key: key,
                            headers: UnsafeRawBufferPointer(start: nil, count: 0)))
                }
            }
        }
        let partition = TopicPartition(topic: "topic", partition: 3)
        try await append(.kafka(partition, offsets: 7..<9), kafka, at: start + 1_000)
        let traced = EventBuffer()
        traced.append(#"{"n":"last"}"#, trace: try #require(TraceParent(Self.trace)))
        try await append(.http, traced, at: start + 2_000)
        try await withCheckedThrowingContinuation { continuation in
            journal.advance(stream, to: 3, partitions: [:]) { continuation.resume(with: $0) }
        }
        return start
    }

    @Test func exportWritesStoredEvents() async throws {
        let folder = try TemporaryDirectory("commands")
        let start = try await makeJournal(folder.path)
        let environment = ["JOURNAL_PATH": folder.path, "HTTP_PORT": "this is none of its business"]
        func export(_ arguments: String...) async throws -> [ExportedEvent] {
            let result = try await Command.run(["journal", "export"] + arguments, environment)
            #expect(result.code == 0, "\(result.output)")
            return try result.documents(ExportedEvent.self)
        }
        let all = try await export()
        try #require(all.map(\.sequence) == [1, 2, 3, 4, 5])
        #expect(all.map { $0.payload["n"] } == ["one", "two", "kafka 7", "kafka 8", "last"])
        #expect(
            all[0].source == "http" && all[0].topic == nil
                && all[0].receivedAt == Timestamp.iso8601(milliseconds: start))
        #expect(all[0].eventId == Array(#"{"n":"one"}"#.utf8).withUnsafeBytes { EventID.derive(from: $0) })
        #expect(all[2].source == "kafka" && all[2].topic == "topic" && all[2].partition == 3 && all[2].offset == 7)
        #expect(all[2].key == "k\"ey" && all[2].keyEncoding == nil)
        #expect(all[3].key == "/w==" && all[3].keyEncoding == "base64")
        #expect(all.map(\.traceparent) == [nil, nil, nil, nil, Self.trace])
        #expect(all[4].source == "http" && all[4].offset == nil)
        #expect(try await export("--stream", "events", "--from", "2", "--to", "4").map(\.sequence) == [2, 3, 4])
        #expect(
            try await export("--since", "\(start + 1_000)", "--until", Timestamp.iso8601(milliseconds: start + 2_000))
                .map(\.sequence) == [3, 4])

        let other = try await Command.run(["journal", "export", "--stream", "x"], environment)
        #expect(other.code == 1 && other.output.contains("has no stream \"x\", only: events"), "\(other.output)")
        for wrong in [
            ["--from", "1"], ["--stream", "events", "--from", "3", "--to", "2"], ["--since", "x"],
            ["--stream", "events", "--to", "0"],
        ] {
            #expect(try await Command.run(["journal", "export"] + wrong, environment).code == 64, "\(wrong)")
        }
    }

    @Test func verifyFindsAFlippedBit() async throws {
        let folder = try TemporaryDirectory("commands")
        try await makeJournal(folder.path)
        let environment = ["JOURNAL_PATH": folder.path]
        let sound = try await Command.run(["journal", "verify"], environment)
        #expect(sound.code == 0 && sound.lines.last == "result         sound", "\(sound.output)")
        let file = URL(filePath: folder.appending("data.mdb"))
        var bytes = try Data(contentsOf: file)
        // Deleted pages may still hold older copies; every one is flipped.
        while let found = bytes.firstRange(of: Data("kafka 8".utf8)) { bytes[found.lowerBound] ^= 1 }
        try bytes.write(to: file)
        let damaged = try await Command.run(["journal", "verify", "--json"], environment)
        #expect(damaged.code == 1)
        let report = try damaged.json(Verification.self)
        #expect(!report.sound && report.entries == 3 && report.events == 3, "\(damaged.output)")
        #expect(report.problems.count == 1 && report.problems.first?.place == "events", "\(damaged.output)")
        #expect(report.problems.first?.firstSequence == 3 && report.problems.first?.lastSequence == 4)
        let text = try await Command.run(["journal", "verify"], environment)
        #expect(text.code == 1 && text.output.contains("events, sequences 3 to 4"), "\(text.output)")
        let export = try await Command.run(["journal", "export"], environment)
        #expect(export.code == 1 && export.output.contains("sequences 3 to 4 is damaged"), "\(export.output)")
        #expect(export.lines.count { $0.hasPrefix("{") } == 3, "\(export.output)")
    }

    @Test func replaySaysWhatIsNotKept() async throws {
        let folder = try TemporaryDirectory("commands")
        try await makeJournal(folder.path, retain: 0)
        let environment = ["JOURNAL_PATH": folder.path]
        for (arguments, expected) in [
            (["--from", "1"], "events before sequence 3 are gone; no delivered events are kept"),
            (["--since", "0"], "no delivered events are kept"), (["--to", "5"], "nothing to send in this range"),
        ] {
            let result = try await Command.run(["journal", "replay", "--stream", "events"] + arguments, environment)
            #expect(result.code == 1 && result.output.contains(expected), "\(result.output)")
        }
    }

    @Test func replayTwiceAddsNoRows() async throws {
        try await CommandScene.run(["JOURNAL_RETAIN": "1h"]) { scene in
            try await scene.post((1...250).map { CommandScene.event("e\($0)", isBad: $0 == 120) })
            try await scene.awaitFlush()
            #expect(try await scene.rows == 249)
            try await scene.clickHouse.query("TRUNCATE TABLE coded")

            let stopped = try await scene.command("journal", "replay", "--stream", "coded")
            #expect(stopped.code == 1 && stopped.output.contains("sequence 120: ClickHouse code"), "\(stopped.output)")
            #expect(stopped.output.contains("--continue-on-error"), "\(stopped.output)")
            for _ in 0..<2 {
                let result = try await scene.command(
                    "journal", "replay", "--stream", "coded", "--continue-on-error", "--from", "1")
                #expect(result.code == 1 && result.output.contains("249 events sent"), "\(result.output)")
                #expect(try await scene.rows == 249)
                #expect(try await scene.clickHouse.number("SELECT uniqExact(event_id) FROM coded") == 249)
            }
            // Another range has the same batches, where it has them whole.
            let part = try await scene.command("journal", "replay", "--stream", "coded", "--from", "200", "--json")
            let report = try part.json(Replay.self)
            #expect(part.code == 0 && report.events == 51 && report.batches == 1, "\(part.output)")
            #expect(try await scene.rows == 249)
            let times = try await scene.command("journal", "replay", "--stream", "coded", "--since", "2100-01-01")
            #expect(times.code == 1 && times.output.contains("kept are sequences 1 to 250"), "\(times.output)")
            // The service knows nothing of it.
            try await scene.post([CommandScene.event("another")])
            try await scene.awaitFlush()
            #expect(try await scene.rows == 250)

            let refused = try await scene.command("journal", "compact")
            #expect(refused.code == 1 && refused.output.contains("in use by process"), "\(refused.output)")
            try await scene.service.kill()
            let compacted = try await scene.command("journal", "compact")
            #expect(compacted.code == 0 && compacted.output.contains(" bytes and has "), "\(compacted.output)")
            #expect(try await scene.command("journal", "verify").code == 0)
        }
    }
}
