import Foundation
import IngestCore
import Logging
import TestSupport
import Testing

@testable import Journal

/// Small groups are answered from the commit log: what a crash leaves of it is taken in, once and in order.
@Suite struct CommitLogTests {
    private static let sector = 512
    private static let groupsStart = 4_096

    /// A journal whose commit log waits for ever, unless something else asks for a transaction.
    private func fixture(_ tables: [String] = ["events"]) throws -> JournalFixture {
        try JournalFixture(tables: tables, commitDelayMilliseconds: 3_600_000)
    }

    /// The folder's files as they are now: what a crash at this moment leaves.
    private func crashed(_ fixture: JournalFixture) throws -> TemporaryDirectory {
        let copy = try TemporaryDirectory("crashed")
        for name in ["data.mdb", CommitLog.name] {
            try FileManager.default.copyItem(
                atPath: fixture.configuration.path + "/" + name, toPath: copy.appending(name))
        }
        return copy
    }

    private func open(
        _ path: String, _ tables: [String] = ["events"], commitDelayMilliseconds: Int = 3_600_000
    ) throws -> Journal {
        var configuration = JournalConfiguration(path: path, minFreeDiskBytes: 0, tables: tables)
        configuration.commitDelayMilliseconds = commitDelayMilliseconds
        return try Journal.open(configuration, logger: Logger(label: "test"))
    }

    private func payloads(_ journal: Journal, _ table: String = "events") throws -> [String] {
        let stream = try #require(journal.stream(table: table))
        let state = try #require(journal.snapshot.streams[stream.id])
        return try journal.reader(stream.id, state.position..<state.nextSequence).payloads()
    }

    private func edit(_ path: String, at offset: Int, _ bytes: [UInt8]) throws {
        let file = try #require(FileHandle(forUpdatingAtPath: path))
        try file.seek(toOffset: UInt64(offset))
        try file.write(contentsOf: bytes)
        try file.close()
    }

    @Test func whatWasAnsweredSurvivesACrash() async throws {
        let fixture = try fixture(["events", "other"])
        #expect(try await fixture.append(numbered(0..<3)) == 1..<4)
        #expect(try await fixture.append(numbered(10..<12), to: "other") == 1..<3)
        #expect(try await fixture.append(numbered(3..<5)) == 4..<6)
        // The journal's file knows nothing of it.
        #expect(fixture.journal.snapshot.streams[fixture.stream()]?.nextSequence == 1)
        let left = try crashed(fixture)
        let journal = try open(left.path, ["events", "other"])
        #expect(try payloads(journal) == numbered(0..<5))
        #expect(try payloads(journal, "other") == numbered(10..<12))
        #expect(try JournalInspection(journal).verify().isSound)
    }

    @Test func whatTheJournalHasIsNotTakenInAgain() async throws {
        let fixture = try fixture()
        try await fixture.append(numbered(0..<3))
        try await fixture.append(numbered(3..<6))
        await fixture.journal.settle()
        #expect(try fixture.payloads(1..<7) == numbered(0..<6))
        // The log still has the bytes.
        let settled = try crashed(fixture)
        #expect(try payloads(try open(settled.path)) == numbered(0..<6))
        // A shorter generation over a longer one.
        try await fixture.append(numbered(6..<7))
        let next = try crashed(fixture)
        do {
            let journal = try open(next.path, commitDelayMilliseconds: 0)
            #expect(try payloads(journal) == numbered(0..<7))
        }
        // Opened without a commit log, so what it has stays there.
        #expect(try payloads(try open(next.path)) == numbered(0..<7))
        #expect(try payloads(try open(next.path)) == numbered(0..<7))
    }

    @Test func closingStoresWhatWasAnswered() async throws {
        let fixture = try fixture()
        try await fixture.append(numbered(0..<3))
        fixture.close()
        try FileManager.default.removeItem(atPath: fixture.configuration.path + "/" + CommitLog.name)
        try fixture.open()
        #expect(try fixture.payloads(1..<4) == numbered(0..<3))
        try await fixture.append(numbered(3..<4))
        try fixture.reopen()
        #expect(try fixture.payloads(1..<5) == numbered(0..<4))
    }

    /// The next transaction has what was answered before it, in order, whatever asks for one.
    @Test func otherWorkStoresWhatWasAnswered() async throws {
        let fixture = try fixture()
        try await fixture.append(numbered(0..<2))
        let large = "{\"x\":\"" + String(repeating: "x", count: CommitLog.smallGroupBytes) + "\"}"
        #expect(try await fixture.append([large]) == 3..<4)
        #expect(try fixture.payloads(1..<4) == numbered(0..<2) + [large])
        try await fixture.append(numbered(2..<3))
        let partition = TopicPartition(topic: "topic", partition: 0)
        #expect(try await fixture.append(numbered(3..<4), origin: .kafka(partition, offsets: 0..<1)) == 5..<6)
        #expect(try fixture.payloads(4..<6) == numbered(2..<4))
        try await fixture.append(numbered(4..<5))
        try await fixture.advance(to: 7)
        let state = try #require(fixture.journal.snapshot.streams[fixture.stream()])
        #expect(state.position == 7 && state.nextSequence == 7)
        #expect(try JournalInspection(fixture.journal).verify().isSound)
    }

