internal import CoreMetrics
internal import EventJSON
internal import HTTPTypes
internal import HummingbirdCore
internal import IngestCore
internal import NIOCore

/// Takes events: checks the request before its body is read, reads it, checks the events, hands them over, and answers
/// once they are on stable storage (or, if asked for, in ClickHouse).
final class IngestRoute: Sendable {
    private let authorizer: Authorizer
    private let routes: StreamRoutes
    private let intake: any EventIntake
    private let operations: any ServiceOperations
    private let collector: BodyCollector
    private let scanners: ScannerPool
    private let metrics: IngestMetrics

    init(
        configuration: HTTPIngestConfiguration, authorizer: Authorizer, routes: StreamRoutes, intake: any EventIntake,
        operations: any ServiceOperations, metrics: IngestMetrics
    ) {
        self.authorizer = authorizer
        self.routes = routes
        self.intake = intake
        self.operations = operations
        collector = BodyCollector(
            limit: configuration.maxBodyBytes, budget: ByteBudget(limit: configuration.maxBufferedBytes))
        scanners = ScannerPool(eventIDField: configuration.eventIDField)
        self.metrics = metrics
    }

    /// A request whose body may come.
    struct Admission {
        let stream: Stream
        let content: ContentDescription
        let query: IngestQuery
        let expectsContinue: Bool
    }

    /// Decides by the request's head alone.
    /// - Throws: `Problem`.
    func admit(_ request: Request, stream name: String?, isDraining: Bool) throws(Problem) -> Admission {
        let stream = routes.stream(for: name)
        try authorizer.check(request.headers, for: .ingest(name: name, table: stream.table))
        if isDraining { throw .draining }
        let query = try IngestQuery(request.uri.query)
        let content = try ContentDescription(request.headers)
        if let length = content.length, length > collector.limit { throw .tooLarge(limit: collector.limit) }
        return Admission(
            stream: stream, content: content, query: query,
            expectsContinue: request.headers[.expect]?.lowercased() == "100-continue")
    }

    /// Receives the body and does the rest.
    func take(_ admission: Admission, _ body: inout RequestBody.AsyncIterator) async throws -> Answer {
        let keepsBadEvents = admission.query.keepsBadEvents
        let contents = try await receive(&body, admission.content) { body in
            try check(body, admission.content.format, for: admission.stream, keepsBadEvents: keepsBadEvents)
        }
        let receipt = try await store(contents, in: admission.stream)
        let acceptance = Acceptance(
            count: contents.report.accepted, stream: admission.stream, sequences: receipt.sequences,
            badEvents: keepsBadEvents ? BadEvents(contents) : nil)
        guard let timeout = admission.query.insertionTimeout else { return acceptance.answer }
        return try await insertion(of: acceptance, within: timeout)
    }

    /// Receives a body in one piece, within the bounds of all requests.
    /// - Returns: what `use` returns.
    func receive<Result>(
        _ body: inout RequestBody.AsyncIterator, _ content: ContentDescription, _ use: (ByteBuffer) throws -> Result
    ) async throws -> Result {
        if let length = content.length, length > collector.limit { throw Problem.tooLarge(limit: collector.limit) }
        return try await collector.collect(&body, length: content.length, use)
    }

    /// Finds the events of a body.
    /// - Throws: `Problem` if nothing of it can be accepted.
    func check(
        _ body: ByteBuffer, _ format: BodyFormat, for stream: Stream, keepsBadEvents: Bool = false
    ) throws(Problem) -> BodyContents {
        let contents = scan(body, format, for: stream, keepsBadEvents: keepsBadEvents)
        if let refusal = contents.refusal(keepsBadEvents: keepsBadEvents) {
            metrics[stream].rejected.increment(by: contents.report.accepted + contents.report.rejected)
            throw refusal
        }
        return contents
    }

    /// Puts events on stable storage.
    func store(_ contents: BodyContents, in stream: Stream) async throws(Problem) -> Receipt {
        let counters = metrics[stream]
        let receipt: Receipt
        do throws(IntakeError) {
            receipt = try await intake.append(
                stream: stream.id, origin: .http, receivedAt: WallClock.milliseconds, events: contents.events,
                deadLetters: contents.deadLetters)
        } catch {
            counters.refused.increment(by: contents.report.accepted + contents.deadLetters.count)
            if error.isFull { metrics.backpressure.record(true) }
            throw Problem(error)
        }
        counters.accepted.increment(by: contents.report.accepted)
        counters.deadLettered.increment(by: contents.deadLetters.count)
        metrics.backpressure.record(false)
        return receipt
    }

    private func scan(
        _ body: ByteBuffer, _ format: BodyFormat, for stream: Stream, keepsBadEvents: Bool
    ) -> BodyContents {
        // A record adds 12 bytes to an event: an eighth is enough for events of 100 bytes or more.
        let events = EventBuffer(capacity: body.readableBytes + body.readableBytes / 8 + 64)
        return body.withUnsafeReadableBytes { bytes in
            let report = scanners.withScanner { scanner in
                scanner.appendEvents(
                    of: bytes, format: format, to: events,
                    reportedProblems: keepsBadEvents ? Limits.requestDeadLetters : Limits.reportedProblems)
            }
            guard keepsBadEvents, report.rejected <= Limits.requestDeadLetters else {
                return BodyContents(events: events, deadLetters: [], report: report)
            }
            let letters = report.problems.compactMap { $0.deadLetter(in: bytes, table: stream.table) }
            return BodyContents(events: events, deadLetters: letters, report: report)
        }
    }

    private func insertion(of acceptance: Acceptance, within timeout: Duration) async throws -> Answer {
        guard acceptance.count > 0 else {
            return acceptance.answer(InsertionReport(inserted: 0, deadLettered: 0, deadLetterIDs: []))
        }
        let report = await operations.insertion(
            of: acceptance.sequences, in: acceptance.stream.id, timeout: timeout)
        guard let report else {
            var problem = Problem(
                .gatewayTimeout, "not_inserted_yet",
                "the events are on stable storage and will be inserted; they were not when the time was up")
            problem.accepted = acceptance
            problem.isBodyRead = true
            throw problem
        }
        return acceptance.answer(report)
    }
}
