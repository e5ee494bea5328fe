import IngestCore

/// What `ingestd top` shows at one moment, as lines of text. Decides nothing but how it looks.
struct TopPicture {
    enum Connection {
        case connecting
        case connected
        /// - Parameters:
        ///   - since: time of day.
        ///   - reason: of the last attempt.
        case lost(since: String, seconds: Double, reason: String)
    }

    enum Content {
        /// What flows now, for a screen.
        case rates(FlowRates?)
        /// What has flowed since the start of the service.
        case totals
    }

    /// Streams and partitions beyond this are only counted.
    private static let mostRows = 500
    private static let reasonLines = 3

    /// Of the service.
    let address: String
    let connection: Connection
    /// The last answer; `nil` if there was none yet.
    let status: ServiceStatus?
    let content: Content
    /// What can be done, on the last line.
    var hint = ""

    /// - Parameters:
    ///   - columns: of a line.
    ///   - rows: of the screen; `nil` for as many as it takes.
    func lines(columns: Int, rows: Int? = nil) -> [StyledLine] {
        let columns = max(1, columns)
        var top = header(columns)
        var tables: [StyledTable] = []
        if let status {
            top += troubles(status, columns) + [StyledLine()] + flow(status, columns)
            top.append(journal(status, columns))
            top.append(deadLetters(status, columns))
            tables = [sourceTable(status), streamTable(status), partitionTable(status)]
        }
        var lines = top
        let footer = hint.isEmpty ? [] : [StyledLine(hint, .faint)]
        // Each of those that are shown has an empty line, its title and a row; streams matter most.
        let room = rows.map { ($0 - top.count - footer.count) / 3 } ?? tables.count
        let shown = [1, 2, 0].filter { tables.indices.contains($0) && !tables[$0].rows.isEmpty }.prefix(max(0, room))
        tables = shown.sorted().map { tables[$0] }
        let heights = Self.heights(
            of: tables.map { $0.height(width: columns) }, within: rows.map { $0 - top.count - footer.count })
        for (table, height) in zip(tables, heights) {
            let block = table.lines(width: columns, height: height)
            if !block.isEmpty { lines += [StyledLine()] + block }
        }
        if let rows {
            lines = Array(lines.prefix(max(0, rows - footer.count)))
            lines += Array(repeating: StyledLine(), count: max(0, rows - footer.count - lines.count))
        }
        return (lines + footer).prefix(rows ?? .max).map { $0.cut(to: columns) }
    }

    /// Divides what room there is: small tables get what they want, the others the same each.
    /// - Parameter wanted: lines of each table without the empty one before it.
    private static func heights(of wanted: [Int], within room: Int?) -> [Int] {
        guard let room else { return wanted }
        var heights = wanted.map { _ in 0 }
        var left = max(0, room - wanted.count)
        var open = Set(wanted.indices)
        while !open.isEmpty {
            let share = left / open.count
            let small = open.filter { wanted[$0] <= share }
            guard !small.isEmpty else {
                // What does not divide evenly goes to the first ones.
                for (place, index) in open.sorted().enumerated() {
                    heights[index] = share + (place < left % open.count ? 1 : 0)
                }
                break
            }
            for index in small {
                heights[index] = wanted[index]
                left -= wanted[index]
            }
            open.subtract(small)
        }
        return heights
    }

    /// The first of these that fits.
    private static func fitting(_ variants: [StyledLine], _ columns: Int) -> StyledLine {
        variants.first { $0.width <= columns } ?? variants.last ?? StyledLine()
    }

    // MARK: - Who and how

    private func header(_ columns: Int) -> [StyledLine] {
        var state: (text: String, style: TextStyle) = ("connected", .good)
        var below: [StyledLine] = []
        if case .connecting = connection { state = ("connecting", .faint) }
        if case .lost(let since, let seconds, let reason) = connection {
            state = ("not connected since \(since) (\(Figures.duration(seconds)))", .bad)
            below = TextColumns.wrap(Terminal.printable(reason), to: columns, lines: Self.reasonLines).map {
                StyledLine($0, .bad)
            }
            if status != nil { below.append(StyledLine("what follows is the last answer", .faint)) }
        }
        var line = StyledLine()
        let name = status.map { "ingestd \($0.version)" } ?? "ingestd"
        line.append(name, .title)
        var parts: [(String, TextStyle)] = [state]
        if let status {
            parts.append((status.host ?? Figures.unknown, .title))
            parts.append(("up \(Figures.duration(status.uptime_seconds))", .plain))
        }
        parts.append((address, .faint))
        var lines = [line]
        for (text, style) in parts {
            let width = TextColumns.width(Terminal.printable(text))
            // The state is never left out, the address is.
            if lines[0].width + 2 + width <= columns {
                lines[0].append("  ")
                lines[0].append(text, style)
            } else if style == state.style {
                lines.append(StyledLine(text, style))
            }
        }
        return lines + below
    }

