internal import CKafka
internal import EventJSON
internal import Glibc
internal import IngestCore

/// Turns Kafka messages into records of the entry format. Owned by the poll thread; keeps its memory from message to
/// message, so that a valid message costs one copy and no allocation of ours.
final class MessageEncoder {
    private let scanner: EventScanner
    /// Headers of the current message in the entry format's encoding.
    private var headerBytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 4_096, alignment: 1)

    /// - Parameter eventIDField: top-level payload field that holds the event id.
    init(eventIDField: String) { scanner = EventScanner(eventIDField: eventIDField) }

    deinit { headerBytes.deallocate() }

    /// Adds a message that `intake` has admitted to it: as an event, as a dead letter, or only its offset.
    @inline(__always)
    func add(_ message: UnsafeMutablePointer<rd_kafka_message_t>, to intake: PartitionIntake, receivedAt: Int64) {
        let offset = message.pointee.offset
        guard let start = message.pointee.payload else { return intake.skip(offset: offset, receivedAt: receivedAt) }
        let payload = UnsafeRawBufferPointer(start: start, count: message.pointee.len)
        let headers = MessageHeaders(message)
        let key = message.pointee.key.map { UnsafeRawBufferPointer(start: $0, count: message.pointee.key_len) }
        let event: ScannedEvent
        do throws(InvalidEvent) {
            event = try scanner.scan(payload)
        } catch {
            let letter = deadLetter(message, payload, nil, key, headers, error, intake)
            return intake.append(letter, offset: offset, receivedAt: receivedAt)
        }
        do throws(InvalidEvent) {
            let headerBytes = try encode(headers, keyLength: key?.count ?? 0)
            let headerID = event.id == .derived ? try headers.eventID() : nil
            intake.append(
                payload: payload, id: headerID == nil ? event.id : .stored, storedID: headerID ?? event.storedID,
                metadata: KafkaMetadata(
                    offset: offset, timestamp: rd_kafka_message_timestamp(message, nil), key: key,
                    headers: headerBytes),
                receivedAt: receivedAt)
        } catch {
            let letter = deadLetter(message, payload, event, key, headers, error, intake)
            intake.append(letter, offset: offset, receivedAt: receivedAt)
        }
    }

    private func deadLetter(
        _ message: UnsafeMutablePointer<rd_kafka_message_t>, _ payload: UnsafeRawBufferPointer, _ event: ScannedEvent?,
        _ key: UnsafeRawBufferPointer?, _ headers: MessageHeaders, _ problem: InvalidEvent, _ intake: PartitionIntake
    ) -> DeadLetter {
        DeadLetter(
            eventID: eventID(payload, event, headers), failedAt: WallClock.milliseconds, table: intake.stream.table,
            problem: DeadLetter.Problem(
                kind: problem.kind,
                message: problem.byteOffset.map { "\(problem.message) (byte \($0))" } ?? problem.message),
            kafka: DeadLetter.KafkaOrigin(
                partition: intake.partition, offset: message.pointee.offset,
                timestamp: rd_kafka_message_timestamp(message, nil), key: key.map { Array($0) },
                headers: headers.map { header in
                    (name: String(decoding: header.name, as: UTF8.self), value: header.value.map { Array($0) })
                }),
            payload: Array(payload))
    }

    private func eventID(_ payload: UnsafeRawBufferPointer, _ event: ScannedEvent?, _ headers: MessageHeaders) -> String
    {
        if let storedID = event?.storedID { return String(decoding: storedID, as: UTF8.self) }
        if case .payloadSlice(let offset, let length) = event?.id {
            return String(decoding: payload[offset..<(offset + length)], as: UTF8.self)
        }
        do throws(InvalidEvent) {
            if let headerID = try headers.eventID() { return String(decoding: headerID, as: UTF8.self) }
        } catch {
            // Not usable as an id; the dead letter shows it among its headers.
        }
        return EventID.derive(from: payload)
    }

    /// Writes the headers in the entry format's encoding (see `EntryFormat.swift`).
    @inline(__always)
    private func encode(
        _ headers: MessageHeaders, keyLength: Int
    ) throws(InvalidEvent) -> UnsafeRawBufferPointer {
        var length = 0
        for (name, value) in headers {
            guard name.count <= Int(UInt16.max) else {
                throw InvalidEvent(
                    kind: "too_large", message: "a header's name is longer than 65535 bytes", byteOffset: nil)
            }
            length += 6 + name.count + (value?.count ?? 0)
        }
        guard keyLength + length <= Limits.kafkaMetadataBytes else {
            throw InvalidEvent(
                kind: "too_large",
                message: "key and headers are larger than \(Limits.kafkaMetadataBytes) bytes", byteOffset: nil)
        }
        guard length > 0 else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        if length > headerBytes.count {
            headerBytes.deallocate()
            headerBytes = .allocate(byteCount: max(length, 2 * headerBytes.count), alignment: 1)
        }
        var position = 0
        func put(_ bytes: UnsafeRawBufferPointer) {
            UnsafeMutableRawBufferPointer(rebasing: headerBytes[position...]).copyMemory(from: bytes)
            position += bytes.count
        }
        for (name, value) in headers {
            headerBytes.storeLittleEndian(UInt16(name.count), position)
            headerBytes.storeLittleEndian(value.map { Int32($0.count) } ?? -1, position + 2)
            position += 6
            put(name)
            if let value { put(value) }
        }
        return UnsafeRawBufferPointer(rebasing: headerBytes[..<length])
    }
}

/// A message's headers in order. Points into the message.
struct MessageHeaders: Sequence, IteratorProtocol {
    private let list: OpaquePointer?
    private var index = 0

    /// Messages without headers, the most frequent case, cost one call.
    @inline(__always)
    init(_ message: UnsafePointer<rd_kafka_message_t>) {
        var list: OpaquePointer?
        self.list = rd_kafka_message_headers(message, &list) == RD_KAFKA_RESP_ERR_NO_ERROR ? list : nil
    }

    @inline(__always)
    mutating func next() -> (name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer?)? {
        guard let list else { return nil }
        var name: UnsafePointer<CChar>?
        var value: UnsafeRawPointer?
        var size = 0
        guard rd_kafka_header_get_all(list, index, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR, let name else {
            return nil
        }
        index += 1
        return (
            name: UnsafeRawBufferPointer(start: name, count: strlen(name)),
            value: value.map { UnsafeRawBufferPointer(start: $0, count: size) }
        )
    }

    /// The event id that a header carries: `ce_id` (CloudEvents' Kafka binding) before `event_id`; `nil` if neither
    /// is there with a value. An id that can't be kept is the sender's mistake, not a reason to invent another.
    func eventID() throws(InvalidEvent) -> UnsafeRawBufferPointer? {
        guard list != nil else { return nil }
        var found: UnsafeRawBufferPointer?
        for (name, value) in self {
            guard let value, value.count > 0 else { continue }
            if name.elementsEqual("ce_id".utf8) {
                found = value
                break
            }
            if found == nil, name.elementsEqual("event_id".utf8) { found = value }
        }
        guard let found else { return nil }
        guard found.count <= Limits.eventIDBytes else {
            throw InvalidEvent(
                kind: "invalid_event_id",
                message: "the header's event id is longer than \(Limits.eventIDBytes) bytes", byteOffset: nil)
        }
        guard found.allSatisfy({ $0 < 0x80 }) || String(validating: found, as: UTF8.self) != nil else {
            throw InvalidEvent(kind: "invalid_event_id", message: "the header's event id is not UTF-8", byteOffset: nil)
        }
        return found
    }
}
