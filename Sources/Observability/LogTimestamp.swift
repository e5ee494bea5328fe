internal import Glibc

/// Milliseconds since 1970 UTC as text for log lines, without Foundation.
enum LogTimestamp {
    /// The wall clock.
    static func now() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1_000 + Int64(time.tv_nsec) / 1_000_000
    }

    /// RFC 3339 in UTC: `2026-02-03T04:05:06.789Z`.
    static func appendUTC(_ milliseconds: Int64, to line: inout [UInt8]) {
        var seconds = time_t(milliseconds >= 0 ? milliseconds / 1_000 : (milliseconds - 999) / 1_000)
        let fraction = Int(milliseconds) - seconds * 1_000
        var parts = tm()
        gmtime_r(&seconds, &parts)
        append(Int(parts.tm_year) + 1_900, digits: 4, to: &line)
        line.append(UInt8(ascii: "-"))
        append(Int(parts.tm_mon) + 1, digits: 2, to: &line)
        line.append(UInt8(ascii: "-"))
        append(Int(parts.tm_mday), digits: 2, to: &line)
        line.append(UInt8(ascii: "T"))
        appendTime(parts, fraction, to: &line)
        line.append(UInt8(ascii: "Z"))
    }

    /// Time of day where the terminal is: `04:05:06.789`.
    static func appendLocalTime(_ milliseconds: Int64, to line: inout [UInt8]) {
        var seconds = time_t(milliseconds / 1_000)
        var parts = tm()
        localtime_r(&seconds, &parts)
        appendTime(parts, Int(milliseconds % 1_000), to: &line)
    }

    private static func appendTime(_ parts: tm, _ fraction: Int, to line: inout [UInt8]) {
        append(Int(parts.tm_hour), digits: 2, to: &line)
        line.append(UInt8(ascii: ":"))
        append(Int(parts.tm_min), digits: 2, to: &line)
        line.append(UInt8(ascii: ":"))
        append(Int(parts.tm_sec), digits: 2, to: &line)
        line.append(UInt8(ascii: "."))
        append(fraction, digits: 3, to: &line)
    }

    private static func append(_ number: Int, digits: Int, to line: inout [UInt8]) {
        let text = String(number)
        for _ in text.utf8.count..<max(digits, text.utf8.count) { line.append(UInt8(ascii: "0")) }
        line.append(contentsOf: text.utf8)
    }
}
