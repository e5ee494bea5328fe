import Foundation
import IngestCore
import TestSupport

@testable import Journal

// What tests do to a journal, and how they read one that it was done to.

extension Journal {
    /// Changes the tables behind the writer's back.
    func tamper(_ body: (borrowing WriteTransaction) throws -> Void) throws { try environment.write(body) }

    /// Replaces the bytes of a stored entry.
    func rewriteEntry(_ sequence: UInt64, of stream: StreamID, _ change: (inout [UInt8]) -> Void) throws {
        try environment.write { transaction in
            let key = SequenceKey(stream, sequence)
            guard let found = try transaction.get(tables.entries, key) else {
                throw Timeout(description: "no entry at \(sequence)")
            }
            var bytes = Array(found)
            change(&bytes)
            try bytes.withUnsafeBytes { try transaction.put(tables.entries, key, $0) }
        }
    }

    /// Removes a stored entry behind the journal's back.
    func removeEntry(_ sequence: UInt64, of stream: StreamID) throws {
        try environment.write { _ = try $0.delete(tables.entries, SequenceKey(stream, sequence)) }
    }

    func entryBytes(_ sequence: UInt64, of stream: StreamID) throws -> [UInt8]? {
        try environment.read { try $0.get(tables.entries, SequenceKey(stream, sequence)).map { Array($0) } }
    }

    /// Delivers like the flusher: batches of at most `rows`; a damaged entry is set aside and the rest goes on.
    func drained(_ stream: StreamID, from start: UInt64, to end: UInt64, rows: Int = 1_000_000) throws -> Drained {
        var drained = Drained()
        var next = start
        while next < end {
            do {
                guard let plan = try plan(stream, from: next, to: end, maxRows: rows, maxBytes: 1 << 30) else {
                    throw Timeout(description: "nothing at \(next)")
                }
                guard plan.sequences.lowerBound == next, !plan.sequences.isEmpty, plan.sequences.upperBound <= end
                else {
                    throw Timeout(description: "planned \(plan.sequences) from \(next) to \(end)")
                }
                do {
                    drained.payloads += try reader(stream, plan.sequences).payloads()
                    next = plan.sequences.upperBound
                } catch let damage as DamagedEntry {
                    guard damage.sequences.clamped(to: plan.sequences) == damage.sequences else {
                        throw Timeout(description: "\(damage) lies outside of batch \(plan.sequences)")
                    }
                    drained.payloads += try reader(stream, next..<damage.sequences.lowerBound).payloads()
                    next = damage.sequences.lowerBound
                    throw damage
                }
            } catch let damage as DamagedEntry {
                guard damage.sequences.lowerBound == next, !damage.sequences.isEmpty else {
                    throw Timeout(description: "\(damage) at \(next)")
                }
                drained.damaged.append(damage)
                next = damage.sequences.upperBound
            }
        }
        return drained
    }
}

struct Drained: Equatable {
    var payloads: [String] = []
    var damaged: [DamagedEntry] = []

    /// What the damaged entries cover, if they are next to each other.
    var lost: Range<UInt64>? {
        guard let first = damaged.first, let last = damaged.last,
            zip(damaged, damaged.dropFirst()).allSatisfy({ $0.sequences.upperBound == $1.sequences.lowerBound })
        else { return nil }
        return first.sequences.lowerBound..<last.sequences.upperBound
    }
}

extension JournalFixture {
    var dataPath: String { directory.appending("journal/data.mdb") }

    /// Makes LMDB's header before an entry of one event, with pages of its own, claim more pages than there are.
    func damagePageHeader(ofPayload beginning: String) throws {
        var data = try Data(contentsOf: URL(fileURLWithPath: dataPath))
        guard let place = data.range(of: Data(beginning.utf8)) else { throw Timeout(description: "no \(beginning)") }
        // Before the payload are the record's header, the entry's header, and the number of pages.
        let pages = place.lowerBound - 12 - EntryView.headerLength - 4
        guard data[pages] == 5 else { throw Timeout(description: "\(data[pages]) pages") }
        data[pages + 2] = 0x10
        try data.write(to: URL(fileURLWithPath: dataPath))
    }

    /// Events that were received at a given time, in an entry of their own.
    @discardableResult
    func append(_ payloads: [String], to table: String = "events", receivedAt: Int64) async throws -> Range<UInt64> {
        try await journal.append(
            stream: stream(table), origin: .http, receivedAt: receivedAt, events: EventBuffer(payloads: payloads)
        ).sequences
    }

    /// Sequences of the stored entries' first events.
    func entryStarts(_ table: String = "events") throws -> [UInt64] {
        let id = stream(table)
        return try journal.withTables { transaction, tables in
            let cursor = try transaction.cursor(tables.entries)
            var starts: [UInt64] = []
            var found = try cursor.seek(SequenceKey(id, 0))
            while let record = found, try SequenceKey(record.key).stream == id {
                starts.append(try SequenceKey(record.key).sequence)
                found = try cursor.next()
            }
            return starts
        }
    }

    func storedBytes(_ table: String = "events") -> UInt64 {
        journal.snapshot.streams[stream(table)]?.storedBytes ?? 0
    }
}

/// A payload of about `bytes` bytes that names itself.
func payload(_ number: Int, bytes: Int) -> String {
    "{\"n\":\(number),\"v\":\"" + String(repeating: "x", count: bytes) + "\"}"
}
