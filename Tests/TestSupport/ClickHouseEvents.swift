public import IngestCore

/// An event for tests of what reads the journal.
public struct ClickHouseTestEvent: Sendable {
    /// The event as received.
    public var payload: [UInt8]
    /// Where its id is.
    public var id: EventIDLocation
    /// The id, if it is `.stored`.
    public var storedID: [UInt8]?
    /// Offset and key of the Kafka message that it was; `nil` for HTTP.
    public var kafka: (offset: Int64, key: [UInt8]?)?
    /// The trace that it came with.
    public var traceparent: TraceParent?

    /// Collects the parts.
    public init(
        payload: [UInt8], id: EventIDLocation = .derived, storedID: [UInt8]? = nil,
        kafka: (offset: Int64, key: [UInt8]?)? = nil, traceparent: TraceParent? = nil
    ) {
        self.payload = payload
        self.id = id
        self.storedID = storedID
        self.kafka = kafka
        self.traceparent = traceparent
    }

    /// An HTTP event with a derived id.
    public init(_ payload: String) { self.init(payload: Array(payload.utf8)) }
}

/// A batch in memory, with the entries that a journal would hold.
///
/// `@unchecked Sendable`: the entries' bytes are written once, in `init`.
public final class ClickHouseTestBatch: @unchecked Sendable {
    /// Why a reader fails when it was told to.
    public struct ReadFailure: Error {}

    /// Number of events.
    public let rowCount: Int
    private let entries: [UnsafeMutableRawBufferPointer]

    /// Packs the events into entries.
    /// - Parameters:
    ///   - origin: of all entries; events with Kafka parts need a Kafka origin.
    ///   - eventsPerEntry: events packed into one entry.
    public init(
        _ events: [ClickHouseTestEvent], origin: EventOrigin = .http, receivedAt: Int64 = 1_795_398_000_123,
        eventsPerEntry: Int = 1_000
    ) {
        rowCount = events.count
        var entries: [UnsafeMutableRawBufferPointer] = []
        for start in stride(from: 0, to: events.count, by: eventsPerEntry) {
            let part = events[start..<min(start + eventsPerEntry, events.count)]
            let buffer = EventBuffer()
            for event in part {
                event.payload.withUnsafeBytes { payload in
                    (event.storedID ?? []).withUnsafeBytes { storedID in
                        (event.kafka?.key ?? []).withUnsafeBytes { key in
                            (event.traceparent?.headers ?? []).withUnsafeBytes { headers in
                                let metadata = event.kafka.map {
                                    KafkaMetadata(
                                        offset: $0.offset, timestamp: -1, key: $0.key == nil ? nil : key,
                                        headers: headers)
                                }
                                buffer.append(
                                    payload: payload, id: event.id, storedID: storedID,
                                    kafka: metadata ?? (headers.isEmpty ? nil : .headersOnly(headers)))
                            }
                        }
                    }
                }
            }
            let length = EntryView.headerLength + EntryView.sourceLength(of: origin) + buffer.byteCount
            let entry = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 16)
            let records = EntryView.writeHeader(
                into: entry, origin: origin, eventCount: part.count, firstSequence: UInt64(start),
                receivedAt: receivedAt)
            UnsafeMutableRawBufferPointer(rebasing: entry[records...]).copyMemory(from: buffer.records)
            entries.append(entry)
        }
        self.entries = entries
    }

    deinit {
        for entry in entries { entry.deallocate() }
    }

    /// Opens a reader at the first event.
    /// - Parameters:
    ///   - eventsPerRun: events of one run at most.
    ///   - failsAfter: throws `ReadFailure` once this many events were read.
    public func makeReader(eventsPerRun: Int = .max, failsAfter: Int? = nil) -> any EventReader {
        Reader(self, eventsPerRun: eventsPerRun, failsAfter: failsAfter)
    }

    private final class Reader: EventReader {
        private let batch: ClickHouseTestBatch
        private let eventsPerRun: Int
        private let failsAfter: Int?
        private var entry = 0
        private var position: EntryPosition?

        init(_ batch: ClickHouseTestBatch, eventsPerRun: Int, failsAfter: Int?) {
            self.batch = batch
            self.eventsPerRun = eventsPerRun
            self.failsAfter = failsAfter
        }

        func read(_ body: (inout EventRun) throws -> Void) throws -> Bool {
            guard entry < batch.entries.count else { return false }
            let view = try EntryView(UnsafeRawBufferPointer(batch.entries[entry]))
            let cursor = position.map { EventCursor(view, at: $0) } ?? view.events
            var end = view.sequences.upperBound
            if eventsPerRun != .max { end = min(end, cursor.nextSequence + UInt64(eventsPerRun)) }
            if let failsAfter {
                if cursor.nextSequence >= UInt64(failsAfter) { throw ReadFailure() }
                end = min(end, UInt64(failsAfter))
            }
            var run = EventRun(entry: view, cursor: cursor, endSequence: end)
            try body(&run)
            if run.nextSequence == view.sequences.upperBound {
                entry += 1
                position = nil
            } else {
                position = run.position
            }
            return true
        }
    }
}

extension InsertDestination {
    /// Inserts a batch and waits for its outcome.
    public func insert(
        _ batch: ClickHouseTestBatch, into table: String, token: String, failsAfter: Int? = nil,
        isRepeated: Bool = false
    ) async -> InsertOutcome {
        await withCheckedContinuation { continuation in
            insert(
                InsertRequest(
                    table: table, token: token, rowCount: batch.rowCount, isRepeated: isRepeated,
                    makeReader: { batch.makeReader(failsAfter: failsAfter) },
                    completion: { continuation.resume(returning: $0) }))
        }
    }
}
