internal import EventJSON
internal import HTTPTypes
internal import HummingbirdCore
internal import IngestCore
internal import NIOCore
internal import NIOHTTP1

/// What clients of ClickHouse's HTTP interface send, answered as ClickHouse does: INSERTs become events of the table's
/// stream, by the same way as those of the ingest routes; what clients ask first is answered here. Nothing is passed on
/// to ClickHouse: whoever has this service's token must not reach the database with the service's credentials.
final class ClickHouseRoute: Sendable {
    private let authorizer: Authorizer
    private let ingest: IngestRoute
    private let streams: [Stream]
    private let tables: ClickHouseTables
    private let database: String
    private let rowsAreFlat: Bool

    init(
        configuration: HTTPIngestConfiguration, authorizer: Authorizer, routes: StreamRoutes, ingest: IngestRoute
    ) {
        self.authorizer = authorizer
        self.ingest = ingest
        streams = routes.all.sorted { $0.id < $1.id }
        database = configuration.clickHouseDatabase
        tables = ClickHouseTables(routes.all, database: database)
        rowsAreFlat = configuration.rowsAreFlat
    }

    /// - Parameter writer: for the answer to `Expect: 100-continue`.
    /// - Returns: the answer, and whether the request's body was read to its end.
    /// - Throws: `ClickHouseError`, or the connection's error if the client went away.
    func answer(
        to request: Request, at route: Route.ClickHouse, _ body: inout RequestBody.AsyncIterator, isDraining: Bool,
        _ writer: borrowing ResponseWriter
    ) async throws -> (Answer, isBodyRead: Bool) {
        var id: String?
        do {
            if route == .ping || StatusPage.isNegotiated(request) {
                var answer = try ping(isDraining: isDraining)
                if route != .ping { answer.headers[.vary] = "Accept" }
                return (answer, false)
            }
            let parameters = try ClickHouseParameters(request.uri.query, request.headers)
            id = parameters.queryID ?? Self.makeQueryID()
            var (answer, isBodyRead) = try await answer(
                to: request, parameters, &body, isDraining: isDraining, writer)
            Self.sign(&answer.headers, id)
            return (answer, isBodyRead)
        } catch var error as ClickHouseError {
            Self.sign(&error.headers, id)
            throw error
        } catch {
            guard let problem = Self.problem(error) else { throw error }
            var error = ClickHouseError(problem)
            Self.sign(&error.headers, id)
            throw error
        }
    }

    private static func problem(_ error: any Error) -> Problem? {
        switch error {
        case let problem as Problem: problem
        case is RequestTimedOut: .requestTimedOut
        case is HTTPParserError: .malformed
        default: nil
        }
    }

    private func ping(isDraining: Bool) throws(Problem) -> Answer {
        if isDraining { throw .draining }
        return Answer(
            status: .ok, headers: [.contentType: "text/html; charset=UTF-8"], body: ByteBuffer(string: "Ok.\n"))
    }

    private func answer(
        to request: Request, _ parameters: ClickHouseParameters, _ body: inout RequestBody.AsyncIterator,
        isDraining: Bool, _ writer: borrowing ResponseWriter
    ) async throws -> (Answer, isBodyRead: Bool) {
        let query = Array(parameters.query.utf8)
        let statement = try Self.statement(query, parameters, mayGoOn: request.method == .post)
        switch statement {
        case .insert(let insert):
            guard request.method == .post else {
                throw ClickHouseError(.READONLY, "an INSERT comes with the method POST: others are readonly")
            }
            let target = try admit(insert, parameters)
            if isDraining { throw Problem.draining }
            let rows = Self.inlineRows(query[insert.dataOffset...])
            let answer = try await take(request, parameters, &body, writer) { body in
                guard var rows else { return .insert(target, body) }
                rows.writeImmutableBuffer(body)
                return .insert(target, rows)
            }
            return (answer, true)
        case .select(let select):
            try authorize(parameters)
            return (try answer(select, parameters), false)
        case nil:
            try authorize(parameters)
            if isDraining { throw Problem.draining }
            let answer = try await take(request, parameters, &body, writer) { body in
                try order(in: body, behind: query, parameters)
            }
            return (answer, true)
        }
    }

    // MARK: Statements

    /// - Returns: `nil` if the statement begins or goes on in the body.
    private static func statement(
        _ query: [UInt8], _ parameters: ClickHouseParameters, mayGoOn: Bool
    ) throws(ClickHouseError) -> ClickHouseStatement? {
        do throws(ClickHouseError) {
            return try parse(query, parameters)
        } catch {
            guard error.isIncomplete, mayGoOn else { throw error }
            return nil
        }
    }

