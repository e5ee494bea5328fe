import IngestCore
import Journal
import Logging
import TestSupport

/// An open journal in a folder of its own, with one stream, for tests.
final class JournalFixture {
    let directory: TemporaryDirectory
    var configuration: JournalConfiguration
    private(set) var journal: Journal!

    init(maxBytes: Int = 64 << 20, tables: [String] = ["events"], commitDelayMilliseconds: Int = 0) throws {
        directory = try TemporaryDirectory("journal")
        configuration = JournalConfiguration(
            path: directory.appending("journal"), maxBytes: maxBytes, minFreeDiskBytes: 0, tables: tables)
        configuration.commitDelayMilliseconds = commitDelayMilliseconds
        try open()
    }

    deinit { journal?.close() }

    func open(observer: @escaping @Sendable (CommitNews) -> Void = { _ in }) throws {
        journal = try Journal.open(configuration, logger: Logger(label: "test"))
        journal.start(observer: observer)
    }

    func close() {
        journal.close()
        journal = nil
    }

    func reopen() throws {
        close()
        try open()
    }

    func stream(_ table: String = "events") -> StreamID { journal.stream(table: table)!.id }

    @discardableResult
    func append(
        _ payloads: [String], to table: String = "events", origin: EventOrigin = .http, deadLetters: [DeadLetter] = []
    ) async throws -> Range<UInt64> {
        let events = EventBuffer()
        for (index, payload) in payloads.enumerated() {
            if case .kafka(_, let offsets) = origin {
                events.append(payload, kafka: offsets.lowerBound + Int64(index))
            } else {
                events.append(payload)
            }
        }
        return try await journal.append(
            stream: stream(table), origin: origin, receivedAt: WallClock.milliseconds, events: events,
            deadLetters: deadLetters
        ).sequences
    }

    func advance(
        to position: UInt64, _ table: String = "events",
        partitions: [TopicPartition: (entryEnd: UInt64, offset: Int64)] = [:]
    ) async throws {
        let stream = stream(table)
        let result = await withCheckedContinuation { continuation in
            journal.advance(stream, to: position, partitions: partitions) { continuation.resume(returning: $0) }
        }
        try result.get()
    }

    func seal(_ sequences: Range<UInt64>) async throws {
        let stream = stream()
        let result = await withCheckedContinuation { continuation in
            journal.seal(sequences, in: stream) { continuation.resume(returning: $0) }
        }
        try result.get()
    }

    func payloads(_ sequences: Range<UInt64>, _ table: String = "events") throws -> [String] {
        try journal.reader(stream(table), sequences).payloads()
    }

    func plan(from start: UInt64, to end: UInt64? = nil, rows: Int = 1_000_000, bytes: Int = 1 << 30) throws
        -> BatchPlan?
    {
        try journal.plan(stream(), from: start, to: end, maxRows: rows, maxBytes: bytes)
    }
}

func numbered(_ numbers: Range<Int>) -> [String] { numbers.map { "{\"n\":\($0)}" } }
