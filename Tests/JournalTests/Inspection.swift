import Foundation
import IngestCore

@testable import Journal

extension Journal {
    func forEachEntry(_ body: (EntryView) throws -> Void) throws {
        try withTables { transaction, tables in
            let cursor = try transaction.cursor(tables.entries)
            var found = try cursor.first()
            while let record = found {
                try body(EntryView(record.value))
                found = try cursor.next()
            }
        }
    }

    func entryCount() throws -> Int {
        var count = 0
        try forEachEntry { _ in count += 1 }
        return count
    }

    func deadLetterRecords() throws -> [DeadLetterRecord] {
        var records: [DeadLetterRecord] = []
        try withTables { transaction, tables in
            let cursor = try transaction.cursor(tables.deadLetters)
            var found = try cursor.first()
            while let record = found {
                records.append(
                    try JSONDecoder().decode(
                        DeadLetterRecord.self, from: Data(record.value.dropFirst(DeadLetterRecord.headerLength))))
                found = try cursor.next()
            }
        }
        return records
    }
}
