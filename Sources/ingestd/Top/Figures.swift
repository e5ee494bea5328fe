/// Numbers in few columns. What is not known is "-".
enum Figures {
    static let unknown = "-"

    /// `9999`, `12.3k`, `4.56M`.
    static func count(_ number: Int?) -> String {
        number.map { scaled(Double($0), 10_000, 1_000, decimalUnits) } ?? unknown
    }

    /// The same of what happens in a second, with tenths where there is little: `0.5`.
    static func rate(_ number: Double?) -> String {
        guard let number else { return unknown }
        if number > 0, number < 0.05 { return "<0.1" }
        return number < 9.95 && number != number.rounded()
            ? fixed(number, 1) : scaled(number.rounded(), 10_000, 1_000, decimalUnits)
    }

    /// `512 B`, `2.30 GiB`.
    static func bytes(_ number: Int?) -> String {
        number.map { scaled(Double($0), 1_024, 1_024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], " ") } ?? unknown
    }

    /// `0.4s`, `12s`, `3m12s`, `5h30m`, `12d3h`.
    static func duration(_ seconds: Double?) -> String {
        guard let seconds else { return unknown }
        guard seconds < 1_000 * 86_400 else { return ">1000d" }
        if seconds > 0, seconds < 1 { return fixed(max(seconds, 0.1), 1) + "s" }
        let whole = Int(max(0, seconds))
        let (days, hours, minutes) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60)
        func two(_ large: Int, _ largeUnit: String, _ small: Int, _ smallUnit: String) -> String {
            "\(large)\(largeUnit)" + (small > 0 ? "\(small)\(smallUnit)" : "")
        }
        if days > 0 { return two(days, "d", hours, "h") }
        if hours > 0 { return two(hours, "h", minutes, "m") }
        if minutes > 0 { return two(minutes, "m", whole % 60, "s") }
        return "\(whole)s"
    }

    private static let decimalUnits = ["", "k", "M", "G", "T", "P", "E"]

    /// Whole below `limit`, else with three digits and a unit.
    private static func scaled(
        _ number: Double, _ limit: Double, _ factor: Double, _ units: [String], _ blank: String = ""
    ) -> String {
        guard abs(number) >= limit else { return "\(Int(number))\(blank)\(units[0])" }
        var (value, unit) = (number, 0)
        // 999.95 would be shown as 1000.
        while abs(value) >= factor - (unit > 0 ? 0.5 : 0), unit < units.count - 1 {
            value /= factor
            unit += 1
        }
        return fixed(value, abs(value) < 9.995 ? 2 : abs(value) < 99.95 ? 1 : 0) + blank + units[unit]
    }

    private static func fixed(_ value: Double, _ decimals: Int) -> String {
        let factor = [1, 10, 100][decimals]
        let whole = Int((abs(value) * Double(factor)).rounded())
        guard decimals > 0 else { return "\(value < 0 ? "-" : "")\(whole)" }
        let fraction = String(whole % factor)
        return "\(value < 0 ? "-" : "")\(whole / factor)."
            + String(repeating: "0", count: decimals - fraction.count) + fraction
    }
}
