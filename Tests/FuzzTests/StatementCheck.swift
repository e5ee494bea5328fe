import HTTPTypes

@testable import HTTPIngest

/// A statement of ClickHouse's is understood, or refused with an error that a client understands; its rows start within
/// the text, and a text that was cut off is never taken for another statement.
enum StatementCheck {
    static func run(_ bytes: UnsafeRawBufferPointer) throws {
        guard let statement = try parse(bytes) else { return }
        switch statement {
        case .insert(let insert):
            try demand((1...bytes.count).contains(insert.dataOffset) && !insert.table.isEmpty, "an INSERT")
            // What is behind the statement does not change it.
            let alone = UnsafeRawBufferPointer(rebasing: bytes[..<insert.dataOffset])
            try demand(try parse(alone) == statement, "an INSERT without its rows")
            for setting in insert.settings {
                do throws(ClickHouseError) { try ClickHouseSettings.check(setting) } catch { _ = error.message }
            }
        case .select(let select):
            try demand(select.isEmpty || !select.columns.isEmpty, "a SELECT of nothing")
        }
    }

    /// `nil` if it is refused.
    private static func parse(_ bytes: UnsafeRawBufferPointer) throws -> ClickHouseStatement? {
        do throws(ClickHouseError) {
            return try ClickHouseStatement(bytes, parameters: ["table": "t"])
        } catch {
            try demand(!error.message.isEmpty && error.message.utf8.count < 4_096, "an error's text")
            return nil
        }
    }
}

/// The parameters of such a request, on the first line, and its header fields, on the others.
enum ParameterCheck {
    static func run(_ bytes: UnsafeRawBufferPointer) throws {
        let lines = String(decoding: bytes, as: UTF8.self).split(
            separator: "\n", maxSplits: 1, omittingEmptySubsequences: false)
        let fields = HTTPFields(lines: lines.count > 1 ? lines[1] : "")
        do throws(ClickHouseError) {
            let parameters = try ClickHouseParameters(String(lines[0]), fields)
            for setting in parameters.settings { try ClickHouseSettings.check(setting) }
            _ = try ClickHouseStatement(parameters.query)
        } catch {
            try demand((400..<600).contains(error.status.code) && !error.message.isEmpty, "a refusal")
        }
    }
}

extension ClickHouseStatement {
    fileprivate init(_ text: String) throws(ClickHouseError) {
        let bytes = Array(text.utf8)
        let result = bytes.withUnsafeBytes { bytes in
            Result { () throws(ClickHouseError) in try ClickHouseStatement(bytes) }
        }
        self = try result.get()
    }
}
