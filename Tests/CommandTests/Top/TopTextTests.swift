import Testing

@testable import ingestd

@Suite struct TopTextTests {
    @Test(arguments: [
        ("", 0), ("abc", 3), ("한글", 4), ("테스트-1", 8), ("日本", 4), ("ｗｉｄｅ", 8), ("é", 1), ("e\u{301}", 1),
        // Hangul in parts, as file systems of a Mac have it.
        ("\u{1112}\u{1161}\u{11ab}", 2), ("🚀", 2), ("⌚", 2), ("☂", 1), ("→", 1), ("\u{FFFD}", 1), ("🇰🇷", 2),
        ("か\u{3099}", 2),
    ])
    func columnsAreThoseOfATerminal(text: String, columns: Int) { #expect(TextColumns.width(text) == columns) }

    @Test func textsAreCutBetweenCharacters() {
        #expect(TextColumns.cut("abcdef", to: 6) == "abcdef")
        #expect(TextColumns.cut("abcdef", to: 5) == "abc..")
        #expect(TextColumns.cut("한글이름", to: 7) == "한글..")
        #expect(TextColumns.cut("한글이름", to: 2) == "한")
        #expect(TextColumns.cut("한글", to: 1) == "")
        #expect(TextColumns.cut("e\u{301}xyz", to: 3) == "e\u{301}..")
        #expect(TextColumns.fill("한", to: 4) + "|" == "한  |")
        #expect(TextColumns.fill("한", to: 4, isRight: true) == "  한")
        #expect(TextColumns.fill("한글", to: 3) == "한글")
    }

    @Test func textsAreDividedAtBlanks() {
        #expect(TextColumns.wrap("one two three", to: 8) == ["one two", "three"])
        #expect(TextColumns.wrap("one two", to: 7) == ["one two"])
        #expect(TextColumns.wrap("onetwothree four", to: 6) == ["onetwo", "three", "four"])
        #expect(TextColumns.wrap("  one   two  ", to: 3) == ["one", "two"])
        #expect(TextColumns.wrap("한글 이름은", to: 5) == ["한글", "이름", "은"])
        #expect(TextColumns.wrap("한글", to: 1) == ["한", "글"])
        #expect(TextColumns.wrap("", to: 5).isEmpty)
        #expect(TextColumns.wrap("one two three four", to: 9, lines: 2) == ["one two", "three f.."])
    }

    @Test func figuresTakeFewColumns() {
        #expect(
            [nil, 0, 9_999, 10_000, 99_949, 999_499, 999_500, 1_234_567].map(Figures.count)
                == ["-", "0", "9999", "10.0k", "99.9k", "999k", "1.00M", "1.23M"])
        #expect([-5, .max, .min].map { Figures.count($0) } == ["-5", "9.22E", "-9.22E"])
        #expect(
            [nil, 0, 0.01, 0.5, 3, 9.94, 9.96, 1234.6, 56_789].map(Figures.rate)
                == ["-", "0", "<0.1", "0.5", "3", "9.9", "10", "1235", "56.8k"])
        #expect(
            [nil, 0, 1_023, 1_024, 10 << 30, 1_048_575].map(Figures.bytes)
                == ["-", "0 B", "1023 B", "1.00 KiB", "10.0 GiB", "1.00 MiB"])
        #expect(
            [nil, 0, 0.04, 0.44, 59.9, 60, 192, 7_200, 11_520, 97_200, 1e12, .infinity].map(Figures.duration)
                == ["-", "0s", "0.1s", "0.4s", "59s", "1m", "3m12s", "2h", "3h12m", "1d3h", ">1000d", ">1000d"])
    }

    @Test func linesAreCutWithTheirStyles() {
        var line = StyledLine("plain ")
        line.append("한글이름", .bad)
        line.append(" more", .faint)
        #expect(line.width == 19)
        let cut = line.cut(to: 11)
        #expect(cut.width == 10)
        #expect(cut.escaped(hasColor: true) == "plain \u{1B}[31m한..\u{1B}[m")
        #expect(cut.escaped(hasColor: false) == "plain 한..")
        #expect(StyledLine("a\u{1B}[2J\nb\u{9B}").text == "a\u{FFFD}[2J b\u{FFFD}")
    }

    @Test func columnsThatDoNotFitAreLeftOut() {
        var table = StyledTable(
            columns: [
                .init(title: "NAME", minimumWidth: 6), .init(title: "A", isNumber: true, dispensability: 2),
                .init(title: "B", isNumber: true, dispensability: 1),
            ], noun: ("row", "rows"))
        table.rows = [.init(cells: ["한글이름", "1", "20"]), .init(cells: ["b", "100", "2"], note: "because of this")]
        #expect(
            table.lines(width: 20).map(\.text) == [
                "NAME        A   B", "한글이름    1  20", "b         100   2", "  because of this",
            ])
        // The name is made shorter first, as far as it goes.
        #expect(table.lines(width: 15)[1].text == "한글..    1  20")
        #expect(table.lines(width: 14)[1].text == "한글이름  20")
        #expect(table.lines(width: 8)[1].text == "한글이름")
        #expect(
            table.lines(width: 40, height: 3).map(\.text) == ["NAME        A   B", "한글이름    1  20", "and 1 more row"])
        #expect(table.lines(width: 40, height: 2).map(\.text).last == "and 2 rows")
        #expect(table.lines(width: 40, height: 1).isEmpty)
        table.omitted = 7
        #expect(table.lines(width: 40).map(\.text).last == "and 7 more rows")
    }
}
