internal import HTTPTypes
internal import IngestCore
internal import ServiceLog
internal import Synchronization

/// Decides what a request may do, by the secret that it carries. Without any token everyone may do everything.
///
/// Ingest needs a token once there is one for it (`token` or `tokensPath`); dead letters and held streams once there is
/// any; metrics and status only once there is one with the right `operations`. Health is open to all.
final class Authorizer: Sendable {
    enum Purpose {
        /// - Parameters:
        ///   - name: of the stream, as in the path; `nil` without one.
        ///   - table: of the stream that the name leads to.
        case ingest(name: String?, table: String)
        /// Dead letters and held streams.
        case management
        /// Metrics and status.
        case observation
    }

    private struct State {
        var tokens: TokenSet
        /// Why the file could not be used the last time; `tokens` is then from the time before.
        var failure: UnusableFile?
    }

    private let isIngestOpen: Bool
    private let isManagementOpen: Bool
    /// The tokens that are settings.
    private let fixed: TokenSet
    private let state: Mutex<State>
    /// Held while the file is read, which requests do not wait for.
    private let file: Mutex<WatchedFile?>
    private let log: EventLog

    /// - Throws: `UnusableFile` if there is a file of tokens and it can't be used.
    init(_ configuration: HTTPIngestConfiguration, log: EventLog) throws(UnusableFile) {
        isIngestOpen = configuration.token == nil && configuration.tokensPath == nil
        isManagementOpen = isIngestOpen && configuration.operationsToken == nil
        var fixed = TokenSet()
        if let token = configuration.token {
            // One token for both is a general token whose owner said so.
            let operates = token == configuration.operationsToken
            fixed.add(token[...], .init(ingestsAll: true, operates: operates, isGeneral: true))
        }
        if let token = configuration.operationsToken { fixed.add(token[...], .init(operates: true)) }
        self.fixed = fixed
        self.log = log
        var file = configuration.tokensPath.map { WatchedFile($0) }
        var tokens = fixed
        if file?.hasChanged() == true, let file { try tokens.add(contentsOf: file) }
        state = Mutex(State(tokens: tokens))
        self.file = Mutex(file)
    }

    /// Checks a request's bearer token (RFC 6750).
    /// - Throws: `Problem`: 401 without a token, 403 with a wrong one or one that may not do this.
    func check(_ headers: HTTPFields, for purpose: Purpose) throws(Problem) {
        if isOpen(to: purpose) { return }
        try check(secret: Self.bearerToken(headers.value(.authorization)), for: purpose)
    }

    /// Checks a secret that came in another way.
    /// - Throws: `Problem`: 401 without a secret, 403 with a wrong one or one that may not do this.
    func check(secret: Substring?, for purpose: Purpose) throws(Problem) {
        if isOpen(to: purpose) { return }
        guard let secret, !secret.isEmpty else {
            var problem = Problem(.unauthorized, "unauthorized", "send Authorization: Bearer with the service's token")
            problem.header = .init(name: .wwwAuthenticate, value: "Bearer")
            throw problem
        }
        let (rights, hasOperationsToken) = state.withLock {
            ($0.tokens.rights(of: secret), $0.tokens.hasOperationsToken)
        }
        guard let rights else { throw .forbidden("invalid_token", "the bearer token is not this service's") }
        switch purpose {
        case .ingest(let name, let table):
            if rights.ingestsAll || rights.streams.contains(table) { return }
            if let name, rights.streams.contains(name) { return }
            throw .forbidden("insufficient_scope", "the bearer token may not send events to this stream")
        case .management, .observation:
            if rights.operates || rights.isGeneral && !hasOperationsToken { return }
            throw .forbidden("insufficient_scope", "this needs a token with the right \"operations\"")
        }
    }

    private func isOpen(to purpose: Purpose) -> Bool {
        switch purpose {
        case .ingest: isIngestOpen
        case .management: isManagementOpen
        case .observation: isManagementOpen || !state.withLock { $0.tokens.hasOperationsToken }
        }
    }

    /// The token in an `Authorization` header of the scheme Bearer; `nil` if it has another one.
    static func bearerToken(_ authorization: String?) -> Substring? {
        let scheme = "bearer "
        guard let authorization, authorization.utf8.count > scheme.utf8.count,
            authorization.prefix(scheme.count).lowercased() == scheme
        else { return nil }
        return authorization.dropFirst(scheme.count)
    }

    /// Reads the file of tokens again if it has changed. A broken one leaves the tokens as they are.
    func reload() {
        file.withLock { watched in
            guard watched?.hasChanged() == true, let file = watched else { return }
            var tokens = fixed
            do throws(UnusableFile) {
                try tokens.add(contentsOf: file)
                state.withLock { $0 = State(tokens: tokens) }
                log.write(
                    .httpTokensReloaded, "tokens read again", ["path": "\(file.path)", "tokens": "\(tokens.count)"])
            } catch {
                state.withLock { $0.failure = error }
                log.write(
                    .httpTokensUnusable, "the tokens stay as they were", ["reason": "\(error)"])
            }
        }
    }

    /// For health; `nil` while all is well.
    var trouble: ComponentHealth? {
        state.withLock { $0.failure }.map {
            ComponentHealth(
                component: "http_tokens", isHealthy: false, isRequired: false,
                detail: "the tokens stay as they were: \($0)")
        }
    }
}

extension Problem {
    /// - Parameter code: of RFC 6750, section 3.1.
    fileprivate static func forbidden(_ code: String, _ detail: String) -> Problem {
        var problem = Problem(.forbidden, "forbidden", detail)
        problem.header = .init(name: .wwwAuthenticate, value: "Bearer error=\"\(code)\"")
        return problem
    }
}
