internal import HTTPTypes
internal import HummingbirdCore
internal import IngestCore
internal import NIOCore

/// Dead letters and held streams: what operators look into and change. They need a token, if there is one: they show
/// payloads and delete them.
struct ManagementRoutes: Sendable {
    let authorizer: Authorizer
    let operations: any ServiceOperations

    /// - Parameters:
    ///   - request: its method is one of the route's.
    ///   - route: that of its path.
    /// - Throws: `Problem`.
    func answer(to request: Request, at route: Route.Management) async throws(Problem) -> Answer {
        try authorizer.check(request.headers, for: .management)
        var answer = try await result(of: request, at: route)
        answer.headers[.cacheControl] = "no-store"
        return answer
    }

    private func result(of request: Request, at route: Route.Management) async throws(Problem) -> Answer {
        let query = request.uri.query
        let isDelete = request.method == .delete
        switch route {
        case .deadLetters where isDelete:
            return try await discard(.matching(DeadLetterQuery(changing: query).filter))
        case .deadLetters:
            let query = try DeadLetterQuery(listing: query)
            return try await perform { () async throws(OperationFailure) in
                .json(
                    query.isNewestFirst
                        ? try await operations.newestDeadLettersDocument(query.filter, limit: query.limit)
                        : try await operations.deadLettersDocument(
                            query.filter, after: query.after, limit: query.limit))
            }
        case .retryDeadLetters:
            return try await retry(.matching(DeadLetterQuery(changing: query).filter))
        case .deadLetter(let number):
            try QueryParameters.checkNone(query)
            if isDelete { return try await discard(.one(number)) }
            return try await perform { () async throws(OperationFailure) in
                .json(try await operations.deadLetterDocument(number))
            }
        case .retryDeadLetter(let number):
            try QueryParameters.checkNone(query)
            return try await retry(.one(number))
        case .retryStream(let name):
            try QueryParameters.checkNone(query)
            return try await perform { () async throws(OperationFailure) in
                try operations.retryStream(name)
                return retrying(name)
            }
        }
    }

    private func retry(_ selection: DeadLetterSelection) async throws(Problem) -> Answer {
        try await perform { () async throws(OperationFailure) in
            changed(try await operations.retryDeadLetters(selection))
        }
    }

    private func discard(_ selection: DeadLetterSelection) async throws(Problem) -> Answer {
        try await perform { () async throws(OperationFailure) in
            changed(try await operations.discardDeadLetters(selection))
        }
    }

    private func perform(
        _ operation: () async throws(OperationFailure) -> Answer
    ) async throws(Problem) -> Answer {
        do throws(OperationFailure) { return try await operation() } catch { throw Problem(error) }
    }

    private func changed(_ change: DeadLetterChange) -> Answer {
        var text = JSONText()
        text.object {
            $0.member("changed", change.changed)
            $0.member("not_retryable", change.notRetryable)
        }
        return .json(.ok, text)
    }

    /// The stream tries as soon as it can: nothing of that has happened yet.
    private func retrying(_ name: String?) -> Answer {
        var text = JSONText()
        text.object {
            if let name { $0.member("stream", name) }
            $0.member("retrying", true)
        }
        return .json(.accepted, text)
    }
}
