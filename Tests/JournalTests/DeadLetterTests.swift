import Foundation
import IngestCore
import Synchronization
import TestSupport
import Testing

@testable import Journal

@Suite struct DeadLetterTests {
    // MARK: Storing

    @Test func lettersOfSourcesAreKeptExactly() async throws {
        let fixture = try JournalFixture()
        let letter = DeadLetter(
            eventID: "id-1", failedAt: 1_700_000_000_123, table: "events",
            problem: .init(kind: "invalid_json", message: "no \"closing\" brace, ü"),
            kafka: .init(
                partition: partitionB, offset: 9, timestamp: 1_700_000_000_000, key: [0xFF, 0],
                headers: [("h", Array("v".utf8)), ("h", nil), ("", [])]),
            payload: [0xFF, 0x7B])
        let receipt = try await fixture.append(letter, origin: .kafka(partitionB, offsets: 9..<10))
        #expect(receipt.sequences.isEmpty && receipt.deadLetters == 1..<2)
        try await fixture.append(.invalid())
        try fixture.reopen()
        #expect(fixture.journal.snapshot.deadLetterCount == 2)
        let stored = try fixture.letters()
        #expect(
            stored.first
                == StoredDeadLetter(
                    number: 1, sequence: nil, isRetried: false, awaitsForwarding: false, letter: letter))
        #expect(stored.last?.letter == .invalid())
        #expect(try fixture.journal.deadLetter(1)?.letter == letter)
        #expect(try fixture.journal.deadLetter(3) == nil)
    }

    /// Of an event that a source refused, and of one that ClickHouse did, which is then sent again.
    @Test func lettersOfHTTPKeepTheirTrace() async throws {
        let trace = try #require(TraceParent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
        let fixture = try JournalFixture()
        let invalid = DeadLetter(
            eventID: "id-1", failedAt: 1, table: "events", problem: .init(kind: "invalid_json", message: "no"),
            kafka: nil, payload: [0x7B], traceparent: trace.text)
        try await fixture.append(invalid)
        let events = EventBuffer()
        events.append("{}", trace: trace)
        events.append("{\"other\":1}")
        _ = try await fixture.journal.append(stream: fixture.stream(), origin: .http, receivedAt: 5, events: events)
        try await fixture.reject([1, 2], upTo: 3)
        try fixture.reopen()
        let letters = try fixture.letters()
        #expect(letters.first?.letter == invalid)
        #expect(letters.count == 3 && letters.dropFirst().allSatisfy { $0.letter.kafka == nil })
        let ofRejected = try #require(letters.first { $0.sequence == 1 })
        #expect(ofRejected.letter.traceparent == trace.text)
        #expect(letters.first { $0.sequence == 2 }?.letter.traceparent == nil)
        for letter in letters {
            let document = String(decoding: try Journal.message(for: letter).value, as: UTF8.self)
            let source = letter.letter.traceparent.map { #"{"kind":"http","traceparent":"\#($0)"}"# }
            #expect(document.contains(#""source":\#(source ?? #"{"kind":"http"}"#)"#), "\(document)")
        }
        #expect(
            try await fixture.journal.retryDeadLetters([1, ofRejected.number])
                == DeadLetterChange(changed: 1, notRetryable: 1))
        let reader = try fixture.journal.reader(fixture.stream(), 3..<4)
        _ = try reader.read { run in
            let event = try #require(try run.next())
            #expect(event.traceparent?.elementsEqual(trace.text.utf8) == true && event.kafka == nil)
        }
    }

    /// A letter is kept for being too large for an event.
    @Test func lettersMayBeLargerThanEvents() async throws {
        let fixture = try JournalFixture()
        let payload = [UInt8](repeating: 0x20, count: Limits.eventBytes + 1)
        let headers = [(name: String(repeating: "n", count: 70_000), value: [UInt8]?.none)]
        let letter = DeadLetter(
            eventID: String(repeating: "i", count: 70_000), failedAt: 1, table: "events",
            problem: .init(kind: "too_large", message: ""),
            kafka: .init(partition: partitionA, offset: 3, timestamp: -1, key: nil, headers: headers), payload: payload)
        try await fixture.append(letter, origin: .kafka(partitionA, offsets: 3..<4))
        let stored = try #require(try fixture.journal.deadLetter(1))
        #expect(stored.letter.payload.count == payload.count && stored.letter.problem.kind == "too_large")
        #expect(stored.letter.eventID == payload.withUnsafeBytes { EventID.derive(from: $0) })
        #expect(
            try fixture.journal.deadLetters(matching: .init(), limit: 1, withPayload: false)[0].letter.payload == [])
    }

    /// Guarantee 5: the letter and the position that passes its event are one transaction.
    @Test func rejectedEventsBecomeLettersAsThePositionPassesThem() async throws {
        let fixture = try JournalFixture()
        fixture.close()
        let news = Mutex<[DeadLetterNews]>([])
        try fixture.open { commit in news.withLock { $0 += commit.deadLetters } }
        let first = try await fixture.append(numbered(0..<10))
        let events = EventBuffer()
        "{\"event_id\":\"own\",\"x\":1}".withBytes { payload in
            "key".withBytes { key in
                events.append(
                    payload: payload, id: .payloadSlice(offset: 13, length: 3),
                    kafka: KafkaMetadata(
                        offset: 7, timestamp: 1_700_000_000_000, key: key, headers: .init(start: nil, count: 0)))
            }
            "from-header".withBytes {
                events.append(
                    payload: payload, id: .stored, storedID: $0,
                    kafka: .init(offset: 8, timestamp: -1, key: nil, headers: .init(start: nil, count: 0)))
            }
        }
        _ = try await fixture.journal.append(
            stream: fixture.stream(), origin: .kafka(partitionA, offsets: 5..<9), receivedAt: 77, events: events)
        // In any order; from several entries.
        let rejected = [12, 3, 11, 4].map { RejectedEvent(sequence: $0, problem: .rejected("no \($0)")) }
        let stream = fixture.stream()
        let told = await withCheckedContinuation { continuation in
            fixture.journal.advance(stream, to: 13, partitions: [:], rejected: rejected) { _ in
                // The news come before the completion.
                continuation.resume(returning: news.withLock { $0 })
            }
        }
        #expect(told.map(\.sequences) == [3..<4, 4..<5, 11..<12, 12..<13] && told.map(\.number) == [1, 2, 3, 4])
        #expect(told.map(\.eventID).suffix(2) == ["own", "from-header"])
        #expect(told.allSatisfy { $0.stream == stream && $0.table == "events" && $0.kind == "row_data" })
        try fixture.reopen()
        #expect(fixture.journal.snapshot.streams[fixture.stream()]?.position == 13)
        let stored = try fixture.letters()
        #expect(stored.map(\.sequence) == [3, 4, 11, 12] && first == 1..<11)
        #expect(
            stored.map { String(decoding: $0.letter.payload, as: UTF8.self) }.prefix(2) == ["{\"n\":2}", "{\"n\":3}"])
        #expect(stored[0].letter.problem == .rejected("no 3") && stored[0].letter.kafka == nil)
        #expect(stored[0].letter.eventID == EventID.derived(from: "{\"n\":2}"))
        let kafka = try #require(stored[2].letter.kafka)
        #expect(kafka.partition == partitionA && kafka.offset == 7 && kafka.key == Array("key".utf8))
        #expect(stored[2].letter.eventID == "own" && stored[3].letter.eventID == "from-header")
        #expect(abs(stored[0].letter.failedAt - WallClock.milliseconds) < 60_000)
    }

    @Test func damagedEntriesBecomeLettersWithTheirBytes() async throws {
        let fixture = try JournalFixture()
        try await fixture.append(numbered(0..<3))
        try await fixture.append(numbered(3..<6), origin: .kafka(partitionA, offsets: 40..<43))
        try await fixture.append(numbered(6..<9))
        var entries: [[UInt8]] = []
        try fixture.journal.forEachEntry { entries.append(Array($0.bytes)) }
        try fixture.rewrite("entries", SequenceKey(fixture.stream(), 7)) { $0 = [] }
        try await fixture.reject(
            [], upTo: 10,
            damaged: [
                // The end of an entry; a whole one; one that is missing.
                DamagedEntry(sequences: 2..<4, reason: "first"), DamagedEntry(sequences: 4..<7, reason: "second"),
                DamagedEntry(sequences: 7..<10, reason: "third"),
            ])
        let stored = try fixture.letters()
        #expect(stored.map(\.letter.payload) == [entries[0], entries[1], []])
        #expect(stored.map(\.sequence) == [nil, nil, nil])
        #expect(stored.allSatisfy { $0.letter.problem.kind == "damaged_entry" })
        #expect(stored[1].letter.problem.message == "the entry with sequences 4 to 6 is damaged: second")
        #expect(stored.map { $0.letter.kafka?.offset } == [nil, 40, nil])
        #expect(try await fixture.journal.retryDeadLetters([1, 2, 3]) == DeadLetterChange(changed: 0, notRetryable: 3))
        // Entered midway, and left midway.
        try await fixture.append(numbered(0..<3))
        try await fixture.advance(to: 11)
        let whole = DamagedEntry(sequences: 10..<13, reason: "")
        try await fixture.reject([], upTo: 12, damaged: [whole])
        try await fixture.reject([], upTo: 13, damaged: [whole])
        #expect(try Set(fixture.letters().suffix(2).map(\.letter.payload.count)) == [entries[0].count])
    }

    /// Rot between sending and rejecting: the letter would not be what was sent, and waiting would not mend it.
    @Test func rejectedEventsThatCanNotBeReadAnyMoreBecomeDamage() async throws {
        let fixture = try JournalFixture()
        try await fixture.append(numbered(0..<6))
        try await fixture.append(numbered(6..<9))
        try fixture.rewrite("entries", SequenceKey(fixture.stream(), 1)) { $0[$0.count - 2] ^= 1 }
        fixture.close()
        let news = Mutex<[DeadLetterNews]>([])
        try fixture.open { commit in news.withLock { $0 += commit.deadLetters } }
        try await fixture.reject([2, 3, 5, 8], upTo: 10)
        let stored = try fixture.letters()
        #expect(stored.map(\.letter.problem.kind) == ["row_data", "damaged_entry", "damaged_entry"])
        #expect(stored.map(\.sequence) == [8, nil, nil])
        #expect(stored[1].letter.problem.message.contains("does not match its checksum"))
        #expect(stored[1].letter.problem.message.contains("2 to 3"))
        // The sound ones were delivered: only those that were rejected are told as lost.
        #expect(news.withLock { $0.map(\.sequences) } == [8..<9, 2..<4, 5..<6])
        #expect(fixture.journal.snapshot.streams[fixture.stream()]?.position == 10)
    }

    @Test func letterThatCanNotBeReadCanBeDiscarded() async throws {
        let fixture = try JournalFixture()
        try await fixture.append(numbered(0..<3))
        try await fixture.reject([1, 2, 3], upTo: 4)
        // The event's payload length; then the record's version.
        try fixture.rewrite("dead_letters", NumberKey(number: 1)) { $0[$0.count - 7 - 12] ^= 1 }
        try fixture.rewrite("dead_letters", NumberKey(number: 2)) { $0[0] = 9 }
        // Shown as what is left of them, and not in the way of the others.
        let letters = try fixture.letters()
        #expect(letters.map(\.letter.problem.kind) == ["unreadable_letter", "unreadable_letter", "row_data"])
        #expect(letters.map(\.number) == [1, 2, 3] && letters[1].letter.payload.first == 9)
        #expect(letters[1].letter.problem.message.hasSuffix("dead letter of an unknown version"))
        #expect(try fixture.journal.deadLetter(2) == letters[1])
        func numbers(_ filter: DeadLetterFilter) throws -> [UInt64] {
            try fixture.journal.deadLetterNumbers(matching: filter)
        }
        // Of the first, only the event is damaged: stream, time and kind of its record are known.
        #expect(try numbers(DeadLetterFilter(kind: "unreadable_letter")) == [2])
        #expect(try numbers(DeadLetterFilter(kind: "row_data")) == [1, 3])
        #expect(try numbers(DeadLetterFilter(stream: "events")) == [1, 3])
        #expect(try numbers(DeadLetterFilter(since: 0)) == [1, 3] && numbers(DeadLetterFilter(until: .max)) == [1, 3])
        // What is no event must not get into an entry.
        #expect(
            try await fixture.journal.retryDeadLetters([1, 2, 3]) == DeadLetterChange(changed: 1, notRetryable: 2))
        #expect(try await fixture.journal.discardDeadLetters([1, 2]).changed == 2)
        #expect(try fixture.letters().isEmpty && fixture.payloads(4..<5) == ["{\"n\":2}"])
    }

    @Test func partsOfABatchTakeItsPlace() async throws {
        let fixture = try JournalFixture()
        try await fixture.append(numbered(0..<20))
        try await fixture.seal(1..<11)
        try await fixture.seal(11..<21)
        try await fixture.reseal(1..<11, as: [1..<4, 4..<5, 5..<11])
        try await fixture.reseal(5..<11, as: [5..<8, 8..<11])
        try fixture.reopen()
        let parts: [Range<UInt64>] = [1..<4, 4..<5, 5..<8, 8..<11, 11..<21]
        #expect(try fixture.journal.seals(of: fixture.stream()) == parts)
        // Not a batch any more.
        await #expect(throws: JournalError.self) { try await fixture.reseal(1..<11, as: [1..<2, 2..<11]) }
        try await fixture.advance(to: 5)
        #expect(try fixture.journal.seals(of: fixture.stream()) == Array(parts[2...]))
    }

    @Test func numbersAreNeverGivenTwice() async throws {
        let fixture = try JournalFixture()
        for _ in 0..<3 { try await fixture.append(.invalid()) }
        #expect(try await fixture.journal.discardDeadLetters([1, 2, 3, 4]).changed == 3)
        try fixture.reopen()
        #expect(fixture.journal.snapshot.deadLetterCount == 0)
        #expect(try await fixture.append(.invalid()).deadLetters == 4..<5)
        try fixture.reopen()
        #expect(try await fixture.append(.invalid()).deadLetters == 5..<6)
    }

    // MARK: The bound

    @Test func fullStoreHoldsAndNeverDrops() async throws {
        let fixture = try JournalFixture()
        try fixture.reopen { $0.deadLettersMaxBytes = 60 << 10 }
        let payload = "{\"v\":\"" + String(repeating: "x", count: 20_000) + "\"}"
        try await fixture.append(Array(repeating: payload, count: 10))
        try await fixture.reject([1, 2], upTo: 3)
        #expect(!fixture.journal.snapshot.deadLettersFull)
        await #expect {
            try await fixture.reject([3], upTo: 4)
        } throws: { error in
            guard case JournalError.deadLettersFull(let reason) = error else { return false }
            return reason.contains("JOURNAL_DEAD_LETTERS_MAX_BYTES is 61440")
        }
        // Nothing was changed, and what has no letters goes on.
        #expect(fixture.journal.snapshot.deadLettersFull && fixture.journal.snapshot.refusal == nil)
        #expect(fixture.journal.snapshot.streams[fixture.stream()]?.position == 3)
        #expect(try fixture.letters().map(\.number) == [1, 2])
        let bad = DeadLetter.invalid(9, of: partitionA, payload: Array(payload.utf8))
        do {
            try await fixture.append(bad, events: ["{}"], origin: .kafka(partitionA, offsets: 9..<11))
            Issue.record("a letter was taken that there is no room for")
        } catch let error as IntakeError {
            #expect(error.isFull)
        }
        #expect(fixture.journal.snapshot.streams[fixture.stream()]?.nextSequence == 11)
        #expect(fixture.journal.checkpoint(of: partitionA) == nil)
        #expect(try await fixture.append(["{}"], origin: .kafka(partitionA, offsets: 9..<10)) == 11..<12)
        #expect(fixture.journal.snapshot.deadLetterBytes <= 60 << 10)
        // Room again.
        #expect(try await fixture.journal.discardDeadLetters([1]).changed == 1)
        #expect(!fixture.journal.snapshot.deadLettersFull)
        try await fixture.reject([3], upTo: 4)
        #expect(try fixture.letters().map(\.number) == [2, 3])
    }

    // MARK: Sending again

    @Test func retriedEventsComeAsTheyWere() async throws {
        let fixture = try JournalFixture(tables: ["events", "other"])
        let headers = EventHeaders.encode([("h", [1]), ("h", nil)])
        let events = EventBuffer()
        "{\"event_id\":\"own\",\"x\":1}".withBytes { payload in
            headers.withUnsafeBytes { headers in
                "key".withBytes { key in
                    events.append(
                        payload: payload, id: .payloadSlice(offset: 13, length: 3),
                        kafka: .init(offset: 7, timestamp: 99, key: key, headers: headers))
                }
            }
        }
        let other = fixture.stream("other")
        _ = try await fixture.journal.append(
            stream: other, origin: .kafka(partitionA, offsets: 5..<9), receivedAt: 77, events: events)
        try await fixture.append(["{\"plain\":1}"])
        try await fixture.reject([1], upTo: 2, "other", partitions: [partitionA: (2, 9)])
        try await fixture.reject([1], upTo: 2)
        let checkpoint = fixture.journal.checkpoint(of: partitionA)
        let appended = Mutex<[UInt64]>([])
        fixture.close()
        try fixture.open { news in appended.withLock { $0 += news.appended.map(\.end) } }
        #expect(try await fixture.journal.retryDeadLetters([2, 1, 2, 99]) == DeadLetterChange(changed: 2))
        #expect(appended.withLock { $0.sorted() } == [3, 3])
        #expect(try fixture.letters().isEmpty)
        try fixture.reopen()
        #expect(try fixture.letters().isEmpty && fixture.payloads(2..<3) == ["{\"plain\":1}"])
        #expect(fixture.journal.checkpoint(of: partitionA) == checkpoint)
        let plan = try #require(try fixture.journal.plan(other, from: 2, maxRows: 10, maxBytes: 1_000))
        #expect(plan.sequences == 2..<3 && plan.partitions.isEmpty)
        let reader = try fixture.journal.reader(other, 2..<3)
        _ = try reader.read { run in
            let event = try #require(try run.next())
            #expect(event.sequence == 2 && event.id == "own" && run.entry.receivedAt == 77)
            #expect(run.entry.partition == partitionA && event.kafka?.offset == 7 && event.kafka?.timestamp == 99)
            #expect(event.kafka?.key?.elementsEqual("key".utf8) == true)
            #expect(event.headers.elementsEqual(headers))
        }
        // Rejected once more it is a new letter, of the same event.
        try await fixture.reject([2], upTo: 3, "other")
        let again = try #require(try fixture.letters().first)
        #expect(again.number == 3 && again.sequence == 2 && again.letter.kafka?.offset == 7)
    }

    @Test func onlyEventsCanBeSentAgain() async throws {
        let fixture = try JournalFixture()
        try await fixture.append(.invalid())
        try await fixture.append(numbered(0..<1))
        try await fixture.reject([1], upTo: 2)
        #expect(try await fixture.journal.retryDeadLetters([1, 2, 3]) == DeadLetterChange(changed: 1, notRetryable: 1))
        #expect(try await fixture.journal.retryDeadLetters([1, 2, 3]) == DeadLetterChange(changed: 0, notRetryable: 1))
        #expect(try fixture.letters().map(\.number) == [1])
        #expect(fixture.journal.snapshot.streams[fixture.stream()]?.nextSequence == 3)
    }

    @Test func manyLettersAreRetriedInBoundedTransactions() async throws {
        let fixture = try JournalFixture()
        try await fixture.append(numbered(0..<700))
        try await fixture.append(
            Array(repeating: "{\"v\":\"" + String(repeating: "x", count: 1 << 20) + "\"}", count: 6))
        try await fixture.reject(Array(1..<707), upTo: 707)
        fixture.close()
        let commits = Mutex<[(count: UInt64, bytes: Int)]>([])
        try fixture.open { news in
            for added in news.appended {
                commits.withLock { commits in
                    let before = 707 + commits.reduce(0) { $0 + $1.count }
                    commits.append((added.end - before, added.bytes))
                }
            }
        }
        #expect(try await fixture.journal.retryDeadLetters(Array(1..<707)).changed == 706)
        let seen = commits.withLock { $0 }
        #expect(seen.count >= 4 && seen.allSatisfy { $0.count <= 256 && $0.bytes <= 5 << 20 })
        #expect(try fixture.payloads(707..<1407) == numbered(0..<700))
        #expect(fixture.journal.snapshot.deadLetterCount == 0)
    }

    // MARK: Listing

    @Test func listingsFilterAndPage() async throws {
        let fixture = try JournalFixture(tables: ["events", "other"])
        // More than one view of the journal is scanned for.
        try await fixture.append(numbered(0..<2_500))
        try await fixture.reject(Array(1..<2_501), upTo: 2_501)
        try await fixture.append(numbered(0..<2), to: "other")
        try await fixture.reject([2], upTo: 3, "other", kind: "odd\"kind")
        try await fixture.append(.invalid())
        let journal = fixture.journal!
        func numbers(_ filter: DeadLetterFilter, after: UInt64 = 0, limit: Int = 10_000) throws -> [UInt64] {
            try journal.deadLetters(matching: filter, after: after, limit: limit).map(\.number)
        }
        #expect(try numbers(.init()) == Array(1...2_502))
        #expect(try numbers(.init(), after: 2_498, limit: 3) == [2_499, 2_500, 2_501])
        #expect(try numbers(.init(), after: .max).isEmpty && numbers(.init(), limit: 0).isEmpty)
        #expect(try numbers(.init(stream: "other")) == [2_501])
        #expect(try numbers(.init(stream: "none")).isEmpty)
        #expect(try numbers(.init(kind: "invalid_json")) == [2_502])
        #expect(try numbers(.init(kind: "odd\"kind")) == [2_501])
        #expect(try numbers(.init(kind: "no 7")).isEmpty && numbers(.init(kind: "row")).isEmpty)
        #expect(try numbers(.init(until: 1_700_000_000_124)) == [2_502])
        #expect(try numbers(.init(until: 1_700_000_000_123)).isEmpty)
        #expect(try numbers(.init(since: 1_700_000_000_123)).count == 2_502)
        #expect(try journal.deadLetterNumbers(matching: .init(kind: "row_data")).count == 2_500)
        func newest(_ filter: DeadLetterFilter = .init(), limit: Int = 10_000) throws -> [UInt64] {
            try journal.newestDeadLetters(matching: filter, limit: limit).map(\.number)
        }
        #expect(try newest() == (1...2_502).reversed())
        #expect(try newest(limit: 3) == [2_502, 2_501, 2_500] && newest(limit: 0).isEmpty)
        #expect(try newest(.init(kind: "row_data"), limit: 2) == [2_500, 2_499])
        _ = try await journal.discardDeadLetters([2_500, 2_502] + Array(2...2_400))
        #expect(try newest(limit: 2) == [2_501, 2_499] && newest().last == 1)
        #expect(try journal.newestDeadLetters(matching: .init(), limit: 1)[0].letter.payload.isEmpty)
    }

    @Test func anEmptyStoreHasNoNewest() throws {
        let fixture = try JournalFixture()
        #expect(try fixture.journal.newestDeadLetters(matching: .init(), limit: 5).isEmpty)
    }

    @Test func documentsHaveTheContractsForm() throws {
        let letter = DeadLetter(
            eventID: "id/1", failedAt: 1_700_000_000_123, table: "events", problem: .rejected("no"),
            kafka: .init(
                partition: partitionB, offset: 9, timestamp: 1_700_000_000_000, key: Array("k".utf8),
                headers: [("h", Array("v".utf8))]), payload: [0xFF, 0x7B])
        let stored = StoredDeadLetter(
            number: 5, sequence: 8, isRetried: true, awaitsForwarding: true, letter: letter)
        let message = try Journal.message(for: stored)
        let body =
            #"{"error":{"attempts":2,"clickhouse_code":27,"http_status":400,"kind":"row_data","message":"no"},"#
            + #""event_id":"id/1","failed_at":"2023-11-14T22:13:20.123Z","#
        let source =
            #""source":{"headers":{"h":"v"},"key":"k","kind":"kafka","offset":9,"partition":1,"#
            + #""timestamp":"2023-11-14T22:13:20.000Z","topic":"t"},"#
        #expect(message.number == 5 && message.key == Array("id/1".utf8))
        #expect(
            String(decoding: message.value, as: UTF8.self)
                == body + #""payload":"/3s=","payload_encoding":"base64","# + source
                + #""stream":"events","table":"events"}"#)
        #expect(
            String(decoding: try Journal.document(for: stored, withPayload: false), as: UTF8.self)
                == body + #""forwarded":false,"id":5,"# + source
                + #""state":"retried","stream":"events","table":"events"}"#)
    }
}

extension String {
    func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try Array(utf8).withUnsafeBytes(body)
    }
}

extension EventID {
    static func derived(from payload: String) -> String { payload.withBytes { derive(from: $0) } }
}

extension JournalFixture {
    /// Closes the journal, changes a record, or deletes it if nothing is left of it, and opens again.
    func rewrite(_ table: String, _ key: some Key, _ change: (inout [UInt8]) -> Void) throws {
        close()
        do {
            let environment = try Environment(
                directory: configuration.path, mapSize: nil, tableCount: 8, readOnly: false)
            try environment.write { transaction in
                let table = try transaction.openTable(table)
                var bytes = Array(try #require(try transaction.get(table, key)))
                change(&bytes)
                if bytes.isEmpty {
                    try transaction.delete(table, key)
                } else {
                    try bytes.withUnsafeBytes { try transaction.put(table, key, $0) }
                }
            }
        }
        try open()
    }
}
