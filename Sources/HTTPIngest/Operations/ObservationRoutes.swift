internal import HTTPTypes
internal import HummingbirdCore
internal import IngestCore
internal import NIOCore

/// Health, metrics and status: for orchestrators, Prometheus and operators. Health is open to all, metrics and status
/// are unless there is a token for operations. Answered to the end.
struct ObservationRoutes: Sendable {
    let authorizer: Authorizer
    let certificates: CertificateStore?
    let operations: any ServiceOperations
    let description: OpenAPIDescription

    /// - Throws: `Problem`.
    func answer(
        to request: Request, at observation: Route.Observation, isDraining: Bool
    ) throws(Problem) -> Answer {
        switch observation {
        case .liveness:
            return health(operations.liveness(), good: "alive", bad: "not alive")
        case .readiness:
            var components = operations.readiness()
            components += [authorizer.trouble, certificates?.trouble].compactMap { $0 }
            if isDraining {
                components.append(
                    ComponentHealth(
                        component: "http", isHealthy: false, isRequired: true, detail: "the service is shutting down"))
            }
            return health(components, good: "ready", bad: "not ready")
        case .metrics:
            try authorizer.check(request.headers, for: .observation)
            return Answer(
                status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
                body: ByteBuffer(bytes: operations.metricsText()))
        case .status:
            try authorizer.check(request.headers, for: .observation)
            var answer = Answer.json(operations.statusDocument())
            answer.headers[.cacheControl] = "no-store"
            return answer
        case .description:
            return description.answer
        }
    }

    private func health(_ components: [ComponentHealth], good: String, bad: String) -> Answer {
        let isGood = components.allSatisfy { $0.isHealthy || !$0.isRequired }
        var text = JSONText()
        text.object {
            $0.member("status", isGood ? good : bad)
            $0.array("components", components) { text, component in
                text.member("component", component.component)
                text.member("healthy", component.isHealthy)
                text.member("required", component.isRequired)
                text.member("detail", component.detail)
            }
        }
        var answer = Answer.json(isGood ? .ok : .serviceUnavailable, text)
        answer.headers[.cacheControl] = "no-store"
        return answer
    }
}
