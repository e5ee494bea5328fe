import Foundation
import TestSupport
import Testing

/// What the log of a whole process holds, at its most talkative: an event's name on every line, and nothing of what is
/// confidential.
@Suite(.serialized) struct LogContentTests {
    /// In every payload, key, header, token, password and address with credentials of these tests.
    private static let marker = "s3cr3t"

    /// Events that ClickHouse refuses, lines that are no JSON, wrong tokens and passwords, broken connections.
    @Test func neitherPayloadsNorSecretsAreLogged() async throws {
        let marker = Self.marker
        let settings = [
            "LOG_LEVEL": "trace", "ROW_MODE": "flat", "CLICKHOUSE_TABLE": "coded", "KAFKA_TOPICS": "events",
            "KAFKA_DLQ_TOPIC": "letters", "HOLD_AFTER_REJECTED": "4", "CLICKHOUSE_PASSWORD": "\(marker)-clickhouse",
            "HTTP_TOKEN": "\(marker)-token", "HTTP_OPERATIONS_TOKEN": "\(marker)-operations",
            "CLICKHOUSE_CONNECT_TIMEOUT": "500ms", "SHUTDOWN_TIMEOUT": "2s",
        ]
        try await Scene.run(topics: ["events": 1], environment: settings, through: { FaultProxy(to: $0) }) {
            scene, proxy in
            let proxy = try #require(proxy)
            try scene.cluster.allowClientsToRefuseTopicCreation()
            try await scene.clickHouse.query(
                "CREATE TABLE coded (event_id String, code Int32) ENGINE = MergeTree ORDER BY event_id")
            let properties = try #require(scene.service.environment["KAFKA_PROPERTIES"])
            scene.service.environment["KAFKA_PROPERTIES"] = "\(properties),debug=all"
            try await scene.service.start()
            // A wrong password.
            _ = try await Self.post(scene, #"{"event_id":"\#(marker)-1","code":"\#(marker)"}"#)
            try await scene.service.process.logged("stream held")
            try await scene.service.process.logged("took over Kafka partitions")
            #expect(try await scene.service.stop() == .code(0))
            var lines = try scene.service.process.lines

            scene.service.environment["CLICKHOUSE_PASSWORD"] = ""
            try await scene.service.start()
            let bad = (2..<20).map { #"{"event_id":"\#(marker)-\#($0)","code":"\#(marker)"}"# }
            try scene.cluster.produce(
                (["{\(marker)"] + bad).map {
                    KafkaMock.Message(
                        Array($0.utf8), key: Array("\(marker)-key".utf8),
                        headers: [("h-\(marker)", Array("\(marker)-value".utf8))])
                }, to: "events")
            proxy.setMode(.cutAnswer(afterBytes: 0))
            #expect(try await Self.post(scene, bad.joined(separator: "\n")).status == 202)
            try await scene.service.process.logged("insert failed, retrying")
            #expect(try await Self.post(scene, "{\(marker)", to: "/v1/events?on_error=dead_letter").status == 202)
            #expect(try await Self.post(scene, "{\(marker)").status == 400)
            // Who is not let in, in each way that credentials can come.
            for headers in [
                ["Authorization": "Bearer \(marker)-wrong"], ["Authorization": "Basic \(marker)"],
                ["X-ClickHouse-Key": marker],
            ] {
                let refused = try await scene.service.post(
                    "{}", to: "/v1/events?password=\(marker)&\(marker)=\(marker)", headers: headers)
                #expect([401, 403].contains(refused.status))
                let insert = try await scene.service.post(
                    "{}", to: "/?password=\(marker)&query=INSERT%20INTO%20\(marker)%20FORMAT%20JSONEachRow",
                    headers: headers)
                #expect(insert.status >= 400)
            }
            _ = try await scene.service.get("/\(marker)")
            proxy.setMode(.pass)
            try await scene.service.process.logged("stream held")
            // Open to everyone.
            let readiness = try await scene.service.get("/readyz")
            #expect(readiness.text.contains("stream coded") && !readiness.text.contains(marker), "\(readiness.text)")
            try await eventually("the messages of Kafka were taken") {
                let metrics = ServiceMetrics(
                    try await ServiceConnection.request(
                        port: scene.service.port, "GET", "/metrics",
                        headers: ["Authorization": "Bearer \(marker)-operations"]
                    ).text)
                return metrics[#"ingest_events_total{result="accepted",source="kafka",stream="coded"}"#] == 18
                    && metrics[#"ingest_events_total{result="dead_letter",source="kafka",stream="coded"}"#] == 1
            }
            #expect(try await scene.service.stop() == .code(0))
            lines += try scene.service.process.lines

            try Self.check(
                lines,
                hasEvents: [
                    "service.ready", "service.stopping", "service.stopped", "stream.held", "clickhouse.connected",
                    "clickhouse.insert_failed", "kafka.assigned", "kafka.library", "library",
                ])
            #expect(lines.contains { $0.contains(#""level":"debug""#) })
        }
    }

    /// The password and username of SASL, and addresses with credentials, which are refused.
    @Test func credentialsOfKafkaAndOfAddressesAreNotLogged() async throws {
        let marker = Self.marker
        try await Scene.run(topics: ["events": 1]) { scene in
            var environment = scene.service.environment
            environment.merge([
                "LOG_LEVEL": "trace", "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SASL_MECHANISM": "PLAIN",
                "KAFKA_SASL_USERNAME": "alice", "KAFKA_SASL_PASSWORD": "\(marker)-sasl",
                "KAFKA_PROPERTIES": "debug=all",
            ]) { $1 }
            scene.service.environment = environment
            try await scene.service.start()
            try await eventually("the broker was tried") {
                try scene.service.process.output.contains(#""event":"kafka.client_error""#)
            }
            #expect(try await scene.service.stop() == .code(0))
            var lines = try scene.service.process.lines
            try Self.check(lines, hasEvents: ["service.ready", "kafka.library", "kafka.client_error"])

            environment["CLICKHOUSE_URL"] = "http://user:\(marker)@127.0.0.1:1"
            for command in ["serve", "config check"] {
                let refused = try await ServiceProcess.run(
                    command.split(separator: " ").map(String.init), environment: environment)
                #expect(refused.exit == .code(1) || refused.exit == .code(64), "\(refused.exit)")
                #expect(!refused.output.contains(marker), "\(refused.output)")
            }
            environment["CLICKHOUSE_URL"] = scene.clickHouse.url
            environment["KAFKA_SECURITY_PROTOCOL"] = "SASL_SSL"
            environment["KAFKA_TLS_CA"] = "/nowhere"
            environment["KAFKA_PROPERTIES"] = ""
            scene.service.environment = environment
            try scene.service.launch()
            _ = try await scene.service.process.ended(within: .seconds(20))
            lines = try scene.service.process.lines
            #expect(!lines.contains { $0.contains(marker) }, "\(lines)")
        }
    }

    /// Requests are not logged, so neither floods of bad ones nor broken handshakes write a line.
    @Test func strangersWriteNoLines() async throws {
        let certificates = try await TestCertificates()
        for settings in [
            ["HTTP_TOKEN": "t", "HTTP_OPERATIONS_TOKEN": "o"],
            ["HTTP_TLS_CERTIFICATE": certificates.server, "HTTP_TLS_KEY": certificates.serverKey],
        ] {
            try await Scene.run(environment: settings) { scene in
                try await scene.service.start()
                let count = try scene.service.process.lines.count
                for number in 0..<15 {
                    for (target, headers) in [
                        ("/v1/events", ["Authorization": "Bearer wrong"]), ("/\(number)", [:]),
                        ("/v1/events", ["Content-Encoding": "gzip", "Authorization": "Bearer t"]),
                        ("/v1/events", ["Transfer-Encoding": "nonsense"]),
                    ] {
                        // With TLS, and after a broken head, the connection just ends.
                        _ = try? await scene.service.post("{", to: target, headers: headers)
                    }
                }
                let refused = try? await scene.service.post("{}", headers: ["Authorization": "Bearer wrong"])
                #expect(refused?.status == (settings["HTTP_TOKEN"] == nil ? nil : 403))
                let added = try scene.service.process.lines.dropFirst(count)
                #expect(added.isEmpty, "\(added.first ?? "")")
                #expect(try await scene.service.stop() == .code(0), "it serves to the end")
            }
        }
    }

    /// Each try fails and the next succeeds, again and again: as many changes of state as retries.
    @Test func outagesWriteABoundedNumberOfLines() async throws {
        let settings = ["RETRY_BACKOFF_MIN": "10ms", "RETRY_BACKOFF_MAX": "10ms", "BATCH_MAX_AGE": "1ms"]
        try await Scene.run(environment: settings, through: { FaultProxy(to: $0) }) { scene, proxy in
            let proxy = try #require(proxy)
            try await scene.service.start()
            let rounds = 25
            for round in 0..<rounds {
                proxy.setMode(.cutAnswer(afterBytes: 0))
                try await scene.post(numbered(round..<(round + 1), "e"))
                try await eventually("an insert fails") {
                    try await scene.service.status()["events"]?.state == "retrying"
                }
                proxy.setMode(.pass)
                try await scene.awaitFlush()
            }
            let events = try scene.service.process.lines.map { line in
                try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            }
            func count(_ event: String) -> Int { events.count { $0["event"] as? String == event } }
            let metrics = try await scene.service.metrics()
            let failures = metrics[#"ingest_clickhouse_insert_seconds_count{result="retry",stream="events"}"#]
            #expect(try #require(failures) >= Double(rounds))
            for event in ["clickhouse.insert_failed", "stream.resumed", "clickhouse.connected"] {
                // 10 in 30 seconds; on a slow machine a second period may have begun.
                #expect((5...20).contains(count(event)), "\(event): \(count(event))")
            }
        }
    }

    private static func post(
        _ scene: Scene, _ body: String, to target: String = "/v1/events"
    ) async throws -> ServiceResponse {
        try await scene.service.post(body, to: target, headers: ["Authorization": "Bearer \(marker)-token"])
    }

    private static func check(_ lines: [String], hasEvents expected: Set<String>) throws {
        var seen: Set<String> = []
        for line in lines {
            #expect(!line.contains(marker), "\(line)")
            let object = try #require(
                try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any], "\(line)")
            let event = object["event"] as? String
            #expect(event != nil, "\(line)")
            seen.insert(event ?? "")
        }
        #expect(seen.isSuperset(of: expected), "\(expected.subtracting(seen))")
    }
}
