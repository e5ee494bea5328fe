/// One setting: a line of `SettingTable`, with its type erased.
struct Setting: Sendable {
    /// The environment variable, from which flag and YAML key derive: `HTTP_MAX_BODY_BYTES`.
    let name: String
    /// What it does, in one or two sentences.
    let help: String
    /// What values it takes.
    let allowed: String
    /// The text of the default; `nil` where there is none.
    let defaultText: String?
    /// Whether its text must never be printed, and `fileName` exists.
    let isSecret: Bool
    /// Whether its flag can be repeated and a YAML sequence is allowed.
    let isList: Bool
    /// Whether its flag can stand without a value.
    let isSwitch: Bool
    /// Puts the value of a text into a configuration.
    let apply: @Sendable (String, inout ServiceConfiguration) throws(InvalidValue) -> Void
    /// The text of the value in a configuration, secrets redacted; `nil` where it is not set.
    let text: @Sendable (ServiceConfiguration) -> String?

    /// - Parameters:
    ///   - name: words in capitals, joined by underscores; the first is the room.
    ///   - path: where the value is kept; its initial value there is the default.
    ///   - type: how its text is read.
    ///   - help: what it does.
    init<Value: Sendable>(
        _ name: String, _ path: any WritableKeyPath<ServiceConfiguration, Value> & Sendable, _ type: SettingType<Value>,
        _ help: String
    ) {
        self.name = name
        self.help = help
        allowed = type.allowed
        defaultText = type.format(ServiceConfiguration()[keyPath: path])
        isSecret = type.isSecret
        isList = type.isList
        isSwitch = type.isSwitch
        apply = { text, configuration throws(InvalidValue) in
            configuration[keyPath: path] = try type.parse(text)
        }
        self.text = { type.format($0[keyPath: path]) }
    }

    /// The names of this setting in each source.
    var key: SettingKey { SettingKey(name: name) }

    /// Where the secret can be read from a file instead: `HTTP_TOKEN_FILE`.
    var fileKey: SettingKey? { isSecret ? SettingKey(name: "\(name)_FILE") : nil }
}

/// The names of a setting in the environment, on the command line and in YAML.
struct SettingKey: Sendable, Hashable {
    /// `HTTP_MAX_BODY_BYTES`
    let name: String

    /// `--http-max-body-bytes`
    var flag: String { "--" + name.lowercased().split(separator: "_").joined(separator: "-") }

    /// `["http", "maxBodyBytes"]`: what swift-configuration encodes to the other two.
    var components: [String] {
        let words = name.lowercased().split(separator: "_").map(String.init)
        guard words.count > 1 else { return words }
        let rest = words[2...].map { $0.prefix(1).uppercased() + $0.dropFirst() }
        return [words[0], ([words[1]] + rest).joined()]
    }

    /// `http.maxBodyBytes`
    var yamlKey: String { components.joined(separator: ".") }

    /// `http`: the section of the YAML file, and the prefix of the environment variable.
    var section: String { components[0] }
}
