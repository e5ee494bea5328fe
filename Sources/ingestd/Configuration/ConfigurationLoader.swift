/// Puts the configuration together: flags over environment over YAML file over defaults.
struct ConfigurationLoader: Sendable {
    /// The variable that names the YAML file where `--config` does not.
    static let fileVariable = "INGESTD_CONFIG"

    /// Arguments that are settings.
    var flags: [String] = []
    var environment: [String: String] = [:]
    /// The YAML file; `nil` takes it from the environment.
    var filePath: String?
    /// The settings that matter; the others keep their defaults, whatever is wrong with them. `nil` is all.
    var settings: Set<String>?

    /// Reads and checks everything.
    /// - Throws: all problems together.
    func load() throws(ConfigurationError) -> LoadedConfiguration {
        var load = Load(flags: flags, environment: environment, filePath: filePath)
        let resolved = settings ?? Set(SettingTable.byName.keys)
        for setting in SettingTable.all where resolved.contains(setting.name) { load.resolve(setting) }
        load.checkRelations(among: resolved, isComplete: settings == nil)
        load.addWarnings(isComplete: settings == nil)
        guard load.problems.isEmpty else {
            throw ConfigurationError(problems: load.problems, warnings: load.result.warnings)
        }
        return load.result
    }
}

/// A configuration without problems.
struct LoadedConfiguration: Sendable {
    fileprivate(set) var configuration = ServiceConfiguration()
    /// Where each setting's value came from, by name; those not in it have their default.
    fileprivate(set) var sources: [String: SettingSource] = [:]
    /// What is allowed but probably not meant.
    fileprivate(set) var warnings: [String] = []

    /// The YAML file that was read.
    fileprivate(set) var filePath: String?

    /// `NAME=value  # source` for every setting, secrets redacted.
    var effectiveLines: [String] {
        SettingTable.all.map { setting in
            "\(setting.name)=\(setting.text(configuration) ?? "<not set>")  # \(source(of: setting))"
        }
    }

    func source(of setting: Setting) -> SettingSource { sources[setting.name] ?? .defaultValue }
}

/// One run of the loader.
private struct Load {
    var result = LoadedConfiguration()
    var problems: [ConfigurationProblem]
    private let flags: FlagLayer
    private let environment: EnvironmentLayer
    private let file: YAMLLayer?
    /// Settings whose value is unknown because their text is wrong.
    private var failed: Set<String> = []

    init(flags arguments: [String], environment variables: [String: String], filePath: String?) {
        flags = FlagLayer(arguments: arguments)
        environment = EnvironmentLayer(variables)
        let path = filePath ?? variables[ConfigurationLoader.fileVariable].flatMap { $0.isEmpty ? nil : $0 }
        file = path.map(YAMLLayer.init(path:))
        result.filePath = path
        problems = flags.problems + (file?.problems ?? [])
    }

    /// Finds a setting's text and puts its value into the result.
    mutating func resolve(_ setting: Setting) {
        do throws(ConfigurationProblem) {
            guard let (text, source) = try text(of: setting) else { return }
            do throws(InvalidValue) {
                try setting.apply(text, &result.configuration)
                result.sources[setting.name] = source
            } catch {
                throw problem(setting, text: error.hidesText ? nil : text, source, error.reason)
            }
        } catch {
            problems.append(error)
            failed.insert(setting.name)
        }
    }

    private func text(of setting: Setting) throws(ConfigurationProblem) -> (String, SettingSource)? {
        let direct = try lookUp(setting.key, setting)
        guard let fileKey = setting.fileKey, let (path, source) = try lookUp(fileKey, setting) else { return direct }
        if let direct {
            throw ConfigurationProblem(
                setting.name,
                "is set (\(direct.1)), and so is \(fileKey.name) (\(source)); set one of them")
        }
        do throws(FileProblem) {
            let text = try ConfigurationFile.secret(in: path)
            return (text, .secretFile(path, namedBy: fileKey.name, source))
        } catch {
            throw ConfigurationProblem(
                fileKey.name, "\(Quoted.text(path)) (\(source)) cannot be read: \(error.reason)")
        }
    }

    /// The text under one key, from the first layer that has it.
    private func lookUp(
        _ key: SettingKey, _ setting: Setting
    ) throws(ConfigurationProblem) -> (text: String, source: SettingSource)? {
        do {
            if let text = try flags.text(key) { return (text, .flag(key.flag)) }
            if let text = try environment.text(key) { return (text, .environment) }
        } catch {
            // The providers convert everything to text; if one day they refuse, say so.
            throw ConfigurationProblem(key.name, "cannot be looked up")
        }
        guard let file else { return nil }
        do throws(InvalidValue) {
            return try file.text(key, isList: setting.isList && key == setting.key).map { ($0, .file(file.path)) }
        } catch {
            throw problem(setting, text: nil, .file(file.path), error.reason)
        }
    }

    private func problem(
        _ setting: Setting, text: String?, _ source: SettingSource, _ reason: String
    ) -> ConfigurationProblem {
        let value = setting.isSecret ? "the value" : text.map(Quoted.text) ?? "the value"
        return ConfigurationProblem(setting.name, "\(value) (\(source)) \(reason); allowed: \(setting.allowed)")
    }

    mutating func checkRelations(among resolved: Set<String>, isComplete: Bool) {
        let usable = resolved.subtracting(failed)
        for relation in ConfigurationRelation.all where usable.isSuperset(of: relation.settings) {
            if relation.isForServiceOnly, !isComplete { continue }
            guard let reason = relation.problem(result.configuration) else { continue }
            let values = relation.settings.map { name in
                let setting = SettingTable.byName[name]!
                let value = setting.text(result.configuration).map(Quoted.text) ?? "not set"
                return "\(name) \(value) (\(result.source(of: setting)))"
            }
            let others = values.dropFirst().map { ", with \($0)" }.joined()
            let first = values[0].dropFirst(relation.settings[0].count + 1)
            problems.append(ConfigurationProblem(relation.settings[0], "\(first)\(others): \(reason)"))
        }
    }

    mutating func addWarnings(isComplete: Bool) {
        result.warnings = environment.warnings
        for setting in SettingTable.all where setting.isSecret {
            guard case .flag(let flag)? = result.sources[setting.name] else { continue }
            result.warnings.append(
                "\(flag) shows a secret to everyone on this machine; use \(setting.name)_FILE or the environment")
        }
        let http = result.configuration.http
        if isComplete, http.token == nil, !failed.contains("HTTP_TOKEN"), !Self.isLoopback(http.host) {
            result.warnings.append(
                "HTTP_HOST \(http.host) is reachable from other machines and HTTP_TOKEN is not set: "
                    + "everyone who reaches the port may send events")
        }
    }

    private static func isLoopback(_ host: String) -> Bool {
        host == "localhost" || host == "::1" || host.hasPrefix("127.")
    }
}

extension ConfigurationProblem: Error {}
