// Prometheus text format 0.0.4.
// https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
//
//     # HELP name help             backslash and line feed escaped
//     # TYPE name counter
//     name{label="value"} 1        backslash, line feed and double quote escaped in values
//
// A histogram is a run of cumulative `name_bucket{le="bound"}` up to `+Inf`, then `name_sum` and `name_count`.

/// Builds the text.
struct PrometheusText {
    private(set) var bytes: [UInt8] = []

    init(capacity: Int) { bytes.reserveCapacity(capacity) }

    mutating func family(name: String, help: String?, type: String) {
        if let help { append("# HELP \(name) \(Self.escapedHelp(help))\n") }
        append("# TYPE \(name) \(type)\n")
    }

    /// - Parameter labels: as `labels(_:)` made them; empty if there are none.
    mutating func sample(name: String, suffix: StaticString = "", labels: String, value: String) {
        append(name)
        append(suffix.description)
        if !labels.isEmpty {
            append("{")
            append(labels)
            append("}")
        }
        append(" ")
        append(value)
        append("\n")
    }

    private mutating func append(_ text: String) { bytes.append(contentsOf: text.utf8) }

    static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        // Whole numbers without ".0" and without exponent, as long as they are exact.
        if value == value.rounded(.towardZero), abs(value) < 0x1p53 { return String(Int64(value)) }
        return value.description
    }

    /// `a="1",b="2"`, sorted by name, so that the order in which a caller names them makes no difference. Where two
    /// have the same name the first counts.
    static func labels(_ dimensions: [(String, String)]) -> String {
        var seen: Set<String> = []
        var pairs: [(name: String, value: String)] = []
        for (name, value) in dimensions {
            let name = labelName(name)
            guard seen.insert(name).inserted else { continue }
            pairs.append((name, value))
        }
        pairs.sort { $0.name < $1.name }
        return pairs.map { "\($0.name)=\"\(escapedLabel($0.value))\"" }.joined(separator: ",")
    }

    /// Makes a legal metric name of what other libraries call their metrics: `http.server.requests` becomes
    /// `http_server_requests`.
    static func metricName(_ name: String) -> String { legal(name, allowsColon: true) }

    /// Makes a legal label name; `le` belongs to histograms.
    static func labelName(_ name: String) -> String {
        let name = legal(name, allowsColon: false)
        return name == "le" ? "le_" : name
    }

    private static func legal(_ name: String, allowsColon: Bool) -> String {
        var result = ""
        for scalar in name.unicodeScalars {
            switch scalar {
            case "a"..."z", "A"..."Z", "_": result.unicodeScalars.append(scalar)
            case "0"..."9":
                if result.isEmpty { result = "_" }
                result.unicodeScalars.append(scalar)
            case ":" where allowsColon: result.unicodeScalars.append(scalar)
            default: result += "_"
            }
        }
        return result.isEmpty ? "_" : result
    }

    private static func escapedHelp(_ text: String) -> String { escaped(text, quotes: false) }

    private static func escapedLabel(_ text: String) -> String { escaped(text, quotes: true) }

    private static func escaped(_ text: String, quotes: Bool) -> String {
        guard text.utf8.contains(where: { $0 == 0x5c || $0 == 0x0a || $0 == 0x22 }) else { return text }
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\"" where quotes: result += "\\\""
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
