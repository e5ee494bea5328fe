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
    private let cloudEventScanners: ScannerPool
    private let maxEvents: Int
    private let recognizesRepeats: Bool
    private let metrics: IngestMetrics

    init(
        configuration: HTTPIngestConfiguration, authorizer: Authorizer, routes: StreamRoutes, intake: any EventIntake,
        operations: any ServiceOperations, metrics: IngestMetrics
    ) {
        // Scanners are made when they are needed; better to stop now.
        precondition(
            (1...Limits.eventBytes).contains(configuration.maxEventBytes) && configuration.maxRequestEvents > 0,
            "maxEventBytes or maxRequestEvents out of range")
        self.authorizer = authorizer
        self.routes = routes
        self.intake = intake
        self.operations = operations
        collector = BodyCollector(configuration)
        let (field, maxEventBytes) = (configuration.eventIDField, configuration.maxEventBytes)
        scanners = ScannerPool { EventScanner(eventIDField: field, maxEventBytes: maxEventBytes) }
        cloudEventScanners = ScannerPool {
            EventScanner(
                eventIDField: field, fallbackIDField: "id", areCloudEvents: true, maxEventBytes: maxEventBytes)
        }
        maxEvents = configuration.maxRequestEvents
        recognizesRepeats = configuration.idempotencyWindow > .zero
        self.metrics = metrics
    }

    /// A request whose body may come.
    struct Admission {
        let stream: Stream
        let content: ContentDescription
        let query: IngestQuery
        let idempotencyKey: IdempotencyKey?
        let traceparent: TraceParent?
        let expectsContinue: Bool
    }

    /// Decides by the request's head alone.
    /// - Throws: `Problem`.
    func admit(
        _ headers: HTTPFields, query: String?, stream name: String?, isDraining: Bool
    ) throws(Problem) -> Admission {
        let stream = routes.stream(for: name)
        try authorizer.check(headers, for: .ingest(name: name, table: stream.table))
        if isDraining { throw .draining }
        let query = try IngestQuery(query)
        let content = try ContentDescription(headers)
        if let length = content.length, length > collector.limit { throw .tooLarge(limit: collector.limit) }
        return Admission(
            stream: stream, content: content, query: query, idempotencyKey: try idempotencyKey(headers),
            traceparent: TraceParent(headers, content.mode),
            expectsContinue: headers.value(.expect)?.lowercased() == "100-continue")
    }

    /// `nil` without one, or while keys are not looked at.
    /// - Throws: `Problem` 400.
    func idempotencyKey(_ headers: HTTPFields) throws(Problem) -> IdempotencyKey? {
        recognizesRepeats ? try IdempotencyKey(headers) : nil
    }

    /// Receives the body and does the rest.
    func take(_ admission: Admission, _ body: inout RequestBody.AsyncIterator) async throws -> Answer {
        let contents = try await receive(&body, admission.content) { try check($0, for: admission) }
        // A batch of no CloudEvents: there is nothing to keep.
        let receipt = contents.isEmpty ? Receipt(sequences: 0..<0) : try await store(contents, for: admission)
        let acceptance = acceptance(of: contents, receipt, for: admission)
        guard !receipt.isRepeat else { return try await replay(acceptance, for: admission) }
        return try await answer(acceptance, for: admission)
    }

    private func acceptance(of contents: BodyContents, _ receipt: Receipt, for admission: Admission) -> Acceptance {
        Acceptance(
            count: receipt.sequences.count, stream: admission.stream, sequences: receipt.sequences,
            badEvents: admission.query.keepsBadEvents ? BadEvents(contents) : nil)
    }

    /// Receives a body in one piece, decompressed and within the bounds of all requests.
    /// - Returns: what `use` returns.
    func receive<Result>(
        _ body: inout RequestBody.AsyncIterator, _ content: ContentDescription, _ use: (ByteBuffer) throws -> Result
    ) async throws -> Result {
        if let length = content.length, length > collector.limit { throw Problem.tooLarge(limit: collector.limit) }
        return try await collector.collect(&body, content, use)
    }

    /// Finds the events of a body.
    /// - Throws: `Problem` if nothing of it can be accepted.
    func check(_ body: ByteBuffer, for admission: Admission) throws(Problem) -> BodyContents {
        var contents = try scan(body, for: admission)
        if let refusal = refusal(of: contents, for: admission) {
            metrics[admission.stream].rejected.increment(by: contents.report.accepted + contents.report.rejected)
            throw refusal
        }
        contents.request = admission.idempotencyKey?.request(
            stream: admission.stream.id, mode: admission.content.mode,
            keepsBadEvents: admission.query.keepsBadEvents, body: body)
        return contents
    }

    /// Puts events on stable storage, unless they are there since an earlier request with the same key.
    func store(_ contents: BodyContents, for admission: Admission) async throws(Problem) -> Receipt {
        let result = await withCheckedContinuation { continuation in
            submit(contents, for: admission) { continuation.resume(returning: $0) }
        }
        return try count(result, of: contents, for: admission)
    }

    private func submit(
        _ contents: BodyContents, for admission: Admission,
        completion: @escaping @Sendable (Result<Receipt, IntakeError>) -> Void
    ) {
        intake.submit(
            Submission(
                stream: admission.stream.id, origin: .http, receivedAt: WallClock.milliseconds,
                events: contents.events, deadLetters: contents.deadLetters, request: contents.request,
                completion: completion))
    }

    private func count(
        _ result: Result<Receipt, IntakeError>, of contents: BodyContents, for admission: Admission
    ) throws(Problem) -> Receipt {
        let counters = metrics[admission.stream]
        let receipt: Receipt
        do throws(IntakeError) {
            receipt = try result.get()
        } catch {
            counters.refused.increment(by: contents.report.accepted + contents.deadLetters.count)
            if error.isFull { metrics.backpressure.record(true) }
            throw Problem(error)
        }
        guard !receipt.isRepeat else { return receipt }
        counters.accepted.increment(by: contents.report.accepted)
        counters.deadLettered.increment(by: contents.deadLetters.count)
        metrics.backpressure.record(false)
        return receipt
    }

    private func answer(_ acceptance: Acceptance, for admission: Admission) async throws -> Answer {
        guard let timeout = admission.query.insertionTimeout else { return acceptance.answer }
        return try await insertion(of: acceptance, within: timeout)
    }

    /// The answer to a request that was accepted before: nothing is counted again.
    private func replay(_ acceptance: Acceptance, for admission: Admission) async throws -> Answer {
        do {
            var answer = try await answer(acceptance, for: admission)
            answer.headers[IdempotencyKey.replayed.name] = IdempotencyKey.replayed.value
            return answer
        } catch var problem as Problem {
            problem.header = IdempotencyKey.replayed
            throw problem
        }
    }

    private func refusal(of contents: BodyContents, for admission: Admission) -> Problem? {
        if contents.report.isCutShort { return .tooManyEvents(limit: maxEvents) }
        if contents.isEmpty, admission.content.mode == .cloudEventBatch { return nil }
        let refusal = contents.refusal(keepsBadEvents: admission.query.keepsBadEvents)
        return admission.content.coding == nil ? refusal : refusal?.inDecompressedBody()
    }

    private func scan(_ body: ByteBuffer, for admission: Admission) throws(Problem) -> BodyContents {
        // A record adds 12 bytes to an event: an eighth is enough for events of 100 bytes or more.
        let headersLength = admission.traceparent.map { 24 + $0.headers.count } ?? 0
        let events = EventBuffer(capacity: body.readableBytes + body.readableBytes / 8 + 64 + headersLength)
        let keepsBadEvents = admission.query.keepsBadEvents
        let mode = admission.content.mode
        if mode == .cloudEventBatch {
            let first = body.readableBytesView.first { $0 != 0x20 && $0 != 0x0a && $0 != 0x0d && $0 != 0x09 }
            guard let first else { throw .empty }
            guard first == UInt8(ascii: "[") else { throw .notABatch }
        }
        let reportedProblems = keepsBadEvents ? Limits.requestDeadLetters : Limits.reportedProblems
        return body.withUnsafeReadableBytes { bytes in
            let report = (mode.holdsCloudEvents ? cloudEventScanners : scanners).withScanner { scanner in
                mode.withDefaultID { defaultID in
                    scanner.appendEvents(
                        of: bytes, format: mode.format, to: events, reportedProblems: reportedProblems,
                        defaultID: defaultID, headers: admission.traceparent?.headers, maxEvents: maxEvents)
                }
            }
            guard keepsBadEvents, !report.isCutShort, report.rejected <= Limits.requestDeadLetters else {
                return BodyContents(events: events, deadLetters: [], report: report)
            }
            let letters = report.problems.compactMap { $0.deadLetter(in: bytes, for: admission) }
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

/// Requests that are answered on their connection's event loop, without a task: almost all of them.
extension IngestRoute {
    /// Larger bodies would keep the loop's other connections waiting while they are scanned.
    private static let directBytes = 1 << 20

    /// `nil` if the request needs more than one answer or one that waits for ClickHouse, or comes compressed or in
    /// chunks, or is to be refused.
    func admitDirectly(_ headers: HTTPFields, stream name: String?, isDraining: Bool) -> Admission? {
        // A refusal is found once more, and answered, by those who answer all others.
        guard let admission = try? admit(headers, query: nil, stream: name, isDraining: isDraining),
            let length = admission.content.length, length <= Self.directBytes, admission.content.coding == nil,
            admission.idempotencyKey == nil, !headers.contains(.expect)
        else { return nil }
        return admission
    }

    /// Puts the next piece of a body to the others.
    /// - Throws: `Problem` if there is no room.
    func add(_ piece: ByteBuffer, to body: inout CollectedBody) throws(Problem) { try collector.add(piece, to: &body) }

    /// Gives back what a body took of the budget.
    func give(_ body: inout CollectedBody) { collector.give(&body) }

    /// Finds the events of a whole body, and hands them over.
    /// - Parameter completion: called once unless this throws: on the journal's writer thread, or at once if there is
    ///   nothing to hand over.
    /// - Throws: `Problem` if nothing can be accepted.
    func submit(
        _ body: inout CollectedBody, for admission: Admission,
        completion: @escaping @Sendable (Result<Receipt, IntakeError>, BodyContents) -> Void
    ) throws(Problem) {
        defer { give(&body) }
        let contents = try check(body.whole, for: admission)
        guard !contents.isEmpty else { return completion(.success(Receipt(sequences: 0..<0)), contents) }
        submit(contents, for: admission) { completion($0, contents) }
    }

    /// The answer once events are on stable storage, or are not.
    func answer(
        _ result: Result<Receipt, IntakeError>, _ contents: BodyContents, for admission: Admission
    ) -> Answer {
        do throws(Problem) {
            let receipt = try count(result, of: contents, for: admission)
            return acceptance(of: contents, receipt, for: admission).answer
        } catch {
            return error.answer
        }
    }
}
