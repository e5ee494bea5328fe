import Glibc
import TestSupport
import Testing

/// Where LMDB can't go on, the process says so and ends; the next one has everything that was acknowledged.
@Suite struct ServiceFailureTests {
    @Test func aJournalThatCanNotGoOnEndsTheProcess() async throws {
        try await ServiceTurn.take {
            let folder = try TemporaryDirectory("failure")
            let disk = try FaultyFolder(in: folder)
            // ClickHouse is away all the time, so that the journal keeps what it has.
            let service = try ServiceInstance([
                "CLICKHOUSE_URL": "http://127.0.0.1:1", "JOURNAL_PATH": disk.appending("journal"),
                "SHUTDOWN_TIMEOUT": "60s",
            ])
            let settings = service.environment
            service.environment = settings.merging(try DiskProcess.shim(on: disk)) { $1 }
            try await service.start()
            for number in 0..<10 {
                #expect(try await service.post(#"{"event_id":"e\#(number)"}"#).status == 202)
            }
            try disk.fail(.meta, error: EIO)
            let refusal = try await service.post(#"{"event_id":"unclear"}"#)
            #expect(refusal.status == 503, "\(refusal.text)")
            // It does not wait for the time that flushing may take.
            #expect(try await service.process.ended(within: .seconds(20)) == .code(1))
            #expect(try service.process.output.contains("the journal can't go on"))

            try disk.heal()
            service.environment = settings
            try await service.start()
            #expect(try await service.status().pendingEvents >= 10)
            #expect(try await service.post(#"{"event_id":"next"}"#).status == 202)
            try await service.kill()
        }
    }
}
