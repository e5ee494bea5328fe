/// The number of a stream within one journal. Given by the journal when the stream is first opened, and never
/// reused.
public struct StreamID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The number as stored in the journal's keys.
    public let rawValue: UInt32

    /// Wraps a number that the journal gave.
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// In the order in which the journal gave the numbers.
    public static func < (left: StreamID, right: StreamID) -> Bool { left.rawValue < right.rawValue }

    /// The number, for logs.
    public var description: String { "stream \(rawValue)" }
}

/// A stream: the queue of one destination table, with its own sequence numbers, flusher position and failures.
public struct Stream: Hashable, Sendable {
    /// The stream's number in the journal.
    public let id: StreamID
    /// The destination table, `table` or `database.table`. It is also the stream's name, in answers and metrics.
    public let table: String

    /// Pairs a number with its table.
    public init(id: StreamID, table: String) {
        self.id = id
        self.table = table
    }
}

/// Decides which stream an event belongs to: by Kafka topic, or by the `{stream}` part of the HTTP path.
public struct StreamRoutes: Sendable {
    private let byName: [String: Stream]
    private let patterns: [(pattern: TopicPattern, stream: Stream)]
    private let fallback: Stream

    /// - Parameters:
    ///   - byName: streams by topic or path name (the setting `STREAMS`).
    ///   - patterns: streams of topics whose names are not in `byName`; the first pattern that matches decides.
    ///   - fallback: the stream of everything else (the setting `CLICKHOUSE_TABLE`).
    public init(
        byName: [String: Stream], patterns: [(pattern: TopicPattern, stream: Stream)] = [], fallback: Stream
    ) {
        self.byName = byName
        self.patterns = patterns
        self.fallback = fallback
    }

    /// The stream for a path name; `nil` stands for a request without a name. Patterns are for topics only.
    public func stream(for name: String?) -> Stream {
        guard let name else { return fallback }
        return byName[name] ?? fallback
    }

    /// The stream for a topic. Compares with all patterns: for partitions when they are assigned, not for messages.
    public func stream(forTopic topic: String) -> Stream {
        byName[topic] ?? patterns.first { $0.pattern.matches(topic) }?.stream ?? fallback
    }

    /// Every stream that a route can lead to, without duplicates.
    public var all: Set<Stream> { Set(byName.values).union(patterns.map(\.stream)).union([fallback]) }
}
