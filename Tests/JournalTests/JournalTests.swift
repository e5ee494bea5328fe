import CLMDB
import Foundation
import IngestCore
import Logging
import Synchronization
import TestSupport
import Testing

@testable import Journal

@Suite struct JournalTests {
    @Test func eventsComeBackInOrderAlsoAfterReopening() async throws {
        let fixture = try JournalFixture(tables: ["events", "other"])
        #expect(try await fixture.append(numbered(0..<3)) == 1..<4)
        #expect(try await fixture.append(numbered(0..<2), to: "other") == 1..<3)
        #expect(try await fixture.append(numbered(3..<5)) == 4..<6)
        let identity = fixture.journal.identity
        try fixture.reopen()
        #expect(fixture.journal.identity == identity)
        #expect(try fixture.payloads(1..<6) == numbered(0..<5))
        #expect(try fixture.payloads(2..<5) == numbered(1..<4))
        #expect(try fixture.payloads(1..<3, "other") == numbered(0..<2))
        #expect(try await fixture.append(numbered(5..<6)) == 6..<7)
        let state = try #require(fixture.journal.snapshot.streams[fixture.stream()])
        #expect(state.nextSequence == 7 && state.position == 1 && state.pendingEvents == 6)
    }

    /// Guarantee 1: none of the flags that trade durability for speed is set.
    @Test func environmentSyncsEachCommit() throws {
        let fixture = try JournalFixture()
        #expect(
            fixture.journal.durabilityFlags & UInt32(MDB_NOSYNC | MDB_NOMETASYNC | MDB_WRITEMAP | MDB_MAPASYNC) == 0)
    }

    /// Guarantee 1: when the completion runs, another process would find the events.
    @Test func completionComesAfterTheCommit() async throws {
        let fixture = try JournalFixture()
        let journal = fixture.journal!
        let stream = fixture.stream()
        let found: [String] = await withCheckedContinuation { continuation in
            journal.submit(
                Submission(
                    stream: stream, origin: .http, receivedAt: 0, events: EventBuffer(payloads: ["{}"])
                ) { result in
                    // On the writer's thread, so nothing can have been committed since.
                    let payloads = Result {
                        try journal.reader(stream, try result.get().sequences).payloads()
                    }
                    continuation.resume(returning: (try? payloads.get()) ?? ["nothing"])
                })
        }
        #expect(found == ["{}"])
    }

    @Test func submissionsOfOneGroupShareAnEntry() async throws {
        let fixture = try JournalFixture()
        // The writer has not started: everything is one group.
        fixture.close()
        let journal = try Journal.open(fixture.configuration, logger: Logger(label: "test"))
        let stream = journal.stream(table: "events")!.id
        let receipts = Mutex<[Range<UInt64>]>([])
        for number in 0..<100 {
            journal.submit(
                Submission(
                    stream: stream, origin: .http, receivedAt: 5,
                    events: EventBuffer(payloads: numbered(number * 2..<number * 2 + 2))
                ) { result in
                    if case .success(let receipt) = result { receipts.withLock { $0.append(receipt.sequences) } }
                })
        }
        let commits = Atomic(0)
        journal.start { _ in commits.add(1, ordering: .relaxed) }
        journal.close()
        let starts: [UInt64] = stride(from: 1, to: 200, by: 2).map { $0 }
        let expected: [Range<UInt64>] = starts.map { start in start..<(start + 2) }
        #expect(receipts.withLock { $0 } == expected)
        #expect(commits.load(ordering: .relaxed) == 1)
        #expect(try journal.entryCount() == 1)
        #expect(try journal.reader(stream, 1..<201).payloads() == numbered(0..<200))
    }

    @Test func largeSubmissionsArePartedIntoEntries() async throws {
        let fixture = try JournalFixture()
        let payload = "{\"v\":\"" + String(repeating: "x", count: 200_000) + "\"}"
        let partition = TopicPartition(topic: "t", partition: 0)
        try await fixture.append(Array(repeating: payload, count: 12), origin: .kafka(partition, offsets: 100..<112))
        try await fixture.append(Array(repeating: payload, count: 12))
        let huge = "{\"v\":\"" + String(repeating: "y", count: 3 << 20) + "\"}"
        try await fixture.append([huge])
        #expect(try fixture.payloads(1..<26) == Array(repeating: payload, count: 24) + [huge])
        var ranges: [Range<Int64>] = []
        try fixture.journal.forEachEntry { entry in
            #expect(entry.bytes.count <= Limits.entryBytes + 200 || entry.eventCount == 1)
            if let kafka = entry.kafka { ranges.append(kafka.offsets) }
        }
        #expect(ranges == [100..<105, 105..<110, 110..<112])
    }

    @Test func plansKeepTheirLimits() async throws {
        let fixture = try JournalFixture()
        for start in stride(from: 0, to: 40, by: 10) { try await fixture.append(numbered(start..<start + 10)) }
        func range(_ plan: BatchPlan?) -> Range<UInt64>? { plan?.sequences }
        #expect(range(try fixture.plan(from: 1)) == 1..<41)
        #expect(try fixture.plan(from: 1)?.isFull == false)
        // Whole entries where they fit.
        #expect(range(try fixture.plan(from: 1, rows: 25)) == 1..<21)
        #expect(try fixture.plan(from: 1, rows: 25)?.isFull == true)
        // An entry is parted where it alone exceeds the limit.
        #expect(range(try fixture.plan(from: 1, rows: 4)) == 1..<5)
        #expect(range(try fixture.plan(from: 5, rows: 4)) == 5..<9)
        #expect(range(try fixture.plan(from: 9, rows: 4)) == 9..<11)
        #expect(range(try fixture.plan(from: 3, to: 17)) == 3..<17)
        // At least one event, whatever its size.
        #expect(range(try fixture.plan(from: 8, bytes: 1)) == 8..<9)
        #expect(range(try fixture.plan(from: 40)) == 40..<41)
        #expect(try fixture.plan(from: 41) == nil)
    }

    @Test func readerStopsAndGoesOnWithinAnEntry() async throws {
        let fixture = try JournalFixture()
        try await fixture.append(numbered(0..<10))
        try await fixture.append(numbered(10..<20))
        let reader = try fixture.journal.reader(fixture.stream(), 3..<18)
        var seen: [UInt64] = []
        while try reader.read({ run in
            for _ in 0..<4 { if let event = try run.next() { seen.append(event.sequence) } }
        }) {}
        #expect(seen == Array(3..<18))
    }

    @Test func sealsStayUntilTheirBatchIsFlushed() async throws {
        let fixture = try JournalFixture()
        try await fixture.append(numbered(0..<30))
        try await fixture.seal(1..<11)
        try await fixture.seal(11..<21)
        try fixture.reopen()
        #expect(try fixture.journal.seals(of: fixture.stream()) == [1..<11, 11..<21])
        try await fixture.advance(to: 11)
        #expect(try fixture.journal.seals(of: fixture.stream()) == [11..<21])
        try fixture.reopen()
        #expect(try fixture.journal.seals(of: fixture.stream()) == [11..<21])
        #expect(fixture.journal.snapshot.streams[fixture.stream()]?.position == 11)
    }

    @Test func flushedEntriesAreTrimmedAndTheirPagesUsedAgain() async throws {
        let fixture = try JournalFixture()
        let payload = "{\"v\":\"" + String(repeating: "x", count: 100_000) + "\"}"
        var fileBytes: [Int] = []
        for round in 0..<30 {
            let sequences = try await fixture.append(Array(repeating: payload, count: 8))
            try await fixture.advance(to: sequences.upperBound)
            if round >= 10 { fileBytes.append(fixture.journal.snapshot.fileBytes) }
        }
        #expect(fixture.journal.snapshot.storedBytes == 0)
        #expect(Set(fileBytes).count == 1, "the file must not grow when everything is flushed: \(fileBytes)")
        // The middle of an entry is not trimmed.
        let sequences = try await fixture.append(numbered(0..<10))
        try await fixture.advance(to: sequences.lowerBound + 5)
        #expect(try fixture.payloads(sequences) == numbered(0..<10))
    }

    @Test func fullJournalRefusesAndDrainsAndAcceptsAgain() async throws {
        let fixture = try JournalFixture(maxBytes: 4 << 20)
        let payload = "{\"v\":\"" + String(repeating: "x", count: 100_000) + "\"}"
        var accepted: UInt64 = 1
        var refusal: IntakeError?
        while refusal == nil, accepted < 200 {
            do {
                accepted = try await fixture.append([payload]).upperBound
            } catch let error as IntakeError {
                refusal = error
            }
        }
        guard case .full(let reason) = refusal else { throw Timeout(description: "never full, at \(accepted)") }
        #expect(reason.contains("JOURNAL_MAX_BYTES"))
        #expect(accepted > 35 && fixture.journal.snapshot.storedBytes <= 4 << 20)
        #expect(fixture.journal.snapshot.refusal == refusal)
        #expect(try fixture.payloads(1..<accepted).count == Int(accepted) - 1)
        try await fixture.advance(to: accepted / 2)
        try await fixture.append([payload])
        #expect(fixture.journal.snapshot.refusal == nil)
    }

    /// A damaged entry is never delivered, and never silently skipped.
    @Test func flippedByteIsFoundByTheChecksum() async throws {
        let fixture = try JournalFixture()
        try await fixture.append(["{\"marker\":\"before-4711\"}"])
        fixture.close()
        let path = fixture.directory.appending("journal/data.mdb")
        var data = try Data(contentsOf: URL(fileURLWithPath: path))
        let place = try #require(data.range(of: Data("before-4711".utf8)))
        data[place.lowerBound] ^= 1
        try data.write(to: URL(fileURLWithPath: path))
        try fixture.open()
        #expect(throws: DamagedEntry.self) { try fixture.payloads(1..<2) }
    }

    @Test func secondProcessGetsAClearError() throws {
        let fixture = try JournalFixture()
        #expect {
            try Journal.open(fixture.configuration, logger: Logger(label: "test"))
        } throws: { error in
            "\(error)".contains("in use by process \(ProcessInfo.processInfo.processIdentifier)")
        }
        // And gets it when the first is gone.
        fixture.close()
        try fixture.open()
    }

    @Test func otherFormatsAreRefusedUnchanged() throws {
        func refused(_ path: String) throws -> JournalError {
            let before = try Data(contentsOf: URL(fileURLWithPath: path + "/data.mdb"))
            var found: JournalError?
            do {
                _ = try Journal.open(
                    JournalConfiguration(path: path, minFreeDiskBytes: 0, tables: ["events"]),
                    logger: Logger(label: "test"))
            } catch {
                found = error
            }
            #expect(try Data(contentsOf: URL(fileURLWithPath: path + "/data.mdb")) == before)
            return try #require(found)
        }
        let text = try TemporaryDirectory("foreign")
        try Data(repeating: 65, count: 20_000).write(to: URL(fileURLWithPath: text.appending("data.mdb")))
        guard case .foreign = try refused(text.path) else { throw Timeout(description: "text taken for a journal") }

        let other = try TemporaryDirectory("foreign")
        try writeLMDB(other.path, table: "cats", key: "tom", value: [1])
        guard case .foreign = try refused(other.path) else { throw Timeout(description: "foreign LMDB file taken") }

        let newer = try TemporaryDirectory("newer")
        var format = JournalFormat.marker
        format.appendLittleEndian(JournalFormat.version + 1)
        try writeLMDB(newer.path, table: "meta", key: "format", value: format)
        #expect(try refused(newer.path) == .newerFormat(path: newer.path, found: 3, supported: 2))
    }

    @Test func interruptedCreationIsFinished() throws {
        let directory = try TemporaryDirectory("journal")
        // LMDB's file is there, our tables are not.
        _ = try Environment(directory: directory.path, mapSize: 1 << 20, tableCount: 8, readOnly: false)
        let journal = try Journal.open(
            JournalConfiguration(path: directory.path, minFreeDiskBytes: 0, tables: ["events"]),
            logger: Logger(label: "test"))
        #expect(journal.stream(table: "events") != nil)
    }

    private func writeLMDB(_ path: String, table: String, key: String, value: [UInt8]) throws {
        let environment = try Environment(directory: path, mapSize: 1 << 20, tableCount: 8, readOnly: false)
        try environment.write { transaction in
            let table = try transaction.openTable(table)
            try value.withUnsafeBytes { try transaction.put(table, BytesKey(key.utf8), $0) }
        }
    }
}