    /// What is not well, worst first; a word if all is.
    private func troubles(_ status: ServiceStatus, _ columns: Int) -> [StyledLine] {
        var troubles: [(String, TextStyle)] = []
        if let refusing = status.journal.refusing { troubles.append(("refuses events: \(refusing)", .bad)) }
        let held = status.streams.count { $0.state == "held" }
        if held > 0 { troubles.append((Terminal.count(held, "stream") + " held", .bad)) }
        if status.dead_letters.store_full {
            troubles.append(("the store of dead letters is full: retry or discard some", .bad))
        }
        if !status.clickhouse.healthy { troubles.append(("ClickHouse: \(status.clickhouse.detail)", .warning)) }
        if !status.kafka.healthy { troubles.append(("Kafka: \(status.kafka.detail)", .warning)) }
        if status.dead_letters.topic_healthy == false {
            troubles.append(("DLQ topic: \(status.dead_letters.topic_detail ?? "not healthy")", .warning))
        }
        guard !troubles.isEmpty else { return [StyledLine("healthy", .good)] }
        return troubles.flatMap { text, style in
            TextColumns.wrap(Terminal.printable(text), to: columns, lines: Self.reasonLines).map {
                StyledLine($0, style)
            }
        }
    }

    // MARK: - What flows

    private func flow(_ status: ServiceStatus, _ columns: Int) -> [StyledLine] {
        let (taken, inserted): (String, String)
        switch content {
        case .rates(let rates):
            taken = Figures.rate(rates?.intake.accepted) + "/s"
            inserted = Figures.rate(rates?.delivery.inserted) + "/s"
        case .totals:
            taken = Figures.count(status.total(\.accepted_events))
            inserted = Figures.count(status.total(\.inserted_events))
        }
        let waiting = Figures.count(status.pendingEvents)
        let style: TextStyle = status.clickhouse.healthy ? .good : .bad
        func line(_ names: (String, String, String), _ arrow: String) -> StyledLine {
            var line = StyledLine("\(names.0) ")
            line.append(taken, .title)
            line.append("\(arrow)\(names.1) ")
            line.append(waiting, .title)
            line.append("\(arrow)")
            line.append(names.2, style)
            line.append(" ")
            line.append(inserted, .title)
            return line
        }
        var variants = [
            line(("sources", "journal, waiting", "ClickHouse"), "  ->  "), line(("in", "wait", "out"), " > "),
        ]
        if case .totals = content {
            variants =
                variants.map { line in
                    var line = line
                    line.append("  since the start")
                    return line
                } + variants
        }
        return [Self.fitting(variants, columns)]
    }

    private func journal(_ status: ServiceStatus, _ columns: Int) -> StyledLine {
        let journal = status.journal
        var line = StyledLine("journal ")
        var figures = "\(Figures.bytes(journal.stored_bytes)) of \(Figures.bytes(journal.max_bytes))"
        var style = TextStyle.plain
        if let limit = journal.max_bytes, limit > 0 {
            let share = min(1, max(0, Double(journal.stored_bytes) / Double(limit)))
            style = share >= 0.9 ? .bad : share >= 0.7 ? .warning : .good
            let cells = min(24, columns - 60)
            if cells >= 10 {
                let filled = Int((share * Double(cells)).rounded(.up))
                line.append("[")
                line.append(String(repeating: "#", count: filled), style)
                line.append(String(repeating: ".", count: cells - filled) + "] ", .faint)
            }
            figures += " (\(Int(share * 100))%)"
        }
        line.append(figures, style)
        var variants: [StyledLine] = []
        func add(_ text: String, _ style: TextStyle = .plain) {
            line.append(text, style)
            variants.insert(line, at: 0)
        }
        add("")
        if case .rates(let rates?) = content {
            switch rates.forecast(status) {
            case .full(let seconds): add(", full in \(Figures.duration(seconds))", seconds < 3_600 ? .bad : .warning)
            case .empty(let seconds): add(", empty in \(Figures.duration(seconds))")
            case nil: break
            }
        }
        add(", disk has \(Figures.bytes(journal.disk_free_bytes)) free")
        return Self.fitting(variants, columns)
    }

    private func deadLetters(_ status: ServiceStatus, _ columns: Int) -> StyledLine {
        let letters = status.dead_letters
        var line = StyledLine("dead letters ")
        line.append(
            "\(Figures.count(letters.stored))",
            letters.store_full ? .bad : letters.stored > 0 ? .warning : .plain)
        var variants = [line]
        line.append(" stored (\(Figures.bytes(letters.stored_bytes)))")
        variants.insert(line, at: 0)
        if letters.forwarding {
            line.append(", \(Figures.count(letters.awaiting_forwarding)) awaiting forwarding")
            variants.insert(line, at: 0)
        }
        return Self.fitting(variants, columns)
    }

    // MARK: - Tables

