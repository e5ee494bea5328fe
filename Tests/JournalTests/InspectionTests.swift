import Foundation
import IngestCore
import TestSupport
import Testing

@testable import Journal

@Suite struct InspectionTests {
    private func payloads(
        _ inspection: JournalInspection, _ stream: StreamID, sequences: Range<UInt64>? = nil,
        receivedAt: Range<Int64>? = nil
    ) throws -> [String] {
        var payloads: [String] = []
        let export = try inspection.events(of: stream, sequences: sequences, receivedAt: receivedAt) { event, _ in
            payloads.append(String(decoding: event.payload, as: UTF8.self))
        }
        #expect(export.eventCount == payloads.count && export.damaged == [])
        return payloads
    }

    // MARK: Verification

    @Test func soundJournalIsSound() async throws {
        let fixture = try JournalFixture(tables: ["events", "other"])
        fixture.configuration.retainMilliseconds = 3_600_000
        try fixture.reopen()
        for number in 0..<30 { try await fixture.append([payload(number, bytes: 1_000_000)]) }
        try await fixture.append(numbered(0..<10), to: "other")
        try await fixture.advance(to: 10)
        try await fixture.seal(10..<20)
        var progress: [JournalInspection.Progress] = []
        let result = try JournalInspection(fixture.journal).verify { progress.append($0) }
        #expect(result.isSound && result.problems == [] && result.uncomparedStreams == [])
        #expect(result.entryCount == 31 && result.eventCount == 40 && result.sealCount == 1)
        #expect(result.byteCount > 30_000_000)
        // A view at most for each 10 MiB, and an end.
        let events = progress.filter { $0.table == "events" }
        #expect(events.count >= 3 && events.last?.sequence == 31 && events.last?.end == 31)
        #expect(events.map(\.sequence) == events.map(\.sequence).sorted())
        // The same from outside.
        fixture.close()
        #expect(try JournalInspection(path: fixture.configuration.path).verify() == result)
    }

