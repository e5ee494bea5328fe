import IngestCore

/// Headers of Kafka messages in the entry format's encoding (IngestCore/EntryFormat.swift). For dead letters: events
/// keep theirs encoded.
enum EventHeaders {
    static func decode(_ bytes: UnsafeRawBufferPointer) throws(MalformedEntry) -> [(name: String, value: [UInt8]?)] {
        var headers: [(name: String, value: [UInt8]?)] = []
        var position = 0
        func take(_ length: Int) throws(MalformedEntry) -> Slice<UnsafeRawBufferPointer> {
            guard length <= bytes.count - position else { throw MalformedEntry("header reaches beyond the others") }
            defer { position += length }
            return bytes[position..<(position + length)]
        }
        while position < bytes.count {
            let lengths = UnsafeRawBufferPointer(rebasing: try take(6))
            let valueLength: Int32 = lengths.loadLittleEndian(2)
            let name = String(decoding: try take(Int(lengths.loadLittleEndian(0, as: UInt16.self))), as: UTF8.self)
            headers.append((name, valueLength < 0 ? nil : Array(try take(Int(valueLength)))))
        }
        return headers
    }

    static func encode(_ headers: [(name: String, value: [UInt8]?)]) -> [UInt8] {
        var bytes: [UInt8] = []
        for (name, value) in headers {
            // A longer one is the very problem of some letters; what is cut is not missed.
            let name = name.utf8.prefix(Int(UInt16.max))
            bytes.appendLittleEndian(UInt16(name.count))
            bytes.appendLittleEndian(value.map { Int32($0.count) } ?? -1)
            bytes += name
            if let value { bytes += value }
        }
        return bytes
    }
}
