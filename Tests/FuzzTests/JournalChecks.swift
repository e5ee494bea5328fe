import IngestCore

@testable import Journal

/// Any bytes give events, or an error: an entry can be damaged in every way.
enum EntryCheck {
    static func run(_ bytes: UnsafeRawBufferPointer) throws {
        try bytes.withOptions { options, rest in
            try rest.withCopy { copy in
                if options & 1 != 0, copy.count >= EntryView.headerLength {
                    copy.storeLittleEndian(EntryView.version, 8)
                    copy.storeLittleEndian(UInt32(copy.count), 32)
                }
                do {
                    try walk(UnsafeRawBufferPointer(copy))
                } catch is MalformedEntry {
                    // As it should be.
                }
            }
        }
    }

    private static func walk(_ bytes: UnsafeRawBufferPointer) throws {
        let entry = try EntryView(bytes)
        try demand(entry.sequences.count == entry.eventCount, "sequences")
        do { try Checksum.verify(entry, stream: StreamID(rawValue: 1)) } catch { _ = error.description }
        var cursor = entry.events
        var count = 0
        var places: [EntryPosition] = []
        while true {
            let place = cursor.position
            guard let event = try cursor.next() else { break }
            count += 1
            try demand(event.sequence == place.sequence && entry.sequences.contains(event.sequence), "a sequence")
            try demand(
                isWithin(event.payload, bytes) && event.explicitID.map { isWithin($0, bytes) } != false, "a slice")
            _ = try? EventHeaders.decode(event.headers)
            if let traceparent = event.traceparent {
                try demand(isWithin(traceparent, event.headers), "a traceparent")
                let text = String(decoding: traceparent, as: UTF8.self)
                try demand(TraceParent(text)?.text == text, "a valid traceparent")
            }
            _ = event.id
            // All of them would take quadratic time.
            if places.count < 4 { places.append(place) }
        }
        try demand(count == entry.eventCount && cursor.position.byteOffset == bytes.count, "the entry's end")
        for place in places {
            var again = EventCursor(entry, at: place)
            try demand(try again.next()?.sequence == place.sequence, "a position")
            var skipping = entry.events
            try skipping.skip(to: place.sequence)
            try demand(skipping.position == place, "a position that was skipped to")
        }
    }

    private static func isWithin(_ part: UnsafeRawBufferPointer, _ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let start = part.baseAddress, let base = bytes.baseAddress else { return part.isEmpty }
        return start >= base && start + part.count <= base + bytes.count
    }
}

/// Other values give themselves back when they are written again.
enum RecordCheck {
    static func run(_ bytes: UnsafeRawBufferPointer) throws {
        try bytes.withOptions { options, rest in
            do {
                switch options % 8 {
                case 0:
                    let state = try StreamState(id: StreamID(rawValue: 1), record: rest)
                    // Text that is no UTF-8 is replaced.
                    try demand(state.record.starts(with: rest[..<32]), "a stream's record")
                case 1: try demand(try PartitionCheckpoint(record: rest).runs.count == (rest.count - 28) / 36, "runs")
                case 2:
                    let partition = try TopicPartition(key: rest)
                    _ = partition.key
                case 3: _ = try SequenceKey(rest)
                case 4: _ = try NumberKey(rest)
                case 5:
                    let message = try ForwardingRecord(rest).message
                    try demand(ForwardingRecord(message).encoded.count >= 12, "a forwarding record")
                case 6:
                    guard let record = RequestRecord(exactly: rest) else { return }
                    let written = UnsafeMutableRawBufferPointer.allocate(byteCount: rest.count, alignment: 1)
                    defer { written.deallocate() }
                    record.write(to: written)
                    try demand(written.elementsEqual(rest), "a request's record")
                    _ = record.isExpired(at: .min, window: .max)
                default:
                    let headers = try EventHeaders.decode(rest)
                    let again = try EventHeaders.encode(headers).withUnsafeBytes { try EventHeaders.decode($0) }
                    try demand(headers.map(\.value) == again.map(\.value), "headers")
                }
            } catch is MalformedEntry {
                // As it should be.
            }
        }
    }
}

/// A stored letter gives a letter or an error, and each letter gives documents.
enum LetterCheck {
    static func run(_ bytes: UnsafeRawBufferPointer) throws {
        try bytes.withOptions { options, rest in
            try rest.withCopy { copy in
                if options & 1 != 0, copy.count >= 2 {
                    (copy[0], copy[1]) = (DeadLetterRecord.version, options >> 1 & 1)
                }
                let record: DeadLetterRecord
                do { record = try DeadLetterRecord(UnsafeRawBufferPointer(copy)) } catch { return }
                _ = record.partition
                _ = try record.isOfKind(DeadLetterRecord.kindMember("row_data"))
                let letter: DeadLetter
                // Its problem is JSON, whose decoder has errors of its own.
                do { letter = try record.letter(table: "t", withPayload: true) } catch { return }
                let stored = StoredDeadLetter(
                    number: 1, sequence: record.sequence, isRetried: record.state == .retried, awaitsForwarding: true,
                    letter: letter)
                try demand(try !Journal.document(for: stored, withPayload: true).isEmpty, "a document")
                try demand(try Journal.message(for: stored).key.elementsEqual(letter.eventID.utf8), "a message")
            }
        }
    }
}
