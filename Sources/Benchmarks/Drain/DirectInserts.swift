import IngestCore
import Synchronization

/// What the drain is measured against: the same rows in the same batches, sent by libcurl on as many connections at a
/// time, with nothing to read, to encode or to note down.
struct DirectInserts {
    let address: ClickHouseAddress
    let table: String
    let parallelism: Int

    /// Settings that the rows need, or without which an answer would mean less: the server would answer before it has
    /// the rows. All others are the server's defaults.
    private static let settings = [("date_time_input_format", "best_effort"), ("async_insert", "0")]

    /// - Returns: how long it took, nanoseconds.
    func run(_ rows: PreparedRows) throws -> UInt64 {
        let statement =
            "INSERT INTO \(quotedTable(table)) (\(PreparedRows.columns.map { "`\($0)`" }.joined(separator: ", "))) "
            + "FORMAT JSONEachRow"
        let known = Set(
            try ClickHouseSession(address).lines(
                "SELECT name FROM system.settings WHERE name IN (\(Self.settings.map { "'\($0.0)'" }.joined(separator: ", ")))"
            ).map(String.init))
        let settings = Self.settings.filter { known.contains($0.0) }.map { (name: $0.0, value: $0.1) }
        let next = Atomic(0)
        let failure = Mutex<(any Error)?>(nil)
        let start = MonotonicClock.now
        let threads = (0..<parallelism).map { index in
            DedicatedThread(name: "direct-\(index)") {
                do {
                    let session = try ClickHouseSession(address)
                    while true {
                        let index = next.add(1, ordering: .relaxed).oldValue
                        guard index < rows.batches.count else { return }
                        try session.insert(statement, settings: settings, rows: rows.batches[index].rows)
                    }
                } catch {
                    failure.withLock { $0 = error }
                }
            }
        }
        for thread in threads { thread.join() }
        let time = MonotonicClock.now - start
        if let failure = failure.withLock({ $0 }) { throw failure }
        return time
    }
}
