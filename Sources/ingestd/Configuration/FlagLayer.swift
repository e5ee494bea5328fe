import Configuration

/// Settings on the command line: `--http-port 8081` or `--http-port=8081`; list settings can be repeated.
///
/// swift-configuration's provider reads the values. It takes whatever follows a flag for its value and ignores what it
/// does not know, so the shape of the command line is checked here.
struct FlagLayer {
    private let snapshot: any ConfigSnapshot
    /// Flags that were given, in the right shape.
    private var usable: Set<String> = []
    private(set) var problems: [ConfigurationProblem] = []

    /// - Parameter arguments: without the program's name and without what other parsers took.
    init(arguments: [String]) {
        snapshot = CommandLineArgumentsProvider(arguments: ["ingestd"] + arguments).snapshot()
        let settings = SettingTable.byFlag
        var uses: [(flag: String, values: Int)] = []
        var takesValues = false
        for argument in arguments {
            if argument.hasPrefix("--") {
                let flag = String(argument.prefix { $0 != "=" })
                takesValues = flag.utf8.count == argument.utf8.count
                uses.append((flag, takesValues ? 0 : 1))
            } else if takesValues {
                uses[uses.count - 1].values += 1
            } else if let last = uses.last {
                // What stands here may be the rest of a secret, so it is not repeated.
                problems.append(.usage(last.flag, "takes one value, but something follows it"))
            } else {
                problems.append(.usage(Quoted.text(argument), "is no flag; settings are written --name value"))
            }
        }
        for (flag, uses) in Dictionary(grouping: uses, by: \.flag).sorted(by: { $0.key < $1.key }) {
            guard let setting = settings[flag] else {
                let hint = NearestName.hint(flag, among: settings.keys.sorted())
                problems.append(.usage(flag, "unknown flag\(hint)"))
                continue
            }
            if uses.count > 1 && !setting.isList {
                problems.append(.usage(flag, "is given \(uses.count) times"))
            } else if uses.contains(where: { $0.values == 0 }) && !setting.isSwitch {
                problems.append(.usage(flag, "needs a value; one that begins with -- is written \(flag)=VALUE"))
            } else if uses.contains(where: { $0.values > 1 }) {
                problems.append(.usage(flag, "takes one value, but more follow it; quote spaces"))
            } else {
                usable.insert(flag)
            }
        }
    }

    /// The text of a setting, if its flag was given.
    func text(_ key: SettingKey) throws -> String? {
        guard usable.contains(key.flag) else { return nil }
        // The provider splits at commas; joining undoes that. No parts at all is a switch.
        guard
            case .stringArray(let parts)? = try snapshot.value(
                forKey: AbsoluteConfigKey(key.components), type: .stringArray
            ).value?.content
        else { return nil }
        return parts.isEmpty ? "true" : parts.joined(separator: ",")
    }
}

extension ConfigurationProblem {
    fileprivate static func usage(_ subject: String, _ explanation: String) -> ConfigurationProblem {
        ConfigurationProblem(subject, explanation, isUsage: true)
    }
}