    private func sourceTable(_ status: ServiceStatus) -> StyledTable {
        var columns = [
            StyledTable.Column(title: "SOURCE", maximumWidth: 12),
            StyledTable.Column(title: "STREAM", minimumWidth: 10),
        ]
        if case .rates = content {
            columns.append(StyledTable.Column(title: "IN/S", isNumber: true))
        }
        columns += [
            StyledTable.Column(title: "ACCEPTED", isNumber: true, dispensability: 1),
            StyledTable.Column(title: "REJECTED", isNumber: true, dispensability: 2),
            StyledTable.Column(title: "DEAD", isNumber: true, dispensability: 3),
        ]
        var table = StyledTable(columns: columns, noun: ("source", "sources"))
        let sources = status.sources ?? []
        table.omitted = max(0, sources.count - Self.mostRows)
        table.rows = sources.prefix(Self.mostRows).map { source in
            var cells = [source.source, source.stream]
            if case .rates(let rates) = content { cells.append(Figures.rate(rates?.sources[source.key]?.accepted)) }
            cells += [source.accepted_events, source.rejected_events, source.dead_letter_events].map(Figures.count)
            return StyledTable.Row(cells: cells)
        }
        return table
    }

    private func streamTable(_ status: ServiceStatus) -> StyledTable {
        var columns = [
            StyledTable.Column(title: "STREAM", minimumWidth: 10),
            StyledTable.Column(title: "STATE", maximumWidth: 12),
            StyledTable.Column(title: "BACKLOG", isNumber: true),
            StyledTable.Column(title: "OLDEST", isNumber: true, dispensability: 1),
        ]
        switch content {
        case .rates:
            columns += [
                StyledTable.Column(title: "IN/S", isNumber: true, dispensability: 3),
                StyledTable.Column(title: "OUT/S", isNumber: true, dispensability: 2),
            ]
        case .totals: columns.append(StyledTable.Column(title: "INSERTED", isNumber: true, dispensability: 2))
        }
        columns.append(StyledTable.Column(title: "DEAD", isNumber: true, dispensability: 4))
        var table = StyledTable(columns: columns, noun: ("stream", "streams"))
        if case .rates = content { table.noteLines = Self.reasonLines }
        func rank(_ stream: ServiceStatus.Stream) -> Int {
            stream.state == "held" ? 0 : stream.state == "running" ? 2 : 1
        }
        let streams = status.streams.sorted { (rank($0), $0.stream) < (rank($1), $1.stream) }
        table.omitted = max(0, streams.count - Self.mostRows)
        table.rows = streams.prefix(Self.mostRows).map { stream in
            // Nothing that waits is of age 0; without the member it is not known.
            let age = stream.pending_events == 0 ? Figures.unknown : Figures.duration(stream.oldest_event_age_seconds)
            var cells = [stream.stream, stream.state, Figures.count(stream.pending_events), age]
            switch content {
            case .rates(let rates):
                let rate = rates?.streams[stream.stream]
                cells += [Figures.rate(rate?.taken), Figures.rate(rate?.inserted)]
            case .totals: cells.append(Figures.count(stream.inserted_events))
            }
            cells.append(Figures.count(stream.dead_letters))
            return StyledTable.Row(
                cells: cells, style: [.bad, .warning, .plain][rank(stream)],
                note: stream.state == "running" ? nil : stream.reason)
        }
        return table
    }

    private func partitionTable(_ status: ServiceStatus) -> StyledTable {
        var table = StyledTable(
            columns: [
                StyledTable.Column(title: "KAFKA PARTITION", minimumWidth: 15),
                StyledTable.Column(title: "LAG", isNumber: true),
                StyledTable.Column(title: "POSITION", isNumber: true, dispensability: 3),
                StyledTable.Column(title: "COMMITTED", isNumber: true, dispensability: 2),
                StyledTable.Column(title: "UNCOMMITTED", isNumber: true, dispensability: 1),
                StyledTable.Column(title: "", dispensability: 4),
            ], noun: ("partition", "partitions"))
        // One whose lag is not known comes last.
        let partitions = status.kafka.partitions.sorted {
            let (left, right) = ($0.lag ?? .min, $1.lag ?? .min)
            return left != right ? left > right : ($0.topic, $0.partition) < ($1.topic, $1.partition)
        }
        table.omitted = max(0, partitions.count - Self.mostRows)
        table.rows = partitions.prefix(Self.mostRows).map { partition in
            StyledTable.Row(
                cells: [
                    "\(partition.topic)/\(partition.partition)", Figures.count(partition.lag),
                    offset(partition.position), offset(partition.committed), Figures.count(partition.uncommitted),
                    partition.paused ? "paused" : "",
                ], style: partition.paused ? .warning : .plain)
        }
        return table
    }

    private func offset(_ offset: Int?) -> String { offset.map { "\($0)" } ?? Figures.unknown }
}
