import IngestCore
import Testing

@testable import ingestd

@Suite struct SettingTypeTests {
    @Test(arguments: [
        ("0", Duration.zero), ("0s", .zero), ("500ms", .milliseconds(500)), ("2s", .seconds(2)), ("1m", .seconds(60)),
        ("24h", .seconds(86_400)), ("7d", .seconds(7 * 86_400)),
    ])
    func durations(text: String, expected: Duration) throws {
        #expect(try Units.parseDuration(text) == expected)
        #expect(try Units.parseDuration(Units.duration(expected)) == expected)
    }

    @Test(arguments: [
        "", "5", "s", "-1s", "1.5s", "1 s", "1S", "1min", "1us", "99999999999999999999s", "9223372036854775807d", "٣s",
    ])
    func badDurations(text: String) {
        #expect(throws: InvalidValue.self) { try Units.parseDuration(text) }
    }

    @Test func aDurationWithoutUnitSaysSo() {
        #expect(throws: InvalidValue("has no unit: add one, such as 5s or 5ms")) { try Units.parseDuration("5") }
    }

    @Test(arguments: [
        ("0", 0), ("65536", 65_536), ("64KiB", 65_536), ("16MiB", 16 << 20), ("8GiB", 8 << 30), ("1TiB", 1 << 40),
        ("1kib", 1_024),
    ])
    func sizes(text: String, expected: Int) throws {
        #expect(try Units.parseSize(text) == expected)
        #expect(try Units.parseSize(Units.size(expected)) == expected)
    }

    @Test(arguments: [
        "", "KiB", "-1", "1.5GiB", "1 KiB", "1KB", "1K", "1k", "9223372036854775808", "9999999TiB99", "9223372036TiB",
    ])
    func badSizes(text: String) {
        #expect(throws: InvalidValue.self) { try Units.parseSize(text) }
    }

    @Test func boundsAreInclusive() throws {
        let type = SettingType<Int>.integer(1...64)
        #expect(try type.parse("1") == 1)
        #expect(try type.parse("64") == 64)
        #expect(throws: InvalidValue("is too small")) { try type.parse("0") }
        #expect(throws: InvalidValue("is too large")) { try type.parse("65") }
        for text in ["", "+1", "-1", " 1", "1 ", "0x1", "1e1", "٣", "99999999999999999999"] {
            #expect(throws: InvalidValue.self, "\(text)") { try type.parse(text) }
        }
    }

    @Test(arguments: [
        ("http://127.0.0.1:8123", "http://127.0.0.1:8123"), ("https://ch.example.org/", "https://ch.example.org"),
        ("HTTP://h", "http://h"), ("http://[::1]:8123", "http://[::1]:8123"), ("http://[fe80::1]", "http://[fe80::1]"),
    ])
    func urls(text: String, expected: String) throws {
        #expect(try SettingType.url.parse(text).description == expected)
    }

    @Test(arguments: [
        "", "127.0.0.1:8123", "ftp://h", "http://", "http:///", "http://h:0", "http://h:65536", "http://h:",
        "http://h:x",
        "http://h/path", "http://h?q", "http://h#f", "http://u:p@h", "http://h:1:2", "http://::1", "http://[::1",
        "http://a b",
    ])
    func badURLs(text: String) {
        #expect(throws: InvalidValue.self) { try SettingType.url.parse(text) }
    }

    @Test func lists() throws {
        let topics = SettingType<[String]>.list(of: .topic)
        #expect(try topics.parse("") == [])
        #expect(try topics.parse(" ") == [])
        #expect(try topics.parse("a, b.c ,d_e-f") == ["a", "b.c", "d_e-f"])
        for text in ["a,,b", ",", "a,a", "a b", "ключ", String(repeating: "x", count: 250), ".", "a,.."] {
            #expect(throws: InvalidValue.self, "\(text)") { try topics.parse(text) }
        }
        let urls = SettingType<[ServerURL]>.list(of: .url, count: 1...2)
        #expect(try urls.parse("http://a,https://b:1").map(\.description) == ["http://a", "https://b:1"])
        #expect(throws: InvalidValue("is empty")) { try urls.parse("") }
        #expect(throws: InvalidValue("has too many items")) { try urls.parse("http://a,http://b,http://c") }
    }

    @Test(arguments: ["h", "h:9092", "10.0.0.1:1", "[::1]:9092", "a-b.c_d"])
    func servers(text: String) throws {
        #expect(try SettingType.server.parse(text) == text)
    }

    @Test(arguments: ["h:", "h:0", "h:x", ":9092", "h h", "SSL://h:1", "[h]:1", "::1:9092:x"])
    func badServers(text: String) {
        #expect(throws: InvalidValue.self) { try SettingType.server.parse(text) }
    }

