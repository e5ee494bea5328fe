import Foundation
import IngestCore
import TestSupport
import Testing

/// Kills the service, and ClickHouse with it, again and again under load from both sources, and then compares what was
/// acknowledged with what has arrived.
///
///     INGESTD_CRASH_CYCLES=500 swift test --filter CrashTests    for longer than the default
///     INGESTD_CRASH_SEED=...                                     for the schedule of an earlier run
///
/// Some kills come at random moments, some at named places (`CrashPoint`).
@Suite(.serialized) struct CrashTests {
    private static let clients = 4
    private static let partitions = 4
    private static let group = "group"
    private let cycles: Int
    private let pointCycles: Int
    private let seed: UInt64

    init() {
        let environment = ProcessInfo.processInfo.environment
        cycles = environment["INGESTD_CRASH_CYCLES"].flatMap { Int($0) } ?? 30
        pointCycles = environment["INGESTD_CRASH_CYCLES"].flatMap { Int($0) } ?? 170
        seed = environment["INGESTD_CRASH_SEED"].flatMap { UInt64($0) } ?? .random(in: 0...UInt64(UInt32.max))
    }

    @Test func nothingAcknowledgedIsLostAndNothingIsInvented() async throws {
        print("crash test: INGESTD_CRASH_SEED=\(seed) INGESTD_CRASH_CYCLES=\(cycles)")
        try await ServiceTurn.take {
            let clickHouse = try ClickHouseServer(.chdb)
            try await clickHouse.applySchema()
            // No merges: copies of an event stay to be seen, and to be collapsed by FINAL.
            try await clickHouse.query(
                "ALTER TABLE events MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, "
                    + "max_bytes_to_merge_at_min_space_in_pool = 1, parts_to_delay_insert = 100000, "
                    + "parts_to_throw_insert = 100000")
            let kafka = try KafkaMock()
            try kafka.createTopic(EventLoad.topic, partitions: Int32(Self.partitions))
            let service = try ServiceInstance([
                "CLICKHOUSE_URL": clickHouse.url, "KAFKA_CONSUMER_ENABLED": "true",
                "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrapServers, "KAFKA_TOPICS": EventLoad.topic,
                "KAFKA_GROUP_ID": Self.group, "KAFKA_COMMIT_INTERVAL": "20ms",
                // The group forgets a killed member when its session is over; the mock lets a first member wait 3 s,
                // and throws it out meanwhile if its session is shorter.
                "KAFKA_PROPERTIES": "session.timeout.ms=4000,heartbeat.interval.ms=100,reconnect.backoff.max.ms=200",
                "BATCH_MAX_ROWS": "2000",
            ])
            let ledger = EventLedger(sources: Self.clients + Self.partitions)
            let load = EventLoad(
                clients: Self.clients, port: service.port, kafka: kafka, partitions: Self.partitions, ledger: ledger,
                seed: seed)
            try await crash(service, clickHouse, kafka, ledger, load)
            load.stop()
            #expect(load.failure == nil)
            try await drain(service, kafka, ledger)
            try await check(service, clickHouse, ledger)
        }
    }

