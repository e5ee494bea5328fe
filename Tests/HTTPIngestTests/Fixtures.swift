import CoreMetrics
import HTTPIngest
import IngestCore
import Logging
import Synchronization
import TestSupport
import Testing

/// An intake that keeps what it gets, and answers as the test says.
final class RecordingIntake: EventIntake {
    enum Mode {
        case accept
        case refuse(IntakeError)
        /// As to a request that was accepted before, with these numbers.
        case `repeat`(Receipt)
        /// Nothing is answered before `release()`.
        case hold
    }

    struct Record {
        let stream: StreamID
        let payloads: [String]
        let ids: [String?]
        let traces: [String?]
        let byteCount: Int
        let deadLetters: [DeadLetter]
        let request: RequestKey?
        let receivedAt: Int64
    }

    private struct State {
        var mode = Mode.accept
        var records: [Record] = []
        var held: [@Sendable () -> Void] = []
        var nextSequence: UInt64 = 100
    }

    private let state = Mutex(State())

    var mode: Mode {
        get { state.withLock { $0.mode } }
        set { state.withLock { $0.mode = newValue } }
    }

    var records: [Record] { state.withLock { $0.records } }

    func submit(_ submission: Submission) {
        let record = Record(submission)
        let answer = state.withLock { state in
            let first = state.nextSequence
            state.nextSequence += UInt64(record.payloads.count)
            let letters = UInt64(record.deadLetters.count)
            let receipt = Receipt(sequences: first..<state.nextSequence, deadLetters: 1..<(1 + letters))
            state.records.append(record)
            var answer: (@Sendable () -> Void)?
            switch state.mode {
            case .accept: answer = { submission.completion(.success(receipt)) }
            case .repeat(let receipt): answer = { submission.completion(.success(receipt)) }
            case .refuse(let error): answer = { submission.completion(.failure(error)) }
            case .hold: state.held.append { submission.completion(.success(receipt)) }
            }
            return answer
        }
        answer?()
    }

    /// Answers all that are held.
    func release() {
        let held = state.withLock { state in
            defer { state.held = [] }
            return state.held
        }
        for answer in held { answer() }
    }

    /// Waits until so many submissions have come.
    func received(_ count: Int) async throws {
        try await eventually("\(count) submissions have come") { records.count >= count }
    }
}

extension RecordingIntake.Record {
    fileprivate init(_ submission: Submission) {
        let buffer = submission.events
        let entry = UnsafeMutableRawBufferPointer.allocate(
            byteCount: EntryView.headerLength + buffer.byteCount, alignment: 16)
        defer { entry.deallocate() }
        let start = EntryView.writeHeader(
            into: entry, origin: submission.origin, eventCount: buffer.eventCount, firstSequence: 0,
            receivedAt: submission.receivedAt)
        UnsafeMutableRawBufferPointer(rebasing: entry[start...]).copyMemory(from: buffer.records)
        var payloads: [String] = []
        var ids: [String?] = []
        var traces: [String?] = []
        do {
            // An entry has events; a submission may have none.
            if buffer.eventCount > 0 {
                var cursor = try EntryView(UnsafeRawBufferPointer(entry)).events
                while let event = try cursor.next() {
                    payloads.append(String(decoding: event.payload, as: UTF8.self))
                    ids.append(event.explicitID.map { String(decoding: $0, as: UTF8.self) })
                    traces.append(event.traceparent.map { String(decoding: $0, as: UTF8.self) })
                }
            }
        } catch { payloads.append("\(error)") }
        self.init(
            stream: submission.stream, payloads: payloads, ids: ids, traces: traces, byteCount: buffer.byteCount,
            deadLetters: submission.deadLetters, request: submission.request, receivedAt: submission.receivedAt)
    }
}

/// Operations that answer what the test says.
final class ScriptedOperations: ServiceOperations {
    struct Script {
        var report: InsertionReport?
        var liveness: [ComponentHealth] = []
        var readiness: [ComponentHealth] = []
        var asked: [(sequences: Range<UInt64>, stream: StreamID, timeout: Duration)] = []
        /// What operations on dead letters and streams were asked for, in words.
        var orders: [String] = []
        /// What they answer; `nil` lets them succeed.
        var failure: OperationFailure?
        var metrics = Array("up 1\n".utf8)
    }

    let script = Mutex(Script())

