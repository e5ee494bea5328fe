public import IngestCore

extension EventBuffer {
    /// Makes a buffer of these payloads, with derived ids.
    public convenience init(payloads: [String]) {
        self.init()
        for payload in payloads { append(payload) }
    }

    /// Appends one event with a derived id.
    public func append(_ payload: String, kafka offset: Int64? = nil) {
        var payload = payload
        payload.withUTF8 {
            append(
                payload: UnsafeRawBufferPointer($0), id: .derived,
                kafka: offset.map {
                    KafkaMetadata(
                        offset: $0, timestamp: -1, key: nil, headers: UnsafeRawBufferPointer(start: nil, count: 0))
                })
        }
    }

    /// Appends one event with a derived id that came over HTTP in a trace.
    public func append(_ payload: String, trace: TraceParent) {
        var payload = payload
        payload.withUTF8 { payload in
            trace.headers.withUnsafeBytes { headers in
                append(payload: UnsafeRawBufferPointer(payload), id: .derived, kafka: .headersOnly(headers))
            }
        }
    }
}

extension EventReader {
    /// All payloads that are left, in order.
    public func payloads() throws -> [String] {
        var payloads: [String] = []
        while try read({ run in
            while let event = try run.next() { payloads.append(String(decoding: event.payload, as: UTF8.self)) }
        }) {}
        return payloads
    }
}
