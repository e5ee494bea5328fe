import ArgumentParser
import FoundationEssentials
import IngestCore
import Journal

extension JournalCommand {
    /// `ingestd journal export`
    struct Export: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Writes stored events as NDJSON, those that wait and those kept by JOURNAL_RETAIN.",
            discussion: """
                One line an event: {"stream":...,"sequence":...,"event_id":...,"source":...,"topic":...,\
                "partition":...,"offset":...,"key":...,"traceparent":...,"received_at":...,"payload":{...}}; events \
                from HTTP have no topic, partition, offset and key, and traceparent is there only if the event came \
                with a valid one. A key that is no UTF-8 text is in base64, with \
                "key_encoding":"base64". Damaged entries are named on standard error, and the command ends with 1.

                \(ConfigurationReference.discussion(of: CommandSettings.journal))
                """)

        @Option(help: "Only this stream; a stream has the name of its table.")
        var stream: String?

        @OptionGroup var sequences: SequenceOptions

        @OptionGroup var times: ReceiptOptions

        @Option(help: "File to write, instead of standard output; it is there only once it is complete.")
        var output: String?

        @OptionGroup var options: ConfigurationOptions

        func validate() throws {
            guard sequences.range == nil || stream != nil else {
                throw ValidationError("--from and --to need --stream: each stream has its own sequences.")
            }
        }

        func run() throws {
            let path = try options.loadOrExit(CommandSettings.journal).configuration.journal.path
            let inspection = try TerminalError.from { try JournalInspection(path: path) }
            var file = try OutputFile(output)
            let progress = ProgressLine()
            var count = 0
            var damagedCount = 0
            for state in try inspection.streams(named: stream) {
                var line = EventLine(table: state.stream.table)
                let export = try TerminalError.from {
                    try inspection.events(
                        of: state.stream.id, sequences: sequences.range, receivedAt: times.range,
                        progress: { progress.show($0.text) },
                        body: { event, entry in
                            try line.encode(event, of: entry)
                            try file.write(line.bytes)
                        })
                }
                count += export.eventCount
                damagedCount += export.damagedCount
                progress.clear()
                for damage in export.damaged { Terminal.report("\(state.stream.table): left out: \(damage)") }
            }
            try file.finish()
            if let output { print("\(Terminal.count(count, "event")) written to \(output)") }
            guard damagedCount == 0 else {
                throw TerminalError("\(Terminal.count(damagedCount, "damaged entry", "damaged entries")) left out")
            }
        }
    }
}

extension JournalInspection {
    /// The stream of a table, or all streams.
    /// - Throws: `TerminalError`, with the names of the streams if there is none of that name.
    func streams(named name: String?) throws(TerminalError) -> [StreamState] {
        let all = try TerminalError.from { try snapshot().streams.values.sorted { $0.stream.id < $1.stream.id } }
        guard let name else { return all }
        let found = all.filter { $0.stream.table == name }
        guard found.isEmpty else { return found }
        let names = all.map(\.stream.table).joined(separator: ", ")
        throw TerminalError("the journal \(path) has no stream \(Quoted.text(name)), only: \(names)")
    }
}

/// Encodes events as lines of JSON; one buffer for all.
private struct EventLine {
    private(set) var bytes: [UInt8] = []
    /// `{"stream":"...","sequence":`
    private let start: [UInt8]

    init(table: String) { start = Array("{\"stream\":".utf8) + JSONString.encode(table) + Array(",\"sequence\":".utf8) }

    mutating func encode(_ event: EventView, of entry: EntryView) throws {
        bytes.removeAll(keepingCapacity: true)
        bytes += start
        bytes += String(event.sequence).utf8
        put("event_id", event.explicitID.map { Self.text($0) } ?? EventID.derive(from: event.payload))
        if let kafka = entry.kafka {
            put("source", "kafka")
            put("topic", Self.text(kafka.topic))
            put("partition", number: Int64(kafka.partition))
        } else {
            put("source", "http")
        }
        if let message = event.kafka {
            put("offset", number: message.offset)
            if let key = message.key { putKey(key) }
        }
        if let traceparent = event.traceparent { put("traceparent", Self.text(traceparent)) }
        put("received_at", Timestamp.iso8601(milliseconds: entry.receivedAt))
        bytes += #","payload":"#.utf8
        // A line feed can only stand between tokens, where a space is as good.
        bytes += event.payload.lazy.map { $0 == 0x0A || $0 == 0x0D ? 0x20 : $0 }
        bytes += "}\n".utf8
    }

    private mutating func putKey(_ key: UnsafeRawBufferPointer) {
        if let text = String(validating: key, as: UTF8.self) {
            put("key", text)
        } else {
            put("key", Data(key).base64EncodedString())
            put("key_encoding", "base64")
        }
    }

    private mutating func put(_ name: String, _ text: String) {
        bytes += ",\"\(name)\":".utf8
        bytes += JSONString.encode(text)
    }

    private mutating func put(_ name: String, number: Int64) { bytes += ",\"\(name)\":\(number)".utf8 }

    private static func text(_ bytes: UnsafeRawBufferPointer) -> String { String(decoding: bytes, as: UTF8.self) }
}

/// Text as a JSON string.
private enum JSONString {
    static func encode(_ text: String) -> [UInt8] {
        var result: [UInt8] = [0x22]
        for byte in text.utf8 {
            switch byte {
            case 0x22, 0x5C: result += [0x5C, byte]
            case 0..<0x20:
                let digits = String(byte, radix: 16)
                result += "\\u00\(byte < 16 ? "0" : "")\(digits)".utf8
            default: result.append(byte)
            }
        }
        result.append(0x22)
        return result
    }
}
