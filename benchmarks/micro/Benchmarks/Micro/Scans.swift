import Benchmark
import EventJSON
import IngestCore

/// Reading of JSON: from bytes to records.
func registerScans() {
    let scanner = EventScanner(eventIDField: "event_id")
    let buffer = EventBuffer(capacity: 512 << 10)

    Benchmark("scan-body") { benchmark in
        buffer.removeAll()
        Sample.body.withUnsafeBytes { body in
            benchmark.measure(events: Sample.count) {
                blackHole(scanner.appendEvents(of: body, format: .ndjson, to: buffer))
            }
        }
        precondition(buffer.eventCount == Sample.count)
    }

    Benchmark("scan-event-http") { benchmark in
        buffer.removeAll()
        Sample.event.withUnsafeBytes { body in
            benchmark.measure(events: Sample.count) {
                for _ in 0..<Sample.count {
                    blackHole(scanner.appendEvents(of: body, format: .detect, to: buffer))
                }
            }
        }
        precondition(buffer.eventCount == Sample.count)
    }

    Benchmark("scan-event-kafka") { benchmark in
        try Sample.event.withUnsafeBytes { event in
            try benchmark.measure(events: Sample.count) {
                for _ in 0..<Sample.count { blackHole(try scanner.scan(event).id) }
            }
        }
    }
}