    @Test func eachProblemIsFound() async throws {
        func problems(
            _ change: (JournalFixture, borrowing WriteTransaction, Tables) throws -> Void
        ) async throws -> [String] {
            let fixture = try JournalFixture()
            for start in [0, 10, 20] { try await fixture.append(numbered(start..<start + 10)) }
            try await fixture.seal(1..<11)
            let journal = fixture.journal!
            try journal.tamper { try change(fixture, $0, journal.tables) }
            return try JournalInspection(journal).verify().problems.map(\.description)
        }
        func key(_ sequence: UInt64, _ stream: UInt32 = 1) -> SequenceKey {
            SequenceKey(StreamID(rawValue: stream), sequence)
        }
        func changed(_ sequence: UInt64, _ place: Int) async throws -> [String] {
            try await problems { fixture, transaction, tables in
                var bytes = Array(try transaction.get(tables.entries, key(sequence))!)
                bytes[place] ^= 1
                try bytes.withUnsafeBytes { try transaction.put(tables.entries, key(sequence), $0) }
            }
        }
        #expect(try await changed(11, 100) == ["events, sequences 11 to 20: it does not match its checksum"])
        #expect(try await changed(21, 34) == ["events, sequences 21 to 30: length differs from its header's"])
        let missing = try await problems { _, transaction, tables in
            try transaction.delete(tables.entries, key(11))
        }
        #expect(missing.count == 2 && missing[0] == "events, sequences 11 to 20: missing")
        #expect(missing[1] == "events: its entries take 534 bytes, but its record counts 806")
        #expect(
            try await problems { _, transaction, tables in try transaction.delete(tables.entries, key(21)) }.first
                == "events, sequences 21 to 30: missing")
        #expect(
            try await problems { _, transaction, tables in try transaction.delete(tables.entries, key(1)) }.first
                == "events, sequences 1 to 10: missing")
        func put(_ table: KeyPath<Tables, Table>, _ key: some Key, _ bytes: [UInt8]) async throws -> [String] {
            try await problems { _, transaction, tables in
                try bytes.withUnsafeBytes { try transaction.put(tables[keyPath: table], key, $0) }
            }
        }
        #expect(
            try await put(\.entries, key(31), [1])
                == ["events: there is an entry at sequence 31, and 31 is to come next"])
        #expect(
            try await put(\.entries, key(1, 9), [1])
                == ["entries: there are records of stream 9, which does not exist"])
        #expect(
            try await put(\.seals, key(1), [50, 0, 0, 0, 0, 0, 0, 0])
                == ["events: the batch from 1 to 50 is not one between 1 and 31"])
        #expect(try await put(\.seals, key(5), [7, 0, 0, 0, 0, 0, 0, 0]).count == 1)
        #expect(
            try await put(\.deadLetters, NumberKey(number: 1), [9]) == [
                "dead_letters: letter 1: dead letter of an unknown version",
                "dead_letters: letter 1 has a number that was not given yet",
            ])
        #expect(try await put(\.forwarding, NumberKey(number: 4), [0]) == ["forwarding: there is no dead letter 4"])
        #expect(try await put(\.partitions, BytesKey([1]), [0]).count == 1)
    }

    // MARK: Export

    @Test func eventsBySequenceAndTime() async throws {
        let fixture = try JournalFixture(tables: ["events", "other"])
        for number in 0..<10 {
            try await fixture.append(numbered(number * 10..<number * 10 + 10), receivedAt: Int64(number) * 1_000)
        }
        try await fixture.append(numbered(900..<901), to: "other")
        let inspection = JournalInspection(fixture.journal)
        let stream = fixture.stream()
        #expect(try payloads(inspection, stream) == numbered(0..<100))
        #expect(try payloads(inspection, stream, sequences: 15..<37) == numbered(14..<36))
        #expect(try payloads(inspection, stream, sequences: 95..<1_000) == numbered(94..<100))
        #expect(try payloads(inspection, stream, sequences: 500..<1_000) == [])
        #expect(try payloads(inspection, stream, receivedAt: 3_000..<5_000) == numbered(30..<50))
        #expect(
            try payloads(inspection, stream, sequences: 45..<1_000, receivedAt: 3_000..<6_000) == numbered(44..<60))
        #expect(try payloads(inspection, fixture.stream("other")) == numbered(900..<901))
        #expect(try payloads(inspection, StreamID(rawValue: 77)) == [])
    }

    @Test func damagedEntriesAreNamedAndPassedOver() async throws {
        let fixture = try JournalFixture()
        for start in [0, 10, 20] { try await fixture.append(numbered(start..<start + 10)) }
        try fixture.journal.rewriteEntry(11, of: fixture.stream()) { $0[99] ^= 2 }
        var count = 0
        let export = try JournalInspection(fixture.journal).events(of: fixture.stream()) { _, _ in count += 1 }
        #expect(count == 20 && export.eventCount == 20 && export.damagedCount == 1)
        #expect(export.damaged.map(\.sequences) == [11..<21])
    }

    /// What the caller does with an event may take its time: no view is held meanwhile, so the file does not grow.
    @Test func slowReadersHoldNothing() async throws {
        let fixture = try JournalFixture(tables: ["events", "other"])
        for number in 0..<30 { try await fixture.append([payload(number, bytes: 1_000_000)]) }
        let other = fixture.stream("other")
        let journal = fixture.journal!
        func turn(_ number: Int) throws {
            // Commits by the writer's thread; this one waits.
            let result = waitFor { done in
                let events = EventBuffer(payloads: [payload(number, bytes: 1_000_000)])
                journal.submit(
                    Submission(stream: other, origin: .http, receivedAt: 0, events: events) {
                        done($0.map(\.sequences))
                    })
            }
            let end = try result.get().upperBound
            _ = waitFor { done in journal.advance(other, to: end, partitions: [:]) { done($0.map { _ in }) } }
        }
        for number in 0..<5 { try turn(number) }
        let before = journal.snapshot.fileBytes
        let inspection = JournalInspection(journal)
        _ = try inspection.events(of: fixture.stream()) { event, _ in
            if event.sequence == 5 { for number in 0..<20 { try turn(number) } }
        }
        var pauses = 0
        _ = try inspection.verify { _ in
            pauses += 1
            if pauses == 1 { for number in 0..<20 { try turn(number) } }
        }
        #expect(pauses > 1)
        #expect(journal.snapshot.fileBytes <= before + 8 << 20, "pages must be used again meanwhile")
    }

    /// The service goes on delivering: what it deletes is left out, and is no damage.
    @Test func whatIsDeletedMeanwhileIsLeftOut() async throws {
        let fixture = try JournalFixture()
        for number in 0..<30 { try await fixture.append([payload(number, bytes: 1_000_000)]) }
        let journal = fixture.journal!
        let stream = fixture.stream()
        var seen: [UInt64] = []
        let inspection = JournalInspection(journal)
        let export = try inspection.events(of: stream) { event, _ in
            seen.append(event.sequence)
            guard event.sequence == 2 else { return }
            _ = waitFor { done in journal.advance(stream, to: 26, partitions: [:]) { done($0.map { _ in }) } }
        }
        #expect(export.damagedCount == 0)
        #expect(seen.first == 1 && seen.suffix(5) == [26, 27, 28, 29, 30] && seen.count < 30, "\(seen)")
        #expect(seen == seen.sorted())
        // Verification the same.
        for number in 0..<30 { try await fixture.append([payload(number, bytes: 1_000_000)]) }
        var pauses = 0
        let result = try inspection.verify { _ in
            pauses += 1
            guard pauses == 1 else { return }
            _ = waitFor { done in journal.advance(stream, to: 56, partitions: [:]) { done($0.map { _ in }) } }
        }
        #expect(result.isSound && result.uncomparedStreams == ["events"], "\(result.problems)")
    }

    // MARK: Replay

    @Test func keptEventsCanBeReplayed() async throws {
        let fixture = try JournalFixture()
        fixture.configuration.retainMilliseconds = 3_600_000
        try fixture.reopen()
        try await fixture.append(numbered(0..<10), receivedAt: 0)
        try await fixture.append(numbered(10..<20))
        try await fixture.append(numbered(20..<30))
        try await fixture.advance(to: 31)
        let identity = fixture.journal.identity
        let stream = fixture.stream()
        fixture.close()
        let inspection = try JournalInspection(path: fixture.configuration.path)
        #expect(inspection.identity == identity)
        #expect(try inspection.snapshot().streams[stream]?.trimmed == 11)
        // The first entry was too old.
        let plan = try #require(try inspection.plan(stream, from: 1, maxRows: 15, maxBytes: 1 << 20))
        #expect(plan.sequences == 11..<21)
        #expect(try inspection.reader(stream, plan.sequences).payloads() == numbered(10..<20))
        #expect(try inspection.plan(stream, from: 21, to: 25, maxRows: 15, maxBytes: 1 << 20)?.sequences == 21..<25)
        #expect(try inspection.plan(stream, from: 31, maxRows: 15, maxBytes: 1 << 20) == nil)
        let error = #expect(throws: JournalError.self) { try inspection.reader(stream, 5..<15).payloads() }
        guard case .trimmed = error else { throw Timeout(description: "\(error as Any)") }
    }
}

/// Blocks until `start`'s callback was called, on another thread.
private func waitFor<Value: Sendable>(
    _ start: (@escaping @Sendable (Result<Value, any Error>) -> Void) -> Void
) -> Result<Value, any Error> {
    let box = Mailbox<Result<Value, any Error>>()
    start { box.send($0) }
    var answers: [Result<Value, any Error>] = []
    while answers.isEmpty { _ = box.receive(into: &answers) }
    return answers[0]
}

extension Result where Failure: Error {
    fileprivate func map<New>(_ transform: (Success) -> New) -> Result<New, any Error> {
        switch self {
        case .success(let value): .success(transform(value))
        case .failure(let error): .failure(error)
        }
    }
}
