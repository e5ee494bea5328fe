import Configuration
import Synchronization

/// Settings in a YAML file, by section and name: `http: {port: 8081, maxBodyBytes: 16MiB}`. Lists are sequences or the
/// same text as in the environment.
struct YAMLLayer {
    let path: String
    private let snapshot: YAMLSnapshot?
    private(set) var problems: [ConfigurationProblem] = []

    init(path: String) {
        self.path = path
        do throws(FileProblem) {
            let contents = try ConfigurationFile.contents(of: path)
            (snapshot, problems) = Self.parse(contents, path: path)
        } catch {
            snapshot = nil
            problems = [ConfigurationProblem(path, "the configuration file cannot be read: \(error.reason)")]
        }
    }

    private static func parse(_ contents: [UInt8], path: String) -> (YAMLSnapshot?, [ConfigurationProblem]) {
        guard !isBlank(contents) else { return (nil, []) }
        // A snapshot answers for known keys only. The unknown ones are seen here: each key passes by once.
        let keys = KeyCollector()
        let options = YAMLSnapshot.ParsingOptions(
            secretsSpecifier: .dynamic { key, _ in
                keys.insert(key)
                return true
            })
        do {
            let snapshot = try YAMLSnapshot(data: contents.span.bytes, providerName: path, parsingOptions: options)
            return (snapshot, keys.sorted().compactMap { problem(key: $0, in: snapshot, path: path) })
        } catch {
            let reason = reason("\(error)")
            return (nil, [ConfigurationProblem(path, "the configuration file cannot be used: \(reason)")])
        }
    }

    /// What is wrong with the file as YAML, without the parser's quotations from it, which may be secrets: those are
    /// on its further lines, and as keys on the first.
    private static func reason(_ error: String) -> String {
        let line = String(error.prefix { !$0.isNewline })
        let words = Set(line.split { $0 == " " || $0 == "'" || $0 == "," }.map(String.init))
        if line.contains("duplicated key") {
            let known = words.intersection(SettingTable.yamlKeys.flatMap { $0.split(separator: ".").map(String.init) })
            return "a key occurs twice in one mapping" + known.sorted().map { ": \($0)" }.joined()
        }
        // The parser's own messages begin with the position and are fixed texts.
        guard line.first?.isNumber != true else { return line }
        let known = SettingTable.yamlKeys.filter { key in words.contains { $0 == key || $0.hasPrefix(key + ".") } }
        return "it is not sections of settings with texts or lists of texts as values"
            + known.sorted().map { "; see \($0)" }.joined()
    }

    private static func problem(key: String, in snapshot: YAMLSnapshot, path: String) -> ConfigurationProblem? {
        guard !SettingTable.yamlKeys.contains(key) else { return nil }
        if SettingTable.sections.contains(key) {
            // A section whose lines are all commented out. What can't be read as text is not empty, and reported too.
            guard (try? snapshot.value(forKey: AbsoluteConfigKey([key]), type: .string))?.value?.content != .string("")
            else { return nil }
            return ConfigurationProblem(key, "(file \(path)) is a section of settings, not a setting")
        }
        if let setting = SettingTable.yamlKeys.first(where: { key.hasPrefix($0 + ".") }) {
            // What stands below it is not repeated: an unquoted password in braces is a mapping too.
            return ConfigurationProblem(
                setting, "(file \(path)) takes a text or a list, not a mapping; quote it or write [\"name=value\", ...]"
            )
        }
        // For the same reason not more than a section and a name.
        let shown = key.split(separator: ".").prefix(2).joined(separator: ".")
        let hint = NearestName.hint(shown, among: SettingTable.yamlKeys.sorted())
        return ConfigurationProblem(shown, "(file \(path)) unknown setting\(hint)")
    }

    /// The text of a setting, if the file has it.
    func text(_ key: SettingKey, isList: Bool) throws(InvalidValue) -> String? {
        guard let snapshot else { return nil }
        let key = AbsoluteConfigKey(key.components)
        // Asked for a type that the value does not have, the snapshot throws.
        if let result = try? snapshot.value(forKey: key, type: .string) {
            guard case .string(let text)? = result.value?.content else { return nil }
            guard !["~", "null", "Null", "NULL"].contains(text) else {
                throw InvalidValue("is null; leave the line out for the default")
            }
            return text
        }
        if isList,
            case .stringArray(let items)? = (try? snapshot.value(forKey: key, type: .stringArray))?.value?.content
        {
            return Syntax.joined(items)
        }
        throw InvalidValue("is a list, but takes one value")
    }

    /// Whether there are only comments. The snapshot wants a mapping, but a file may well be all commented out.
    private static func isBlank(_ contents: [UInt8]) -> Bool {
        contents.split(separator: 0x0a).allSatisfy { line in
            let text = line.drop { $0 == 0x20 || $0 == 0x09 || $0 == 0x0d }
            return text.isEmpty || text.first == UInt8(ascii: "#") || text.starts(with: "---".utf8)
        }
    }
}

/// Keys that a `@Sendable` closure collects.
private final class KeyCollector: Sendable {
    private let keys = Mutex<Set<String>>([])

    func insert(_ key: String) { keys.withLock { _ = $0.insert(key) } }

    func sorted() -> [String] { keys.withLock { $0.sorted() } }
}
