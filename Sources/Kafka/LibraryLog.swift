internal import ServiceLog

extension EventLog {
    /// Takes librdkafka's log: level (syslog's numbers), facility, text.
    func forLibrdkafka() -> @Sendable (Int32, String, String) -> Void {
        { level, facility, text in
            // Consumer and producer share the user's properties: what one of them does not know is as it should be.
            // Debug lines come only where the property `debug` asks for them.
            let isKnown = facility == "CONFWARN" && text.contains("and will be ignored by this")
            write(
                .kafkaLibrary, severity: isKnown ? .debug : Severity(syslog: level), "librdkafka: \(text)",
                ["facility": "\(facility)"])
        }
    }
}

extension Severity {
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
