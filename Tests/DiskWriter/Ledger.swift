import Glibc

/// What the writer tells of its work, line by line: what it asks of the journal before it asks, and what the journal
/// answered after it did. Each line is one `write`, so that a log of the disk's operations has it in its place.
enum LedgerLine: Equatable {
    /// The journal is open and has this identity.
    case opened(identity: String)
    /// Events are submitted; of a Kafka partition if `offsets` are given (partition number, offsets).
    case submit(submission: Int, table: String, count: Int, partition: Int, offsets: Range<Int>)
    /// They were acknowledged with these sequences.
    case accepted(submission: Int, sequences: Range<UInt64>)
    /// They were refused.
    case refused(submission: Int)
    /// A batch is to be sealed.
    case seal(table: String, sequences: Range<UInt64>)
    /// It is sealed.
    case sealed(table: String, sequences: Range<UInt64>)
    /// The position is to move.
    case advance(table: String, position: UInt64)
    /// It has moved.
    case advanced(table: String, position: UInt64)

    /// The line, without its line feed.
    var text: String {
        switch self {
        case .opened(let identity): "opened \(identity)"
        case .submit(let submission, let table, let count, let partition, let offsets):
            "submit \(submission) \(table) \(count) \(partition) \(offsets.lowerBound) \(offsets.upperBound)"
        case .accepted(let submission, let sequences):
            "accepted \(submission) \(sequences.lowerBound) \(sequences.upperBound)"
        case .refused(let submission): "refused \(submission)"
        case .seal(let table, let sequences): "seal \(table) \(sequences.lowerBound) \(sequences.upperBound)"
        case .sealed(let table, let sequences): "sealed \(table) \(sequences.lowerBound) \(sequences.upperBound)"
        case .advance(let table, let position): "advance \(table) \(position)"
        case .advanced(let table, let position): "advanced \(table) \(position)"
        }
    }

    /// Reads a line; `nil` if it is none.
    init?(_ text: String) {
        let words = text.split(separator: " ").map(String.init)
        func number<Number: FixedWidthInteger>(_ index: Int) -> Number { Number(words[index]) ?? 0 }
        func range(_ index: Int) -> Range<UInt64> { number(index)..<number(index + 1) }
        switch (words.first, words.count) {
        case ("opened", 2): self = .opened(identity: words[1])
        case ("submit", 7):
            self = .submit(
                submission: number(1), table: words[2], count: number(3), partition: number(4),
                offsets: number(5)..<number(6))
        case ("accepted", 4): self = .accepted(submission: number(1), sequences: range(2))
        case ("refused", 2): self = .refused(submission: number(1))
        case ("seal", 4): self = .seal(table: words[1], sequences: range(2))
        case ("sealed", 4): self = .sealed(table: words[1], sequences: range(2))
        case ("advance", 3): self = .advance(table: words[1], position: number(2))
        case ("advanced", 3): self = .advanced(table: words[1], position: number(2))
        default: return nil
        }
    }
}

/// The file with the lines. Used from several threads: each line is one system call.
final class Ledger: Sendable {
    private let descriptor: CInt

    /// Makes the file; without a path the lines go nowhere.
    init(path: String?) throws {
        descriptor = open(path ?? "/dev/null", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Failure(description: "can't open \(path ?? ""): errno \(errno)") }
    }

    func write(_ line: LedgerLine) {
        let bytes = Array((line.text + "\n").utf8)
        guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else {
            preconditionFailure("the ledger can't be written: errno \(errno)")
        }
    }
}

/// Something that must not happen, in words.
struct Failure: Error, CustomStringConvertible {
    let description: String
}
