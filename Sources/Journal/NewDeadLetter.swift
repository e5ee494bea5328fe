import IngestCore

/// A dead letter ready to be stored.
struct NewDeadLetter: Sendable {
    let record: [UInt8]
    let stream: StreamID
    let table: String
    let kind: String
    /// The events that it stands for; `nil` if they never had a place in the stream.
    let sequences: Range<UInt64>?
    let eventID: String
    /// The message whose commit waits for the DLQ topic; `nil` for HTTP, and for an event that was sent again: its
    /// first letter stands for its offset.
    let heldMessage: (partition: TopicPartition, offset: Int64)?

    /// An event that a source refused.
    init(_ letter: DeadLetter, stream: StreamID, receivedAt: Int64, sequences: Range<UInt64>? = nil) throws {
        let message = letter.kafka.map { (partition: $0.partition, offset: $0.offset) }
        // Not an `EventBuffer`'s: that has limits, and breaking them is what some of these events were refused for.
        record = try DeadLetterRecord.encode(
            stream: stream, sequence: nil, failedAt: letter.failedAt, receivedAt: receivedAt, problem: letter.problem,
            kafka: message, event: Self.eventRecord(letter))
        self.stream = stream
        table = letter.table
        kind = letter.problem.kind
        self.sequences = sequences
        eventID = letter.eventID
        heldMessage = message
    }

    /// An event that ClickHouse has rejected.
    /// - Parameter record: the event's bytes in the entry.
    init(
        _ event: EventView, record eventRecord: UnsafeRawBufferPointer, of entry: EntryView, in stream: Stream,
        problem: DeadLetter.Problem, failedAt: Int64
    ) throws {
        var message: (partition: TopicPartition, offset: Int64)?
        if let kafka = event.kafka, let source = entry.partition { message = (source, kafka.offset) }
        record = try DeadLetterRecord.encode(
            stream: stream.id, sequence: event.sequence, failedAt: failedAt, receivedAt: entry.receivedAt,
            problem: problem, kafka: message, event: eventRecord)
        self.stream = stream.id
        table = stream.table
        kind = problem.kind
        sequences = event.sequence..<(event.sequence + 1)
        eventID = event.id
        heldMessage = entry.kafka?.offsets.isEmpty == true ? nil : message
    }

    /// An entry that can't be read as such.
    /// - Parameters:
    ///   - entry: its bytes; empty if there are none.
    ///   - message: where it starts in Kafka, as far as that can be told.
    init(
        _ damage: DamagedEntry, entry: [UInt8], message: (partition: TopicPartition, offset: Int64)?,
        receivedAt: Int64, in stream: Stream, failedAt: Int64
    ) throws {
        let origin = message.map {
            DeadLetter.KafkaOrigin(partition: $0.partition, offset: $0.offset, timestamp: -1, key: nil, headers: [])
        }
        try self.init(
            DeadLetter(
                eventID: entry.withUnsafeBytes { EventID.derive(from: $0) }, failedAt: failedAt, table: stream.table,
                problem: DeadLetter.Problem(kind: "damaged_entry", message: damage.description),
                kafka: origin, payload: entry),
            stream: stream.id, receivedAt: receivedAt, sequences: damage.sequences)
    }

    /// The event's record in the entry format.
    private static func eventRecord(_ letter: DeadLetter) -> [UInt8] {
        let (payload, id, kafka) = (letter.payload, letter.eventID, letter.kafka)
        let headers =
            kafka.map { EventHeaders.encode($0.headers) } ?? letter.traceparent.flatMap(TraceParent.init)?.headers
        let isDerived =
            id.utf8.count > Limits.eventIDBytes || payload.withUnsafeBytes { EventID.derive(from: $0) } == id
        let storedID = isDerived ? [] : Array(id.utf8)
        var record: [UInt8] = []
        record.reserveCapacity(payload.count + (headers?.count ?? 0) + storedID.count + (kafka?.key?.count ?? 0) + 36)
        record.appendLittleEndian(UInt32(payload.count))
        record.appendLittleEndian(UInt32(0))
        record.appendLittleEndian(UInt16(storedID.count))
        record.append(isDerived ? 0 : 2)
        record.append(headers == nil ? 0 : 1)
        if let headers {
            record.appendLittleEndian(kafka?.offset ?? -1)
            record.appendLittleEndian(kafka?.timestamp ?? -1)
            record.appendLittleEndian(kafka?.key.map { Int32($0.count) } ?? -1)
            record.appendLittleEndian(UInt32(headers.count))
        }
        record += storedID
        record += kafka?.key ?? []
        record += headers ?? []
        record += payload
        return record
    }
}

extension EntryView {
    /// The partition that the entry's events came from; `nil` for HTTP.
    var partition: TopicPartition? {
        kafka.map { TopicPartition(topic: String(decoding: $0.topic, as: UTF8.self), partition: $0.partition) }
    }
}
