public import Logging

/// Writes log events for people at a terminal:
///
///     04:05:06.789 info    journal: compacted bytes=4096 path="a folder"
///
/// Control characters in messages and values are escaped: text from outside can neither begin a new line nor steer
/// the terminal. Metadata is flattened and sorted as in `JSONLogHandler`.
///
/// A value, as swift-log demands: level and metadata of copies are independent. Callable from any thread.
public struct TextLogHandler: LogHandler {
    /// The least severe level that is written; `Logger` checks it.
    public var logLevel: Logger.Level
    /// Metadata of every event of this logger.
    public var metadata: Logger.Metadata = [:]
    /// Metadata of the moment; overridden by the logger's and the event's own.
    public var metadataProvider: Logger.MetadataProvider?

    private let label: String
    private let output: LogOutput
    private let clock: @Sendable () -> Int64

    /// - Parameters:
    ///   - label: the logger's name.
    ///   - logLevel: the least severe level that is written.
    ///   - metadataProvider: metadata of the moment; overridden by the handler's and the event's own.
    ///   - output: where lines go.
    public init(
        label: String, logLevel: Logger.Level, metadataProvider: Logger.MetadataProvider? = nil,
        output: LogOutput = .standardError
    ) {
        self.init(
            label: label, logLevel: logLevel, metadataProvider: metadataProvider, output: output,
            clock: LogTimestamp.now)
    }

    init(
        label: String, logLevel: Logger.Level, metadataProvider: Logger.MetadataProvider? = nil, output: LogOutput,
        clock: @escaping @Sendable () -> Int64
    ) {
        self.label = label
        self.logLevel = logLevel
        self.metadataProvider = metadataProvider
        self.output = output
        self.clock = clock
    }

    /// One value of `metadata`.
    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    /// Writes one line.
    public func log(event: LogEvent) {
        var line: [UInt8] = []
        line.reserveCapacity(256)
        LogTimestamp.appendLocalTime(clock(), to: &line)
        let level = event.level.rawValue
        let padding = String(repeating: " ", count: max(0, 8 - level.utf8.count))
        line.append(contentsOf: " \(level)\(padding)\(Self.printable(label)): ".utf8)
        line.append(contentsOf: Self.printable(event.message.description).utf8)
        if let error = event.error { line.append(contentsOf: " error=\(Self.quoted("\(error)"))".utf8) }
        let metadata = LogMetadata.merged(handler: metadata, provider: metadataProvider, event: event)
        for (key, value) in LogMetadata.flattened(metadata) {
            line.append(contentsOf: " \(Self.quoted(key))=\(Self.quoted("\(value)"))".utf8)
        }
        if logLevel <= .debug { line.append(contentsOf: " (\(event.file):\(event.line))".utf8) }
        line.append(0x0a)
        output.write(line: line)
    }

    /// As it is, or in double quotes where it would otherwise run into its neighbors. Looks at scalars: a combining
    /// mark behind a quote must not hide it.
    private static func quoted(_ text: String) -> String {
        let needsQuotes = text.unicodeScalars.contains { $0 == " " || $0 == "=" || $0 == "\"" }
        guard needsQuotes || text.isEmpty else { return printable(text) }
        var inner = ""
        for scalar in text.unicodeScalars {
            if scalar == "\"" || scalar == "\\" { inner += "\\" }
            inner.unicodeScalars.append(scalar)
        }
        return "\"\(printable(inner))\""
    }

    /// Escapes C0 and C1 control characters; 0x9b alone begins an escape sequence on some terminals.
    private static func printable(_ text: String) -> String {
        func isControl(_ scalar: Unicode.Scalar) -> Bool {
            scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value)
        }
        guard text.unicodeScalars.contains(where: isControl) else { return text }
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case _ where isControl(scalar):
                let hex = String(scalar.value, radix: 16)
                result += "\\u{\(hex)}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
