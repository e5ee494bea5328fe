/// How text fills the columns of a terminal.
enum TextColumns {
    /// What stands for the rest of a text that was cut. Not one character of three dots: in some East Asian settings it
    /// takes two columns.
    private static let mark = ".."

    /// Columns that a text without control characters takes.
    static func width(_ text: some StringProtocol) -> Int { text.unicodeScalars.reduce(0) { $0 + $1.columns } }

    /// The text, or as much of its beginning as fits.
    static func cut(_ text: String, to columns: Int) -> String {
        guard width(text) > columns else { return text }
        guard columns > mark.count else { return String(head(text[...], columns)) }
        return head(text[...], columns - mark.count) + mark
    }

    /// The text with blanks behind it, or before it.
    static func fill(_ text: String, to columns: Int, isRight: Bool = false) -> String {
        let blanks = String(repeating: " ", count: max(0, columns - width(text)))
        return isRight ? blanks + text : text + blanks
    }

    /// The text in lines, divided at blanks where there are some.
    /// - Parameter lines: at most; the last one is cut if there were more.
    static func wrap(_ text: String, to columns: Int, lines limit: Int = .max) -> [String] {
        var lines: [String] = []
        var rest = text.drop { $0 == " " }
        while !rest.isEmpty {
            if lines.count == limit - 1 || width(rest) <= columns {
                lines.append(cut(String(rest), to: columns))
                break
            }
            var line = head(rest, columns)
            // A character that is wider than a line: better out of line than for ever.
            if line.isEmpty { line = rest.prefix(1) }
            if line.endIndex < rest.endIndex, rest[line.endIndex] != " ", let blank = line.lastIndex(of: " ") {
                line = line[..<blank]
            }
            lines.append(String(line))
            rest = rest[line.endIndex...].drop { $0 == " " }
        }
        return lines
    }

    /// As many whole characters as fit.
    private static func head(_ text: Substring, _ columns: Int) -> Substring {
        var left = columns
        return text.prefix { character in
            left -= width(String(character))
            return left >= 0
        }
    }
}

extension Unicode.Scalar {
    /// Columns that a terminal gives it; those of `wcwidth`, which is not asked because it knows Unicode only where the
    /// right locale is installed and set.
    fileprivate var columns: Int {
        switch value {
        case 0x20..<0x7F: return 1
        // The vowels and final consonants of Hangul that is written in parts stand in the block that was begun.
        case 0x1160...0x11FF, 0xD7B0...0xD7FF: return 0
        // Halves of flags.
        case 0x1F1E6...0x1F1FF: return 1
        default: break
        }
        switch properties.generalCategory {
        case .nonspacingMark, .enclosingMark, .format, .control: return 0
        default: return properties.isEmojiPresentation || Self.wide.contains { $0.contains(value) } ? 2 : 1
        }
    }

    /// Characters that are wide or full-width (Unicode Standard Annex 11), besides emoji.
    private static let wide: [ClosedRange<UInt32>] = [
        0x1100...0x115F, 0x2329...0x232A, 0x2630...0x2637, 0x268A...0x268F, 0x2E80...0x303E, 0x3041...0xA4CF,
        0xA960...0xA97F, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE10...0xFE19, 0xFE30...0xFE6F, 0xFF01...0xFF60,
        0xFFE0...0xFFE6, 0x16FE0...0x18DFF, 0x1AFF0...0x1B2FF, 0x1D300...0x1D376, 0x1F200...0x1F265,
        0x20000...0x3FFFD,
    ]
}
