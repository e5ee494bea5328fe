import IngestCore
import Journal
import Metrics
import Synchronization

/// The pipeline's metrics. Names and labels are public (dashboards and alerts use them).
final class PipelineMetrics: Sendable {
    private let commitSeconds = Timer(label: "ingest_journal_commit_seconds")
    private let journalBytes = Gauge(label: "ingest_journal_bytes")
    private let journalFileBytes = Gauge(label: "ingest_journal_file_bytes")
    private let journalDiskFreeBytes = Gauge(label: "ingest_journal_disk_free_bytes")
    private let deadLettersStored = Gauge(label: "ingest_dead_letters_stored")
    private let deadLetterBytes = Gauge(label: "ingest_dead_letters_stored_bytes")
    private let deadLettersUnforwarded = Gauge(label: "ingest_dead_letters_unforwarded")
    private let streams = Mutex<[String: StreamHandles]>([:])

    private struct StreamHandles {
        let rows: Counter
        let results: [String: Timer]
        let events: Gauge
        let oldestAge: Gauge
        let held: [StreamFlusher.HoldCause: Gauge]

        init(table: String) {
            rows = Counter(label: "ingest_clickhouse_insert_rows_total", dimensions: [("stream", table)])
            results = ["ok", "retry", "error"].reduce(into: [:]) { results, result in
                results[result] = Timer(
                    label: "ingest_clickhouse_insert_seconds", dimensions: [("stream", table), ("result", result)])
            }
            events = Gauge(label: "ingest_journal_events", dimensions: [("stream", table)])
            oldestAge = Gauge(label: "ingest_journal_oldest_event_age_seconds", dimensions: [("stream", table)])
            held = StreamFlusher.HoldCause.allCases.reduce(into: [:]) { held, cause in
                held[cause] = Gauge(
                    label: "ingest_stream_held", dimensions: [("stream", table), ("reason", cause.rawValue)])
            }
        }
    }

    /// - Parameters:
    ///   - maxBytes: what the journal's entries may take.
    ///   - deadLettersMaxBytes: what its dead letters may take.
    init(maxBytes: Int, deadLettersMaxBytes: Int) {
        Gauge(label: "ingest_journal_max_bytes").record(maxBytes)
        Gauge(label: "ingest_dead_letters_max_bytes").record(deadLettersMaxBytes)
    }

    func committed(_ news: CommitNews) {
        commitSeconds.recordNanoseconds(Int64(news.nanoseconds))
        for letter in news.deadLetters {
            Counter(
                label: "ingest_dead_letters_total", dimensions: [("stream", letter.table), ("reason", letter.kind)]
            ).increment()
        }
    }

    func inserted(table: String, rows: Int, outcome: InsertOutcome, nanoseconds: UInt64) {
        let result: String
        switch outcome {
        case .inserted: result = "ok"
        case .failed(let failure) where failure.failureClass == .transient: result = "retry"
        case .failed, .damaged, .unreadable: result = "error"
        }
        let handles = handles(table)
        handles.results[result]?.recordNanoseconds(Int64(nanoseconds))
        if result == "ok" { handles.rows.increment(by: Int64(rows)) }
    }

    /// Sets the gauges that show a state; called at each scrape.
    /// - Parameter freeDiskBytes: `nil` leaves the gauge as it was.
    func scrape(
        _ snapshot: Journal.Snapshot, freeDiskBytes: UInt64?, oldestAge: [StreamID: Double],
        views: [StreamID: Flusher.StreamView]
    ) {
        journalBytes.record(snapshot.storedBytes)
        journalFileBytes.record(snapshot.fileBytes)
        if let freeDiskBytes { journalDiskFreeBytes.record(Double(freeDiskBytes)) }
        deadLettersStored.record(snapshot.deadLetterCount)
        deadLetterBytes.record(snapshot.deadLetterBytes)
        deadLettersUnforwarded.record(snapshot.unforwardedCount)
        for (id, state) in snapshot.streams {
            let handles = handles(state.stream.table)
            handles.events.record(Int64(state.pendingEvents))
            handles.oldestAge.record(oldestAge[id] ?? 0)
            for (cause, gauge) in handles.held { gauge.record(views[id]?.holdCause == cause ? 1 : 0) }
        }
    }

    private func handles(_ table: String) -> StreamHandles {
        streams.withLock { streams in
            if let handles = streams[table] { return handles }
            let handles = StreamHandles(table: table)
            streams[table] = handles
            return handles
        }
    }
}
