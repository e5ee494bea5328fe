import Benchmark
import ClickHouse
import IngestCore

/// Encoding of rows: from an entry to the body of an INSERT.
func registerRows() {
    Benchmark("rows-envelope") { try measure($0, .envelope) }
    Benchmark("rows-flat") { try measure($0, .flat) }
}

private func measure(_ benchmark: Benchmark, _ mode: RowMode) throws {
    let entry = try Sample.entry()
    defer { entry.bytes.deallocate() }
    var encoder = RowEncoder(mode: mode, capacity: 1 << 20)
    // As from the second piece of a body on.
    try encode(entry, &encoder)
    try benchmark.measure(events: Sample.count) { try encode(entry, &encoder) }
}

private func encode(_ entry: EntryView, _ encoder: inout RowEncoder) throws {
    encoder.reset()
    var run = EventRun(entry: entry, cursor: entry.events, endSequence: entry.sequences.upperBound)
    let taken = try encoder.append(&run, until: .max)
    precondition(taken == Sample.count)
}