    @Test func routes() throws {
        #expect(
            try SettingType.routes.parse("orders=shop.orders, clicks = clicks")
                == [StreamRoute(name: "orders", table: "shop.orders"), StreamRoute(name: "clicks", table: "clicks")])
        #expect(try SettingType.routes.parse("") == [])
        for text in ["a", "a=", "=t", "a=b=c", "a=1t", "a=d.t.x", "a=t;drop", "a=t,a=u", "a/b=t", "a=`t`"] {
            #expect(throws: InvalidValue.self, "\(text)") { try SettingType.routes.parse(text) }
        }
    }

    @Test(arguments: [
        (#"^orders\..*,events"#, [#"^orders\..*"#, "events"]), (#"^a\\.b"#, [#"^a\.b"#]), (#"^a{1\,2}"#, ["^a{1,2}"]),
    ])
    func topicsAndPatterns(text: String, expected: [String]) throws {
        let type = SettingType<[String]>.list(of: .topicOrPattern)
        #expect(try type.parse(text) == expected)
        #expect(try type.parse(try #require(type.format(expected))) == expected)
    }

    @Test(arguments: ["^(", "a b", ".", "^a\u{1}", ""])
    func badTopicsAndPatterns(text: String) {
        #expect(throws: InvalidValue.self) { try SettingType.topicOrPattern.parse(text) }
    }

    @Test(arguments: ["*", "https://a.example", "http://localhost:3000", "http://[::1]:80"])
    func origins(text: String) throws {
        #expect(try SettingType.origin.parse(text) == text)
    }

    @Test(arguments: ["", "a.example", "https://a.example/", "https://a.example/x", "ftp://a", "HTTPS://a", "https://"])
    func badOrigins(text: String) {
        #expect(throws: InvalidValue.self) { try SettingType.origin.parse(text) }
    }

    @Test func eventIDSources() throws {
        let type = SettingType.eventIDSources
        let sources = [
            EventIDSource(topic: "a.b", place: .field, name: "order:id"),
            EventIDSource(topic: "c", place: .header, name: "x-id"),
        ]
        #expect(try type.parse("a.b=field:order:id, c=header:x-id") == sources)
        #expect(try type.parse(try #require(type.format(sources))) == sources)
        for text in ["a", "a=", "a=field", "a=field:", "a=body:x", "a b=field:x", "a=field:x,a=header:y"] {
            #expect(throws: InvalidValue.self, "\(text)") { try type.parse(text) }
        }
    }

    @Test func errorClasses() throws {
        #expect(
            try SettingType.errorClasses.parse("27=transient,60=row_data")
                == [27: FailureClass.transient, 60: .rowData])
        for text in [
            "27", "27=", "x=transient", "27=Transient!", "0=transient", "27=transient,27=row_data", "-1=transient",
        ] {
            #expect(throws: InvalidValue.self, "\(text)") { try SettingType.errorClasses.parse(text) }
        }
    }

    @Test func kafkaProperties() throws {
        func parse(_ text: String) throws -> [String: String] {
            let properties = try SettingType.kafkaProperties.parse(text)
            return Dictionary(uniqueKeysWithValues: properties.map { ($0.name, $0.value.value) })
        }
        #expect(try parse("") == [:])
        #expect(
            try parse(#"security.protocol=SASL_SSL, sasl.password=a=b\,c\\,debug=cgrp\,topic"#)
                == ["security.protocol": "SASL_SSL", "sasl.password": #"a=b,c\"#, "debug": "cgrp,topic"])
        #expect(try parse(#"sasl.password=a\b"#) == ["sasl.password": #"a\b"#])
        #expect(try parse("ssl.key.pem=-----\nx\n-----") == ["ssl.key.pem": "-----\nx\n-----"])
        for text in [
            "x", "=v", "password=v", "a b.c=v", "client.id=x\ny", "client.id=a,client.id=b", "enable.auto.commit=true",
            "group.id=x", "bootstrap.servers=x", "enable.auto.offset.store=true",
        ] {
            #expect(throws: InvalidValue.self, "\(text)") { try SettingType.kafkaProperties.parse(text) }
        }
    }

    @Test func textsOfListsSurviveSplitting() {
        for items in [["a"], ["a,b", "c"], [#"\"#, #"\,"#], [#"a\b"#, ",", "x=y"]] {
            #expect(Syntax.items(Syntax.joined(items)) == items)
        }
    }

    @Test(arguments: ["localhost", "0.0.0.0", "::", "::1", "a-b.example.org"])
    func hosts(text: String) throws {
        #expect(try SettingType.host.parse(text) == text)
    }

    @Test(arguments: ["", "a b", "h:80", "http://h", "[::1]", "a/b", "\u{0}"])
    func badHosts(text: String) {
        #expect(throws: InvalidValue.self) { try SettingType.host.parse(text) }
    }

    @Test func secretsDoNotShow() throws {
        let secret = Secret("hunter2")
        var dumped = ""
        dump(secret, to: &dumped)
        #expect(!"\(secret)\(String(reflecting: secret))\(dumped)".contains("hunter2"))
        var configuration = ServiceConfiguration()
        configuration.http.token = secret
        configuration.clickHouse.password = secret
        configuration.kafka.properties = [KafkaProperty(name: "sasl.password", value: secret)]
        dump(configuration, to: &dumped)
        #expect(!"\(configuration)\(String(reflecting: configuration))\(dumped)".contains("hunter2"))
    }

    @Test func nearestNames() {
        #expect(NearestName.distance(Array("KAFAK".utf8), Array("KAFKA".utf8)) == 1)
        #expect(NearestName.distance([], [1, 2]) == 2)
        #expect(NearestName.distance(Array("kitten".utf8), Array("sitting".utf8)) == 3)
        #expect(
            NearestName.find("http.max_body_bytes", among: ["http.port", "http.maxBodyBytes"]) == "http.maxBodyBytes")
        #expect(NearestName.find("zzzzzzzz", among: ["http.port"]) == nil)
    }
}
