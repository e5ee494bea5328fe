/// One thing that is wrong with the configuration.
struct ConfigurationProblem: Sendable, Equatable, CustomStringConvertible {
    /// Setting, flag, key or file.
    let subject: String
    /// The value and where it came from, or what went wrong, and what is allowed. Never contains a secret.
    let explanation: String
    /// Whether the command line itself is wrong, rather than a value.
    let isUsage: Bool

    init(_ subject: String, _ explanation: String, isUsage: Bool = false) {
        self.subject = subject
        self.explanation = explanation
        self.isUsage = isUsage
    }

    var description: String { "\(subject): \(explanation)" }
}

/// Everything that is wrong with the configuration, so that it can be mended at once.
struct ConfigurationError: Error, CustomStringConvertible {
    /// At least one.
    let problems: [ConfigurationProblem]
    /// What may explain them: names that look like typing errors.
    let warnings: [String]

    /// Whether the process should end with 64 (wrong usage) rather than 1.
    var isUsage: Bool { problems.contains(where: \.isUsage) }

    /// One line for each problem.
    var description: String { problems.map(\.description).joined(separator: "\n") }
}

/// Where a value came from.
enum SettingSource: Sendable, Equatable, CustomStringConvertible {
    case defaultValue
    case flag(String)
    case environment
    /// The YAML file.
    case file(String)
    /// A file that one of the others names.
    indirect case secretFile(String, namedBy: String, SettingSource)

    var description: String {
        switch self {
        case .defaultValue: "default"
        case .flag(let flag): "flag \(flag)"
        case .environment: "environment"
        case .file(let path): "file \(path)"
        case .secretFile(let path, let name, let source): "\(path), from \(name), \(source)"
        }
    }
}

/// How values from outside are shown in messages.
enum Quoted {
    /// In quotes, control characters escaped, at most 100 characters.
    static func text(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars.prefix(100) {
            switch scalar {
            case "\"", "\\": result += "\\\(scalar)"
            case "\n": result += "\\n"
            case _ where scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value):
                result += "\\u{\(String(scalar.value, radix: 16))}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return "\"\(result)\"" + (text.unicodeScalars.count > 100 ? "..." : "")
    }
}