    func insertion(of sequences: Range<UInt64>, in stream: StreamID, timeout: Duration) async -> InsertionReport? {
        script.withLock {
            $0.asked.append((sequences, stream, timeout))
            return $0.report
        }
    }
    func liveness() -> [ComponentHealth] { script.withLock { $0.liveness } }
    func readiness() -> [ComponentHealth] { script.withLock { $0.readiness } }
    func statusDocument() -> [UInt8] { Array(#"{"state":"fine"}"#.utf8) }
    func metricsText() -> [UInt8] { script.withLock { $0.metrics } }

    var orders: [String] { script.withLock { $0.orders } }

    private func take(_ order: String) throws(OperationFailure) {
        let failure = script.withLock { script in
            script.orders.append(order)
            return script.failure
        }
        if let failure { throw failure }
    }

    func deadLettersDocument(
        _ filter: DeadLetterFilter, after: UInt64, limit: Int
    ) async throws(OperationFailure) -> [UInt8] {
        try take("list \(filter.words) after=\(after) limit=\(limit)")
        return Array(#"{"dead_letters":[]}"#.utf8)
    }
    func newestDeadLettersDocument(
        _ filter: DeadLetterFilter, limit: Int
    ) async throws(OperationFailure) -> [UInt8] {
        try take("newest \(filter.words) limit=\(limit)")
        return Array(#"{"dead_letters":[]}"#.utf8)
    }
    func deadLetterDocument(_ number: UInt64) async throws(OperationFailure) -> [UInt8] {
        try take("show \(number)")
        return Array(#"{"id":\#(number)}"#.utf8)
    }
    func retryDeadLetters(_ selection: DeadLetterSelection) async throws(OperationFailure) -> DeadLetterChange {
        try take("retry \(selection.words)")
        return DeadLetterChange(changed: 3, notRetryable: 1)
    }
    func discardDeadLetters(_ selection: DeadLetterSelection) async throws(OperationFailure) -> DeadLetterChange {
        try take("discard \(selection.words)")
        return DeadLetterChange(changed: 2)
    }
    func retryStream(_ name: String?) throws(OperationFailure) { try take("stream \(name ?? "-")") }
}

extension DeadLetterFilter {
    /// The members that are set.
    fileprivate var words: String {
        let members = [
            stream.map { "stream=\($0)" }, kind.map { "kind=\($0)" }, since.map { "since=\($0)" },
            until.map { "until=\($0)" },
        ].compactMap { $0 }
        return members.isEmpty ? "all" : members.joined(separator: " ")
    }
}

extension DeadLetterSelection {
    fileprivate var words: String {
        switch self {
        case .one(let number): "\(number)"
        case .matching(let filter): filter.words
        }
    }
}

/// A running service with a scripted inside.
struct Server {
    let service: HTTPIngestService
    let port: Int
    let intake: RecordingIntake
    let operations: ScriptedOperations

    static let events = Stream(id: StreamID(rawValue: 1), table: "events")
    static let clicks = Stream(id: StreamID(rawValue: 2), table: "shop.\"clicks\"")

    /// - Parameter reads: else the connection takes nothing of what the server sends.
    func connect(reads: Bool = true) async throws -> RawConnection {
        try await RawConnection.open(port: port, reads: reads)
    }

    /// One request on a connection of its own.
    func post(_ target: String, _ body: String, headers: [String] = []) async throws -> RawConnection.Response {
        let connection = try await connect()
        try await connection.post(target, body, headers: headers)
        return try await connection.response()
    }

    func get(
        _ target: String, method: String = "GET", headers: [String] = []
    ) async throws -> RawConnection.Response {
        let connection = try await connect()
        try await connection.get(target, method: method, headers: headers)
        return try await connection.response(hasBody: method != "HEAD")
    }
}

func expectProblem(
    _ response: RawConnection.Response, _ status: Int, _ kind: String,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    #expect(response.status == status, sourceLocation: sourceLocation)
    #expect(response.headers["content-type"] == "application/problem+json", sourceLocation: sourceLocation)
    #expect(
        response.body.contains(#""status":\#(status),"kind":"\#(kind)""#), "\(response.body)",
        sourceLocation: sourceLocation)
}

/// Runs a service around `body` and stops it.
func withServer(
    metrics: any MetricsFactory = NOOPMetricsHandler.instance,
    _ configure: (inout HTTPIngestConfiguration) -> Void = { _ in }, _ body: (Server) async throws -> Void
) async throws {
    var configuration = HTTPIngestConfiguration(port: 0)
    configure(&configuration)
    let intake = RecordingIntake()
    let operations = ScriptedOperations()
    var logger = Logger(label: "test")
    logger.logLevel = .error
    let service = try HTTPIngestService(
        configuration: configuration,
        routes: StreamRoutes(
            byName: ["clicks": Server.clicks, "a b": Server.clicks],
            fallback: Server.events),
        intake: intake, operations: operations, logger: logger, metricsFactory: metrics)
    let run = Task { try await service.run() }
    do {
        let port = try await service.boundPort()
        try await body(Server(service: service, port: port, intake: intake, operations: operations))
    } catch {
        intake.release()
        try await service.stop()
        try await run.value
        throw error
    }
    intake.release()
    try await service.stop()
    try await run.value
}
