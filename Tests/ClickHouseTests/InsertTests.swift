import Foundation
import IngestCore
import TestSupport
import Testing

@testable import ClickHouse

extension RealServerTests {
    /// Inserts.
    struct InsertTests {
        typealias Engine = ClickHouseServer.Engine

        private func makeEnvelopeTable(_ server: ClickHouseServer, _ name: String) async throws {
            let time = server.engine == .chdb ? "DateTime64(3, 'UTC')" : "DateTime('UTC')"
            try await server.query(
                """
                CREATE TABLE \(name) (event_id String, payload String, source String, topic String, partition Int32, \
                offset Int64, key String, received_at \(time)) ENGINE = MergeTree ORDER BY event_id
                """)
        }

        private func hex(_ bytes: [UInt8]) -> String {
            bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16, uppercase: true) }.joined()
        }

        @Test(arguments: ClickHouseServer.installedEngines)
        func envelopesArriveByteForByte(engine: Engine) async throws {
            let server = try ServerScope.server(engine)
            try await makeEnvelopeTable(server, "envelopes")
            var random = SeededGenerator(state: 11)
            let keys: [[UInt8]?] = [
                nil, [], [0], Array(0...255), Array("\"\\\n".utf8), Array("日本".utf8), [0xFF, 0xC0, 0x22],
            ]
            let events = (0..<300).map { index in
                ClickHouseTestEvent(
                    payload: Array(delicatePayloads[index % delicatePayloads.count].utf8), id: .stored,
                    storedID: Array("id \"\\\n🙂 \(1_000 + index)".utf8),
                    kafka: (offset: Int64.random(in: 0...Int64.max, using: &random), key: keys[index % keys.count]))
            }
            let batch = ClickHouseTestBatch(
                events, origin: .kafka(TopicPartition(topic: "to\"pic", partition: 7), offsets: 0..<1),
                eventsPerEntry: 64)
            let client = try ServerScope.client([server.url], rowMode: .envelope)
            defer { client.shutdown() }
            let outcome = await client.insert(batch, into: "envelopes", token: "1")
            #expect(outcome.isInserted, "\(outcome)")
            let text = try await server.query(
                """
                SELECT hex(event_id), hex(payload), source, topic, partition, offset, hex(key), toUInt32(received_at) \
                FROM envelopes ORDER BY event_id FORMAT TabSeparatedRaw
                """)
            let expected = events.map { event in
                [
                    hex(event.storedID!), hex(event.payload), "kafka", "to\"pic", "7", "\(event.kafka!.offset)",
                    hex(event.kafka!.key ?? []), "1795398000",
                ].joined(separator: "\t")
            }
            #expect(text.split(separator: "\n").map(String.init) == expected)
        }

        @Test(arguments: ClickHouseServer.installedEngines)
        func httpEnvelopesLeaveKafkaColumnsEmpty(engine: Engine) async throws {
            let server = try ServerScope.server(engine)
            try await makeEnvelopeTable(server, "http_envelopes")
            let client = try ServerScope.client([server.url], rowMode: .envelope)
            defer { client.shutdown() }
            let batch = ClickHouseTestBatch([ClickHouseTestEvent(#"{"a":1}"#)])
            #expect(await client.insert(batch, into: "default.http_envelopes", token: "1").isInserted)
            #expect(
                try await server.query(
                    "SELECT event_id, source, topic, partition, offset, key FROM http_envelopes FORMAT TabSeparatedRaw")
                    == "\(EventID.derive(from: Array(#"{"a":1}"#.utf8)))\thttp\t\t0\t0\t")
        }

        @Test(.enabled(if: ClickHouseServer.isInstalled(.chdb)))
        func timesKeepTheirMilliseconds() async throws {
            let server = try ServerScope.server(.chdb)
            try await makeEnvelopeTable(server, "times")
            let client = try ServerScope.client([server.url], rowMode: .envelope)
            defer { client.shutdown() }
            #expect(
                await client.insert(ClickHouseTestBatch([ClickHouseTestEvent("{}")]), into: "times", token: "1")
                    .isInserted)
            #expect(try await server.query("SELECT received_at FROM times") == "2026-11-23 01:40:00.123")
        }

        @Test(arguments: ClickHouseServer.installedEngines, ClickHouseConfiguration.Compression.allCases)
        func largeBatchesAreStreamed(engine: Engine, compression: ClickHouseConfiguration.Compression) async throws {
            // The old server knows no zstd.
            guard engine == .chdb || compression != .zstd else { return }
            let server = try ServerScope.server(engine)
            let table = "large_\(compression)"
            try await server.makeFlatTable(table)
            let client = try ServerScope.client([server.url], compression: compression)
            defer { client.shutdown() }
            let outcome = await client.insert(.numbered(50_000, textBytes: 200), into: table, token: "1")
            #expect(outcome.isInserted, "\(outcome)")
            #expect(
                try await server.query("SELECT count(), sum(id), min(length(text)) FROM \(table)")
                    == "50000\t1249975000\t200")
        }

        @Test(arguments: ClickHouseServer.installedEngines)
        func namesNeedQuotes(engine: Engine) async throws {
            let server = try ServerScope.server(engine)
            try await server.query("CREATE DATABASE IF NOT EXISTS `select`")
            try await server.query(
                #"CREATE TABLE `select`.`we``ird \\ na"me` (id UInt64) ENGINE = MergeTree ORDER BY id"#
                    .replacingOccurrences(of: "``", with: #"\`"#))
            let client = try ServerScope.client([server.url])
            defer { client.shutdown() }
            let batch = ClickHouseTestBatch([ClickHouseTestEvent(#"{"id":5}"#)])
            let outcome = await client.insert(batch, into: #"select.we`ird \ na"me"#, token: "1")
            #expect(outcome.isInserted, "\(outcome)")
        }

        @Test(arguments: ClickHouseServer.installedEngines)
        func aRepeatedTokenAddsNoRows(engine: Engine) async throws {
            let server = try ServerScope.server(engine)
            try await server.makeFlatTable("tokens")
            let client = try ServerScope.client([server.url])
            defer { client.shutdown() }
            for token in ["a", "a", "b", "a"] {
                #expect(await client.insert(.numbered(100), into: "tokens", token: token).isInserted)
            }
            // 18.16 knows no token: there every retry leaves its rows.
            #expect(try await server.count("tokens") == (engine == .chdb ? 200 : 400))
        }

        @Test(arguments: ClickHouseServer.installedEngines)
        func whatTheOperatorMustMend(engine: Engine) async throws {
            let server = try ServerScope.server(engine)
            try await server.query("CREATE TABLE narrow (event_id String) ENGINE = MergeTree ORDER BY event_id")
            let client = try ServerScope.client([server.url], rowMode: .envelope)
            defer { client.shutdown() }
            let batch = ClickHouseTestBatch([ClickHouseTestEvent("{}")])
            for (table, code) in [("missing", 60), ("missing.events", 81), ("narrow", 16)] {
                let failure = try #require(await client.insert(batch, into: table, token: "1").failure)
                #expect(failure.failureClass == .configuration, "\(failure)")
                #expect(failure.clickHouseCode == code || failure.clickHouseCode == 60, "\(failure)")
                #expect(!failure.message.isEmpty && failure.httpStatus != nil)
            }
            #expect(!client.state().isHealthy)
            let stranger = try ServerScope.client([server.url], password: "wrong")
            defer { stranger.shutdown() }
            let failure = try #require(await stranger.insert(batch, into: "narrow", token: "1").failure)
            #expect(failure.failureClass == .configuration)
            #expect([193, 516].contains(failure.clickHouseCode))
            #expect(!failure.message.contains("wrong"))
            #expect(stranger.state().detail.contains("since "))
        }

        @Test(arguments: ClickHouseServer.installedEngines)
        func aBadRowIsNamed(engine: Engine) async throws {
            let server = try ServerScope.server(engine)
            try await server.makeFlatTable("bad_rows")
            let client = try ServerScope.client([server.url])
            defer { client.shutdown() }
            for bad in [#"{"id":"x","text":"b"}"#, #"{"id":1,"unknown":2}"#, #"{"id":[],"text":"b"}"#] {
                var events = (0..<50_000).map { ClickHouseTestEvent(#"{"id":\#($0),"text":"a"}"#) }
                events[1_233] = ClickHouseTestEvent(bad)
                let failure = try #require(
                    await client.insert(ClickHouseTestBatch(events), into: "bad_rows", token: "1").failure)
                #expect(failure.failureClass == .rowData, "\(failure)")
                #expect(failure.rowHint == 1_234, "\(failure)")
            }
            #expect(client.state().isHealthy)
            #expect(try await server.count("bad_rows") == 0)
        }

        /// The reader fails when most of the batch is on its way. Without the brace that is held back, 18.16 inserts
        /// what it got.
        @Test(arguments: ClickHouseServer.installedEngines, [0, 1, 9_999, 20_000])
        func aBatchThatCantBeReadLeavesNothing(engine: Engine, failsAfter: Int) async throws {
            let server = try ServerScope.server(engine)
            let table = "unreadable_\(failsAfter)"
            try await server.makeFlatTable(table)
            let client = try ServerScope.client([server.url])
            defer { client.shutdown() }
            let outcome = await client.insert(.numbered(20_001), into: table, token: "1", failsAfter: failsAfter)
            guard case .unreadable(let message) = outcome else {
                Issue.record("\(outcome)")
                return
            }
            #expect(message.contains("ReadFailure"))
            try await server.settle(table)
            #expect(try await server.count(table) == 0)
            // The same client and server go on, and the token was not used up.
            #expect(await client.insert(.numbered(20_001), into: table, token: "1").isInserted)
            #expect(try await server.count(table) == 20_001)
        }

        @Test(arguments: ClickHouseServer.installedEngines)
        func connectionsAreKept(engine: Engine) async throws {
            let server = try ServerScope.server(engine)
            try await server.makeFlatTable("kept")
            let proxy = FaultProxy(to: server.port)
            let client = try ServerScope.client([proxy.url], maximumConnections: 3)
            defer { client.shutdown() }
            await withTaskGroup { group in
                for index in 0..<60 {
                    group.addTask {
                        let outcome = await client.insert(
                            .numbered(10, from: index * 10), into: "kept", token: "\(index)")
                        #expect(outcome.isInserted, "\(outcome)")
                    }
                }
            }
            #expect(try await server.query("SELECT count(), uniqExact(id) FROM kept") == "600\t600")
            #expect(proxy.acceptedConnections <= 3)
        }
    }
}
