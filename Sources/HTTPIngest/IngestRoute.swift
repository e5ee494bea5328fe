internal import EventJSON
internal import HTTPTypes
internal import HummingbirdCore
internal import IngestCore
internal import Metrics
internal import NIOCore

/// Takes events: checks the request before its body is read, reads it, checks the events, hands them over, and answers
/// once they are on stable storage (or, if asked for, in ClickHouse).
final class IngestRoute: Sendable {
    private let token: BearerToken?
    private let routes: StreamRoutes
    private let intake: any EventIntake
    private let operations: any ServiceOperations
    private let collector: BodyCollector
    private let scanners: ScannerPool
    private let metrics: IngestMetrics

    init(
        configuration: HTTPIngestConfiguration, routes: StreamRoutes, intake: any EventIntake,
        operations: any ServiceOperations
    ) {
        token = configuration.token.map { BearerToken($0) }
        self.routes = routes
        self.intake = intake
        self.operations = operations
        collector = BodyCollector(
            limit: configuration.maxBodyBytes, budget: ByteBudget(limit: configuration.maxBufferedBytes))
        scanners = ScannerPool(eventIDField: configuration.eventIDField)
        metrics = IngestMetrics(routes.all)
    }

    /// A request whose body may come.
    struct Admission {
        let stream: Stream
        let content: ContentDescription
        let insertionTimeout: Duration?
        let expectsContinue: Bool
    }

    /// Decides by the request's head alone.
    /// - Throws: `Problem`.
    func admit(_ request: Request, stream name: String?, isDraining: Bool) throws(Problem) -> Admission {
        try token?.check(request.headers[.authorization])
        if isDraining { throw .draining }
        let query = try IngestQuery(request.uri.query)
        let content = try ContentDescription(request.headers)
        if let length = content.length, length > collector.limit { throw .tooLarge(limit: collector.limit) }
        return Admission(
            stream: routes.stream(for: name), content: content, insertionTimeout: query.insertionTimeout,
            expectsContinue: request.headers[.expect]?.lowercased() == "100-continue")
    }

    /// Receives the body and does the rest.
    func take(_ admission: Admission, _ body: inout RequestBody.AsyncIterator) async throws -> Answer {
        let (events, report) = try await collector.collect(&body, length: admission.content.length) { body in
            scan(body, as: admission.content.format)
        }
        let counters = metrics[admission.stream]
        guard report.rejected == 0 else {
            counters.rejected.increment(by: report.accepted + report.rejected)
            throw Problem.invalidEvents(report)
        }
        guard report.accepted > 0 else {
            var problem = Problem.badRequest("empty", "the body holds no events")
            problem.isBodyRead = true
            throw problem
        }
        let receipt: Receipt
        do throws(IntakeError) {
            receipt = try await intake.append(
                stream: admission.stream.id, origin: .http, receivedAt: WallClock.milliseconds, events: events)
        } catch {
            counters.refused.increment(by: report.accepted)
            throw Problem(error)
        }
        counters.accepted.increment(by: report.accepted)
        let acceptance = Acceptance(count: report.accepted, stream: admission.stream, sequences: receipt.sequences)
        guard let timeout = admission.insertionTimeout else { return acceptance.answer }
        return try await insertion(of: acceptance, within: timeout)
    }

    private func scan(_ body: ByteBuffer, as format: BodyFormat) -> (EventBuffer, BodyReport) {
        // A record adds 12 bytes to an event: an eighth is enough for events of 100 bytes or more.
        let events = EventBuffer(capacity: body.readableBytes + body.readableBytes / 8 + 64)
        let report = scanners.withScanner { scanner in
            body.withUnsafeReadableBytes { scanner.appendEvents(of: $0, format: format, to: events) }
        }
        return (events, report)
    }

    private func insertion(of acceptance: Acceptance, within timeout: Duration) async throws -> Answer {
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
        var text = JSONText()
        text.object {
            acceptance.write(to: &$0)
            $0.member("inserted", report.inserted)
            $0.member("dead_lettered", report.deadLettered)
            $0.array("dead_letter_ids", report.deadLetterIDs)
        }
        return .json(.ok, text)
    }
}

/// Events that are on stable storage.
struct Acceptance {
    let count: Int
    let stream: Stream
    let sequences: Range<UInt64>

    func write(to text: inout JSONText) {
        text.member("accepted", count)
        text.member("stream", stream.table)
        text.member("first_sequence", sequences.lowerBound)
        text.member("last_sequence", sequences.upperBound - 1)
    }

    var answer: Answer {
        var text = JSONText()
        text.object { write(to: &$0) }
        return .json(.accepted, text)
    }
}
