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
}
