import IngestCore

extension JournalInspection {
    /// The two tables of requests lead to each other, and their records to what exists.
    func verifyRequests(_ result: inout JournalVerification, _ progress: (Progress) throws -> Void) throws {
        guard let requests = tables.requests else { return }
        try environment.read { transaction in
            let counts = (try transaction.count(requests.requests), try transaction.count(requests.order))
            if counts.0 != counts.1 {
                result.note("requests", "it has \(counts.0) records, and request_order has \(counts.1)")
            }
        }
        var next: UInt64? = 0
        while let start = next {
            next = try environment.read { try verifyRequests(requests, from: start, &result, in: $0) }
            try progress(Progress(table: nil, sequence: next ?? start, end: next ?? start, byteCount: result.byteCount))
        }
    }

    /// - Returns: the number to go on at in another view; `nil` at the end.
    private func verifyRequests(
        _ requests: RequestTables, from start: UInt64, _ result: inout JournalVerification,
        in transaction: borrowing ReadTransaction
    ) throws -> UInt64? {
        let deadline = MonotonicClock.now + Self.viewNanoseconds
        let streams = try JournalOpening.readStreams(tables, in: transaction)
        let nextLetter =
            try transaction.get(tables.meta, JournalFormat.nextDeadLetterKey)?.loadLittleEndian(0, as: UInt64.self) ?? 1
        let cursor = try transaction.cursor(requests.order)
        var found = try cursor.seek(NumberKey(number: start))
        while let entry = found {
            guard entry.key.count == 8 else {
                result.note("request_order", "a key is not 8 bytes long")
                return nil
            }
            let number = entry.key.loadBigEndianNumber()
            if MonotonicClock.now >= deadline, number > start { return number }
            if let name = RequestName(exactly: entry.value) {
                let record = try transaction.requestRecord(name, requests)
                if let reason = problem(record, number: number, streams, nextLetter: nextLetter) {
                    result.note("requests", "request \(number): \(reason)")
                }
            } else {
                result.note("request_order", "request \(number): its key is not \(RequestName.length) bytes long")
            }
            result.requestKeyCount += 1
            found = try cursor.next()
        }
        return nil
    }

    private func problem(
        _ record: RequestRecord?, number: UInt64, _ streams: [StreamID: StreamState], nextLetter: UInt64
    ) -> String? {
        guard let record else { return "its record is missing or malformed" }
        guard record.number == number else { return "its record has the number \(record.number)" }
        guard let stream = streams[record.stream] else { return "\(record.stream) does not exist" }
        guard record.sequences.upperBound <= stream.nextSequence, record.deadLetters.upperBound <= nextLetter else {
            return "it names events or dead letters that do not exist yet"
        }
        return nil
    }
}
