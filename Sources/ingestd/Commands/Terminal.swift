import FoundationEssentials
import Glibc
import IngestCore

/// What commands print, and to whom.
enum Terminal {
    /// Whether a person reads this descriptor, or writes to it.
    static func isTerminal(_ descriptor: CInt) -> Bool { isatty(descriptor) == 1 }

    /// Width of lines on standard output.
    static var columns: Int {
        var size = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 160 }
        return Int(size.ws_col)
    }

    /// Writes a line to standard error.
    static func report(_ line: String) { write(line + "\n") }

    /// Writes to standard error. What can't be written there can't be reported anywhere.
    fileprivate static func write(_ text: String) {
        var text = text
        text.withUTF8 { _ = Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }

    /// Text from outside on one line, without characters that would do something to a terminal.
    static func printable(_ text: String) -> String {
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            switch scalar.properties.generalCategory {
            case _ where scalar == "\n" || scalar == "\t": result.append(" ")
            case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate: result.append("\u{FFFD}")
            default: result.append(scalar)
            }
        }
        return String(result)
    }

    /// `1 event`, `2 events`.
    static func count(_ number: some BinaryInteger, _ noun: String, _ plural: String? = nil) -> String {
        "\(number) \(number == 1 ? noun : plural ?? "\(noun)s")"
    }

    /// `sequence 1`, `sequences 1 to 2`.
    static func sequences(_ sequences: Range<UInt64>) -> String {
        sequences.count == 1
            ? "sequence \(sequences.lowerBound)" : "sequences \(sequences.lowerBound) to \(sequences.upperBound - 1)"
    }

    /// Asks on the terminal.
    static func confirms(_ question: String) -> Bool {
        write("\(question) [y/N] ")
        return ["y", "yes"].contains(readLine()?.lowercased() ?? "")
    }

    /// A JSON document for scripts.
    static func json(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }
}

/// A line on standard error that is written over again and again. Nothing where that is no terminal. For one thread at
/// a time.
final class ProgressLine {
    private static let intervalNanoseconds: UInt64 = 100_000_000

    private let isShown = Terminal.isTerminal(STDERR_FILENO)
    private var nextAt: UInt64 = 0
    private var isOpen = false

    /// Shows a text, if the last one is old enough.
    func show(_ text: @autoclosure () -> String) {
        guard isShown, MonotonicClock.now >= nextAt else { return }
        nextAt = MonotonicClock.now + Self.intervalNanoseconds
        isOpen = true
        Terminal.write("\r\u{1B}[K" + String(text().prefix(Terminal.columns - 1)))
    }

    /// Takes the line away. To be called before anything else is written.
    func clear() {
        if isOpen { Terminal.write("\r\u{1B}[K") }
        isOpen = false
        nextAt = 0
    }
}

/// A table of text whose lines are not wider than the terminal.
struct TextTable {
    struct Column {
        let title: String
        /// Longer texts are cut. The last column gets what is left.
        let maximumWidth: Int
    }

    let columns: [Column]
    private var rows: [[String]] = []

    init(_ columns: [Column]) { self.columns = columns }

    mutating func add(_ row: [String]) { rows.append(row.map(Terminal.printable)) }

    /// - Parameter width: of a line.
    func text(width: Int) -> String {
        var widths = columns.indices.map { index in
            min(columns[index].maximumWidth, ([columns[index].title] + rows.map { $0[index] }).map(\.count).max() ?? 0)
        }
        widths[widths.count - 1] = max(20, width - widths.dropLast().reduce(0) { $0 + $1 + 2 })
        return ([columns.map(\.title)] + rows).map { row in
            var line = zip(row, widths).map { text, width in
                let cut = text.count > width ? text.prefix(width - 1) + "…" : text[...]
                return cut + String(repeating: " ", count: width - cut.count)
            }.joined(separator: "  ")
            while line.last == " " { line.removeLast() }
            return line
        }.joined(separator: "\n")
    }
}
