import Benchmark
import IngestCore

/// Encoding of entries: events become records, records become an entry.
func registerEntries() {
    let buffer = EventBuffer(capacity: 512 << 10)
    Benchmark("entry-append") { benchmark in
        buffer.removeAll()
        Sample.event.withUnsafeBytes { event in
            benchmark.measure(events: Sample.count) {
                for _ in 0..<Sample.count { buffer.append(payload: event, id: Sample.id) }
            }
        }
    }

    // A buffer of its own for each request, which grows: what a request of 1,000 events costs.
    Benchmark("entry-append-new-buffer") { benchmark in
        Sample.event.withUnsafeBytes { event in
            benchmark.measure(events: Sample.count) {
                let buffer = EventBuffer()
                for _ in 0..<Sample.count { buffer.append(payload: event, id: Sample.id) }
                blackHole(buffer)
            }
        }
    }

    let records = Sample.records()
    let room = Sample.room(for: records)
    Benchmark("entry-pack") { benchmark in
        benchmark.measure(events: Sample.count) { Sample.pack(records, into: room) }
    }
}
