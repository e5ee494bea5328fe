import ArgumentParser
import Foundation
import Logging
import Testing

@testable import ingestd

@Suite struct FlagTests {
    @Test(arguments: [
        (["--http-prot", "1"], "--http-prot: unknown flag; did you mean --http-port?"),
        (["--HTTP-PORT", "1"], "--HTTP-PORT: unknown flag; did you mean --http-port?"),
        (["--http-port"], "--http-port: needs a value; one that begins with -- is written --http-port=VALUE"),
        (
            ["--http-port", "--http-host=h"],
            "--http-port: needs a value; one that begins with -- is written --http-port=VALUE"
        ),
        (["--http-port", "1", "2"], "--http-port: takes one value, but more follow it; quote spaces"),
        (["--http-port=1", "2"], "--http-port: takes one value, but something follows it"),
        (["--http-port", "1", "--http-port", "2"], "--http-port: is given 2 times"),
        (["serve", "--http-port", "1"], "\"serve\": is no flag; settings are written --name value"),
        (["-p", "1"], "\"-p\": is no flag; settings are written --name value"),
    ])
    func wrongUsage(flags: [String], expected: String) throws {
        let error = try #require(throws: ConfigurationError.self) { try load(flags).get() }
        #expect(error.problems.first?.description == expected)
        #expect(error.isUsage)
    }

    @Test func aWrongValueIsNoWrongUsage() throws {
        let error = try #require(throws: ConfigurationError.self) { try load(["--http-port", "x"]).get() }
        #expect(!error.isUsage)
    }

    @Test func switchesAndLists() throws {
        #expect(try load(["--kafka-consumer-enabled"]).get().configuration.kafka.isConsumerEnabled)
        #expect(try !load(["--kafka-consumer-enabled", "no"]).get().configuration.kafka.isConsumerEnabled)
        let repeated = try load(["--kafka-topics", "a", "--kafka-topics=b,c"]).get()
        #expect(repeated.configuration.kafka.topics == ["a", "b", "c"])
        #expect(try load(["--journal-path", "/a,b"]).get().configuration.journal.path == "/a,b")
        #expect(try load(["--journal-path=--x=y"]).get().configuration.journal.path == "--x=y")
        let password = try load(["--clickhouse-password="]).get().configuration.clickHouse.password
        #expect(password == Secret(""))
        let properties = try load([#"--kafka-properties=debug=a\,b"#]).get().configuration.kafka.properties
        #expect(properties == [KafkaProperty(name: "debug", value: Secret("a,b"))])
    }

    /// swift-argument-parser takes its own options out and leaves everything else, in order.
    @Test func argumentParserPassesSettingsOn() throws {
        let folder = try TemporaryFolder()
        let file = try folder.file("c.yaml", "http: {host: file.example}")
        let options = try ConfigurationOptions.parse([
            "--http-port=1", "--config", file, "--kafka-topics", "a", "--journal-path", "-x", "--log-level=debug",
        ])
        let loaded = try options.load(environment: ["HTTP_TOKEN": "t"])
        #expect(loaded.configuration.http.port == 1)
        #expect(loaded.configuration.http.host == "file.example")
        #expect(loaded.configuration.kafka.topics == ["a"])
        #expect(loaded.configuration.journal.path == "-x")
        #expect(loaded.configuration.log.level == .debug)
    }
}

@Suite struct YAMLTests {
    private func load(_ yaml: String) throws -> ServiceConfiguration {
        let folder = try TemporaryFolder()
        return try ConfigurationLoader(filePath: folder.file("c.yaml", yaml)).load().configuration
    }

    private func problems(_ yaml: String) throws -> [String] {
        let folder = try TemporaryFolder()
        let file = try folder.file("c.yaml", yaml)
        let error = try #require(throws: ConfigurationError.self) { try ConfigurationLoader(filePath: file).load() }
        return error.problems.map { $0.description.replacingOccurrences(of: file, with: "FILE") }
    }

    @Test func listsAreSequencesOrText() throws {
        let configuration = try load(
            #"""
            kafka:
              topics: [a, b]
              properties: ["debug=a,b", 'sasl.password=x\,y']
            streams:
              - a=t
              - b=d.t
            clickhouse: {url: "http://a,http://b"}
            """#)
        #expect(configuration.kafka.topics == ["a", "b"])
        #expect(
            configuration.kafka.properties == [
                KafkaProperty(name: "debug", value: Secret("a,b")),
                KafkaProperty(name: "sasl.password", value: Secret(#"x\,y"#)),
            ], "an item of a sequence needs no escapes")
        #expect(configuration.events.routes.map(\.table) == ["t", "d.t"])
        #expect(configuration.clickHouse.urls.count == 2)
    }

    @Test(arguments: ["", "\n", "# only\n  # comments\n", "---\n", "---\n# x\n", "http:\n#  port: 1\nkafka:\n"])
    func filesWithoutSettings(yaml: String) throws {
        #expect(try load(yaml) == ServiceConfiguration())
    }

    @Test(arguments: [
        (
            "http: {max_body_bytes: 1MiB}",
            "http.max_body_bytes: (file FILE) unknown setting; did you mean http.maxBodyBytes?"
        ),
        ("HTTP_PORT: 1", "HTTP_PORT: (file FILE) unknown setting; did you mean http.port?"),
        ("http: 1", "http: (file FILE) is a section of settings, not a setting"),
        (
            "streams: {a: t}",
            #"streams: (file FILE) takes a text or a list, not a mapping; quote it or write ["name=value", ...]"#
        ),
        (
            "http:\n  port: 1\n  port: 2",
            "FILE: the configuration file cannot be used: a key occurs twice in one mapping: port"
        ),
        (
            "kafka: {topics: [[a]]}",
            "FILE: the configuration file cannot be used: "
                + "it is not sections of settings with texts or lists of texts as values; see kafka.topics"
        ),
        (
            "http:\n  host: \"x\n",
            "FILE: the configuration file cannot be used: "
                + "3:1: error: scanner: while scanning a quoted scalar in line 2, column 9"
        ),
        ("xyzzy: 1", "xyzzy: (file FILE) unknown setting"),
        (
            "http: {port: [1, 2]}",
            "HTTP_PORT: the value (file FILE) is a list, but takes one value; allowed: a port from 0 to 65535"
        ),
        (
            "http: {port: ~}",
            "HTTP_PORT: the value (file FILE) is null; leave the line out for the default; allowed: a port from 0 to 65535"
        ),
    ])
    func wrongFiles(yaml: String, expected: String) throws {
        #expect(try problems(yaml) == [expected])
    }

    @Test(arguments: ["- a\n", "text", "http: {", "a: 1\na: 2\n", "\u{1}", "http:\n\tport: 1\n", "a: 1\n---\nb: 2\n"])
    func brokenFiles(yaml: String) throws {
        let found = try problems(yaml)
        #expect(found.count == 1)
        #expect(found.first?.hasPrefix("FILE: the configuration file cannot be used: ") == true)
        #expect(found.first?.contains("\n") == false)
    }

    @Test func textThatIsNotUTF8() throws {
        let folder = try TemporaryFolder()
        let file = "\(folder.path)/c.yaml"
        try Data([0x61, 0x3a, 0x20, 0xff, 0xfe]).write(to: URL(fileURLWithPath: file))
        #expect(throws: ConfigurationError.self) { try ConfigurationLoader(filePath: file).load() }
    }
}
