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
/// sequences (with both halves of every surrogate pair), at most `Limits.jsonDepth` levels, at most so many bytes as
/// the scanner was told, and an id that is absent, null, a non-empty string or an integer. Of the event's other
/// top-level keys duplicates are allowed: JSON allows them, and where the destination does not (ClickHouse's code
/// 117 in flat mode), its answer costs only that event.
///
/// Used by one thread at a time; keeps a few hundred KiB from call to call. Nothing behind the bytes passed is read.
public final class EventScanner {
    private let scanner: OpaquePointer
    private let words: ProblemWords
    /// Results of one call into C: `runLength` events, which stay in the first-level cache.
    private let run: UnsafeMutablePointer<CSJEvent>
    private let runLength = 128
    private let unescaped: UnsafeMutableRawBufferPointer

    /// - Parameters:
    ///   - eventIDField: name of the top-level field that holds the event id.
    ///   - fallbackIDField: name of the top-level field whose value is the id, by the same rules, where the first field
    ///     is absent or null; elsewhere it may hold anything. Of a bad event it tells the id unless the first field was
    ///     found before what is wrong.
    ///   - areCloudEvents: whether an event must be a CloudEvent in JSON: `id`, `source` and `type` are strings that are not
    ///     empty, `specversion` is `"1.0"` (CloudEvents 1.0.2, JSON event format).
    ///   - maxEventBytes: the largest event, at most `Limits.eventBytes`.
    public init(
        eventIDField: String, fallbackIDField: String? = nil, areCloudEvents: Bool = false,
        maxEventBytes: Int = Limits.eventBytes
    ) {
        precondition((1...Limits.eventBytes).contains(maxEventBytes), "maxEventBytes out of range")
        words = ProblemWords(
            eventIDField: eventIDField, fallbackIDField: fallbackIDField, maxEventBytes: maxEventBytes)
        var rules = CSJRules()
        rules.are_cloud_events = areCloudEvents
        rules.max_event_bytes = maxEventBytes
        rules.max_id_bytes = Limits.eventIDBytes
        rules.max_depth = Limits.jsonDepth
        let scanner = Self.withName(eventIDField) { field in
            Self.withName(fallbackIDField) { fallback in
                (rules.field, rules.field_length) = (field.baseAddress, field.count)
                (rules.fallback, rules.fallback_length) = (fallback.baseAddress, fallback.count)
                return csj_create(&rules)
            }
        }
        guard let scanner else { preconditionFailure("no memory for an event scanner") }
        self.scanner = scanner
        run = .allocate(capacity: runLength)
        // An escape sequence is at most six times as long as what it stands for.
        unescaped = .allocate(byteCount: 6 * Limits.eventIDBytes, alignment: 1)
    }

    private static func withName<Result>(
        _ name: String?, _ body: (UnsafeBufferPointer<CChar>) -> Result
    ) -> Result {
        guard var name else { return body(UnsafeBufferPointer(start: nil, count: 0)) }
        return name.withUTF8 { utf8 in utf8.withMemoryRebound(to: CChar.self, body) }
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
            throw words.problem(CSJ_EMPTY, byteOffset: 0)
        }
        let event = run[0]
        guard event.verdict == CSJ_VALID else {
            throw words.problem(of: event)
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
    /// - Parameters:
    ///   - reportedProblems: bad events that the report describes one by one; the others are counted.
    ///   - defaultID: the id of an event that has none of its own; at most `Limits.eventIDBytes`.
    ///   - headers: kept with each event, in the entry format's encoding.
    ///   - maxEvents: where there are more, good and bad ones together, the report is cut short somewhere behind this.
    /// - Returns: how many events there were, and what is wrong with the others.
    public func appendEvents(
        of body: UnsafeRawBufferPointer, format: BodyFormat, to buffer: EventBuffer,
        reportedProblems: Int = Limits.reportedProblems, defaultID: UnsafeRawBufferPointer? = nil,
        headers: [UInt8]? = nil, maxEvents: Int = .max
    ) -> BodyReport {
        func append(_ metadata: KafkaMetadata?) -> BodyReport {
            appendEvents(
                of: body, format: format, to: buffer, reportedProblems: reportedProblems, defaultID: defaultID,
                metadata: metadata, maxEvents: maxEvents)
        }
        return headers?.withUnsafeBytes { append(.headersOnly($0)) } ?? append(nil)
    }

    private func appendEvents(
        of body: UnsafeRawBufferPointer, format: BodyFormat, to buffer: EventBuffer, reportedProblems: Int,
        defaultID: UnsafeRawBufferPointer?, metadata: KafkaMetadata?, maxEvents: Int
    ) -> BodyReport {
        precondition(body.count < 1 << 32, "a body of 4 GiB or more")
        var report = BodyReport()
        // Nothing, or nothing but white space, is no event.
        guard body.contains(where: { $0 != 0x20 && $0 != 0x0a && $0 != 0x0d && $0 != 0x09 }) else { return report }
        begin(body, format.code)
        while true {
            let count = csj_next(scanner, run, runLength)
            for index in 0..<count {
                let event = run[index]
                guard event.verdict == CSJ_VALID else {
                    if report.problems.count < reportedProblems {
                        let index = report.accepted + report.rejected
                        report.problems.append(problem(event, of: body, at: index, defaultID))
                    }
                    report.rejected += 1
                    continue
                }
                append(event, of: body, to: buffer, defaultID, metadata)
                report.accepted += 1
            }
            if report.accepted + report.rejected > maxEvents {
                report.isCutShort = true
                return report
            }
            guard count == runLength else { return report }
        }
    }

    @inline(__always)
    private func append(
        _ event: CSJEvent, of body: UnsafeRawBufferPointer, to buffer: EventBuffer,
        _ defaultID: UnsafeRawBufferPointer?,
        _ metadata: KafkaMetadata?
    ) {
        let payload = UnsafeRawBufferPointer(rebasing: body[event.offset..<(event.offset + event.length)])
        switch event.id_kind {
        case CSJ_ID_SLICE:
            buffer.append(
                payload: payload,
                id: .payloadSlice(offset: Int(event.id_offset), length: Int(event.id_length)), kafka: metadata)
        case CSJ_ID_ESCAPED:
            let id = unescape(payload, Int(event.id_offset), Int(event.id_length))
            buffer.append(payload: payload, id: .stored, storedID: id, kafka: metadata)
        default:
            buffer.append(
                payload: payload, id: defaultID == nil ? .derived : .stored, storedID: defaultID, kafka: metadata)
        }
    }

    private func problem(
        _ event: CSJEvent, of body: UnsafeRawBufferPointer, at index: Int, _ defaultID: UnsafeRawBufferPointer?
    ) -> BodyReport.Problem {
        BodyReport.Problem(
            index: index, offset: event.offset, length: event.length,
            eventID: eventID(ofBad: event, of: body) ?? defaultID.map { String(decoding: $0, as: UTF8.self) },
            error: words.problem(of: event))
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
