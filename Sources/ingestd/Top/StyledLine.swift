/// What a piece of text says besides its words.
enum TextStyle: Sendable, Equatable {
    case plain, title, faint, good, warning, bad

    /// SGR parameters (ECMA-48 8.3.117). Without color the words must do.
    fileprivate func parameters(hasColor: Bool) -> String? {
        switch self {
        case .plain: nil
        case .title: "1"
        case .faint: hasColor ? "2" : nil
        case .good: hasColor ? "32" : nil
        case .warning: hasColor ? "33" : nil
        case .bad: hasColor ? "31" : nil
        }
    }
}

/// A line for a terminal. Its text can do nothing to a terminal, whoever wrote it.
struct StyledLine: Sendable, Equatable {
    private struct Piece: Sendable, Equatable {
        let text: String
        let style: TextStyle
    }

    private var pieces: [Piece] = []
    /// Columns that it takes.
    private(set) var width = 0

    init() {}

    init(_ text: String, _ style: TextStyle = .plain) { append(text, style) }

    /// Control characters become visible ones.
    mutating func append(_ text: String, _ style: TextStyle = .plain) {
        let text = Terminal.printable(text)
        guard !text.isEmpty else { return }
        pieces.append(Piece(text: text, style: style))
        width += TextColumns.width(text)
    }

    /// Text alone, without blanks at the end.
    var text: String {
        var text = pieces.map(\.text).joined()
        while text.last == " " { text.removeLast() }
        return text
    }

    /// As much as fits.
    func cut(to columns: Int) -> StyledLine {
        guard width > columns else { return self }
        var line = StyledLine()
        for piece in pieces {
            let text = TextColumns.cut(piece.text, to: columns - line.width)
            line.append(text, piece.style)
            // What comes behind a cut would look as if nothing were missing.
            if text != piece.text { break }
        }
        return line
    }

    /// The text with escape sequences for its styles.
    func escaped(hasColor: Bool) -> String {
        pieces.map { piece in
            guard let parameters = piece.style.parameters(hasColor: hasColor) else { return piece.text }
            return "\u{1B}[\(parameters)m\(piece.text)\u{1B}[m"
        }.joined()
    }
}

/// A table whose columns are as wide as what is in them. Where the lines are too short for all of them, those that
/// matter least are left out.
struct StyledTable {
    struct Column {
        let title: String
        /// Numbers stand on the right.
        var isNumber = false
        /// Longer texts are cut.
        var maximumWidth = 40
        /// Texts are cut down to this before another column is left out.
        var minimumWidth = 0
        /// The largest one goes first; 0 stays.
        var dispensability = 0
    }

    struct Row {
        let cells: [String]
        var style = TextStyle.plain
        /// Below the row, in as many lines as it takes up to `noteLines`.
        var note: String?
    }

    private static let gap = 2

    let columns: [Column]
    var rows: [Row] = []
    /// Further rows, of which only the number matters.
    var omitted = 0
    /// What the rows are: `stream`, `streams`.
    let noun: (one: String, many: String)
    var noteLines = Int.max

    /// - Parameters:
    ///   - width: of a line.
    ///   - height: lines at most; `nil` for all.
    /// - Returns: the title and the rows; if they are too many, how many more there are.
    func lines(width: Int, height: Int? = nil) -> [StyledLine] {
        let shown = shownColumns(width)
        func line(_ cells: [String], _ style: TextStyle) -> StyledLine {
            let texts = shown.map { index, width in
                TextColumns.fill(
                    TextColumns.cut(Terminal.printable(cells[index]), to: width), to: width,
                    isRight: columns[index].isNumber)
            }
            return StyledLine(texts.joined(separator: String(repeating: " ", count: Self.gap)), style)
        }
        let blocks = rows.map { row in
            let note = row.note.map {
                TextColumns.wrap(Terminal.printable($0), to: max(1, width - Self.gap), lines: noteLines)
            }
            return [line(row.cells, row.style)]
                + (note ?? []).map { StyledLine(String(repeating: " ", count: Self.gap) + $0, row.style) }
        }
        let title = line(columns.map(\.title), .title)
        let full = 1 + blocks.reduce(0) { $0 + $1.count }
        guard omitted > 0 || full > height ?? .max else { return [title] + blocks.joined() }
        let height = height ?? full + 1
        // Nothing of a table says less than its title alone.
        guard height >= 2 else { return [] }
        var lines = [title]
        var count = 0
        for block in blocks {
            guard lines.count + block.count < height else { break }
            lines += block
            count += 1
        }
        let left = blocks.count - count + omitted
        lines.append(
            StyledLine("and \(left) \(count > 0 ? "more " : "")\(left == 1 ? noun.one : noun.many)", .faint))
        return lines
    }

    /// Lines that it would take.
    func height(width: Int) -> Int { lines(width: width).count }

    /// The columns that fit, with their widths.
    private func shownColumns(_ width: Int) -> [(index: Int, width: Int)] {
        var natural = columns.enumerated().map { index, column in
            let texts = [column.title] + rows.map { Terminal.printable($0.cells[index]) }
            return (index: index, width: min(column.maximumWidth, texts.map { TextColumns.width($0) }.max() ?? 0))
        }
        while true {
            var shown = natural
            var excess = shown.reduce(-Self.gap) { $0 + $1.width + Self.gap } - width
            for place in shown.indices where excess > 0 && columns[shown[place].index].minimumWidth > 0 {
                let taken = min(excess, max(0, shown[place].width - columns[shown[place].index].minimumWidth))
                shown[place].width -= taken
                excess -= taken
            }
            if excess <= 0 { return shown }
            let last = natural.indices.max {
                columns[natural[$0].index].dispensability < columns[natural[$1].index].dispensability
            }
            guard let last, columns[natural[last].index].dispensability > 0 else { return shown }
            natural.remove(at: last)
        }
    }
}
