import FoundationEssentials
import HTTPIngest
import IngestCore

/// A running service as commands see it: its HTTP API.
struct ServiceClient {
    /// An answer that says no, in the service's words; or none at all.
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// How long the answer to a question may take.
    private static let patience = Duration.seconds(10)
    /// Shorter than the time that whoever asks for health gives this command, so that it can still say why.
    private static let healthPatience = Duration.seconds(5)
    /// How long changing many dead letters may take.
    private static let changePatience = Duration.seconds(600)

    private let host: String
    private let port: Int
    private let token: String?
    /// Why the file of tokens gave none.
    private let tokenTrouble: String?
    /// How to talk to a service that serves HTTPS.
    private let tls: HTTPExchange.TLS?

    init(_ configuration: ServiceConfiguration.HTTP) {
        // What a server listens on is not always an address that can be called.
        host =
            switch configuration.host {
            case "0.0.0.0": "127.0.0.1"
            case "::": "::1"
            default: configuration.host
            }
        port = configuration.port
        (token, tokenTrouble) = Self.token(configuration)
        tls =
            if let certificate = configuration.tlsCertificate, let key = configuration.tlsKey {
                HTTPExchange.TLS(certificatePath: certificate, keyPath: key)
            } else {
                nil
            }
    }

    /// The token to send: with one for operations in the file, the service does not let HTTP_TOKEN operate.
    private static func token(_ configuration: ServiceConfiguration.HTTP) -> (token: String?, trouble: String?) {
        if let token = configuration.operationsToken { return (token.value, nil) }
        guard let path = configuration.tokensPath else { return (configuration.token?.value, nil) }
        do throws(HTTPConfigurationError) {
            if let token = try TokensFile.operationsToken(path: path) { return (token, nil) }
            return (configuration.token?.value, "no token in \(path) has the right \"operations\"")
        } catch {
            // Only the service may have to be able to read it. Whether that matters, its answer will tell.
            return (configuration.token?.value, error.description)
        }
    }

    /// Makes sure that the service at this address is the one that has the journal open: another one's dead letters
    /// have the same numbers.
    /// - Throws: `TerminalError`.
    func checkJournal(_ identity: String, heldBy holder: String, path: String) async throws(TerminalError) {
        struct Status: Decodable {
            struct Journal: Decodable { let id: String? }
            let journal: Journal
        }
        let prefix = "the journal \(path) is in use by \(holder), and "
        guard port != 0 else {
            throw TerminalError("\(prefix)HTTP_PORT is 0: set it to the port that the service has taken")
        }
        let status: Status
        do {
            let answer = try await request("GET", "/v1/status")
            status = try JSONDecoder().decode(Status.self, from: Data(answer))
        } catch {
            throw TerminalError(
                "\(prefix)no service answers at \(address) (HTTP_HOST, HTTP_PORT): \(error). Give this command the "
                    + "service's settings, or stop the service first")
        }
        guard status.journal.id == identity else {
            throw TerminalError(
                "\(prefix)the service at \(address) (HTTP_HOST, HTTP_PORT) has another journal. Give this command the "
                    + "settings of the service that has this one")
        }
    }

    /// What the service says of itself.
    struct Health {
        let isGood: Bool
        /// One line: the verdict, and every component that is not well.
        let text: String
    }

    /// - Parameter isLiveness: whether the process works at all, instead of whether events can be accepted durably.
    /// - Throws: `TerminalError` if there is no answer.
    func health(isLiveness: Bool) async throws(TerminalError) -> Health {
        struct Document: Decodable {
            struct Component: Decodable {
                let component: String
                let healthy: Bool
                let detail: String
            }
            let status: String
            let components: [Component]
        }
        try requirePort()
        do {
            let answer = try await HTTPExchange.request(
                host: host, port: port, tls: tls, method: "GET", target: isLiveness ? "/livez" : "/readyz",
                headers: [hostHeader], timeout: Self.healthPatience)
            guard answer.status == 200 || answer.status == 503 else {
                throw Failure(description: "the answer is \(answer.status): is this port another program's?")
            }
            let document = try JSONDecoder().decode(Document.self, from: Data(answer.body))
            let troubles = document.components.filter { !$0.healthy }.map { "\($0.component): \($0.detail)" }
            let text = ([document.status] + troubles).joined(separator: "; ")
            return Health(isGood: answer.status == 200, text: Terminal.printable(text))
        } catch {
            throw TerminalError("no service answers at \(address) (HTTP_HOST, HTTP_PORT): \(error)")
        }
    }

