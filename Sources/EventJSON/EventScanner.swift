internal import CSimdJSON
public import IngestCore

/// What a scan found out about a valid event. Valid until the scanner's next call.
public struct ScannedEvent {
    /// Where the event's id is; a slice counts from the start of the scanned bytes.
    public let id: EventIDLocation
    /// The id where it was written with escapes (`id` is `.stored`); memory of the scanner.
    public let storedID: UnsafeRawBufferPointer?
}

/// Validates events, finds their ids and splits bodies into events.
///
/// An event is exactly one JSON object (RFC 8259), checked completely: UTF-8, grammar, numbers (of any size), escape
/// sequences (with both halves of every surrogate pair), at most `Limits.jsonDepth` levels, at most
/// `Limits.eventBytes` bytes, and an id that is absent, null, a non-empty string or an integer. Of the event's other
/// top-level keys duplicates are allowed: JSON allows them, and where the destination does not (ClickHouse's code
/// 117 in flat mode), its answer costs only that event.
///
/// Used by one thread at a time; keeps a few hundred KiB from call to call. Nothing behind the bytes passed is read.
public final class EventScanner {
    private let scanner: OpaquePointer
    private let eventIDField: String
    /// Results of one call into C: `runLength` events, which stay in the first-level cache.
    private let run: UnsafeMutablePointer<CSJEvent>
    private let runLength = 128
    private let unescaped: UnsafeMutableRawBufferPointer

    /// - Parameter eventIDField: name of the top-level field that holds the event id.
    public init(eventIDField: String) {
        var field = eventIDField
        let scanner = field.withUTF8 { utf8 in
            utf8.withMemoryRebound(to: CChar.self) {
                csj_create($0.baseAddress, $0.count, Limits.eventBytes, Limits.eventIDBytes, Limits.jsonDepth)
            }
        }
        guard let scanner else { preconditionFailure("no memory for an event scanner") }
        self.scanner = scanner
        self.eventIDField = eventIDField
        run = .allocate(capacity: runLength)
        // An escape sequence is at most six times as long as what it stands for.
        unescaped = .allocate(byteCount: 6 * Limits.eventIDBytes, alignment: 1)
    }

    deinit {
        csj_destroy(scanner)
        run.deallocate()
        unescaped.deallocate()
    }

    /// Checks one event. White space around it is allowed.
    /// - Throws: `InvalidEvent`.
    public func scan(_ payload: UnsafeRawBufferPointer) throws(InvalidEvent) -> ScannedEvent {
        begin(payload, CSJ_FORMAT_OBJECT)
        guard csj_next(scanner, run, 1) == 1 else {
            throw InvalidEvent(CSJ_EMPTY, field: eventIDField, byteOffset: 0)
        }
        let event = run[0]
        guard event.verdict == CSJ_VALID else {
            throw InvalidEvent(event.verdict, field: eventIDField, byteOffset: event.problem_offset)
        }
        let idOffset = event.offset + Int(event.id_offset)
        switch event.id_kind {
        case CSJ_ID_SLICE:
            return ScannedEvent(
                id: .payloadSlice(offset: idOffset, length: Int(event.id_length)), storedID: nil)
        case CSJ_ID_ESCAPED:
            return ScannedEvent(id: .stored, storedID: unescape(payload, idOffset, Int(event.id_length)))
        default:
            return ScannedEvent(id: .derived, storedID: nil)
        }
    }

    /// Appends all valid events of a body to `buffer`, in order. An event's payload is its bytes as they stand in
    /// the body, without the white space around it. The body is read only during the call; 4 GiB at most.
    /// - Parameter reportedProblems: bad events that the report describes one by one; the others are counted.
    /// - Returns: how many events there were, and what is wrong with the others.
    public func appendEvents(
        of body: UnsafeRawBufferPointer, format: BodyFormat, to buffer: EventBuffer,
        reportedProblems: Int = Limits.reportedProblems
    ) -> BodyReport {
        precondition(body.count < 1 << 32, "a body of 4 GiB or more")
        var report = BodyReport()
        guard body.count > 0 else { return report }
        begin(body, format.code)
        while true {
            let count = csj_next(scanner, run, runLength)
            for index in 0..<count {
                let event = run[index]
                guard event.verdict == CSJ_VALID else {
                    if report.problems.count < reportedProblems {
                        report.problems.append(problem(event, of: body, at: report.accepted + report.rejected))
                    }
                    report.rejected += 1
                    continue
                }
                append(event, of: body, to: buffer)
                report.accepted += 1
            }
            guard count == runLength else { return report }
        }
    }

    @inline(__always)
    private func append(_ event: CSJEvent, of body: UnsafeRawBufferPointer, to buffer: EventBuffer) {
        let payload = UnsafeRawBufferPointer(rebasing: body[event.offset..<(event.offset + event.length)])
        switch event.id_kind {
        case CSJ_ID_SLICE:
            buffer.append(
                payload: payload,
                id: .payloadSlice(offset: Int(event.id_offset), length: Int(event.id_length)))
        case CSJ_ID_ESCAPED:
            let id = unescape(payload, Int(event.id_offset), Int(event.id_length))
            buffer.append(payload: payload, id: .stored, storedID: id)
        default:
            buffer.append(payload: payload, id: .derived)
        }
    }

    private func problem(_ event: CSJEvent, of body: UnsafeRawBufferPointer, at index: Int) -> BodyReport.Problem {
        BodyReport.Problem(
            index: index, offset: event.offset, length: event.length, eventID: eventID(ofBad: event, of: body),
            error: InvalidEvent(event.verdict, field: eventIDField, byteOffset: event.problem_offset))
    }

    /// The id found before the problem was; not that of the first of several values.
    private func eventID(ofBad event: CSJEvent, of body: UnsafeRawBufferPointer) -> String? {
        guard event.verdict != CSJ_TRAILING, event.id_kind != CSJ_ID_ABSENT else { return nil }
        let (start, length) = (event.offset + Int(event.id_offset), Int(event.id_length))
        guard event.id_kind == CSJ_ID_ESCAPED else {
            return String(decoding: body[start..<(start + length)], as: UTF8.self)
        }
        return String(decoding: unescape(body, start, length), as: UTF8.self)
    }

    private func begin(_ bytes: UnsafeRawBufferPointer, _ format: CSJFormat) {
        csj_begin(scanner, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), bytes.count, format)
    }

    private func unescape(_ bytes: UnsafeRawBufferPointer, _ offset: Int, _ length: Int) -> UnsafeRawBufferPointer {
        precondition(length <= unescaped.count && offset + length <= bytes.count, "event id outside of its event")
        let written = csj_unescape(
            (bytes.baseAddress! + offset).assumingMemoryBound(to: UInt8.self), length,
            unescaped.baseAddress!.assumingMemoryBound(to: UInt8.self))
        return UnsafeRawBufferPointer(rebasing: unescaped[..<written])
    }
}
