public import Logging
internal import ServiceLog

/// Writes each log event as one JSON object on one line:
///
///     {"ts":"2026-02-03T04:05:06.789Z","level":"info","logger":"ingestd","event":"service.stopped","msg":"stopped",
///      "waiting_events":0}
///
/// (on one line.) `event` is the stable name of what happened, one of `LoggedEvent`: `library` where a library has
/// logged by itself. `msg` is for people; what varies belongs into metadata, whose keys become fields of the object,
/// sorted. Nested dictionaries become `outer.inner`, arrays stay arrays, numbers and Booleans that are passed as
/// `.stringConvertible` stay numbers and Booleans. A key that is taken (`ts`, `level`, `logger`, `event`, `msg`, and `error` or
/// `source` where the event has them) becomes `field.key`. Loggers at `debug` or `trace` also say where in the source
/// the event comes from.
///
/// A value, as swift-log demands: level and metadata of copies are independent. Callable from any thread.
public struct JSONLogHandler: LogHandler {
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
        line.append(contentsOf: #"{"ts":""#.utf8)
        LogTimestamp.appendUTC(clock(), to: &line)
        line.append(contentsOf: #"","level":""#.utf8)
        line.append(contentsOf: event.level.rawValue.utf8)
        line.append(contentsOf: #"","logger":"#.utf8)
        JSONText.append(string: label, to: &line)
        var metadata = LogMetadata.merged(handler: metadata, provider: metadataProvider, event: event)
        var taken: Set = ["ts", "level", "logger", "event", "msg"]
        func field(_ name: String, _ value: String) {
            taken.insert(name)
            JSONText.append(key: name, to: &line)
            JSONText.append(string: value, to: &line)
        }
        field("event", LogMetadata.takeEvent(from: &metadata).rawValue)
        field("msg", event.message.description)
        if let error = event.error { field("error", "\(error)") }
        if logLevel <= .debug { field("source", "\(event.file):\(event.line)") }
        for (key, value) in LogMetadata.flattened(metadata) {
            // Two keys can meet after flattening or renaming; an object with a key twice would be ambiguous.
            var name = key
            while !taken.insert(name).inserted { name = "field.\(name)" }
            JSONText.append(key: name, to: &line)
            JSONText.append(value: value, to: &line)
        }
        line.append(contentsOf: "}\n".utf8)
        output.write(line: line)
    }
}

/// Writes JSON into a line. The standard library has no encoder, and Foundation's would allocate a tree first.
enum JSONText {
    /// `,"key":`
    static func append(key: String, to line: inout [UInt8]) {
        line.append(UInt8(ascii: ","))
        append(string: key, to: &line)
        line.append(UInt8(ascii: ":"))
    }

    static func append(string: String, to line: inout [UInt8]) {
        line.append(UInt8(ascii: "\""))
        for byte in string.utf8 {
            switch byte {
            case UInt8(ascii: "\""): line.append(contentsOf: #"\""#.utf8)
            case UInt8(ascii: "\\"): line.append(contentsOf: #"\\"#.utf8)
            case 0x0a: line.append(contentsOf: #"\n"#.utf8)
            case 0x0d: line.append(contentsOf: #"\r"#.utf8)
            case 0x09: line.append(contentsOf: #"\t"#.utf8)
            case 0..<0x20:
                line.append(contentsOf: #"\u00"#.utf8)
                line.append(hexDigit(byte >> 4))
                line.append(hexDigit(byte & 15))
            default: line.append(byte)
            }
        }
        line.append(UInt8(ascii: "\""))
    }

    static func append(value: Logger.MetadataValue, to line: inout [UInt8]) {
        switch value {
        case .string(let text): append(string: text, to: &line)
        case .stringConvertible(let value):
            switch value {
            case let value as Bool: line.append(contentsOf: value.description.utf8)
            case let value as any FixedWidthInteger: line.append(contentsOf: "\(value)".utf8)
            // JSON has no infinite and undefined numbers.
            case let value as Double where value.isFinite: line.append(contentsOf: value.description.utf8)
            default: append(string: value.description, to: &line)
            }
        case .array(let values):
            line.append(UInt8(ascii: "["))
            for (index, value) in values.enumerated() {
                if index > 0 { line.append(UInt8(ascii: ",")) }
                append(value: value, to: &line)
            }
            line.append(UInt8(ascii: "]"))
        case .dictionary(let values):
            // Only within arrays; elsewhere dictionaries are flattened.
            line.append(UInt8(ascii: "{"))
            for (index, (key, value)) in values.sorted(by: { $0.key < $1.key }).enumerated() {
                if index > 0 { line.append(UInt8(ascii: ",")) }
                append(string: key, to: &line)
                line.append(UInt8(ascii: ":"))
                append(value: value, to: &line)
            }
            line.append(UInt8(ascii: "}"))
        }
    }

    private static func hexDigit(_ nibble: UInt8) -> UInt8 { nibble < 10 ? 0x30 + nibble : 0x57 + nibble }
}

/// What both handlers do with metadata.
enum LogMetadata {
    /// The event's own wins over the handler's, which wins over the provider's.
    static func merged(
        handler: Logger.Metadata, provider: Logger.MetadataProvider?, event: LogEvent
    ) -> Logger.Metadata {
        var result = provider?.get() ?? [:]
        result.merge(handler) { _, last in last }
        if let metadata = event.metadata { result.merge(metadata) { _, last in last } }
        return result
    }

    /// Takes the event's name out; what a library has under that key, and is no name of ours, stays.
    static func takeEvent(from metadata: inout Logger.Metadata) -> LoggedEvent {
        guard case .string(let name)? = metadata[LoggedEvent.metadataKey], let event = LoggedEvent(rawValue: name)
        else { return .library }
        metadata[LoggedEvent.metadataKey] = nil
        return event
    }

    /// Sorted by key; nested dictionaries become `outer.inner`.
    static func flattened(_ metadata: Logger.Metadata) -> [(key: String, value: Logger.MetadataValue)] {
        metadata.sorted { $0.key < $1.key }.flatMap { key, value -> [(key: String, value: Logger.MetadataValue)] in
            guard case .dictionary(let inner) = value else { return [(key, value)] }
            return flattened(inner).map { ("\(key).\($0.key)", $0.value) }
        }
    }
}
