import FoundationEssentials

/// What `ingestd top --json` prints: one line for each attempt to ask the service.
enum TopDocument {
    private indirect enum Value: Encodable {
        case number(Double?)
        case text(String)
        case flag(Bool)
        case object([String: Value])
        case list([Value])

        func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            switch self {
            // Members that are not known are null, so that scripts find them.
            case .number(let number): try container.encode(number)
            case .text(let text): try container.encode(text)
            case .flag(let flag): try container.encode(flag)
            case .object(let members): try container.encode(members)
            case .list(let values): try container.encode(values)
            }
        }
    }

    /// - Parameters:
    ///   - rates: since the answer before; `nil` if there was none, or the service was started since.
    ///   - time: RFC 3339, of this machine.
    /// - Returns: the line, without a line feed: the rates, and the service's own document as it came.
    static func line(_ sample: StatusSample, rates: FlowRates?, address: String, time: String) throws -> String {
        var members = common(address, time)
        members["connected"] = .flag(true)
        members["rates"] = rates.map { value($0, sample.status) } ?? .number(nil)
        let head = try encode(members)
        return head.dropLast() + ",\"status\":" + oneLine(sample.document) + "}"
    }

    /// The line for an attempt that has failed.
    static func line(failure: String, address: String, time: String) throws -> String {
        var members = common(address, time)
        members["connected"] = .flag(false)
        members["error"] = .text(failure)
        return try encode(members)
    }

    private static func common(_ address: String, _ time: String) -> [String: Value] {
        ["service": .text(address), "time": .text(time)]
    }

    private static func value(_ rates: FlowRates, _ status: ServiceStatus) -> Value {
        var members: [String: Value] = [
            "seconds": .number(rates.seconds),
            "accepted_events": .number(rates.intake.accepted), "rejected_events": .number(rates.intake.rejected),
            "dead_letter_events": .number(rates.intake.deadLetters),
            "inserted_events": .number(rates.delivery.inserted), "dead_letters": .number(rates.delivery.deadLetters),
            "pending_events": .number(rates.pendingEvents), "stored_bytes": .number(rates.storedBytes),
            "full_in_seconds": .number(nil), "empty_in_seconds": .number(nil),
        ]
        switch rates.forecast(status) {
        case .full(let seconds): members["full_in_seconds"] = .number(seconds)
        case .empty(let seconds): members["empty_in_seconds"] = .number(seconds)
        case nil: break
        }
        members["sources"] = .list(
            (status.sources ?? []).map { source in
                let rate = rates.sources[source.key]
                return .object([
                    "source": .text(source.source), "stream": .text(source.stream),
                    "accepted_events": .number(rate?.accepted), "rejected_events": .number(rate?.rejected),
                    "dead_letter_events": .number(rate?.deadLetters),
                ])
            })
        members["streams"] = .list(
            status.streams.map { stream in
                let rate = rates.streams[stream.stream]
                return .object([
                    "stream": .text(stream.stream), "taken_events": .number(rate?.taken),
                    "inserted_events": .number(rate?.inserted), "dead_letters": .number(rate?.deadLetters),
                ])
            })
        return .object(members)
    }

    private static func encode(_ members: [String: Value]) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(members), as: UTF8.self)
    }

    /// A JSON document without line feeds, which stand only between its parts, and without control characters that
    /// JSON lets through.
    private static func oneLine(_ document: [UInt8]) -> String {
        var result = String.UnicodeScalarView()
        for scalar in String(decoding: document, as: UTF8.self).unicodeScalars {
            switch scalar.value {
            case 0..<0x20: result.append(" ")
            case 0x7F..<0xA0: result.append(contentsOf: "\\u00\(String(scalar.value, radix: 16))".unicodeScalars)
            default: result.append(scalar)
            }
        }
        return String(result)
    }
}
