internal import HTTPTypes
internal import IngestCore

extension TraceParent {
    private static let header = HTTPField.Name("traceparent")!
    private static let attribute = HTTPField.Name("ce-traceparent")!

    /// That of a request; `nil` without a valid one. Several, which HTTP joins with commas, are none.
    ///
    /// Of a CloudEvent in binary mode the attribute comes first: it is the event's own, where the header may be that of
    /// a hop in between (CloudEvents' extension "Distributed Tracing").
    init?(_ headers: HTTPFields, _ mode: ContentMode) {
        if case .binaryCloudEvent = mode, let found = headers[Self.attribute].flatMap(TraceParent.init) {
            self = found
        } else if let found = headers.value(Self.header).flatMap(TraceParent.init) {
            self = found
        } else {
            return nil
        }
    }
}
