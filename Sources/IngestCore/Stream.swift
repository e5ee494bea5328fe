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
    private let fallback: Stream

    /// - Parameters:
    ///   - byName: streams by topic or path name (the setting `STREAMS`).
    ///   - fallback: the stream of everything else (the setting `CLICKHOUSE_TABLE`).
    public init(byName: [String: Stream], fallback: Stream) {
        self.byName = byName
        self.fallback = fallback
    }

    /// The stream for a topic or path name; `nil` stands for a request without a name.
    public func stream(for name: String?) -> Stream {
        guard let name else { return fallback }
        return byName[name] ?? fallback
    }

    /// Every stream that a route can lead to, without duplicates.
    public var all: Set<Stream> { Set(byName.values).union([fallback]) }
}