    @Test func theLogIsBounded() async throws {
        let fixture = try fixture()
        let text = String(repeating: "x", count: 30_000)
        let events = (0..<200).map { "{\"n\":\($0),\"x\":\"\(text)\"}" }
        for event in events { try await fixture.append([event]) }
        let stored = try #require(fixture.journal.snapshot.streams[fixture.stream()]).nextSequence
        #expect(stored > 150)
        let path = fixture.configuration.path + "/" + CommitLog.name
        let size = try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int
        #expect(size == Self.groupsStart + CommitLog.capacity)
        let left = try crashed(fixture)
        #expect(try payloads(try open(left.path)) == events)
        await fixture.journal.settle()
        #expect(try fixture.payloads(1..<201) == events)
    }

    @Test func theDelayEndsByItself() async throws {
        let fixture = try JournalFixture(commitDelayMilliseconds: 1)
        try await fixture.append(numbered(0..<2))
        try await eventually("the events can be read") {
            fixture.journal.snapshot.streams[fixture.stream()]?.nextSequence == 3
        }
        #expect(try fixture.payloads(1..<3) == numbered(0..<2))
    }

    // MARK: Damage

    /// What was being written when the power went was not answered.
    @Test func aTornGroupIsNotTakenIn() async throws {
        let fixture = try fixture()
        try await fixture.append(numbered(0..<2))
        try await fixture.append(numbered(2..<4))
        let left = try crashed(fixture)
        try edit(left.appending(CommitLog.name), at: Self.groupsStart + Self.sector + 100, [0xFF])
        #expect(try payloads(try open(left.path)) == numbered(0..<2))
    }

    /// What lies behind a damaged group was answered, too. The gap is found like a damaged entry.
    @Test func groupsBehindADamagedOneAreKept() async throws {
        let fixture = try fixture()
        for number in 0..<3 { try await fixture.append(numbered(number..<(number + 1))) }
        let left = try crashed(fixture)
        try edit(left.appending(CommitLog.name), at: Self.groupsStart + Self.sector + 60, [0xFF])
        let journal = try open(left.path)
        let stream = try #require(journal.stream(table: "events"))
        #expect(journal.snapshot.streams[stream.id]?.nextSequence == 4)
        #expect(try journal.reader(stream.id, 1..<2).payloads() == numbered(0..<1))
        let damage = #expect(throws: DamagedEntry.self) {
            _ = try journal.plan(stream.id, from: 2, maxRows: 10, maxBytes: 1_000)
        }
        #expect(damage?.sequences == 2..<3)
        #expect(try journal.reader(stream.id, 3..<4).payloads() == numbered(2..<3))
    }

    /// A client may know this format, but not the secret of the file.
    @Test func aGroupWithinAnEventIsNoGroup() async throws {
        let fixture = try fixture()
        try await fixture.append(numbered(0..<1))
        let log = fixture.configuration.path + "/" + CommitLog.name
        let group = [UInt8](try Data(contentsOf: URL(filePath: log)))[
            Self.groupsStart..<(Self.groupsStart + Self.sector)]
        // Another journal's secret; placed so that it starts a sector, with a sector of zeros in front.
        let other = try self.fixture()
        let events = EventBuffer()
        let before = 2 * Self.sector - 32 - 4 - EntryView.headerLength - 12
        let payload = [UInt8](repeating: 0, count: before) + group
        payload.withUnsafeBytes { events.append(payload: $0, id: .derived) }
        _ = try await other.journal.append(
            stream: other.stream(), origin: .http, receivedAt: 0, events: events, deadLetters: [])
        let left = try crashed(other)
        let bytes = [UInt8](try Data(contentsOf: URL(filePath: left.appending(CommitLog.name))))
        let place = Self.groupsStart + 2 * Self.sector
        #expect(bytes[place..<(place + Self.sector)].elementsEqual(group))
        // The group around it is damaged, so that its sectors are looked at.
        try edit(left.appending(CommitLog.name), at: Self.groupsStart + 100, [0xFF])
        let journal = try open(left.path)
        #expect(journal.snapshot.streams[try #require(journal.stream(table: "events")).id]?.nextSequence == 1)
    }

    @Test func damagedFirstBytesAreRefused() async throws {
        let fixture = try fixture()
        try await fixture.append(numbered(0..<1))
        let left = try crashed(fixture)
        try edit(left.appending(CommitLog.name), at: 30, [0])
        let error = #expect(throws: JournalError.self) { _ = try open(left.path) }
        #expect("\(try #require(error))".contains("mv \(left.appending(CommitLog.name))"))
        // As the message says.
        try FileManager.default.moveItem(
            atPath: left.appending(CommitLog.name), toPath: left.appending("commit.log.damaged"))
        #expect(try payloads(try open(left.path)) == [])
    }

    @Test func aLogInTheMakingIsMadeAnew() throws {
        let directory = try TemporaryDirectory("journal")
        for bytes in [0, 100, Self.groupsStart + CommitLog.capacity] {
            try Data(count: bytes).write(to: URL(filePath: directory.appending(CommitLog.name)))
            #expect(try payloads(try open(directory.path)) == [])
        }
    }

    @Test func theLogOfAnotherJournalIsSetAside() async throws {
        let fixture = try fixture()
        try await fixture.append(numbered(0..<1))
        let left = try crashed(fixture)
        try FileManager.default.removeItem(atPath: left.appending("data.mdb"))
        let journal = try open(left.path)
        #expect(try payloads(journal) == [])
        #expect(FileManager.default.fileExists(atPath: left.appending("commit.log.\(fixture.journal.identity)")))
        #expect(FileManager.default.fileExists(atPath: left.appending("commit.log")))
    }
}
