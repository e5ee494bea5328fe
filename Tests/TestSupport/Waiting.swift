/// A condition did not come true in time.
public struct Timeout: Error, CustomStringConvertible {
    /// What was waited for.
    public let description: String

    /// Says what was waited for.
    public init(description: String) { self.description = description }
}

/// Polls until `condition` holds. For what can't announce itself; the deadline is generous because it only matters
/// when the test fails.
public func eventually(
    _ description: String, within limit: Duration = .seconds(30), _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + limit
    while try await !condition() {
        guard ContinuousClock.now < deadline else { throw Timeout(description: "not within \(limit): \(description)") }
        try await Task.sleep(for: .milliseconds(5))
    }
}
