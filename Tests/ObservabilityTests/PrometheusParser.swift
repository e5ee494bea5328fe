/// A strict reader of Prometheus text format 0.0.4: accepts what the specification allows and the registry should
/// write, and nothing else. Shares no code with the writer.
struct PrometheusParser {
    struct Failure: Error, CustomStringConvertible {
        let line: String
        let reason: String
        var description: String { "\(reason): \(line)" }
    }

    struct Sample: Equatable {
        let name: String
        let labels: [String: String]
        let value: Double
    }

    struct Family: Equatable {
        let name: String
        var help: String?
        var type: String?
        var samples: [Sample] = []
    }

    /// The families in the order of the text.
    static func parse(_ bytes: [UInt8]) throws -> [Family] {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw Failure(line: "", reason: "not UTF-8")
        }
        guard bytes.isEmpty || bytes.last == 0x0a else { throw Failure(line: "", reason: "no line feed at the end") }
        var families: [Family] = []
        var seen: Set<String> = []
        // By scalars: as Characters, a carriage return and a line feed are one.
        for line in text.unicodeScalars.split(separator: "\n").map({ String($0) }) {
            func fail(_ reason: String) -> Failure { Failure(line: line, reason: reason) }
            if line.hasPrefix("#") {
                let parts = line.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false)
                guard parts.count == 4, parts[0] == "#" else { throw fail("bad comment") }
                let name = String(parts[2])
                guard isName(name, colon: true) else { throw fail("bad metric name") }
                if families.last?.name != name {
                    guard seen.insert(name).inserted else { throw fail("family in two pieces") }
                    families.append(Family(name: name))
                }
                guard families[families.count - 1].samples.isEmpty else { throw fail("comment behind samples") }
                switch parts[1] {
                case "HELP":
                    guard families[families.count - 1].help == nil else { throw fail("HELP twice") }
                    families[families.count - 1].help = try unescaped(Substring(parts[3]), quotes: false, fail)
                case "TYPE":
                    guard families[families.count - 1].type == nil else { throw fail("TYPE twice") }
                    guard ["counter", "gauge", "histogram"].contains(parts[3]) else { throw fail("unknown type") }
                    families[families.count - 1].type = String(parts[3])
                default: throw fail("unknown comment")
                }
            } else {
                let sample = try sample(line, fail)
                guard var family = families.last, let type = family.type else { throw fail("sample without TYPE") }
                let allowed =
                    type == "histogram" ? ["_bucket", "_sum", "_count"].map { family.name + $0 } : [family.name]
                guard allowed.contains(sample.name) else { throw fail("sample of another family") }
                guard !family.samples.contains(where: { $0.name == sample.name && $0.labels == sample.labels }) else {
                    throw fail("the same series twice")
                }
                family.samples.append(sample)
                families[families.count - 1] = family
            }
        }
        for family in families where family.type == "histogram" { try checkHistogram(family) }
        return families
    }

    private static func checkHistogram(_ family: Family) throws {
        let bare = { (sample: Sample) in sample.labels.filter { $0.key != "le" } }
        for labels in Set(family.samples.map(bare)) {
            let series = family.samples.filter { bare($0) == labels }
            func fail(_ reason: String) -> Failure { Failure(line: "\(family.name) \(labels)", reason: reason) }
            let buckets = try series.filter { $0.name.hasSuffix("_bucket") }.map { sample -> (Double, Double) in
                guard let text = sample.labels["le"], let bound = number(text) else { throw fail("no le") }
                return (bound, sample.value)
            }
            guard zip(buckets, buckets.dropFirst()).allSatisfy({ $0.0 < $1.0 && $0.1 <= $1.1 }) else {
                throw fail("buckets do not rise")
            }
            guard let last = buckets.last, last.0 == .infinity else { throw fail("no +Inf bucket") }
            guard series.count(where: { $0.name.hasSuffix("_sum") }) == 1 else { throw fail("no sum") }
            guard series.first(where: { $0.name.hasSuffix("_count") })?.value == last.1 else { throw fail("count") }
        }
    }

    private static func sample(_ line: String, _ fail: (String) -> Failure) throws -> Sample {
        var rest = Substring(line)
        let name = String(rest.prefix { $0 != "{" && $0 != " " })
        guard isName(name, colon: true) else { throw fail("bad metric name") }
        rest = rest.dropFirst(name.count)
        var labels: [String: String] = [:]
        if rest.first == "{" {
            rest = rest.dropFirst()
            while true {
                let label = String(rest.prefix { $0 != "=" })
                guard isName(label, colon: false) else { throw fail("bad label name") }
                rest = rest.dropFirst(label.count)
                guard rest.hasPrefix("=\"") else { throw fail("label without value") }
                rest = rest.dropFirst(2)
                var end = rest.startIndex
                while end < rest.endIndex, rest[end] != "\"" {
                    if rest[end] == "\\" { end = rest.index(after: end) }
                    guard end < rest.endIndex else { throw fail("open escape") }
                    end = rest.index(after: end)
                }
                guard end < rest.endIndex else { throw fail("open label value") }
                let value = try unescaped(rest[..<end], quotes: true, fail)
                guard labels.updateValue(value, forKey: label) == nil else { throw fail("label twice") }
                rest = rest[rest.index(after: end)...]
                if rest.first == "}" { break }
                guard rest.first == "," else { throw fail("no comma between labels") }
                rest = rest.dropFirst()
            }
            rest = rest.dropFirst()
        }
        guard rest.first == " ", let value = number(String(rest.dropFirst())) else { throw fail("bad value") }
        return Sample(name: name, labels: labels, value: value)
    }

    private static func unescaped(
        _ text: Substring, quotes: Bool, _ fail: (String) -> Failure
    ) throws -> String {
        var result = ""
        var isEscape = false
        for character in text {
            if isEscape {
                switch character {
                case "\\": result.append("\\")
                case "n": result.append("\n")
                case "\"" where quotes: result.append("\"")
                default: throw fail("unknown escape")
                }
                isEscape = false
            } else if character == "\\" {
                isEscape = true
            } else {
                result.append(character)
            }
        }
        guard !isEscape else { throw fail("open escape") }
        return result
    }

    private static func number(_ text: String) -> Double? {
        switch text {
        case "+Inf": .infinity
        case "-Inf": -.infinity
        case "NaN": .nan
        default: text.first.map { $0.isNumber || $0 == "-" } == true ? Double(text) : nil
        }
    }

    private static func isName(_ text: String, colon: Bool) -> Bool {
        guard let first = text.unicodeScalars.first, !("0"..."9").contains(first) else { return false }
        return text.unicodeScalars.allSatisfy {
            ("a"..."z").contains($0) || ("A"..."Z").contains($0) || ("0"..."9").contains($0) || $0 == "_"
                || (colon && $0 == ":")
        }
    }
}
