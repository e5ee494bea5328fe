import IngestCore
import TestSupport

@testable import ClickHouse

/// A seeded generator, so that a failing run can be repeated (Steele, Lea and Flood, 2014).
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

/// Payloads that are easily damaged on the way.
let delicatePayloads: [String] = [
    #"{}"#,
    #"{"a":1}"#,
    #"{"text":"quotes \" and backslashes \\ and \\\" both"}"#,
    #"{"controls":"\u0000\u0001\u001f\n\t\r\b\f/\/"}"#,
    #"{"emoji":"🙂🏳️‍🌈","escaped":"\ud83d\ude42","japanese":"日本語テキスト"}"#,
    "{\n\t\"pretty\" : [ 1,\r\n 2 ]\n}",
    "  {\"blanks\":\"around\"}  ",
    "{\"delete\":\"\u{7F}\",\"separators\":\"\u{2028}\u{2029}\",\"bom\":\"\u{FEFF}\"}",
    #"{"braces":"}}}{{{","nested":{"a":{"b":[{},{"c":"}\n"}]}}}"#,
    "{\"long\":\"" + String(repeating: "0123456789\\\"", count: 1_000) + "\"}",
]

extension ClickHouseTestBatch {
    /// `count` small events that can also be rows of a table `(id, text)`.
    static func numbered(_ count: Int, textBytes: Int = 100, from first: Int = 0) -> ClickHouseTestBatch {
        let text = String(repeating: "x", count: textBytes)
        return ClickHouseTestBatch(
            (first..<(first + count)).map { ClickHouseTestEvent(#"{"id":\#($0),"text":"\#(text)"}"#) })
    }
}

extension InsertOutcome {
    var isInserted: Bool {
        if case .inserted = self { true } else { false }
    }

    var failure: InsertFailure? {
        if case .failed(let failure) = self { failure } else { nil }
    }
}

/// What `unescaped` throws.
struct NoJSONString: Error {}

/// The inside of a JSON string as bytes, decoded; an error where it is none. Works on bytes that are no UTF-8.
func unescaped(_ bytes: some Sequence<UInt8>) throws -> [UInt8] {
    let bytes = Array(bytes)
    var result: [UInt8] = []
    var index = 0
    while index < bytes.count {
        let byte = bytes[index]
        guard byte >= 0x20, byte != 0x22 else { throw NoJSONString() }
        guard byte == 0x5C else {
            result.append(byte)
            index += 1
            continue
        }
        guard index + 1 < bytes.count else { throw NoJSONString() }
        let simple: [UInt8: UInt8] = [
            0x22: 0x22, 0x5C: 0x5C, 0x2F: 0x2F, 0x62: 8, 0x66: 12, 0x6E: 10, 0x72: 13, 0x74: 9,
        ]
        if let value = simple[bytes[index + 1]] {
            result.append(value)
            index += 2
        } else {
            guard bytes[index + 1] == 0x75, index + 5 < bytes.count,
                let value = UInt8(String(decoding: bytes[(index + 2)...(index + 5)], as: UTF8.self), radix: 16),
                value < 0x20
            else { throw NoJSONString() }
            result.append(value)
            index += 6
        }
    }
    return result
}
