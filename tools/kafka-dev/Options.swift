import CKafka
import Glibc

/// The command line makes no sense.
struct WrongUsage: Error {
    let reason: String

    init(_ reason: String) { self.reason = reason }
}

/// Something could not be done.
struct Failure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

/// Throws what librdkafka says about a failed call.
func check(_ code: rd_kafka_resp_err_t, _ action: String) throws {
    guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
        throw Failure("\(action): \(String(cString: rd_kafka_err2str(code)))")
    }
}

/// Options of the form `--name value` and `--flag`.
struct Options {
    private var values: [String: String] = [:]
    private var flags: Set<String> = []

    init(_ arguments: [String], flags knownFlags: Set<String> = [], values knownValues: Set<String>) throws(WrongUsage)
    {
        var index = 0
        while index < arguments.count {
            let name = arguments[index]
            if knownFlags.contains(name) {
                flags.insert(name)
                index += 1
            } else if knownValues.contains(name) {
                guard index + 1 < arguments.count else { throw WrongUsage("\(name) needs a value") }
                values[name] = arguments[index + 1]
                index += 2
            } else {
                throw WrongUsage("unknown option \(name)")
            }
        }
    }

    func has(_ flag: String) -> Bool { flags.contains(flag) }

    func value(_ name: String) -> String? { values[name] }

    func required(_ name: String) throws(WrongUsage) -> String {
        guard let value = values[name], !value.isEmpty else { throw WrongUsage("\(name) is needed") }
        return value
    }

    func number(_ name: String) throws(WrongUsage) -> Int? {
        guard let text = values[name] else { return nil }
        guard let number = Int32(text), number >= 0 else { throw WrongUsage("\(name): \"\(text)\" is not a number") }
        return Int(number)
    }
}

/// `NAME:PARTITIONS`.
struct TopicSpecification {
    let name: String
    let partitionCount: Int32

    init(_ text: Substring) throws(WrongUsage) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty, let count = Int32(parts[1]), count > 0 else {
            throw WrongUsage("--topics: \"\(text)\" is not NAME:PARTITIONS")
        }
        name = String(parts[0])
        partitionCount = count
    }
}

/// Makes a client of librdkafka; its own log goes to standard error.
func makeClient(
    _ type: rd_kafka_type_t, _ properties: [(String, String)], _ configure: (OpaquePointer) -> Void = { _ in }
)
    throws -> OpaquePointer
{
    let conf = rd_kafka_conf_new()!
    var text = [CChar](repeating: 0, count: 512)
    for (name, value) in properties {
        guard rd_kafka_conf_set(conf, name, value, &text, text.count) == RD_KAFKA_CONF_OK else {
            rd_kafka_conf_destroy(conf)
            throw Failure(message(text))
        }
    }
    configure(conf)
    guard let client = rd_kafka_new(type, conf, &text, text.count) else {
        rd_kafka_conf_destroy(conf)
        throw Failure(message(text))
    }
    return client
}

private func message(_ text: [CChar]) -> String {
    String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

func writeError(_ text: String) {
    var text = text
    text.withUTF8 { _ = write(STDERR_FILENO, $0.baseAddress, $0.count) }
}
