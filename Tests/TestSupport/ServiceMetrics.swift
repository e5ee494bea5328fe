/// What `/metrics` says.
public struct ServiceMetrics: Sendable {
    /// Values by series as they are written: `up`, `ingest_stream_held{reason="schema",stream="events"}`.
    public let samples: [String: Double]
    /// Kinds (`counter`, `gauge`, `histogram`) by metric.
    public let kinds: [String: String]
    /// Metrics with a line of help.
    public let helped: Set<String>

    /// Reads Prometheus's text format.
    public init(_ text: String) {
        var samples: [String: Double] = [:]
        var kinds: [String: String] = [:]
        var helped: Set<String> = []
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ", maxSplits: 3)
            switch words.first {
            case "#" where words.count == 4 && words[1] == "TYPE": kinds[String(words[2])] = String(words[3])
            case "#" where words.count == 4 && words[1] == "HELP": helped.insert(String(words[2]))
            case "#": break
            default:
                // Label values can hold blanks; the value behind the last one can't.
                guard let blank = line.lastIndex(of: " ") else { continue }
                samples[String(line[..<blank])] = Double(line[line.index(after: blank)...])
            }
        }
        self.samples = samples
        self.kinds = kinds
        self.helped = helped
    }

    /// The value of a series; `nil` if there is none.
    public subscript(series: String) -> Double? { samples[series] }

    /// The name of a series' metric.
    public static func name(of series: String) -> String { String(series.prefix { $0 != "{" }) }
}

extension ServiceInstance {
    /// What `/metrics` says now.
    public func metrics() async throws -> ServiceMetrics { ServiceMetrics(try await get("/metrics").text) }
}
