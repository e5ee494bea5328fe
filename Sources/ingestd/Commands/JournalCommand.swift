import ArgumentParser
import IngestCore
import Journal

/// `ingestd journal`: looks into a journal, also while the service runs.
struct JournalCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "journal", abstract: "Looks into a journal and works on it; safe beside a running service.",
        subcommands: [Stats.self, Verify.self, Export.self, Replay.self, Compact.self])

    /// `ingestd journal stats`
    struct Stats: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Shows what the journal holds: streams, positions, bytes, Kafka partitions.",
            discussion: ConfigurationReference.discussion(of: CommandSettings.journal))

        @Flag(help: "Print JSON, for scripts.")
        var json = false

        @OptionGroup var options: ConfigurationOptions

        func run() throws {
            let path = try options.loadOrExit(CommandSettings.journal).configuration.journal.path
            let report = JournalReport(path: path, try TerminalError.from { try Journal.inspect(path: path) })
            print(json ? try Terminal.json(report) : report.text)
        }
    }
}

/// An error whose message is meant for the terminal as it is; the command exits with 1.
struct TerminalError: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }

    init(_ error: any Error) { description = "\(error)" }

    /// Runs `body`, and makes its error one for the terminal.
    static func from<Result>(_ body: () throws -> Result) throws(TerminalError) -> Result {
        do { return try body() } catch { throw error as? TerminalError ?? TerminalError(error) }
    }
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
