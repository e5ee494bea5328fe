import Foundation
import Glibc
import TestSupport
import Testing

/// What can't work is said at the start, in full, with exit code 1.
@Suite(.serialized) struct StartTests {
    private func failingStart(_ environment: [String: String]) async throws -> String {
        let process = try ServiceProcess(["serve"], environment: environment)
        let exit = try await process.ended(within: .seconds(20))
        #expect(exit == .code(1), "\(process.output)")
        return process.output
    }

    @Test func allErrorsOfTheConfigurationAreNamed() async throws {
        let folder = try TemporaryDirectory()
        let output = try await failingStart([
            "HTTP_PORT": "99999", "BATCH_MAX_AGE": "soon", "CLICKHOUSE_URL": "ftp://somewhere",
            "KAFKA_CONSUMER_ENABLED": "perhaps", "JOURNAL_PATH": folder.appending("journal"),
        ])
        for name in ["HTTP_PORT", "BATCH_MAX_AGE", "CLICKHOUSE_URL", "KAFKA_CONSUMER_ENABLED"] {
            #expect(output.contains("error: \(name)"), "\(output)")
        }
        #expect(!FileManager.default.fileExists(atPath: folder.appending("journal")))
    }

    @Test func aPortInUseIsNamed() async throws {
        let listener = LoopbackSocket.listen(port: 0)
        defer { close(listener) }
        let port = LoopbackSocket.port(of: listener)
        let service = try ServiceInstance(["HTTP_PORT": "\(port)"])
        let output = try await failingStart(service.environment)
        #expect(output.lowercased().contains("in use"), "\(output)")
        #expect(output.contains("\(port)"), "the message must say which port: \(output)")
    }

    @Test func aJournalInUseIsNamedWithItsUser() async throws {
        try await ServiceTurn.take {
            let first = try ServiceInstance([:])
            try await first.start()
            let second = try ServiceInstance(["JOURNAL_PATH": first.journalPath])
            let output = try await failingStart(second.environment)
            #expect(output.contains("in use by process"), "\(output)")
            #expect(output.contains(first.journalPath), "\(output)")
            // The first is none the worse for it.
            #expect(try await first.service(accepts: #"{"event_id":"a"}"#))
        }
    }

    @Test func aFolderOfSomethingElseIsLeftAlone() async throws {
        let service = try ServiceInstance([:])
        try FileManager.default.createDirectory(atPath: service.journalPath, withIntermediateDirectories: true)
        let content = Data(repeating: UInt8(ascii: "x"), count: 20_000)
        let file = URL(filePath: service.journalPath).appending(path: "data.mdb")
        try content.write(to: file)
        let output = try await failingStart(service.environment)
        #expect(output.contains("not a journal of ingestd"), "\(output)")
        #expect(try Data(contentsOf: file) == content)
    }

    @Test func aStartAfterAKillNeedsNoHelp() async throws {
        try await ServiceTurn.take {
            let service = try ServiceInstance([:])
            for _ in 0..<3 {
                try await service.start()
                #expect(try await service.service(accepts: #"{"event_id":"a"}"#))
                try await service.kill()
            }
        }
    }
}

extension ServiceInstance {
    fileprivate func service(accepts event: String) async throws -> Bool { try await post(event).status == 202 }
}
