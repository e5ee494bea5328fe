internal import HTTPTypes

/// Where a request goes.
enum Route: Equatable {
    /// Ingest; `nil` without a stream's name.
    case events(stream: String?)
    case observation(Observation)
    case management(Management)
    case clickHouse(ClickHouse)

    enum Observation: Equatable {
        case liveness, readiness, metrics, status, description
    }

    /// What clients of ClickHouse's HTTP interface ask for.
    enum ClickHouse: Equatable {
        case ping, query
    }

    enum Management: Equatable {
        case deadLetters
        case deadLetter(UInt64)
        case retryDeadLetters
        case retryDeadLetter(UInt64)
        /// `nil` for all streams.
        case retryStream(String?)
    }

    /// - Parameter path: as sent, percent-encoded.
    init?(path: String) {
        switch path {
        case "/v1/events": self = .events(stream: nil)
        case "/livez": self = .observation(.liveness)
        case "/readyz": self = .observation(.readiness)
        case "/metrics": self = .observation(.metrics)
        case "/v1/status": self = .observation(.status)
        case "/openapi.yaml": self = .observation(.description)
        case "/": self = .clickHouse(.query)
        case "/ping": self = .clickHouse(.ping)
        default:
            let prefix = "/v1/"
            guard path.hasPrefix(prefix) else { return nil }
            // No route has more than three parts; what is behind them stays together as a fourth.
            let encoded = path.utf8.dropFirst(prefix.utf8.count).split(
                separator: UInt8(ascii: "/"), maxSplits: 3, omittingEmptySubsequences: false)
            var parts: [String] = []
            for part in encoded {
                guard let part = PercentEncoding.decode(part), !part.isEmpty else { return nil }
                parts.append(part)
            }
            if parts.count == 2, parts[0] == "events" {
                self = .events(stream: parts[1])
            } else if let management = Management(parts) {
                self = .management(management)
            } else {
                return nil
            }
        }
    }

    /// What the path takes.
    var methods: [HTTPRequest.Method] {
        switch self {
        case .observation, .clickHouse(.ping): [.get, .head, .options]
        // As ClickHouse: no PUT [src/Server/HTTPHandlerFactory.h].
        case .clickHouse(.query): [.get, .head, .post, .options]
        case .management(.deadLetters), .management(.deadLetter): [.get, .head, .delete, .options]
        case .events, .management: [.post, .options]
        }
    }

    /// What some path takes.
    static let allMethods: [HTTPRequest.Method] = [.get, .head, .post, .delete, .options]

    /// The type of its answers where a client may decline it with `Accept`; `nil` answers whatever the client says.
    /// Errors are not negotiated.
    var answerType: String? {
        switch self {
        case .observation(.metrics): "text/plain"
        case .observation(.description): "application/yaml"
        // A health check says yes or no by its status.
        case .observation(.liveness), .observation(.readiness): nil
        // Neither does ClickHouse look at it; `StatusPage` chooses by it.
        case .clickHouse: nil
        case .observation(.status), .management, .events: "application/json"
        }
    }
}

extension Route.Management {
    /// - Parameter parts: of the path behind `/v1/`; none of them is empty.
    fileprivate init?(_ parts: [String]) {
        switch (parts[0], parts.count) {
        case ("dead-letters", 1): self = .deadLetters
        case ("dead-letters", 2) where parts[1] == "retry": self = .retryDeadLetters
        case ("dead-letters", 2):
            guard let number = UInt64(digits: parts[1]) else { return nil }
            self = .deadLetter(number)
        case ("dead-letters", 3) where parts[2] == "retry":
            guard let number = UInt64(digits: parts[1]) else { return nil }
            self = .retryDeadLetter(number)
        case ("streams", 2) where parts[1] == "retry": self = .retryStream(nil)
        case ("streams", 3) where parts[2] == "retry": self = .retryStream(parts[1])
        default: return nil
        }
    }
}
