internal import IngestCore
internal import Logging
internal import Synchronization

/// Lets through a bounded number of log lines in each period and counts the others. Usable from any thread.
final class LogLimiter: Sendable {
    private struct State {
        var periodStart: UInt64 = 0
        var passed = 0
        var suppressed = 0
    }

    private let state = Mutex(State())
    private let lines: Int
    private let periodNanoseconds: UInt64

    /// - Parameters:
    ///   - lines: lines that pass in each period.
    ///   - periodSeconds: length of a period.
    init(lines: Int, periodSeconds: Int) {
        self.lines = lines
        periodNanoseconds = UInt64(periodSeconds) * 1_000_000_000
    }

    /// Whether a line may be written at `now` (nanoseconds).
    /// - Returns: how many were suppressed before it; `nil` if this one is to be suppressed, too.
    func admit(at now: UInt64) -> Int? {
        state.withLock { state in
            if now >= state.periodStart + periodNanoseconds {
                state.periodStart = now
                state.passed = 0
            }
            guard state.passed < lines else {
                state.suppressed += 1
                return nil
            }
            state.passed += 1
            defer { state.suppressed = 0 }
            return state.suppressed
        }
    }
}

extension Logger {
    /// Logs unless `limiter` has let through enough.
    func log(level: Level, limiter: LogLimiter, _ message: @autoclosure () -> Message, metadata: Metadata? = nil) {
        guard level >= logLevel, let suppressed = limiter.admit(at: MonotonicClock.now) else { return }
        var metadata = metadata ?? [:]
        if suppressed > 0 { metadata["suppressed_before"] = "\(suppressed)" }
        log(level: level, message(), metadata: metadata)
    }
}

extension Logger {
    /// Takes librdkafka's log: level (syslog's numbers), facility, text.
    func forLibrdkafka() -> @Sendable (Int32, String, String) -> Void {
        let limiter = LogLimiter(lines: 20, periodSeconds: 10)
        return { [self] level, facility, text in
            let metadata: Metadata = ["facility": "\(facility)"]
            // Consumer and producer share the user's properties: what one of them does not know is as it should be.
            if facility == "CONFWARN", text.contains("and will be ignored by this") {
                return debug("librdkafka: \(text)", metadata: metadata)
            }
            // Debug lines come only where the property `debug` asks for them.
            guard level < 7 else { return debug("librdkafka: \(text)", metadata: metadata) }
            log(level: Level(syslog: level), limiter: limiter, "librdkafka: \(text)", metadata: metadata)
        }
    }
}

extension Logger.Level {
    /// For syslog's levels, which librdkafka uses. What it calls an error (a broker refused a connection) is mostly
    /// something that it mends by itself.
    init(syslog level: Int32) {
        switch level {
        case ...2: self = .error
        case 3, 4: self = .warning
        case 5: self = .notice
        case 6: self = .info
        default: self = .debug
        }
    }
}
