import HTTPIngest
import IngestCore
import Testing

/// Runs a service whose rows are flat, as ClickHouse's clients need it, around `body`.
func withClickHouseServer(
    _ configure: (inout HTTPIngestConfiguration) -> Void = { _ in }, _ body: (Server) async throws -> Void
) async throws {
    try await withServer({ configuration in
        configuration.rowsAreFlat = true
        configure(&configuration)
    }) { try await body($0) }
}

/// A target with the parameters, percent-encoded.
func target(_ parameters: [(String, String)]) -> String {
    func encoded(_ text: String) -> String {
        text.utf8.map { byte in
            switch byte {
            case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x2e, 0x5f: String(Unicode.Scalar(byte))
            default: "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
            }
        }.joined()
    }
    return "/?" + parameters.map { "\(encoded($0))=\(encoded($1))" }.joined(separator: "&")
}

/// A target with a statement.
func target(query: String, _ parameters: (String, String)...) -> String { target([("query", query)] + parameters) }

func expectException(
    _ response: RawConnection.Response, _ status: Int, _ code: Int, _ name: String,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    #expect(response.status == status, "\(response.body)", sourceLocation: sourceLocation)
    #expect(response.headers["x-clickhouse-exception-code"] == "\(code)", sourceLocation: sourceLocation)
    #expect(response.headers["x-clickhouse-server-display-name"] == "ingestd", sourceLocation: sourceLocation)
    #expect(
        response.body.hasPrefix("Code: \(code). DB::Exception: ")
            && response.body.hasSuffix(" (\(name)) (version 24.8.1.1 (ingestd))\n"),
        "\(response.body)", sourceLocation: sourceLocation)
}
