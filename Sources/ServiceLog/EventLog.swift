public import Logging
internal import Synchronization

/// The log as every room of the service writes it: each line names its event, which decides the line's level, and how
/// many of its lines there may be.
///
///     log.write(.streamHeld, about: table, "stream held", ["error": "\(reason)"])
///
/// It stands in for swift-log's `Logger`, so that no line can be without a name. Copies share their counts of lines.
/// Callable from any thread.
public struct EventLog: Sendable {
    /// What varies from line to line, by key.
    public typealias Metadata = [String: String]

    /// Where lines go. For libraries that want a logger of swift-log; what they write has no name of ours.
    public let logger: Logger
    private let limiter: LineLimiter

    /// - Parameter logger: where lines go; its level decides which.
    public init(_ logger: Logger) { self.init(logger, now: { .now }) }

    init(_ logger: Logger, now: @escaping @Sendable () -> ContinuousClock.Instant) {
        self.logger = logger
        limiter = LineLimiter(now: now)
    }

    /// Writes a line, or counts it as suppressed if there were enough of its kind lately. A line that is not written
    /// costs neither message nor metadata.
    /// - Parameters:
    ///   - event: what happened.
    ///   - subject: lines about different subjects are limited apart. For names of our own configuration: never what
    ///     strangers choose.
    ///   - severity: for events whose own level is only the usual one.
    ///   - message: for people; may change from version to version. No payloads and no secrets.
    ///   - metadata: what varies. No payloads and no secrets.
    public func write(
        _ event: LoggedEvent, about subject: String = "", severity: Severity? = nil,
        _ message: @autoclosure () -> String, _ metadata: @autoclosure () -> Metadata = [:],
        file: String = #fileID, function: String = #function, line: UInt = #line
    ) {
        let severity = severity ?? event.definition.severity
        guard logger.logLevel <= severity.level else { return }
        var suppressed = 0
        if severity > .debug {
            guard let count = limiter.admit(event, subject) else { return }
            suppressed = count
        }
        var metadata = metadata().mapValues { Logger.MetadataValue.string($0) }
        metadata[LoggedEvent.metadataKey] = .string(event.rawValue)
        if suppressed > 0 { metadata["suppressed"] = .stringConvertible(suppressed) }
        logger.log(
            level: severity.level, "\(message())", metadata: metadata, file: file, function: function, line: line)
    }
}

/// Lets a bounded number of lines of each event and subject through in a period and counts the others.
private final class LineLimiter: Sendable {
    private struct Key: Hashable {
        let event: LoggedEvent
        let subject: String
    }

    private struct Count {
        var periodStart: ContinuousClock.Instant
        var lines = 0
        var suppressed = 0
    }

    /// Subjects are few; if they are not, further ones are counted together.
    private static let maximumKeys = 1_000
    private let now: @Sendable () -> ContinuousClock.Instant
    private let counts = Mutex<[Key: Count]>([:])

    init(now: @escaping @Sendable () -> ContinuousClock.Instant) { self.now = now }

    /// - Returns: how many were suppressed since the last line; `nil` if this one is, too.
    func admit(_ event: LoggedEvent, _ subject: String) -> Int? {
        let time = now()
        let limit = event.definition.limit
        return counts.withLock { counts in
            var key = Key(event: event, subject: subject)
            if counts[key] == nil, counts.count >= Self.maximumKeys { key = Key(event: event, subject: "") }
            var count = counts[key] ?? Count(periodStart: time)
            if count.periodStart.duration(to: time) >= .seconds(limit.seconds) {
                count.periodStart = time
                count.lines = 0
            }
            defer { counts[key] = count }
            guard count.lines < limit.lines else {
                count.suppressed += 1
                return nil
            }
            count.lines += 1
            defer { count.suppressed = 0 }
            return count.suppressed
        }
    }
}
