internal import IngestCore

/// The columns that an INSERT names. Fields name their columns anyway, so the list changes nothing as long as no row
/// has a field outside of it; such a row is refused, as ClickHouse does with `input_format_skip_unknown_fields=0`.
struct ClickHouseColumns {
    private let names: Set<String>

    init(_ names: [String]) {
        // A field that holds an object may stand for the columns of a Nested: `n` for `n.a` and `n.b`.
        self.names = Set(names).union(names.compactMap { name in name.firstIndex(of: ".").map { String(name[..<$0]) } })
    }

    /// - Parameter body: valid events, one after the other or as elements of an array.
    /// - Throws: code 117 with the field's name.
    func check(_ body: UnsafeRawBufferPointer) throws(ClickHouseError) {
        var depth = 0
        // Of the events' members: 2 within an array.
        var memberDepth = 1
        var isFirst = true
        var isName = false
        var index = 0
        var row = 0
        while index < body.count {
            let byte = body[index]
            switch byte {
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                if isFirst, byte == UInt8(ascii: "[") { memberDepth = 2 }
                isFirst = false
                depth += 1
                if depth == memberDepth { row += 1 }
                isName = depth == memberDepth && byte == UInt8(ascii: "{")
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                depth -= 1
                isName = false
            case UInt8(ascii: ","):
                isName = depth == memberDepth
            case UInt8(ascii: "\""):
                let start = index + 1
                index = start
                while body[index] != UInt8(ascii: "\"") { index += body[index] == UInt8(ascii: "\\") ? 2 : 1 }
                if isName { try check(UnsafeRawBufferPointer(rebasing: body[start..<index]), row) }
                isName = false
            default: break
            }
            index += 1
        }
    }

    private func check(_ name: UnsafeRawBufferPointer, _ row: Int) throws(ClickHouseError) {
        let name = String(decoding: name, as: UTF8.self)
        guard !names.contains(name) else { return }
        throw ClickHouseError(
            .INCORRECT_DATA,
            "Unknown field found while parsing JSONEachRow format: \(ClickHouseTokens.printable(name)): (at row \(row)); "
                + "the INSERT's list of columns does not name it")
    }
}
