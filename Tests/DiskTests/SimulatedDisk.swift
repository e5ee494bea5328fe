import Foundation
import Glibc

@testable import DiskWriter

/// A disk as a power cut may leave it, rebuilt from a log of operations.
///
/// The rules: what was written before a sync of its file that succeeded is there. Of what was written since, each piece
/// is there or not, whatever its neighbors are; a piece is a sector, a page or a whole write. What a failed sync was to
/// write is lost or not for good: a later sync does not bring it back, because the kernel takes such pages for clean.
/// A sector is written whole or not at all. Names are made, changed and removed in order, and are certain once the
/// folder was synced.
struct SimulatedDisk {
    /// Syncs that the simulated disk ignores, to see that the checks notice.
    enum Ignoring { case nothing, fileSyncs, writeSyncs }

    fileprivate struct Piece {
        let offset: Int
        let data: Range<Int>
    }

    fileprivate struct File {
        /// What is certain.
        var content: [UInt8] = []
        /// Written since the last sync.
        var pending: [Piece] = []
        /// What failed syncs were to write, by sector.
        var doubtful: [Int: [Piece]] = [:]
        var isFolder = false
    }

    private enum NameChange {
        case make(String, UInt32)
        case rename(String, String)
        case remove(String)
    }

    fileprivate static let sector = 512
    private let ignoring: Ignoring
    private var files: [UInt32: File] = [:]
    private var names: [String: UInt32] = [:]
    private var pendingNames: [NameChange] = []

    init(ignoring: Ignoring = .nothing) { self.ignoring = ignoring }

    /// Takes the next operation.
    mutating func apply(_ record: OperationLog.Record, of log: borrowing OperationLog) {
        switch record.kind {
        case .open:
            files[record.file, default: File()].isFolder = record.offset & 2 != 0
            if record.offset & 1 != 0 { pendingNames.append(.make(log.text(record), record.file)) }
        case .write where record.error != 0: break
        case .write: files[record.file, default: File()].pending.append(Piece(offset: record.offset, data: record.data))
        case .truncate:
            // Only empty files are shortened here, and the lock file, whose content does not count.
            files[record.file, default: File()] = File(content: Array(repeating: 0, count: record.offset))
        case .rename:
            let parts = log.text(record).split(separator: "\0").map(String.init)
            pendingNames.append(.rename(parts[0], parts[1]))
        case .unlink: pendingNames.append(.remove(log.text(record)))
        case .sync where record.error != 0:
            files[record.file, default: File()].doubt(last: record.isOwnWrite ? 1 : .max)
        case .sync where record.isOwnWrite:
            if ignoring != .writeSyncs { files[record.file, default: File()].keep(last: 1, of: log) }
        case .sync where files[record.file]?.isFolder == true:
            for change in pendingNames { Self.apply(change, to: &names) }
            pendingNames = []
        case .sync:
            if ignoring != .fileSyncs { files[record.file, default: File()].keep(last: .max, of: log) }
        }
    }

    private static func apply(_ change: NameChange, to names: inout [String: UInt32]) {
        switch change {
        case .make(let name, let file): names[name] = file
        case .rename(let from, let to): names[to] = names.removeValue(forKey: from)
        case .remove(let name): names[name] = nil
        }
    }

    /// Writes the files below `folder` of the simulated disk into a real folder, as a power cut may leave them now.
    /// - Parameter skipping: names of files that are not written.
    func cutPower(
        writing folder: String, to target: String, skipping: Set<String>, of log: borrowing OperationLog,
        using random: inout SeededGenerator
    ) throws {
        var names = names
        for change in pendingNames.prefix(Int.random(in: 0...pendingNames.count, using: &random)) {
            Self.apply(change, to: &names)
        }
        for (name, file) in names.sorted(by: { $0.key < $1.key }) where name.hasPrefix(folder) {
            let ending = String(name.dropFirst(folder.count))
            if skipping.contains(String(ending.split(separator: "/").last ?? "")) { continue }
            try FileManager.default.createDirectory(
                at: URL(filePath: target + ending).deletingLastPathComponent(), withIntermediateDirectories: true)
            try files[file]!.write(to: target + ending, of: log, using: &random)
        }
    }
}