    private static func parse(
        _ text: [UInt8], _ parameters: ClickHouseParameters
    ) throws(ClickHouseError) -> ClickHouseStatement {
        let result = text.withUnsafeBytes { bytes in
            Result { () throws(ClickHouseError) in
                try ClickHouseStatement(bytes, parameters: parameters.substitutions)
            }
        }
        return try result.get()
    }

    /// Where an INSERT's rows go.
    private struct Target {
        let stream: Stream
        let columns: ClickHouseColumns?
        /// `nil` for the header's, if there is one.
        let token: IdempotencyKey?
    }

    /// Decides whether the INSERT can be done, by everything but its rows.
    private func admit(
        _ insert: ClickHouseStatement.Insert, _ parameters: ClickHouseParameters
    ) throws -> Target {
        // First who it is: others learn nothing about tables.
        try authorize(parameters)
        let settings = parameters.settings + insert.settings
        try Self.check(settings)
        let token = try ingest.idempotencyKey(deduplicationToken: ClickHouseSettings.deduplicationToken(in: settings))
        let stream = try tables.stream(insert, current: parameters.database)
        try check(parameters.secret, for: stream)
        guard rowsAreFlat else {
            throw ClickHouseError(
                .NOT_IMPLEMENTED,
                "ingestd wraps events in envelopes, so that rows can't be a table's own columns: set ROW_MODE=flat, or "
                    + "send the events to /v1/events")
        }
        return Target(stream: stream, columns: insert.columns.map { ClickHouseColumns($0) }, token: token)
    }

    private static func check(_ settings: [ClickHouseSetting]) throws(ClickHouseError) {
        for setting in settings { try ClickHouseSettings.check(setting) }
    }

    /// Whether the secret is good for any stream.
    private func authorize(_ parameters: ClickHouseParameters) throws(Problem) {
        var refusal: Problem?
        for stream in streams {
            do throws(Problem) {
                return try check(parameters.secret, for: stream)
            } catch { refusal = error }
        }
        if let refusal { throw refusal }
    }

    private func check(_ secret: String?, for stream: Stream) throws(Problem) {
        try authorizer.check(secret: secret.map { $0[...] }, for: .ingest(name: nil, table: stream.table))
    }

    // MARK: Rows

    /// What is to be done with a body.
    private enum Order {
        case insert(Target, ByteBuffer)
        /// It held only a statement.
        case select(ClickHouseSelect)
    }

    /// What a body brought.
    private enum Delivery {
        case rows(IngestRoute.Admission, BodyContents, byteCount: Int)
        case noRows
        case select(ClickHouseSelect)
    }

    /// Rows that follow the statement in the parameter `query`; `nil` if there is nothing but space.
    private static func inlineRows(_ rest: ArraySlice<UInt8>) -> ByteBuffer? {
        guard rest.contains(where: { $0 > 0x20 }) else { return nil }
        return ByteBuffer(bytes: rest + [0x0a])
    }

    /// The statement that begins in the parameter and goes on in the body, and what follows it.
    private func order(
        in body: ByteBuffer, behind query: [UInt8], _ parameters: ClickHouseParameters
    ) throws -> Order {
        var whole = body
        if !query.isEmpty {
            whole = ByteBuffer(bytes: query + [0x0a])
            whole.writeImmutableBuffer(body)
        }
        let statement = try whole.withUnsafeReadableBytes { bytes in
            let first = bytes.first { $0 > 0x20 }
            if first == UInt8(ascii: "{") || first == UInt8(ascii: "[") { throw Self.noStatement }
            return try ClickHouseStatement(bytes, parameters: parameters.substitutions)
        }
        switch statement {
        case .select(let select): return .select(select)
        case .insert(let insert):
            whole.moveReaderIndex(forwardBy: insert.dataOffset)
            return .insert(try admit(insert, parameters), whole)
        }
    }

    private static var noStatement: ClickHouseError {
        ClickHouseError(
            .SYNTAX_ERROR,
            "the statement is missing: put INSERT INTO table FORMAT JSONEachRow into the parameter query or before "
                + "the rows, or send events without a statement to /v1/events")
    }

