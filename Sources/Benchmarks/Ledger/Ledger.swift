import Glibc
import Synchronization

/// Which event ids were acknowledged, in a file.
///
/// A text file. A line `ids PREFIX` begins the part of one run; each line `FIRST LAST` behind it says that the ids from
/// PREFIX and FIRST to PREFIX and LAST were acknowledged, 16 digits each. Lines may overlap, in any order.
///
/// A line is written after the acknowledgment, and counts only with its line feed. So whenever the program is killed,
/// the file names no id that was not acknowledged; the last fraction of a second may be missing, which is the harmless
/// side. It is not flushed to the disk: what a power cut takes is missing likewise.
public final class Ledger: Sendable {
    /// How long what was acknowledged may wait to be written, nanoseconds.
    static let interval: UInt64 = 100_000_000
    /// Of a prefix: what needs no escaping, neither in JSON nor in SQL nor in the file.
    private static let prefixLimit = 64

    private let file: CInt
    /// Held while writing: only the last line of the file can ever be torn.
    private let lock = Mutex<Void>(())

    /// Opens the file, or makes it, and begins a part for `prefix` behind what it holds.
    public init(path: String, prefix: String) throws(BenchmarkFailure) {
        try Self.check(prefix: prefix)
        file = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
        guard file >= 0 else { throw BenchmarkFailure(call: path) }
        do {
            try Self.cutTornLine(file)
            try write(Array("ids \(prefix)\n".utf8))
        } catch {
            close(file)
            throw error
        }
    }

    deinit { close(file) }

    /// Whether ids can begin with this.
    static func check(prefix: String) throws(BenchmarkFailure) {
        let isPlain = prefix.utf8.allSatisfy {
            switch $0 {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
                true
            default: false
            }
        }
        guard isPlain, !prefix.isEmpty, prefix.utf8.count <= prefixLimit else {
            throw BenchmarkFailure(
                "\"\(prefix)\" can't be the prefix of ids: 1 to \(prefixLimit) letters, digits and -_. are needed")
        }
    }

    /// Takes away what a killed program has left behind the last line feed.
    private static func cutTornLine(_ file: CInt) throws(BenchmarkFailure) {
        var end = lseek(file, 0, SEEK_END)
        var byte: UInt8 = 0
        while end > 0 {
            guard pread(file, &byte, 1, end - 1) == 1 else { throw BenchmarkFailure(call: "reading the ledger") }
            if byte == 0x0A { break }
            end -= 1
        }
        guard ftruncate(file, end) == 0 else { throw BenchmarkFailure(call: "the ledger") }
    }

    fileprivate func write(_ bytes: [UInt8]) throws(BenchmarkFailure) {
        let result = lock.withLock { _ in
            bytes.withUnsafeBytes { bytes -> Bool in
                var written = 0
                while written < bytes.count {
                    let count = Glibc.write(file, bytes.baseAddress! + written, bytes.count - written)
                    if count < 0 && errno == EINTR { continue }
                    guard count > 0 else { return false }
                    written += count
                }
                return true
            }
        }
        guard result else { throw BenchmarkFailure(call: "writing the ledger") }
    }

    /// Reads a ledger.
    /// - Returns: what was acknowledged, by prefix.
    public static func read(path: String) throws(BenchmarkFailure) -> [String: NumberRanges] {
        guard let file = fopen(path, "re") else { throw BenchmarkFailure(call: path) }
        defer { fclose(file) }
        var result: [String: NumberRanges] = [:]
        var prefix: String?
        var line: UnsafeMutablePointer<CChar>?
        var capacity = 0
        defer { free(line) }
        var number = 0
        while true {
            let length = getline(&line, &capacity, file)
            guard length > 0, let line else { break }
            number += 1
            let bytes = UnsafeRawBufferPointer(start: line, count: length)
            // Torn by the end of the program that wrote it.
            guard bytes.last == 0x0A else { break }
            let text = String(decoding: bytes.dropLast(), as: UTF8.self)
            if text.hasPrefix("ids ") {
                prefix = String(text.dropFirst(4))
                try check(prefix: prefix!)
                continue
            }
            let words = text.split(separator: " ")
            guard let prefix, words.count == 2, words.allSatisfy({ $0.utf8.count == EventNumber.length }),
                let first = UInt64(words[0]), let last = UInt64(words[1]), first <= last
            else {
                throw BenchmarkFailure("\(path), line \(number): \"\(text.prefix(80))\" is no line of a ledger")
            }
            result[prefix, default: NumberRanges()].insert(first..<(last + 1))
        }
        guard ferror(file) == 0 else { throw BenchmarkFailure(call: path) }
        guard number > 0 else { throw BenchmarkFailure("\(path) is empty: no ledger") }
        return result
    }
}

/// What one thread has got acknowledged and not yet written to the ledger.
struct LedgerPage {
    private let ledger: Ledger?
    private var ranges: [UInt64: Range<UInt64>] = [:]
    private var lines: [UInt8] = []
    private var writtenAt: UInt64 = 0

    init(_ ledger: Ledger?) { self.ledger = ledger }

    /// These ids were acknowledged.
    mutating func acknowledge(_ numbers: Range<UInt64>) {
        guard ledger != nil else { return }
        let lane = numbers.lowerBound / EventNumber.laneSize
        guard let range = ranges[lane] else {
            ranges[lane] = numbers
            return
        }
        if range.upperBound == numbers.lowerBound {
            ranges[lane] = range.lowerBound..<numbers.upperBound
        } else if !range.contains(numbers) {
            append(range)
            ranges[lane] = numbers
        }
    }

    /// Writes what is due.
    mutating func write(at now: UInt64) throws(BenchmarkFailure) {
        guard ledger != nil, now >= writtenAt + Ledger.interval else { return }
        writtenAt = now
        try write()
    }

    /// Writes everything.
    mutating func write() throws(BenchmarkFailure) {
        guard let ledger else { return }
        for range in ranges.values { append(range) }
        ranges.removeAll(keepingCapacity: true)
        guard !lines.isEmpty else { return }
        try ledger.write(lines)
        lines.removeAll(keepingCapacity: true)
    }

    private mutating func append(_ range: Range<UInt64>) {
        lines += "\(EventNumber.text(range.lowerBound)) \(EventNumber.text(range.upperBound - 1))\n".utf8
    }
}