    /// Kills at named places, while batches are divided all the time: every event is inserted, or is a dead letter, and
    /// not both.
    @Test func killsAtNamedPlacesLoseNothing() async throws {
        print("crash test: INGESTD_CRASH_SEED=\(seed) INGESTD_CRASH_CYCLES=\(pointCycles)")
        try await ServiceTurn.take {
            let clickHouse = try ClickHouseServer(.chdb)
            try await clickHouse.query(
                "CREATE TABLE events (event_id String, code FixedString(4)) ENGINE = MergeTree ORDER BY event_id "
                    + "SETTINGS non_replicated_deduplication_window = 10000, parts_to_delay_insert = 100000, "
                    + "parts_to_throw_insert = 100000")
            let service = try ServiceInstance([
                "CLICKHOUSE_URL": clickHouse.url, "ROW_MODE": "flat", "BATCH_MAX_ROWS": "50", "BATCH_MAX_AGE": "5ms",
            ])
            var random = SplitMix64(state: seed)
            var acknowledged: [(id: String, isBad: Bool)] = []
            var passed: Set<CrashPoint> = []
            for cycle in 0..<pointCycles {
                let point = CrashPoint.allCases[cycle % CrashPoint.allCases.count]
                service.environment["INGESTD_CRASH_POINT"] =
                    "\(point.rawValue):\(Int.random(in: 1...6, using: &random))"
                try service.launch()
                let events = (0..<120).map { number in
                    (id: "\(cycle)-\(number)", isBad: Int.random(in: 0..<15, using: &random) == 0)
                }
                acknowledged += try await post(events, to: service)
                // It dies by itself, unless too little was left to be done.
                if (try? await service.process.ended(within: .milliseconds(400))) != nil { passed.insert(point) }
                try await service.kill()
            }
            #expect(passed == Set(CrashPoint.allCases), "places that no process passed prove nothing")
            service.environment["INGESTD_CRASH_POINT"] = nil
            try await service.start()
            try await eventually("everything is flushed", within: .seconds(60)) {
                try await service.status().pendingEvents == 0
            }
            let rows = try await clickHouse.query("SELECT event_id, count() FROM events GROUP BY event_id")
            let letters = try await ServiceProcess.run(
                ["dead-letters", "export"], environment: ["JOURNAL_PATH": service.journalPath]
            ).output
            try check(acknowledged, rows, letters)
            try await service.kill()
        }
    }

