/// Times as text: ISO 8601, which RFC 3339 readers and ClickHouse (`date_time_input_format=best_effort`) take.
public enum Timestamp {
    /// Bytes of `2026-11-23T01:58:00.123Z`.
    public static let length = 24

    /// The largest and smallest time with a year of four digits.
    private static let representable: ClosedRange<Int64> = -62_135_596_800_000...253_402_300_799_999

    /// ISO 8601 in UTC with milliseconds; years outside of 1 to 9999 are cut off there.
    /// - Parameter milliseconds: since 1970-01-01 UTC.
    public static func iso8601(milliseconds: Int64) -> String {
        String(unsafeUninitializedCapacity: length) { target in
            write(milliseconds: milliseconds, into: UnsafeMutableRawBufferPointer(target))
            return length
        }
    }

    /// Writes the same to the first 24 bytes of `target`.
    public static func write(milliseconds: Int64, into target: UnsafeMutableRawBufferPointer) {
        let time = min(max(milliseconds, representable.lowerBound), representable.upperBound)
        let days = floorDivide(time, 86_400_000)
        let ofDay = Int(time - days * 86_400_000)
        let (year, month, day) = civil(daysSince1970: Int(days))
        func put(_ value: Int, _ offset: Int, digits: Int) {
            var rest = value
            for index in (offset..<(offset + digits)).reversed() {
                target[index] = 0x30 + UInt8(rest % 10)
                rest /= 10
            }
        }
        put(year, 0, digits: 4)
        put(month, 5, digits: 2)
        put(day, 8, digits: 2)
        put(ofDay / 3_600_000, 11, digits: 2)
        put(ofDay / 60_000 % 60, 14, digits: 2)
        put(ofDay / 1_000 % 60, 17, digits: 2)
        put(ofDay % 1_000, 20, digits: 3)
        target[4] = 0x2D
        target[7] = 0x2D
        target[10] = 0x54
        target[13] = 0x3A
        target[16] = 0x3A
        target[19] = 0x2E
        target[23] = 0x5A
    }

    private static func floorDivide(_ value: Int64, _ divisor: Int64) -> Int64 {
        let quotient = value / divisor
        return value % divisor < 0 ? quotient - 1 : quotient
    }

    /// The date of the proleptic Gregorian calendar, by Howard Hinnant's `civil_from_days`
    /// [howardhinnant.github.io/date_algorithms.html].
    private static func civil(daysSince1970: Int) -> (year: Int, month: Int, day: Int) {
        let shifted = daysSince1970 + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        return (
            year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month: month,
            day: dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
        )
    }
}
