import Foundation
import IngestCore
import TestSupport
import Testing

@testable import Journal

/// A damaged entry costs that entry, and nothing else.
@Suite struct DamageTests {
    /// Three entries: events 1..<11, 11..<21, 21..<31.
    private func threeEntries(_ origin: (Int64) -> EventOrigin = { _ in .http }) async throws -> JournalFixture {
        let fixture = try JournalFixture()
        for start in [0, 10, 20] {
            try await fixture.append(numbered(start..<start + 10), origin: origin(Int64(start)))
        }
        #expect(try fixture.entryStarts() == [1, 11, 21])
        return fixture
    }

    private static let kafka: @Sendable (Int64) -> EventOrigin = {
        .kafka(TopicPartition(topic: "t", partition: 3), offsets: $0..<($0 + 10))
    }

    @Test(arguments: [1_000_000, 4]) func anyFlippedBitCostsThatEntryOnly(rows: Int) async throws {
        for origin in [{ _ in .http }, Self.kafka] {
            let fixture = try await threeEntries(origin)
            let stream = fixture.stream()
            let original = try #require(try fixture.journal.entryBytes(11, of: stream))
            // Every bit of the header; with the other ways to send, and behind it, one of a byte.
            let isThorough = rows > 4 && fixture.journal.snapshot.partitions.isEmpty
            for place in original.indices where place < EntryView.headerLength + 20 || place % 5 == 0 {
                for bit in isThorough && place < EntryView.headerLength ? Array(0..<8) : [place % 8] {
                    try fixture.journal.rewriteEntry(11, of: stream) {
                        $0 = original
                        $0[place] ^= 1 << UInt8(bit)
                    }
                    let drained = try fixture.journal.drained(stream, from: 1, to: 31, rows: rows)
                    #expect(drained.lost == 11..<21, "byte \(place), bit \(bit): \(drained.damaged)")
                    #expect(drained.payloads == numbered(0..<10) + numbered(20..<30), "byte \(place), bit \(bit)")
                }
            }
            try fixture.journal.rewriteEntry(11, of: stream) { $0 = original }
            #expect(try fixture.journal.drained(stream, from: 1, to: 31, rows: rows).damaged == [])
        }
    }

    @Test func damageInTheFirstAndTheLastEntryIsBoundedToo() async throws {
        for (entry, lost) in [(UInt64(1), UInt64(1)..<11), (21, 21..<31)] {
            let fixture = try await threeEntries()
            for place in 0..<60 {
                try fixture.flip(place, 3, of: entry)
                let drained = try fixture.journal.drained(fixture.stream(), from: 1, to: 31)
                #expect(drained.lost == lost, "byte \(place): \(drained.damaged)")
                #expect(drained.payloads.count == 20)
                try fixture.flip(place, 3, of: entry)
            }
        }
    }

    @Test func missingEntryIsNamedByItsNeighbours() async throws {
        let fixture = try await threeEntries()
        try fixture.journal.removeEntry(11, of: fixture.stream())
        let plan = try #require(try fixture.plan(from: 1))
        #expect(plan.sequences == 1..<11 && plan.isFull)
        #expect(try fixture.damage(from: 11) == 11..<21)
        #expect(try fixture.damage(from: 15) == 15..<21)
        #expect(try fixture.damage(from: 15, to: 18) == 15..<18)
        #expect(try fixture.plan(from: 21)?.sequences == 21..<31)
        // Also the last, and the first.
        try fixture.journal.removeEntry(21, of: fixture.stream())
        #expect(try fixture.damage(from: 11) == 11..<31)
        try fixture.journal.removeEntry(1, of: fixture.stream())
        #expect(try fixture.damage(from: 1) == 1..<31)
        #expect(try fixture.plan(from: 31) == nil)
    }

    /// Batches may part entries, and a sealed one ends exactly where it was sealed.
    @Test func damageWithinABatchsBounds() async throws {
        let fixture = try await threeEntries()
        // The header: found when the batch is planned.
        try fixture.flip(12, 4, of: 11)
        let sealed = try #require(try fixture.plan(from: 1, to: 15))
        #expect(sealed.sequences == 1..<11 && sealed.isFull)
        #expect(try fixture.damage(from: 13, to: 15) == 13..<15)
        #expect(try fixture.damage(from: 13) == 13..<21)
        #expect(try fixture.readDamage(5..<18) == 11..<18)
        try fixture.flip(12, 4, of: 11)
        // Fewer events than there are, and a beginning that would make up for more.
        try fixture.flip(12, 1, of: 11)
        #expect(try fixture.damage(from: 11) == 11..<21)
        try fixture.flip(12, 1, of: 11)
        try fixture.journal.rewriteEntry(11, of: fixture.stream()) { ($0[12], $0[16]) = (11, 10) }
        #expect(try fixture.damage(from: 11) == 11..<21)
        try fixture.journal.rewriteEntry(11, of: fixture.stream()) { ($0[12], $0[16]) = (10, 11) }
        // The events: found when they are read.
        try fixture.flip(100, 0, of: 11)
        #expect(try fixture.plan(from: 1, to: 15)?.sequences == 1..<15)
        #expect(try fixture.readDamage(1..<15) == 11..<15)
        #expect(try fixture.readDamage(13..<31) == 13..<21)
    }

