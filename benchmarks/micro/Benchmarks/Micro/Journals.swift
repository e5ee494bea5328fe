import Benchmark
import Glibc
import IngestCore
import Journal
import Logging

/// The journal on a real disk: appends, each commit waited for, and reading of a batch.
func registerJournal() {
    let journal = TemporaryJournal()

    let one = EventBuffer()
    Sample.event.withUnsafeBytes { one.append(payload: $0, id: Sample.id) }
    register("journal-append-event", commits: 32, of: one, journal)

    let megabyte = EventBuffer(capacity: Limits.entryBytes)
    Sample.event.withUnsafeBytes { event in
        while megabyte.byteCount + 12 + event.count <= Limits.entryBytes {
            megabyte.append(payload: event, id: Sample.id)
        }
    }
    register("journal-append-megabyte", commits: 4, of: megabyte, journal)

    let records = Sample.records()
    let batch = 20
    Benchmark(
        "journal-read",
        closure: { benchmark in
            let journal = journal.opened!
            let stream = journal.stream(table: "events")!.id
            var events = 0
            var bytes = 0
            try benchmark.measure(events: batch * Sample.count) {
                let plan = try journal.plan(stream, from: 1, maxRows: batch * Sample.count, maxBytes: 1 << 30)!
                let reader = try journal.reader(stream, plan.sequences)
                while try reader.read({ run in
                    while let event = try run.next() {
                        events += 1
                        bytes += event.payload.count
                    }
                }) {}
            }
            precondition(events == batch * Sample.count && bytes == events * Sample.event.count)
        },
        setup: {
            try journal.open()
            for _ in 0..<batch { try journal.append(records) }
        }, teardown: { journal.remove() })
}

private func register(_ name: String, commits: Int, of events: EventBuffer, _ journal: TemporaryJournal) {
    // The writer's thread goes on a little behind its answer. Still one more for each commit is too many.
    Benchmark(
        name, configuration: Benchmark.tolerance(commits / 2),
        closure: { benchmark in
            try benchmark.measure(events: commits * events.eventCount) {
                for _ in 0..<commits { try journal.append(events) }
            }
            try journal.flush()
        }, setup: { try journal.open() }, teardown: { journal.remove() })
}

/// A journal in a folder of its own.
private final class TemporaryJournal {
    private(set) var opened: Journal?
    private var path = ""
    private var stream = StreamID(rawValue: 0)
    private var end: UInt64 = 1
    private let answers = Mailbox<Result<Receipt, IntakeError>>()
    private let completion: @Sendable (Result<Receipt, IntakeError>) -> Void
    private var received: [Result<Receipt, IntakeError>] = []

    init() {
        completion = { [answers] in answers.send($0) }
    }

    func open() throws {
        // tools/bench-micro names one on the disk: the system's folder for temporary files can be memory.
        let folder = getenv("INGESTD_MICRO_FOLDER").map { String(cString: $0) } ?? "."
        var template = Array("\(folder)/micro-XXXXXX".utf8CString)
        guard let made = mkdtemp(&template) else { throw Failure(what: "no folder can be made in \(folder)") }
        path = String(cString: made)
        let journal = try Journal.open(
            JournalConfiguration(path: path, maxBytes: 1 << 30, minFreeDiskBytes: 0, tables: ["events"]),
            logger: Logger(label: "micro"))
        journal.start { _ in }
        stream = journal.stream(table: "events")!.id
        opened = journal
    }

    /// Appends in one commit and waits for it.
    func append(_ events: EventBuffer) throws {
        opened!.submit(
            Submission(stream: stream, origin: .http, receivedAt: 0, events: events, completion: completion))
        _ = answers.receive(into: &received)
        end = try received[0].get().sequences.upperBound
    }

    /// Lets go of all events, so that their pages are used again.
    func flush() throws {
        let done = Mailbox<Result<Void, JournalError>>()
        var results: [Result<Void, JournalError>] = []
        opened!.advance(stream, to: end, partitions: [:]) { done.send($0) }
        _ = done.receive(into: &results)
        try results[0].get()
    }

    func remove() {
        opened?.close()
        opened = nil
        for name in ["data.mdb", "lock.mdb", "ingestd.lock"] { unlink("\(path)/\(name)") }
        rmdir(path)
    }

    struct Failure: Error {
        let what: String
    }
}
