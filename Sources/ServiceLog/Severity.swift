internal import Logging

/// How much an event matters; the levels of `LOG_LEVEL` that the service uses.
public enum Severity: String, Sendable, Comparable, CaseIterable {
    /// For those who look for a mistake in the service.
    case debug
    /// What happens in the normal course of things.
    case info
    /// What an operator wants to find when looking back.
    case notice
    /// Something is not as it should be, and mends itself or can wait.
    case warning
    /// Somebody has to mend something.
    case error
    /// The process can't go on, or data were damaged.
    case critical

    var level: Logger.Level {
        switch self {
        case .debug: .debug
        case .info: .info
        case .notice: .notice
        case .warning: .warning
        case .error: .error
        case .critical: .critical
        }
    }

    /// Rises with what matters more.
    public static func < (left: Severity, right: Severity) -> Bool { left.level < right.level }
}
