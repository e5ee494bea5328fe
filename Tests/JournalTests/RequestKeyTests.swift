import CLMDB
import IngestCore
import Logging
import Synchronization
import TestSupport
import Testing

@testable import Journal

/// Requests that come again with their key.
@Suite struct RequestKeyTests {
    private let hour: Int64 = 3_600_000

    private func request(_ key: String, _ body: String = "") -> RequestKey {
        var body = body
        return body.withUTF8 {
            RequestKey(
                clientKey: key, stream: StreamID(rawValue: 1), meaning: "ndjson", body: UnsafeRawBufferPointer($0))
        }
    }

    @discardableResult
    private func send(
        _ payloads: [String], _ request: RequestKey?, to fixture: JournalFixture, at time: Int64? = nil,
        letters: [DeadLetter] = []
    ) async throws -> Receipt {
        try await fixture.journal.append(
            stream: fixture.stream(), origin: .http, receivedAt: time ?? WallClock.milliseconds,
            events: EventBuffer(payloads: payloads), deadLetters: letters, request: request)
    }

    private func end(_ fixture: JournalFixture) -> UInt64 {
        fixture.journal.snapshot.streams[fixture.stream()]!.nextSequence
    }

    private func verify(_ fixture: JournalFixture) throws -> JournalVerification {
        let result = try JournalInspection(fixture.journal).verify()
        #expect(result.isSound, "\(result.problems)")
        return result
    }

    @Test func hashesSeparateStreamKeyMeaningAndBody() {
        let bodies: [(String, String, UInt32, String)] = [
            ("k", "a", 1, "bc"), ("k", "ab", 1, "c"), ("k", "a", 1, "b"), ("l", "a", 1, "bc"), ("k", "a", 2, "bc"),
        ]
        let keys = bodies.map { key, meaning, stream, body in
            var body = body
            return body.withUTF8 {
                RequestKey(
                    clientKey: key, stream: StreamID(rawValue: stream), meaning: meaning,
                    body: UnsafeRawBufferPointer($0))
            }
        }
        #expect(Set(keys.map(\.key)).count == 3)
        #expect(Set(keys.map(\.fingerprint)).count == 3)
        // SHA-256 of 01 00 00 00 "k", by another program.
        #expect(keys[0].key == 0x0e74_b5e6_9b8c_7b4a_df43_6954_87ac_2f5a)
    }