    /// Sends events, ten at a time, until the service is gone.
    /// - Returns: those that were acknowledged.
    private func post(
        _ events: [(id: String, isBad: Bool)], to service: ServiceInstance
    ) async throws -> [(id: String, isBad: Bool)] {
        var acknowledged: [(id: String, isBad: Bool)] = []
        for start in stride(from: 0, to: events.count, by: 10) {
            let group = events[start..<(start + 10)]
            let body = group.map { #"{"event_id":"\#($0.id)","code":"\#($0.isBad ? "too wide" : "good")"}"# }
            var isAnswered = false
            while !isAnswered {
                do {
                    let answer = try await service.post(body.joined(separator: "\n"), timeoutSeconds: 5)
                    try #require(answer.status == 202, "\(answer.text)")
                    acknowledged += group
                    isAnswered = true
                } catch is ServiceConnection.Broken {
                    // Not up yet, or gone; a pause between two tries.
                    if try service.process.exit != nil { return acknowledged }
                    try await Task.sleep(for: .milliseconds(5))
                }
            }
        }
        return acknowledged
    }

    private func check(_ acknowledged: [(id: String, isBad: Bool)], _ rows: String, _ letters: String) throws {
        var copies: [String: Int] = [:]
        for line in rows.split(separator: "\n") {
            let fields = line.split(separator: "\t")
            copies[String(fields[0])] = Int(fields[1])
        }
        struct Letter: Decodable { let event_id: String }
        var letterCounts: [String: Int] = [:]
        for line in letters.split(separator: "\n") {
            letterCounts[try JSONDecoder().decode(Letter.self, from: Data(line.utf8)).event_id, default: 0] += 1
        }
        let lost = acknowledged.filter { copies[$0.id] == nil && letterCounts[$0.id] == nil }
        #expect(lost.isEmpty, "seed \(seed): lost \(lost.prefix(5).map(\.id))")
        let wrong = acknowledged.filter {
            (letterCounts[$0.id] != nil) != $0.isBad || (copies[$0.id] != nil) == $0.isBad
        }
        #expect(
            wrong.isEmpty, "seed \(seed): good ones that are dead letters, or the reverse: \(wrong.prefix(5).map(\.id))"
        )
        // Guarantee 4: within the deduplication window each is there once, and each letter too.
        #expect(copies.values.allSatisfy { $0 == 1 }, "seed \(seed): \(copies.filter { $0.value > 1 }.prefix(5))")
        #expect(
            letterCounts.values.allSatisfy { $0 == 1 },
            "seed \(seed): \(letterCounts.filter { $0.value > 1 }.prefix(5))")
        #expect(acknowledged.count > pointCycles * 10)
    }

    private func crash(
        _ service: ServiceInstance, _ clickHouse: ClickHouseServer, _ kafka: KafkaMock, _ ledger: EventLedger,
        _ load: EventLoad
    ) async throws {
        var random = SplitMix64(state: seed)
        var comeback: Task<Void, any Error>?
        for cycle in 0..<cycles {
            ledger.beginCycle(cycle)
            // A group takes seconds to give a new member its partitions, so some cycles wait for that, and the kill
            // comes while messages are taken, flushed and committed. In the others there is no consumer, whose traces
            // in the group would cost the next one more seconds; most kills come early, some before it is ready.
            let consumes = cycle % 4 == 3
            service.environment["KAFKA_CONSUMER_ENABLED"] = "\(consumes)"
            try service.launch()
            if consumes { try await assignment(service, kafka, load) }
            if cycle % 6 == 2 {
                try await comeback?.value
                clickHouse.kill()
                let pause = Duration.milliseconds(Int.random(in: 100...1_500, using: &random))
                comeback = Task {
                    try await Task.sleep(for: pause)
                    try await clickHouse.restartInBackground()
                }
            }
            // Not a wait for something: the moment of the kill is random.
            let range = cycle % 5 == 4 ? 5...100 : 100...700
            try await Task.sleep(for: .milliseconds(Int.random(in: range, using: &random)))
            try await service.kill()
        }
        try await comeback?.value
    }

    private func assignment(_ service: ServiceInstance, _ kafka: KafkaMock, _ load: EventLoad) async throws {
        try await eventually("all partitions are assigned and read") {
            // It may still be starting.
            guard let status = try? await service.status() else { return try service.process.exit != nil }
            return status.kafka.partitions.count == Self.partitions
                && status.kafka.partitions.allSatisfy { $0.position != nil }
        }
        let process = try service.process
        try #require(process.exit == nil, "\(process.output)")
        for partition in 0..<Self.partitions {
            let offset = try kafka.committedOffset(
                group: Self.group, topic: EventLoad.topic, partition: Int32(partition))
            if let offset { load.committed(offset, partition: partition) }
        }
    }

    private func drain(_ service: ServiceInstance, _ kafka: KafkaMock, _ ledger: EventLedger) async throws {
        service.environment["KAFKA_CONSUMER_ENABLED"] = "true"
        try await service.start()
        do {
            for partition in 0..<Self.partitions {
                let end = Int64(ledger.sent(Self.clients + partition))
                try await eventually("partition \(partition) is committed up to \(end)", within: .seconds(60)) {
                    try kafka.committedOffset(
                        group: Self.group, topic: EventLoad.topic, partition: Int32(partition)) == end
                }
            }
            try await eventually("everything is flushed", within: .seconds(60)) {
                try await service.status().pendingEvents == 0
            }
        } catch {
            print("seed \(seed); the log ends with\n\(try service.process.lines.suffix(30).joined(separator: "\n"))")
            print(await service.journalStatistics())
            throw error
        }
        #expect(try await service.stop() == .code(0))
    }

    private func check(_ service: ServiceInstance, _ clickHouse: ClickHouseServer, _ ledger: EventLedger) async throws {
        let comparison = ledger.compare(try await clickHouse.queryBytes("SELECT DISTINCT event_id FROM events"))
        let final = try await clickHouse.number("SELECT count() FROM events_unique")
        let mixedUp = try await clickHouse.number(
            "SELECT countIf(JSONExtractString(payload, 'event_id') != event_id) FROM events")
        let copies = try await clickHouse.query(
            "SELECT source, count() - uniqExact(event_id) FROM events GROUP BY source ORDER BY source FORMAT CSV")
        let statistics = await service.journalStatistics()
        print(
            "crash test: \(cycles) kills, \(ledger.acknowledgedCount) events acknowledged, \(comparison.arrivedCount) "
                + "arrived; copies by source: \(copies.split(separator: "\n").joined(separator: " "))")
        #expect(
            comparison.missing.isEmpty,
            """
            seed \(seed): \(comparison.missingCount) acknowledged events are missing:
            \(comparison.missing.prefix(10).joined(separator: "\n"))
            \(statistics)
            """)
        #expect(comparison.unknown.isEmpty, "seed \(seed): ids that nobody sent: \(comparison.unknown.prefix(10))")
        #expect(final == comparison.arrivedCount, "seed \(seed): copies of an event do not collapse")
        #expect(mixedUp == 0, "seed \(seed): rows with another event's id")
        // A run in which hardly anything happened proves nothing.
        #expect(ledger.acknowledgedCount > cycles * 100)
    }
}
