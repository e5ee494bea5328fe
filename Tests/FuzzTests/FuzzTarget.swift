/// A parser that meets a stranger's bytes. What it does with any bytes is checked in two ways: `make fuzz` lets
/// libFuzzer look for bytes that break it, and the tests replay those that were of interest (`Corpus`).
///
/// A new parser gets a case, a check, and a folder of a few seeds.
enum FuzzTarget: String, CaseIterable {
    /// The event scanner, and how it splits bodies. The first byte chooses format and rules.
    case body
    /// Journal entries. The first byte says whether version and length are put right, so that more is reached.
    case entry
    /// The journal's other keys and values. The first byte chooses.
    case record
    /// Dead letters as stored, and the documents made of them. As with `entry`.
    case letter
    /// Path and query of a request.
    case path
    /// Header fields, a line each.
    case fields
    /// Statements of ClickHouse's HTTP interface.
    case statement
    /// Parameters of ClickHouse's HTTP interface.
    case parameters
    /// Compressed bodies. The first byte chooses the coding, the second the size of the pieces.
    case decompression

    /// Throws if what must hold for all bytes does not; may as well trap.
    func check(_ bytes: UnsafeRawBufferPointer) throws {
        switch self {
        case .body: try BodyCheck.run(bytes)
        case .entry: try EntryCheck.run(bytes)
        case .record: try RecordCheck.run(bytes)
        case .letter: try LetterCheck.run(bytes)
        case .path: try PathCheck.run(bytes)
        case .fields: try FieldCheck.run(bytes)
        case .statement: try StatementCheck.run(bytes)
        case .parameters: try ParameterCheck.run(bytes)
        case .decompression: try DecompressionCheck.run(bytes)
        }
    }
}

/// Something that must hold does not.
struct Violation: Error, CustomStringConvertible {
    let description: String
}

func demand(_ condition: Bool, _ text: @autoclosure () -> String) throws {
    guard condition else { throw Violation(description: text()) }
}

extension UnsafeRawBufferPointer {
    /// The first byte, and a copy of the others that ends where its memory ends.
    func withOptions<Result>(_ body: (UInt8, UnsafeRawBufferPointer) throws -> Result) rethrows -> Result? {
        guard let options = first else { return nil }
        return try UnsafeRawBufferPointer(rebasing: dropFirst()).withCopy {
            try body(options, UnsafeRawBufferPointer($0))
        }
    }

    /// A copy that ends where its memory ends.
    func withCopy<Result>(_ body: (UnsafeMutableRawBufferPointer) throws -> Result) rethrows -> Result {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
        defer { copy.deallocate() }
        copy.copyMemory(from: self)
        return try body(copy)
    }
}
