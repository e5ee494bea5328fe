import Foundation
import TestSupport
import Testing

/// `ingestd dead-letters` as users run it.
@Suite(.serialized) struct DeadLetterCommandTests {
    private struct Letter: Decodable {
        struct Problem: Decodable { let kind: String }
        let id: UInt64
        let eventId: String
        let state: String
        let error: Problem
        let payload: String?
    }

    private struct Page: Decodable {
        let deadLetters: [Letter]
        let nextAfter: UInt64?
    }

    private struct Change: Decodable, Equatable {
        let changed: Int
        let notRetryable: Int
        let errors: [String]
    }

    /// Letters 1 to 8 are rejected rows, 9 is no JSON.
    private func makeLetters(_ scene: CommandScene) async throws {
        try await scene.post((0..<10).map { CommandScene.event("e\($0)", isBad: $0 < 8) })
        try await scene.awaitFlush()
        try await scene.post([CommandScene.event("good"), #"{"event_id":"#], "?on_error=dead_letter")
        try await scene.awaitFlush()
        #expect(try await ids(scene) == Array(1...9))
    }

    private func ids(_ scene: CommandScene) async throws -> [UInt64] {
        try await scene.command("dead-letters", "list", "--json").json(Page.self).deadLetters.map(\.id)
    }

    @Test func deadLettersAreLookedAtAndChangedBesideAServiceAndWithoutOne() async throws {
        try await CommandScene.run(["JOURNAL_RETAIN": "1h"]) { scene in
            try await makeLetters(scene)
            try await expectLists(scene)
            try await expectDocuments(scene)

            let before = try await scene.rows
            try await scene.clickHouse.query("ALTER TABLE coded MODIFY COLUMN code String")
            let retried = try await scene.command("dead-letters", "retry", "1", "3", "--json")
            #expect(try retried.json(Change.self) == Change(changed: 2, notRetryable: 0, errors: []))
            try await eventually("both arrive") { try await scene.rows == before + 2 }

            let invalid = try await scene.command("dead-letters", "retry", "--kind", "invalid_json")
            #expect(invalid.code == 0 && invalid.output.contains("1 dead letter kept: no valid events"), "\(invalid)")
            let impossible = try await scene.command("dead-letters", "retry", "2", "9", "77")
            #expect(impossible.code == 1 && impossible.lines.count == 3, "\(impossible.output)")
            #expect(impossible.output.contains("there is no dead letter 77"), "\(impossible.output)")
            #expect(try await ids(scene) == Array(4...9))

            let unasked = try await scene.command("dead-letters", "discard", "4")
            #expect(unasked.code == 64 && unasked.output.contains("--yes"), "\(unasked.output)")
            let discarded = try await scene.command(
                "dead-letters", "discard", "--stream", "coded", "--kind", "invalid_json", "--yes")
            #expect(discarded.code == 0 && discarded.output == "1 dead letter deleted", "\(discarded.output)")
            #expect(try await ids(scene) == Array(4...8))
            try await expectThatNoOtherServiceIsAsked(scene)
            #expect(try await ids(scene) == Array(4...8))
            try await expectChangesWithoutAService(scene)
        }
    }

    private func expectLists(_ scene: CommandScene) async throws {
        let table = try await scene.command("dead-letters", "list")
        #expect(table.lines.count == 10 && table.lines.allSatisfy { $0.count <= 160 }, "\(table.output)")
        #expect(table.lines[0].hasPrefix("ID  FAILED AT"), "\(table.output)")
        #expect(table.lines[2].contains("coded") && table.lines[2].contains("e1"), "\(table.output)")
        let page = try await scene.command("dead-letters", "list", "--json", "--limit", "2", "--after", "1")
            .json(Page.self)
        #expect(page.deadLetters.map(\.id) == [2, 3] && page.nextAfter == 3)
        #expect(page.deadLetters.allSatisfy { $0.payload == nil && $0.state == "kept" })
        for (arguments, expected) in [
            (["--kind", "invalid_json"], [9]), (["--since", "2100-01-01"], []),
            (["--until", "4102444800000", "--stream", "x"], []),
        ] {
            let found = try await Command.run(
                ["dead-letters", "list", "--json"] + arguments, scene.service.environment
            ).json(Page.self)
            #expect(found.deadLetters.map(\.id) == expected.map(UInt64.init), "\(arguments)")
        }
    }

    private func expectDocuments(_ scene: CommandScene) async throws {
        let shown = try await scene.command("dead-letters", "show", "2", "99")
        #expect(shown.code == 1 && shown.output.contains("there is no dead letter 99"), "\(shown.output)")
        #expect(shown.lines.contains(CommandScene.event("e1", isBad: true)), "\(shown.output)")
        #expect(shown.lines.contains("kind         row_data"), "\(shown.output)")

        let exported = try await scene.command("dead-letters", "export")
        let letters = try exported.documents(Letter.self)
        #expect(letters.map(\.id) == Array(1...9))
        #expect(letters[1].payload == CommandScene.event("e1", isBad: true))
        #expect(letters[8].error.kind == "invalid_json" && letters[8].payload == #"{"event_id":"#)
        let two = try await scene.command("dead-letters", "export", "3", "8")
        #expect(two.lines == [exported.lines[2], exported.lines[7]])
        let file = scene.service.folder.appending("letters.ndjson")
        let written = try await scene.command("dead-letters", "export", "--kind", "row_data", "--output", file)
        #expect(written.output == "8 dead letters written to \(file)", "\(written.output)")
        let text = try String(contentsOfFile: file, encoding: .utf8)
        #expect(text == exported.lines[..<8].joined(separator: "\n") + "\n")
        let names = try FileManager.default.contentsOfDirectory(atPath: scene.service.folder.path)
        #expect(Set(names) == ["journal", "letters.ndjson"])
    }

    /// Numbers of dead letters mean something in one journal only.
    private func expectThatNoOtherServiceIsAsked(_ scene: CommandScene) async throws {
        let other = try ServiceInstance(["HTTP_TOKEN": "secret"])
        let silent = try await scene.command(
            "dead-letters", "discard", "7", "--yes", setting: ["HTTP_PORT": "\(other.port)"])
        #expect(silent.code == 1 && silent.output.contains("no service answers at"), "\(silent.output)")
        try await other.start()
        let wrong = try await scene.command(
            "dead-letters", "discard", "7", "--yes", setting: ["HTTP_PORT": "\(other.port)", "HTTP_TOKEN": "secret"])
        #expect(wrong.code == 1 && wrong.output.contains("has another journal"), "\(wrong.output)")

        let allowed = try await Command.run(["dead-letters", "discard", "--all", "--yes"], other.environment)
        #expect(allowed.code == 0 && allowed.output == "0 dead letters deleted", "\(allowed.output)")
        let environment = other.environment.filter { $0.key != "HTTP_TOKEN" }
        let denied = try await Command.run(["dead-letters", "discard", "--all", "--yes"], environment)
        #expect(denied.code == 1 && denied.output.contains("HTTP_TOKEN"), "\(denied.output)")
        try await other.kill()
    }

    /// Of letters 4 to 8, as the part beside a service leaves them.
    private func expectChangesWithoutAService(_ scene: CommandScene) async throws {
        let before = try await scene.rows
        try await scene.service.kill()
        let kept = try await scene.command("journal", "export").lines.count
        // A setting of the service that the operator's shell lacks.
        let retried = try await scene.command("dead-letters", "retry", "6", setting: ["JOURNAL_RETAIN": nil])
        #expect(retried.code == 0, "\(retried.output)")
        #expect(retried.output == "1 dead letter sent again; delivered once the service is started")
        let unknown = try await scene.command("dead-letters", "retry", "77", "--json")
        #expect(unknown.code == 1)
        #expect(try unknown.json(Change.self).errors.count == 1, "\(unknown.output)")
        let discarded = try await scene.command("dead-letters", "discard", "4", "5", "--yes")
        #expect(discarded.output == "2 dead letters deleted", "\(discarded.output)")
        #expect(try await ids(scene) == [7, 8])
        #expect(try await scene.command("journal", "export").lines.count == kept + 1)
        try await scene.service.start()
        try await eventually("the event arrives") { try await scene.rows == before + 1 }
        #expect(try await scene.clickHouse.number("SELECT count() FROM coded WHERE event_id = 'e5'") == 1)
    }

    @Test(arguments: [
        ["retry"], ["discard", "--yes"], ["retry", "1", "--all"], ["retry", "--all", "--kind", "x"], ["retry", "-1"],
        ["discard", "x", "--yes"], ["retry", "--kind", ""], ["show"], ["list", "--since", "noon"], ["list", "1"],
        ["list", "--limit", "0"], ["export", "1", "--kind", "x"], ["retry", "1", "--http-prt", "1"],
    ])
    func wrongUsageEndsWith64(arguments: [String]) async throws {
        let result = try await Command.run(["dead-letters"] + arguments, ["JOURNAL_PATH": "/nonexistent"])
        #expect(result.code == 64, "\(result.output)")
    }
}