    /// - Throws: `TerminalError` if nobody knows where the service is.
    func requirePort() throws(TerminalError) {
        guard port != 0 else {
            throw TerminalError("HTTP_PORT is 0: set it to the port that the service has taken")
        }
    }

    /// The service's status as a JSON document.
    /// - Throws: `TerminalError` if there is no answer, or one that says no.
    func status() async throws(TerminalError) -> [UInt8] {
        do {
            return try await request("GET", "/v1/status", within: Self.healthPatience)
        } catch let refusal as Failure {
            throw TerminalError("the service at \(address): \(refusal)")
        } catch {
            throw TerminalError("no service answers at \(address) (HTTP_HOST, HTTP_PORT): \(error)")
        }
    }

    /// - Throws: `Failure`.
    func change(_ action: DeadLetterChanger.Action, _ selection: DeadLetterSelection) async throws -> DeadLetterChange {
        struct Change: Decodable {
            let changed: Int
            let not_retryable: Int
        }
        var target = "/v1/dead-letters"
        if case .one(let number) = selection { target += "/\(number)" }
        if action == .retry { target += "/retry" }
        if case .matching(let filter) = selection { target += "?" + Self.query(filter) }
        let answer = try await request(
            action == .retry ? "POST" : "DELETE", target, within: Self.changePatience)
        let change = try JSONDecoder().decode(Change.self, from: Data(answer))
        return DeadLetterChange(changed: change.changed, notRetryable: change.not_retryable)
    }

    /// Where the service is: a URL.
    var address: String {
        "\(tls == nil ? "http" : "https")://\(host.contains(":") ? "[\(host)]" : host):\(port)"
    }

    private var hostHeader: (String, String) { ("Host", "\(host.contains(":") ? "[\(host)]" : host):\(port)") }

    private static func query(_ filter: DeadLetterFilter) -> String {
        let pairs = [
            ("stream", filter.stream), ("kind", filter.kind), ("since", filter.since.map { "\($0)" }),
            ("until", filter.until.map { "\($0)" }),
        ].compactMap { name, value in value.map { "\(name)=\(percentEncoded($0))" } }
        return pairs.isEmpty ? "all=true" : pairs.joined(separator: "&")
    }

    private static func percentEncoded(_ text: String) -> String {
        text.utf8.reduce(into: "") { result, byte in
            if Syntax.isLetterOrDigit(byte) || [0x2D, 0x2E, 0x5F, 0x7E].contains(byte) {
                result.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                let digits = String(byte, radix: 16, uppercase: true)
                result += "%" + (byte < 16 ? "0" : "") + digits
            }
        }
    }

    /// - Returns: the body of an answer 200.
    private func request(
        _ method: String, _ target: String, within timeout: Duration = patience
    ) async throws -> [UInt8] {
        struct Problem: Decodable { let detail: String }
        var headers = [hostHeader]
        if let token { headers.append(("Authorization", "Bearer \(token)")) }
        let answer = try await HTTPExchange.request(
            host: host, port: port, tls: tls, method: method, target: target, headers: headers, timeout: timeout)
        guard answer.status == 200 else {
            switch answer.status {
            case 401, 403:
                throw Failure(
                    description:
                        "the service wants its token: HTTP_OPERATIONS_TOKEN, or else HTTP_TOKEN, is missing or another one"
                        + (tokenTrouble.map { " (\($0))" } ?? ""))
            default:
                let problem = Result { try JSONDecoder().decode(Problem.self, from: Data(answer.body)) }
                if case .success(let problem) = problem { throw Failure(description: problem.detail) }
                throw Failure(description: "the service answered \(answer.status)")
            }
        }
        return answer.body
    }
}
