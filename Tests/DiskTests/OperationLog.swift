import Foundation

/// The log that Tests/FaultShim writes: what a process did to the files of a folder, in order.
struct OperationLog {
    /// One record; its data lie at `data` in `bytes`. The kinds are those of FaultShim.h.
    struct Record {
        enum Kind: UInt8 { case open = 1, write, sync, truncate, rename, unlink }

        let kind: Kind
        /// A sync that is only about the write before it.
        let isOwnWrite: Bool
        let error: Int32
        let file: UInt32
        let offset: Int
        let data: Range<Int>
        /// A write that was to sync itself was done and not synced.
        var isFailedCommit: Bool { kind == .sync && isOwnWrite && error != 0 }
    }

    private(set) var bytes: [UInt8] = []
    private(set) var records: [Record] = []

    init(path: String) throws {
        bytes = Array(try Data(contentsOf: URL(filePath: path)))
        let headLength = 24
        try bytes.withUnsafeBytes { raw in
            var place = 0
            while place < raw.count {
                guard raw.count - place >= headLength, let kind = Record.Kind(rawValue: raw[place]) else {
                    throw Problem("the log is malformed at byte \(place)")
                }
                let length = raw.loadUnaligned(fromByteOffset: place + 16, as: Int.self)
                let start = place + headLength
                guard length <= raw.count - start else { throw Problem("the log ends within a record") }
                records.append(
                    Record(
                        kind: kind, isOwnWrite: raw[place + 1] != 0,
                        error: Int32(raw.loadUnaligned(fromByteOffset: place + 2, as: UInt16.self)),
                        file: raw.loadUnaligned(fromByteOffset: place + 4, as: UInt32.self),
                        offset: raw.loadUnaligned(fromByteOffset: place + 8, as: Int.self),
                        data: start..<(start + length)))
                place = start + length
            }
        }
    }

    func text(_ record: Record) -> String { String(decoding: bytes[record.data], as: UTF8.self) }
}

/// What a check found wrong, in words.
struct Problem: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}
