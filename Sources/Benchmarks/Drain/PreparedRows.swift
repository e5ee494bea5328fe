import ClickHouse
import Glibc
import IngestCore
import Journal

/// The rows that the service would send for the batches of a journal, in one file for each batch, ready to be sent by
/// anybody.
struct PreparedRows {
    /// The rows of one batch, in memory that the system fills from the file. Unmapped with its owner.
    final class Batch: @unchecked Sendable {
        let rows: UnsafeRawBufferPointer
        let count: Int

        init(path: String, count: Int) throws(BenchmarkFailure) {
            let file = open(path, O_RDONLY | O_CLOEXEC)
            guard file >= 0 else { throw BenchmarkFailure(call: path) }
            defer { close(file) }
            let length = Int(lseek(file, 0, SEEK_END))
            guard let pointer = mmap(nil, length, PROT_READ, MAP_SHARED | CInt(MAP_POPULATE), file, 0),
                pointer != MAP_FAILED
            else { throw BenchmarkFailure(call: path) }
            rows = UnsafeRawBufferPointer(start: pointer, count: length)
            self.count = count
        }

        deinit { munmap(UnsafeMutableRawPointer(mutating: rows.baseAddress), rows.count) }
    }

    let batches: [Batch]
    /// The columns of the rows.
    static let columns = RowEncoder.envelopeColumns

    /// Cuts the stream's events into batches as the service does, and encodes them as it does.
    /// - Parameters:
    ///   - journal: path of one that nobody has open in this process.
    ///   - folder: gets the files.
    init(journal path: String, table: String, maxRows: Int, maxBytes: Int, folder: String) throws {
        let inspection = try JournalInspection(path: path)
        guard let state = try inspection.snapshot().streams.values.first(where: { $0.stream.table == table }) else {
            throw BenchmarkFailure("no stream for \(table) in \(path)")
        }
        var batches: [Batch] = []
        var next = state.position
        while let plan = try inspection.plan(state.stream.id, from: next, maxRows: maxRows, maxBytes: maxBytes) {
            let file = "\(folder)/rows-\(batches.count)"
            try Self.write(
                try inspection.reader(state.stream.id, plan.sequences), count: plan.sequences.count, to: file)
            batches.append(try Batch(path: file, count: plan.sequences.count))
            next = plan.sequences.upperBound
        }
        self.batches = batches
    }

    private static func write(_ reader: any EventReader, count: Int, to path: String) throws {
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw BenchmarkFailure(call: path) }
        defer { close(file) }
        var encoder = RowEncoder(mode: .envelope)
        var rows = 0
        while try reader.read({ run in rows += try encoder.append(&run, until: 512 << 10) }) {
            guard Glibc.write(file, encoder.bytes.baseAddress, encoder.count) == encoder.count else {
                throw BenchmarkFailure(call: path)
            }
            encoder.reset()
        }
        guard rows == count else { throw BenchmarkFailure("\(rows) rows for a batch of \(count) events") }
        // Or the disk would be busy with it while something else is measured.
        guard fdatasync(file) == 0 else { throw BenchmarkFailure(call: path) }
    }
}
