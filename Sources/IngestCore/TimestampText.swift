extension Timestamp {
    /// Reads a time that someone wrote: `2026-11-23T01:58:00Z`, with a fraction of a second (cut off behind the
    /// milliseconds) or an offset from UTC (`+01:00`), or only a date, which is its midnight in UTC (RFC 3339 and
    /// this one addition). A time without `Z` or offset is none: nobody knows where its clock hangs.
    /// - Returns: milliseconds since 1970-01-01 UTC; `nil` if `text` is nothing of that.
    public static func milliseconds(iso8601 text: some StringProtocol) -> Int64? {
        var rest = Substring(text).utf8[...]
        guard let year = number(&rest, digits: 4), skip("-", &rest), let month = number(&rest, digits: 2, in: 1...12),
            skip("-", &rest), let day = number(&rest, digits: 2, in: 1...daysIn(month, of: year))
        else { return nil }
        let midnight = daysSince1970(year: year, month: month, day: day) * 86_400_000
        if rest.isEmpty { return Int64(midnight) }
        guard skip("T", &rest) || skip("t", &rest), let hour = number(&rest, digits: 2, in: 0...23), skip(":", &rest),
            let minute = number(&rest, digits: 2, in: 0...59), skip(":", &rest),
            let second = number(&rest, digits: 2, in: 0...59)
        else { return nil }
        var fraction = 0
        if skip(".", &rest) {
            let digits = rest.prefix { $0 >= 0x30 && $0 <= 0x39 }
            guard !digits.isEmpty else { return nil }
            for index in 0..<3 { fraction = fraction * 10 + Int(digits.dropFirst(index).first.map { $0 - 0x30 } ?? 0) }
            rest = rest.dropFirst(digits.count)
        }
        guard let offset = offset(&rest), rest.isEmpty else { return nil }
        return Int64(midnight + ((hour * 60 + minute - offset) * 60 + second) * 1_000 + fraction)
    }

    /// Minutes east of UTC.
    private static func offset(_ rest: inout Substring.UTF8View.SubSequence) -> Int? {
        if skip("Z", &rest) || skip("z", &rest) { return 0 }
        let isEast = skip("+", &rest)
        guard isEast || skip("-", &rest), let hours = number(&rest, digits: 2, in: 0...23), skip(":", &rest),
            let minutes = number(&rest, digits: 2, in: 0...59)
        else { return nil }
        return (isEast ? 1 : -1) * (hours * 60 + minutes)
    }

    private static func number(
        _ rest: inout Substring.UTF8View.SubSequence, digits: Int, in range: ClosedRange<Int> = 1...9_999
    ) -> Int? {
        var value = 0
        for _ in 0..<digits {
            guard let byte = rest.popFirst(), byte >= 0x30, byte <= 0x39 else { return nil }
            value = value * 10 + Int(byte - 0x30)
        }
        return range.contains(value) ? value : nil
    }

    private static func skip(_ character: Unicode.Scalar, _ rest: inout Substring.UTF8View.SubSequence) -> Bool {
        guard rest.first == UInt8(ascii: character) else { return false }
        rest.removeFirst()
        return true
    }

    private static func daysIn(_ month: Int, of year: Int) -> Int {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    /// Of the proleptic Gregorian calendar, by Howard Hinnant's `days_from_civil`
    /// [howardhinnant.github.io/date_algorithms.html]; for years from 1.
    private static func daysSince1970(year: Int, month: Int, day: Int) -> Int {
        let shifted = month <= 2 ? year - 1 : year
        let era = shifted / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }
}
