import Foundation
import TestSupport
import Testing

/// The service on a disk that runs full while ClickHouse is away. Mounting a file system needs root.
@Suite(.enabled(if: LoopDisk.isPossible, "mounting a file system needs root"))
struct ServiceFullDiskTests {
    /// What clients were told, over all requests.
    private struct Load {
        let service: ServiceInstance
        private(set) var accepted: [String] = []
        private var sent = 0

        init(_ service: ServiceInstance) { self.service = service }

        /// Posts 20 events of about 10 KB.
        mutating func post() async throws -> ServiceResponse {
            let padding = String(repeating: "x", count: 10_000)
            let ids = (0..<20).map { "event-\(sent + $0)" }
            sent += ids.count
            let body = ids.map { #"{"event_id":"\#($0)","padding":"\#(padding)"}"# }.joined(separator: "\n")
            let response = try await service.post(body)
            if response.status == 202 { accepted += ids }
            return response
        }

        /// Posts until a request is refused.
        mutating func fill() async throws -> ServiceResponse {
            while true {
                let response = try await post()
                if response.status != 202 { return response }
            }
        }
    }

    @Test func refusesWithAReasonAndAcceptsAgain() async throws {
        let engine = try #require(ClickHouseServer.installedEngines.last)
        try await ServiceTurn.take {
            let clickHouse = try ClickHouseServer(engine)
            try await clickHouse.applySchema()
            clickHouse.kill()
            let disk = try LoopDisk(bytes: 64 << 20)
            try disk.makeBallast("ballast", bytes: 16 << 20)
            let service = try ServiceInstance([
                "CLICKHOUSE_URL": clickHouse.url, "JOURNAL_PATH": disk.appending("journal"),
                "JOURNAL_MIN_FREE_DISK_BYTES": "8MiB",
            ])
            try await service.start()
            var load = Load(service)
            let refusal = try await load.fill()
            #expect(refusal.status == 503 && refusal.headers["retry-after"] != nil, "\(refusal)")
            #expect(refusal.text.contains("disk"), "\(refusal.text)")
            #expect(load.accepted.count > 500)
            #expect(try await service.get("/readyz").status == 503)
            #expect(try await service.get("/livez").status == 200)

            try disk.remove("ballast")
            try await eventually("the service is ready again") { try await service.get("/readyz").status == 200 }
            #expect(try await load.post().status == 202)
            _ = try await load.fill()

            // Nobody makes room now but ClickHouse.
            try await clickHouse.restartInBackground()
            try await eventually("events are accepted while it drains") { try await load.post().status == 202 }
            try await eventually("everything is flushed", within: .seconds(60)) {
                try await service.status().pendingEvents == 0
            }
            let stored = try await clickHouse.query("SELECT DISTINCT event_id FROM events FORMAT TSV")
            let missing = Set(load.accepted).subtracting(stored.split(separator: "\n").map(String.init))
            #expect(missing.isEmpty, "\(missing.count) of \(load.accepted.count) events are missing")
            #expect(try await service.stop() == .code(0))
        }
    }
}