    @Test func repetitionGetsTheFirstReceiptAndAddsNothing() async throws {
        let fixture = try JournalFixture()
        try await send(numbered(0..<3), nil, to: fixture)
        let letter = DeadLetter.invalid()
        let first = try await send(numbered(3..<5), request("a", "1"), to: fixture, letters: [letter])
        #expect(first == Receipt(sequences: 4..<6, deadLetters: 1..<2))
        try await send(numbered(5..<6), nil, to: fixture)
        for _ in 0..<2 {
            let again = try await send(numbered(3..<5), request("a", "1"), to: fixture, letters: [letter])
            #expect(again == Receipt(sequences: 4..<6, deadLetters: 1..<2, isRepeat: true))
            // Also after a restart.
            try fixture.reopen()
        }
        await #expect(throws: IntakeError.keyReused) {
            try await self.send(["{}"], self.request("a", "2"), to: fixture)
        }
        #expect(end(fixture) == 7 && fixture.journal.snapshot.deadLetterCount == 1)
        #expect(try fixture.payloads(1..<7) == numbered(0..<6))
        #expect(try verify(fixture).requestKeyCount == 1)
    }

    @Test func lettersOnlyAndNothingAtAll() async throws {
        let fixture = try JournalFixture()
        let letter = DeadLetter.invalid()
        #expect(try await send([], request("letters"), to: fixture, letters: [letter]).deadLetters == 1..<2)
        #expect(try await send([], request("nothing"), to: fixture).sequences.isEmpty)
        try fixture.reopen()
        let again = try await send([], request("letters"), to: fixture, letters: [letter])
        #expect(again.isRepeat && again.deadLetters == 1..<2 && again.sequences.isEmpty)
        #expect(try await send([], request("nothing"), to: fixture).isRepeat)
        #expect(fixture.journal.snapshot.deadLetterCount == 1)
    }

    /// Both are in the writer's queue before it starts, so they are in one group.
    @Test func copiesInTheSameCommitAreOneRequest() async throws {
        let fixture = try JournalFixture()
        fixture.close()
        let journal = try Journal.open(fixture.configuration, logger: Logger(label: "test"))
        let stream = journal.stream(table: "events")!.id
        let answers = Mutex<[Result<Receipt, IntakeError>]>([])
        for (body, payload) in [("1", "{\"n\":1}"), ("1", "{\"n\":1}"), ("2", "{\"n\":2}")] {
            journal.submit(
                Submission(
                    stream: stream, origin: .http, receivedAt: WallClock.milliseconds,
                    events: EventBuffer(payloads: [payload]), request: request("a", body)
                ) { answer in answers.withLock { $0.append(answer) } })
        }
        let commits = Atomic<Int>(0)
        journal.start { _ in commits.add(1, ordering: .relaxed) }
        journal.close()
        #expect(commits.load(ordering: .relaxed) == 1)
        #expect(
            answers.withLock { $0 } == [
                .success(Receipt(sequences: 1..<2, deadLetters: 1..<1)),
                .success(Receipt(sequences: 1..<2, deadLetters: 1..<1, isRepeat: true)),
                .failure(.keyReused),
            ])
        #expect(journal.snapshot.streams[stream]?.nextSequence == 2)
    }

    @Test func keysExpireAndTheirRecordsGo() async throws {
        let fixture = try JournalFixture()
        let now = WallClock.milliseconds
        // A clock that stands still or was set back takes nothing out of the window.
        try await send(["{}"], request("back"), to: fixture, at: now + hour)
        #expect(try await send(["{}"], request("back"), to: fixture, at: now).isRepeat)
        #expect(try await send(["{}"], request("back"), to: fixture, at: now + 2 * hour - 1).isRepeat)
        // The same key again after its window is a new request, under a new number.
        #expect(try await !send(["{}"], request("back", "other"), to: fixture, at: now + 2 * hour).isRepeat)
        #expect(fixture.journal.snapshot.requestKeyCount == 1)
        #expect(end(fixture) == 3)
        #expect(try verify(fixture).requestKeyCount == 1)
    }

    @Test func expiredKeysAreDeletedInBoundedSteps() async throws {
        let fixture = try JournalFixture()
        // Young while they come, old after it.
        try fixture.reopen { $0.requestKeyWindowMilliseconds = 10 * hour }
        for number in 0..<100 {
            try await send(["{}"], request("\(number)"), to: fixture, at: WallClock.milliseconds - 2 * hour)
        }
        try await send(["{}"], request("young"), to: fixture)
        try fixture.reopen { $0.requestKeyWindowMilliseconds = hour }
        var counts: [Int] = []
        for _ in 0..<5 {
            // A submission without a key deletes some as well.
            try await send(["{}"], nil, to: fixture)
            counts.append(fixture.journal.snapshot.requestKeyCount)
        }
        #expect(counts == [69, 37, 5, 1, 1])
        #expect(try verify(fixture).requestKeyCount == 1)
        #expect(try await send(["{}"], request("young"), to: fixture).isRepeat)
        // Switched off keys are ignored, and those that are there go.
        try fixture.reopen { $0.requestKeyWindowMilliseconds = 0 }
        #expect(try await !send(["{}"], request("young"), to: fixture).isRepeat)
        #expect(fixture.journal.snapshot.requestKeyCount == 0)
        #expect(try await !send(["{}"], request("young"), to: fixture).isRepeat)
    }

    @Test func theOldestGoWhenThereAreTooMany() async throws {
        let fixture = try JournalFixture()
        try fixture.reopen { $0.maxRequestKeys = 10 }
        for number in 0..<25 { try await send(["{}"], request("\(number)"), to: fixture) }
        #expect(fixture.journal.snapshot.requestKeyCount == 10)
        for number in 15..<25 { #expect(try await send(["{}"], request("\(number)"), to: fixture).isRepeat) }
        #expect(end(fixture) == 26)
        #expect(try await !send(["{}"], request("14"), to: fixture).isRepeat)
        #expect(try verify(fixture).requestKeyCount == 10)
        // A small journal keeps fewer than it may.
        #expect(JournalConfiguration(path: "", maxBytes: 2_048_000, tables: []).requestKeyLimit == 1_000)
    }

    /// The oldest number goes first, although the clock was set back meanwhile.
    @Test func orderIsThatOfAcceptance() async throws {
        let fixture = try JournalFixture()
        try fixture.reopen { $0.maxRequestKeys = 3 }
        let now = WallClock.milliseconds
        for (key, time) in [("a", now), ("b", now - hour / 2), ("c", now), ("d", now - hour / 2)] {
            try await send(["{}"], request(key), to: fixture, at: time)
        }
        #expect(try await send(["{}"], request("b"), to: fixture, at: now).isRepeat)
        #expect(try await !send(["{}"], request("a"), to: fixture, at: now).isRepeat)
    }

    @Test func fullJournalStillAnswersRepetitions() async throws {
        let fixture = try JournalFixture(maxBytes: 2_000_000)
        let large = "{\"v\":\"" + String(repeating: "x", count: 500_000) + "\"}"
        try await send([large], request("first"), to: fixture)
        try await send([large], request("second"), to: fixture)
        try await send([large], request("third"), to: fixture)
        await #expect(throws: IntakeError.self) { try await self.send([large], self.request("last"), to: fixture) }
        #expect(fixture.journal.snapshot.refusal?.isFull == true)
        #expect(try await send([large], request("first"), to: fixture).isRepeat)
        await #expect(throws: IntakeError.keyReused) {
            try await self.send([large], self.request("first", "other"), to: fixture)
        }
        // What was refused is new when there is room again.
        try await fixture.advance(to: end(fixture))
        #expect(try await !send([large], request("last"), to: fixture).isRepeat)
    }

    /// As an older version leaves a journal.
    private func dropTables(_ path: String) throws {
        let environment = try Environment(directory: path, mapSize: nil, tableCount: 9, readOnly: false)
        try environment.write { transaction in
            for name in RequestTables.names {
                var table = MDB_dbi()
                try #require(mdb_dbi_open(transaction.handle, name, 0, &table) == 0)
                try #require(mdb_drop(transaction.handle, table, 1) == 0)
            }
        }
    }

    /// One record is malformed, one is missing, one is forgotten.
    private func damage(_ journal: Journal) throws {
        let tables = try #require(journal.tables.requests)
        try journal.environment.write { transaction in
            let name = RequestName(request("7").key)
            try withUnsafeBytes(of: UInt64(0)) { try transaction.put(tables.requests, name, $0) }
            try transaction.delete(tables.requests, RequestName(request("8").key))
            try transaction.delete(tables.order, NumberKey(number: 10))
        }
    }

    @Test func journalOfAnOlderVersionGetsTheTables() async throws {
        let fixture = try JournalFixture()
        try await fixture.append(numbered(0..<3))
        fixture.close()
        try dropTables(fixture.configuration.path)
        let path = fixture.configuration.path
        #expect(try JournalInspection(path: path).verify().isSound)
        #expect(try Journal.inspect(path: path).requestKeyCount == 0)
        _ = try Journal.compact(path: path)
        try fixture.open()
        #expect(try await !send(["{}"], request("a"), to: fixture).isRepeat)
        #expect(try await send(["{}"], request("a"), to: fixture).isRepeat)
    }

    @Test func compactionKeepsThemAndVerificationFindsDamage() async throws {
        let fixture = try JournalFixture()
        for number in 0..<20 { try await send(["{}"], request("\(number)"), to: fixture) }
        fixture.close()
        _ = try Journal.compact(path: fixture.configuration.path)
        try fixture.open()
        #expect(try await send(["{}"], request("7"), to: fixture).isRepeat)
        try damage(fixture.journal)
        let problems = try JournalInspection(fixture.journal).verify().problems.map(\.description)
        #expect(
            problems == [
                "requests: request 8: its record is missing or malformed",
                "requests: request 9: its record is missing or malformed",
            ])
        // A damaged record is none: its request is accepted once more, and remembered.
        for number in 7..<9 {
            #expect(try await !send(["{}"], request("\(number)"), to: fixture).isRepeat)
            #expect(try await send(["{}"], request("\(number)"), to: fixture).isRepeat)
        }
        // What leads to nothing goes with its turn.
        try fixture.reopen { $0.maxRequestKeys = 1 }
        try await send(["{}"], request("last"), to: fixture)
        #expect(fixture.journal.snapshot.requestKeyCount == 1)
    }
}
