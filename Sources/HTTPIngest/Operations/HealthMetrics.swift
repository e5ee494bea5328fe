internal import CoreMetrics
internal import IngestCore
internal import Synchronization

/// `ingest_ready` and `ingest_component_healthy{component}`: what `/readyz` would say at the moment of the scrape.
final class HealthMetrics: Sendable {
    /// Components that are mentioned only while something is wrong with them: without trouble their series say 1.
    private static let quiet = ["dead_letters", "http", "http_tls", "http_tokens", "stream"]

    private let factory: any MetricsFactory
    private let ready: Gauge
    private let components: Mutex<[String: Gauge]>

    init(factory: any MetricsFactory) {
        self.factory = factory
        ready = Gauge(label: "ingest_ready", factory: factory)
        components = Mutex(Dictionary(uniqueKeysWithValues: Self.quiet.map { ($0, Self.gauge($0, factory)) }))
    }

    /// Sets the gauges; a component that is not mentioned is healthy.
    func record(_ health: [ComponentHealth]) {
        ready.record(health.areGood ? 1 : 0)
        components.withLock { gauges in
            var isHealthy = gauges.mapValues { _ in true }
            for component in health {
                // Of "stream NAME" the first word: streams have metrics of their own, and their names are not ours.
                let name = String(component.component.prefix { $0 != " " })
                isHealthy[name] = isHealthy[name, default: true] && component.isHealthy
            }
            for (name, isHealthy) in isHealthy {
                let gauge = gauges[name] ?? Self.gauge(name, factory)
                gauges[name] = gauge
                gauge.record(isHealthy ? 1 : 0)
            }
        }
    }

    private static func gauge(_ component: String, _ factory: any MetricsFactory) -> Gauge {
        Gauge(label: "ingest_component_healthy", dimensions: [("component", component)], factory: factory)
    }
}

extension [ComponentHealth] {
    /// Whether everything that is required works.
    var areGood: Bool { allSatisfy { $0.isHealthy || !$0.isRequired } }
}
