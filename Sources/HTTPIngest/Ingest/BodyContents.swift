internal import EventJSON
internal import IngestCore

/// What a request's body held.
struct BodyContents {
    let events: EventBuffer
    /// The bad events, if they are to be kept.
    let deadLetters: [DeadLetter]
    let report: BodyReport
    /// If the client gave the request a key.
    var request: RequestKey?

    /// Whether there were no events at all, neither good nor bad.
    var isEmpty: Bool { report.accepted == 0 && report.rejected == 0 }

    /// Why nothing of the request can be accepted; `nil` if something can.
    func refusal(keepsBadEvents: Bool) -> Problem? {
        if keepsBadEvents {
            if report.rejected > Limits.requestDeadLetters { return .tooManyInvalidEvents(report) }
            if report.accepted > 0 || !deadLetters.isEmpty { return nil }
        }
        if report.rejected > 0 { return .invalidEvents(report) }
        return report.accepted > 0 ? nil : .empty
    }
}

extension BodyReport.Problem {
    /// The bad event as a dead letter, whose problem counts from the start of its payload; `nil` if there are no bytes
    /// to keep.
    /// - Parameter body: what was scanned.
    func deadLetter(in body: UnsafeRawBufferPointer, for admission: IngestRoute.Admission) -> DeadLetter? {
        guard length > 0 else { return nil }
        let problem = InvalidEvent(
            kind: error.kind, message: error.message, byteOffset: error.byteOffset.map { $0 - offset })
        return DeadLetter(
            invalid: UnsafeRawBufferPointer(rebasing: body[offset..<(offset + length)]), problem, eventID: eventID,
            table: admission.stream.table, traceparent: admission.traceparent?.text)
    }
}