extension SimulatedDisk.File {
    /// Makes the last `count` writes certain.
    fileprivate mutating func keep(last count: Int, of log: borrowing OperationLog) {
        for piece in pending.suffix(count) {
            Self.write(piece, to: &content, of: log)
            guard !doubtful.isEmpty else { continue }
            for sector in Self.sectors(of: piece) { doubtful[sector] = nil }
        }
        pending.removeLast(min(count, pending.count))
    }

    /// A sync of the last `count` writes failed.
    fileprivate mutating func doubt(last count: Int) {
        for piece in pending.suffix(count) {
            for part in Self.split(piece, SimulatedDisk.sector) {
                doubtful[part.offset / SimulatedDisk.sector, default: []].append(part)
            }
        }
        pending.removeLast(min(count, pending.count))
    }

    /// Writes the file as a power cut may leave it.
    fileprivate func write(
        to path: String, of log: borrowing OperationLog, using random: inout SeededGenerator
    ) throws {
        var image = content
        for (_, parts) in doubtful.sorted(by: { $0.key < $1.key }) where Bool.random(using: &random) {
            Self.write(parts[Int.random(in: 0..<parts.count, using: &random)], to: &image, of: log)
        }
        let granularity = [Int.max, 4_096, SimulatedDisk.sector].randomElement(using: &random)!
        let parts = pending.flatMap { Self.split($0, granularity) }
        switch Int.random(in: 0..<8, using: &random) {
        case 0: break
        case 1: for part in parts { Self.write(part, to: &image, of: log) }
        case 2:
            // In order, up to a place.
            for part in parts.prefix(Int.random(in: 0...parts.count, using: &random)) {
                Self.write(part, to: &image, of: log)
            }
        case 3:
            // The last ones first.
            for part in parts.suffix(Int.random(in: 0...parts.count, using: &random)) {
                Self.write(part, to: &image, of: log)
            }
        default:
            let share = Int.random(in: 1..<100, using: &random)
            for part in parts where Int.random(in: 0..<100, using: &random) < share {
                Self.write(part, to: &image, of: log)
            }
        }
        // The file's length is written by itself, too.
        let end = pending.map { $0.offset + $0.data.count }.max() ?? 0
        if end > image.count, Bool.random(using: &random) {
            image += repeatElement(0, count: Int.random(in: 0...(end - image.count), using: &random))
        }
        try image.withUnsafeBytes { try Self.write($0, to: path) }
    }

    private static func split(_ piece: SimulatedDisk.Piece, _ granularity: Int) -> [SimulatedDisk.Piece] {
        guard granularity < Int.max else { return [piece] }
        var parts: [SimulatedDisk.Piece] = []
        var place = 0
        while place < piece.data.count {
            let offset = piece.offset + place
            let length = min(piece.data.count - place, granularity - offset % granularity)
            let start = piece.data.lowerBound + place
            parts.append(SimulatedDisk.Piece(offset: offset, data: start..<(start + length)))
            place += length
        }
        return parts
    }

    private static func sectors(of piece: SimulatedDisk.Piece) -> Range<Int> {
        let end = piece.offset + piece.data.count + SimulatedDisk.sector - 1
        return (piece.offset / SimulatedDisk.sector)..<(end / SimulatedDisk.sector)
    }

    private static func write(_ piece: SimulatedDisk.Piece, to content: inout [UInt8], of log: borrowing OperationLog) {
        let end = piece.offset + piece.data.count
        if end > content.count { content += repeatElement(0, count: end - content.count) }
        log.bytes.withUnsafeBytes { source in
            content.withUnsafeMutableBytes { target in
                UnsafeMutableRawBufferPointer(rebasing: target[piece.offset..<end]).copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: source[piece.data]))
            }
        }
    }

    private static func write(_ bytes: UnsafeRawBufferPointer, to path: String) throws {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Problem("can't make \(path): errno \(errno)") }
        defer { close(descriptor) }
        guard Glibc.write(descriptor, bytes.baseAddress, bytes.count) == bytes.count else {
            throw Problem("can't write \(path): errno \(errno)")
        }
    }
}
