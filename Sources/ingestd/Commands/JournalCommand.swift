import ArgumentParser
import FoundationEssentials
import IngestCore
import Journal

/// `ingestd journal`: looks into a journal, also while the service runs.
struct JournalCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "journal", abstract: "Looks into a journal; safe beside a running service.",
        subcommands: [Stats.self])

    /// `ingestd journal stats`
    struct Stats: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Shows what the journal holds: streams, positions, bytes, Kafka partitions.")

        @Flag(help: "Print JSON, for scripts.")
        var json = false

        @OptionGroup var options: ConfigurationOptions

        func run() throws {
            let path = try options.loadOrExit().configuration.journal.path
            let snapshot: Journal.Snapshot
            do {
                snapshot = try Journal.inspect(path: path)
            } catch {
                throw TerminalError(error)
            }
            print(
                json ? try Self.encoded(JournalReport(path: path, snapshot)) : JournalReport(path: path, snapshot).text)
        }

        private static func encoded(_ report: JournalReport) throws -> String {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
            return String(decoding: try encoder.encode(report), as: UTF8.self)
        }
    }
}

/// An error whose message is meant for the terminal as it is; the command exits with 1.
struct TerminalError: Error, CustomStringConvertible {
    let description: String

    init(_ error: any Error) { description = "\(error)" }
}

/// What `journal stats` prints.
private struct JournalReport: Encodable {
    struct Stream: Encodable {
        let table: String
        let next_sequence: UInt64
        let flushed_position: UInt64
        let pending_events: UInt64
        let stored_bytes: UInt64
    }

    struct Partition: Encodable {
        let topic: String
        let partition: Int32
        let taken: Int64?
        let flushed: Int64?
        let committed: Int64?
    }

    let path: String
    let stored_bytes: Int
    let file_bytes: Int
    let dead_letters: Int
    let streams: [Stream]
    let partitions: [Partition]

    init(path: String, _ snapshot: Journal.Snapshot) {
        self.path = path
        stored_bytes = snapshot.storedBytes
        file_bytes = snapshot.fileBytes
        dead_letters = snapshot.deadLetterCount
        streams = snapshot.streams.values.sorted { $0.stream.id < $1.stream.id }.map {
            Stream(
                table: $0.stream.table, next_sequence: $0.nextSequence, flushed_position: $0.position,
                pending_events: $0.pendingEvents, stored_bytes: $0.storedBytes)
        }
        partitions = snapshot.partitions.sorted { "\($0.key)" < "\($1.key)" }.map {
            Partition(
                topic: $0.key.topic, partition: $0.key.partition, taken: $0.value.end, flushed: $0.value.flushed,
                committed: $0.value.committed)
        }
    }

    var text: String {
        var lines = [
            "journal        \(path)", "entries        \(stored_bytes) bytes, in a file of \(file_bytes) bytes",
            "dead letters   \(dead_letters)",
        ]
        for stream in streams {
            lines.append(
                "stream         \(stream.table): \(stream.pending_events) events wait, flushed up to "
                    + "\(stream.flushed_position), next is \(stream.next_sequence), \(stream.stored_bytes) bytes")
        }
        for partition in partitions {
            func text(_ offset: Int64?) -> String { offset.map { "\($0)" } ?? "-" }
            lines.append(
                "partition      \(partition.topic)/\(partition.partition): taken up to \(text(partition.taken)), "
                    + "flushed \(text(partition.flushed)), committed \(text(partition.committed))")
        }
        return lines.joined(separator: "\n")
    }
}
