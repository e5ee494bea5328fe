import EventJSON
import IngestCore
import Testing

/// What a CloudEvent in JSON must have.
@Suite struct CloudEventTests {
    private let scanner = EventScanner(eventIDField: "event_id", fallbackIDField: "id", areCloudEvents: true)

    private static let whole = #"{"specversion":"1.0","id":"a","source":"/s","type":"t","data":{"id":1,"type":null}}"#

    private func problem(_ text: String) -> InvalidEvent? {
        do {
            _ = try Array(text.utf8).withUnsafeBytes { try scanner.scan($0) }
            return nil
        } catch { return error as? InvalidEvent }
    }

    @Test func wholeOnesPass() throws {
        let escaped = #"{"\u0069d":"\u0061","sourc\u0065":"\n","specversion" : "1.0" ,"type":"é"}"#
        for text in [Self.whole, escaped, Self.whole.replacing(#""id":"a""#, with: #""event_id":5,"id":"a""#)] {
            #expect(problem(text) == nil, "\(text)")
        }
        let buffer = EventBuffer()
        let body = Array("[\(Self.whole),\(escaped)]".utf8)
        let report = body.withUnsafeBytes { scanner.appendEvents(of: $0, format: .json, to: buffer) }
        #expect(report.accepted == 2)
        #expect(try BufferedEvent.all(in: buffer).map(\.id) == ["a", "a"])
    }

    @Test func whatIsMissingIsNamed() {
        #expect(
            problem("{}")
                == InvalidEvent(
                    kind: "invalid_cloudevent", message: #"a CloudEvent needs "id", "source", "specversion", "type""#,
                    byteOffset: 0))
        #expect(problem(Self.whole.replacing("source", with: "sauce"))?.message == #"a CloudEvent needs "source""#)
        #expect(problem(Self.whole.replacing(#""t""#, with: "null"))?.message == #"a CloudEvent needs "type""#)
        // An id for us is still no id for the standard.
        #expect(
            problem(Self.whole.replacing(#""id":"a""#, with: #""event_id":"a""#))?.message.hasSuffix(#""id""#) == true)
    }

    @Test func valuesAreChecked() {
        for (old, new) in [(#""a""#, "5"), (#""/s""#, "{}"), (#""t""#, #""""#), (#""1.0""#, "1.0")] {
            let error = problem(Self.whole.replacing(old, with: new))
            #expect(error?.kind == "invalid_cloudevent" && error?.message.contains("not a string, or empty") == true)
        }
        let version = problem(Self.whole.replacing("1.0", with: "0.3"))
        #expect(version?.message == #""specversion" of the CloudEvent is not "1.0""#)
        #expect(version?.byteOffset == 15)
        #expect(problem(Self.whole.replacing(#""a""#, with: #""a","id":"b""#))?.kind == "duplicate_key")
        // Broken JSON counts more.
        #expect(problem(#"{"specversion":"1","id":}"#)?.kind == "invalid_json")
    }
}
