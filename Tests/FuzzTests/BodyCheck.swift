import EventJSON
import Foundation
import IngestCore

/// What the scanner accepts is valid JSON by Foundation's judgement, and stands in the body in order; and the other way
/// around.
enum BodyCheck {
    private struct Event {
        let payload: [UInt8]
        let id: String?
    }

    static func run(_ bytes: UnsafeRawBufferPointer) throws {
        try bytes.withOptions { options, body in
            let formats: [BodyFormat] = [.json, .ndjson, .detect, .object]
            let format = formats[Int(options & 3)]
            let scanner = EventScanner(
                eventIDField: "id", fallbackIDField: options & 4 == 0 ? nil : "key",
                areCloudEvents: options & 8 != 0, maxEventBytes: options & 16 == 0 ? Limits.eventBytes : 40)
            let buffer = EventBuffer()
            let report = scanner.appendEvents(of: body, format: format, to: buffer, reportedProblems: .max)
            try demand(buffer.eventCount == report.accepted, "count of events")
            try demand(report.problems.count == report.rejected, "count of problems")
            let events = try events(of: buffer)
            try checkOrder(events, report, body)
            for event in events {
                try event.payload.withUnsafeBytes { try checkAlone($0, event.id, scanner) }
            }
            if format == .object, options & 16 == 0 { try checkRefusal(report, body) }
        }
    }

    private static func events(of buffer: EventBuffer) throws -> [Event] {
        guard buffer.eventCount > 0 else { return [] }
        let length = EntryView.headerLength + buffer.byteCount
        let entry = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 16)
        defer { entry.deallocate() }
        let start = EntryView.writeHeader(
            into: entry, origin: .http, eventCount: buffer.eventCount, firstSequence: 1, receivedAt: 0)
        UnsafeMutableRawBufferPointer(rebasing: entry[start...]).copyMemory(from: buffer.records)
        var cursor = try EntryView(UnsafeRawBufferPointer(entry)).events
        var events: [Event] = []
        while let event = try cursor.next() {
            guard let id = event.explicitID else {
                events.append(Event(payload: Array(event.payload), id: nil))
                continue
            }
            let text = String(validating: id, as: UTF8.self)
            try demand(text?.isEmpty == false && id.count <= Limits.eventIDBytes, "an id that can't be kept")
            events.append(Event(payload: Array(event.payload), id: text))
        }
        return events
    }

    /// Events and problems follow each other, and between them is nothing of an event.
    private static func checkOrder(_ events: [Event], _ report: BodyReport, _ body: UnsafeRawBufferPointer) throws {
        var position = 0
        var good = events[...]
        var bad = report.problems[...]
        for index in 0..<(report.accepted + report.rejected) {
            let start: Int
            let length: Int
            if let problem = bad.first, problem.index == index {
                bad.removeFirst()
                (start, length) = (problem.offset, problem.length)
                try demand(start >= position && start + length <= body.count, "a problem's place")
                let offset = problem.error.byteOffset ?? start
                try demand((0...body.count).contains(offset), "a problem's byte offset")
            } else {
                guard let event = good.popFirst() else { throw Violation(description: "an event is missing") }
                start = body[position...].firstIndex(of: UInt8(ascii: "{")) ?? body.count
                length = event.payload.count
                try demand(body[start...].starts(with: event.payload), "an event that the body does not hold")
            }
            try checkGap(body[position..<start])
            position = start + length
        }
        try checkGap(body[position...])
    }

    private static func checkGap(_ gap: Slice<UnsafeRawBufferPointer>) throws {
        try demand(gap.allSatisfy { " \t\r\n[],".utf8.contains($0) }, "bytes that belong to no event")
    }

    /// An accepted event is one by itself as well, with the same id, and valid by another's judgement.
    private static func checkAlone(
        _ payload: UnsafeRawBufferPointer, _ id: String?, _ scanner: EventScanner
    ) throws {
        let event = try payload.withCopy { copy in
            let event = try scanner.scan(UnsafeRawBufferPointer(copy))
            let alone: String? =
                switch event.id {
                case .derived: nil
                case .payloadSlice(let offset, let length):
                    String(decoding: payload[offset..<(offset + length)], as: UTF8.self)
                case .stored: String(decoding: event.storedID!, as: UTF8.self)
                }
            try demand(alone == id, "the id differs when the event stands alone")
            return event
        }
        guard let object = try foundation(payload) else { return }
        guard let object = object as? [String: Any] else { throw Violation(description: "accepted what is no object") }
        if let text = object["id"] as? String {
            try demand(text == id, "Foundation has the id \(text), not \(id ?? "none")")
        }
        if event.id == .derived { try demand(object["id"] == nil || object["id"] is NSNull, "an id was missed") }
    }

    /// What is refused as no JSON is none by another's judgement.
    private static func checkRefusal(_ report: BodyReport, _ body: UnsafeRawBufferPointer) throws {
        guard report.problems.first?.error.kind == "invalid_json", !hasLooseComma(body),
            !body.contains(0), !body.starts(with: [0xef, 0xbb, 0xbf])
        else { return }
        let object: Any?
        do { object = try foundation(body) } catch is Violation { return }
        // Deeper than `Limits.jsonDepth` is refused too; Foundation takes 512 levels.
        let isDeep = body.count { $0 == UInt8(ascii: "{") || $0 == UInt8(ascii: "[") } > Limits.jsonDepth
        try demand(!(object is [String: Any]) || isDeep, "refused what is valid: \(report.problems[0].error.message)")
    }

    /// Foundation allows a comma behind the last element.
    private static func hasLooseComma(_ body: UnsafeRawBufferPointer) -> Bool {
        let dense = body.filter { !" \t\r\n".utf8.contains($0) }
        return zip(dense, dense.dropFirst()).contains { $0 == 0x2c && ($1 == 0x5d || $1 == 0x7d) }
    }

    /// - Returns: `nil` where Foundation can't tell: it refuses large numbers.
    /// - Throws: `Violation` if it is no JSON.
    private static func foundation(_ bytes: UnsafeRawBufferPointer) throws -> Any? {
        do {
            return try JSONSerialization.jsonObject(with: Data(bytes), options: .fragmentsAllowed)
        } catch {
            if "\(error)".contains("not representable") { return nil }
            throw Violation(description: "Foundation refuses it: \(error)")
        }
    }
}