    /// The first entries of a batch may have been handed out, but nothing of the damaged one.
    @Test func nothingOfADamagedEntryIsHandedOut() async throws {
        let fixture = try await threeEntries()
        try fixture.flip(150, 6, of: 11)
        var seen: [UInt64] = []
        let reader = try fixture.journal.reader(fixture.stream(), 1..<31)
        #expect(throws: DamagedEntry.self) {
            while try reader.read({ run in while let event = try run.next() { seen.append(event.sequence) } }) {}
        }
        #expect(seen == Array(1..<11))
    }

    /// Bytes that match their checksum but are no events: written so, by a bug.
    @Test func malformedEventsWithARightChecksumAreDamageToo() async throws {
        let fixture = try await threeEntries()
        let stream = fixture.stream()
        try fixture.journal.rewriteEntry(11, of: stream) { bytes in
            bytes[43] = 0xFF
            bytes.withUnsafeMutableBytes {
                $0.storeLittleEndian(Checksum.compute(UnsafeRawBufferPointer($0), stream: stream), 0)
            }
        }
        #expect(try fixture.readDamage(5..<25) == 11..<21)
        #expect(try fixture.damage(from: 11, rows: 3) == 11..<21)
    }

    /// No stuck commit: what is behind the position goes, whatever it looks like, and is accounted for.
    @Test func damagedEntriesAreTrimmed() async throws {
        let changes: [@Sendable (inout [UInt8]) -> Void] = [
            { $0[8] ^= 1 }, { $0[10] ^= 4 }, { $0[12] ^= 1 }, { $0[12] ^= 64 }, { $0[16] ^= 8 }, { $0[23] ^= 128 },
            { $0[24] ^= 1 }, { $0[31] ^= 64 }, { $0[32] ^= 2 }, { $0[36] ^= 16 }, { $0[60] ^= 1 },
            { $0.replaceSubrange(16..<24, with: Array(repeating: 0xFF, count: 8)) },
            { bytes in for index in bytes.indices { bytes[index] = 0xFF } },
            { bytes in for index in bytes.indices { bytes[index] = 0 } },
        ]
        for (number, change) in changes.enumerated() {
            let fixture = try await threeEntries()
            try fixture.journal.rewriteEntry(11, of: fixture.stream(), change)
            try await fixture.advance(to: 11)
            #expect(try fixture.entryStarts() == [11, 21], "change \(number)")
            try await fixture.advance(to: 21)
            #expect(try fixture.entryStarts() == [21], "change \(number)")
            try await fixture.advance(to: 31)
            #expect(try fixture.entryStarts() == [], "change \(number)")
            #expect(fixture.storedBytes() == 0, "change \(number)")
            try fixture.reopen()
            #expect(try await fixture.append(numbered(0..<1)) == 31..<32)
        }
    }

    /// LMDB believes the header of a value's pages when it frees them: then it would free those of others.
    @Test func damagedPageHeaderCostsNoOtherEntry() async throws {
        let fixture = try JournalFixture()
        for number in 0..<6 { try await fixture.append([payload(number, bytes: 20_000)]) }
        fixture.close()
        try fixture.damagePageHeader(ofPayload: "{\"n\":2,")
        try fixture.open()
        let each = fixture.storedBytes() / 6
        try await fixture.advance(to: 4)
        try await fixture.append([payload(6, bytes: 20_000), payload(7, bytes: 20_000)])
        #expect(try fixture.payloads(4..<9) == (3..<8).map { payload($0, bytes: 20_000) })
        try await fixture.advance(to: 9)
        #expect(try fixture.entryStarts() == [3] && fixture.storedBytes() == each)
        #expect(try JournalInspection(fixture.journal).verify().problems.map(\.place) == ["events"])
    }
}

extension JournalFixture {
    fileprivate func flip(_ place: Int, _ bit: Int, of entry: UInt64) throws {
        try journal.rewriteEntry(entry, of: stream()) { $0[place] ^= 1 << UInt8(bit) }
    }

    /// The range that planning says is damaged.
    fileprivate func damage(from start: UInt64, to end: UInt64? = nil, rows: Int = 1_000_000) throws -> Range<UInt64>? {
        do {
            _ = try plan(from: start, to: end, rows: rows)
            return nil
        } catch let damage as DamagedEntry {
            return damage.sequences
        }
    }

    /// The range that reading says is damaged.
    fileprivate func readDamage(_ sequences: Range<UInt64>) throws -> Range<UInt64>? {
        do {
            _ = try payloads(sequences)
            return nil
        } catch let damage as DamagedEntry {
            return damage.sequences
        }
    }
}
