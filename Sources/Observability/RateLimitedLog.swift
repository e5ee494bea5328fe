public import Logging
internal import Synchronization

/// Logs an event that can happen very often: the first time at once, then at most once in each interval, with the
/// number of occurrences in between as `suppressed`.
///
/// One object stands for one event (and one stream, partition and so on). Callable from any thread. An occurrence that
/// is suppressed costs a lock and neither formats the message nor builds metadata.
public final class RateLimitedLog: Sendable {
    private struct State {
        var lastLogged: ContinuousClock.Instant?
        var suppressed = 0
    }

    private let logger: Logger
    private let interval: Duration
    private let now: @Sendable () -> ContinuousClock.Instant
    private let state = Mutex(State())

    /// - Parameters:
    ///   - logger: where to log.
    ///   - interval: least time between two lines.
    ///   - now: the clock.
    public init(
        logger: Logger, interval: Duration, now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }
    ) {
        self.logger = logger
        self.interval = interval
        self.now = now
    }

    /// Logs the event, or counts it as suppressed. Does neither where the logger's level is above `level`.
    public func log(
        level: Logger.Level, _ message: @autoclosure () -> Logger.Message,
        metadata: @autoclosure () -> Logger.Metadata = [:], file: String = #fileID, function: String = #function,
        line: UInt = #line
    ) {
        guard logger.logLevel <= level else { return }
        let time = now()
        let suppressed = state.withLock { state -> Int? in
            if let last = state.lastLogged, last.duration(to: time) < interval {
                state.suppressed += 1
                return nil
            }
            defer { state = State(lastLogged: time) }
            return state.suppressed
        }
        guard let suppressed else { return }
        var metadata = metadata()
        if suppressed > 0 { metadata["suppressed"] = .stringConvertible(suppressed) }
        logger.log(level: level, message(), metadata: metadata, file: file, function: function, line: line)
    }
}