    /// Receives the body, does what it says, and answers once that is durable.
    private func take(
        _ request: Request, _ parameters: ClickHouseParameters, _ body: inout RequestBody.AsyncIterator,
        _ writer: borrowing ResponseWriter, _ order: (ByteBuffer) throws -> Order
    ) async throws -> Answer {
        let content = try Self.content(of: request.headers)
        let key = try ingest.idempotencyKey(request.headers)
        if request.headers[.expect]?.lowercased() == "100-continue" {
            try await writer.writeInformationalHead(HTTPResponse(status: .continue))
        }
        let delivery = try await ingest.receive(&body, content) { body in
            do {
                switch try order(body) {
                case .insert(let target, let data):
                    let admission = IngestRoute.Admission(
                        stream: target.stream, content: content, query: try IngestQuery(nil),
                        idempotencyKey: target.token ?? key,
                        traceparent: TraceParent(request.headers, content.mode), expectsContinue: false)
                    return try rows(in: data, for: admission, target.columns)
                case .select(let select): return .select(select)
                }
            } catch var error as ClickHouseError {
                error.isBodyRead = true
                throw error
            }
        }
        switch delivery {
        case .select(let select): return try answer(select, parameters)
        case .noRows: return Self.inserted(0, byteCount: 0)
        case .rows(let admission, let contents, let byteCount):
            let receipt = try await ingest.store(contents, for: admission)
            var answer = Self.inserted(contents.report.accepted, byteCount: byteCount)
            if receipt.isRepeat { answer.headers[IdempotencyKey.replayed.name] = IdempotencyKey.replayed.value }
            return answer
        }
    }

    /// ClickHouse does not look at the type of the content either.
    private static func content(of headers: HTTPFields) throws -> ContentDescription {
        if headers[.contentType]?.lowercased().hasPrefix("multipart/form-data") == true {
            throw ClickHouseError(.NOT_IMPLEMENTED, "ingestd takes no multipart/form-data: send the rows as the body")
        }
        var relevant = HTTPFields()
        relevant[.contentEncoding] = headers[.contentEncoding]
        relevant[.contentLength] = headers[.contentLength]
        return try ContentDescription(relevant)
    }

    private func rows(
        in data: ByteBuffer, for admission: IngestRoute.Admission, _ columns: ClickHouseColumns?
    ) throws -> Delivery {
        let data = Self.withoutSemicolon(data)
        let contents: BodyContents
        do throws(Problem) {
            contents = try ingest.check(data, for: admission)
        } catch {
            // An INSERT of no rows is one that succeeds.
            guard error.kind == Problem.empty.kind else { throw error }
            return .noRows
        }
        if let columns { try data.withUnsafeReadableBytes { try columns.check($0) } }
        return .rows(admission, contents, byteCount: data.readableBytes)
    }

    /// A semicolon ends the rows, where people write one.
    private static func withoutSemicolon(_ data: ByteBuffer) -> ByteBuffer {
        let view = data.readableBytesView
        guard let last = view.lastIndex(where: { $0 > 0x20 }), view[last] == UInt8(ascii: ";") else { return data }
        return ByteBuffer(view[..<last])
    }

    // MARK: Answers

    private static func inserted(_ count: Int, byteCount: Int) -> Answer {
        let summary =
            #"{"read_rows":"\#(count)","read_bytes":"\#(byteCount)","written_rows":"\#(count)","#
            + #""written_bytes":"\#(byteCount)","total_rows_to_read":"0","result_rows":"\#(count)","#
            + #""result_bytes":"\#(byteCount)","elapsed_ns":"0"}"#
        return Answer(
            status: .ok, headers: [.contentType: "text/plain; charset=UTF-8", .clickHouseSummary: summary],
            body: ByteBuffer())
    }

    /// What every answer carries.
    private static func sign(_ headers: inout HTTPFields, _ id: String?) {
        headers[.clickHouseDisplayName] = ClickHouseDialect.displayName
        headers[.clickHouseQueryID] = id
    }

    /// A random UUID.
    private static func makeQueryID() -> String {
        let digits = Array("0123456789abcdef".utf8)
        var high = UInt64.random(in: .min ... .max)
        var low = UInt64.random(in: .min ... .max)
        // Version 4, variant 1 (RFC 9562, section 5.4).
        high = high & 0xffff_ffff_ffff_0fff | 0x4000
        low = low & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000
        var text: [UInt8] = []
        for (index, word) in [high, low].enumerated() {
            for shift in stride(from: 60, through: 0, by: -4) {
                if index == 0 && (shift == 28 || shift == 12) || index == 1 && (shift == 60 || shift == 44) {
                    text.append(UInt8(ascii: "-"))
                }
                text.append(digits[Int(word >> UInt64(shift) & 15)])
            }
        }
        return String(decoding: text, as: UTF8.self)
    }

    private func answer(
        _ select: ClickHouseSelect, _ parameters: ClickHouseParameters
    ) throws(ClickHouseError) -> Answer {
        try Self.check(parameters.settings + select.settings)
        if parameters.compressesAnswer {
            throw ClickHouseError(
                .NOT_IMPLEMENTED,
                "ingestd can't compress answers in ClickHouse's own way: leave out compress=1 (clickhouse-java: "
                    + "compressServerResponse(false))")
        }
        let environment = ClickHouseResult.Environment(
            user: parameters.user ?? "default", database: parameters.database ?? database)
        return try ClickHouseResult(select, environment).answer(as: select.format ?? parameters.format)
    }
}
