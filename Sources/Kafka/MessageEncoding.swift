internal import CKafka
internal import EventJSON
internal import Glibc
internal import IngestCore

/// Turns Kafka messages into records of the entry format. Owned by the poll thread; keeps its memory from message to
/// message, so that a valid message costs one copy and no allocation of ours.
///
/// The id of an event is the first of these that is there, has a value and is not null:
///
/// 1. what the topic's `EventIDRule` names, a payload field or a header
/// 2. the payload's `eventIDField` (in a structured CloudEvent of a topic with a field rule: `id` instead)
/// 3. `id` of a structured CloudEvent (a header `content-type: application/cloudevents+json`)
/// 4. the header `ce_id` (a binary CloudEvent)
/// 5. the header `event_id`
/// 6. the SHA-256 of the payload
///
/// A CloudEvent that lacks attributes which its specification requires is an event like any other: nothing here needs
/// them, and a dead letter would help nobody. [CloudEvents: Kafka protocol binding 1.0.2]
final class MessageEncoder {
    /// How the messages of a topic are read.
    private final class Reading {
        let scanner: EventScanner
        /// For structured CloudEvents.
        let cloudEventScanner: EventScanner
        /// The header that holds the id, if a rule says so.
        let idHeader: [UInt8]?

        init(scanner: EventScanner, cloudEventScanner: EventScanner, idHeader: [UInt8]?) {
            self.scanner = scanner
            self.cloudEventScanner = cloudEventScanner
            self.idHeader = idHeader
        }
    }

    private let rules: [(pattern: TopicPattern, source: EventIDRule.Source)]
    private let eventIDField: String
    /// Scanners keep a few hundred KiB each: one for each pair of fields.
    private var scanners: [[String]: EventScanner] = [:]
    private var readings: [String: Reading] = [:]
    /// The intake that the last message was for. Kept alive, so that no other has its address.
    private var intake: PartitionIntake?
    /// How its topic is read.
    private var reading: Reading?
    /// Headers of the current message in the entry format's encoding.
    private var headerBytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 4_096, alignment: 1)

    /// - Parameter configuration: says where ids are.
    /// - Throws: `KafkaConfigurationError` for a bad pattern.
    init(_ configuration: KafkaSourceConfiguration) throws(KafkaConfigurationError) {
        eventIDField = configuration.eventIDField
        var rules: [(pattern: TopicPattern, source: EventIDRule.Source)] = []
        for rule in configuration.eventIDRules {
            rules.append((try KafkaSourceConfiguration.pattern(rule.topic, of: "eventIDRules"), rule.source))
        }
        self.rules = rules
    }

    deinit { headerBytes.deallocate() }

    /// Adds a message that `intake` has admitted to it: as an event, as a dead letter, or only its offset.
    @inline(__always)
    func add(
        _ message: UnsafeMutablePointer<rd_kafka_message_t>, timestamp: Int64, to intake: PartitionIntake,
        receivedAt: Int64
    ) {
        let offset = message.pointee.offset
        guard let start = message.pointee.payload else { return intake.skip(offset: offset, receivedAt: receivedAt) }
        let payload = UnsafeRawBufferPointer(start: start, count: message.pointee.len)
        let headers = MessageHeaders(message)
        let key = message.pointee.key.map { UnsafeRawBufferPointer(start: $0, count: message.pointee.key_len) }
        let reading = self.intake === intake ? self.reading! : turn(to: intake)
        var event: ScannedEvent?
        do throws(InvalidEvent) {
            var found = try reading.scanner.scan(payload)
            event = found
            var headerID: UnsafeRawBufferPointer?
            if let name = reading.idHeader { headerID = try headers.eventID(in: name) }
            if headerID == nil, found.id == .derived, !headers.isEmpty {
                if headers.announceStructuredCloudEvent {
                    found = try reading.cloudEventScanner.scan(payload)
                    event = found
                }
                if found.id == .derived { headerID = try headers.eventID() }
            }
            let keyLength = key?.count ?? 0
            let headerBytes =
                headers.isEmpty && keyLength <= Limits.kafkaMetadataBytes
                ? UnsafeRawBufferPointer(start: nil, count: 0) : try encode(headers, keyLength: keyLength)
            intake.append(
                payload: payload, id: headerID == nil ? found.id : .stored, storedID: headerID ?? found.storedID,
                metadata: KafkaMetadata(
                    offset: offset, timestamp: timestamp, key: key, headers: headerBytes),
                receivedAt: receivedAt)
        } catch {
            let letter = deadLetter(message, payload, event, key, headers, error, intake)
            intake.append(letter, offset: offset, receivedAt: receivedAt)
        }
    }

    /// Gets ready for the messages of another partition.
    private func turn(to intake: PartitionIntake) -> Reading {
        let made = makeReading(of: intake.partition.topic)
        self.intake = intake
        reading = made
        return made
    }

    private func makeReading(of topic: String) -> Reading {
        if let known = readings[topic] { return known }
        let made: Reading
        switch rules.first(where: { $0.pattern.matches(topic) })?.source {
        case .field(let field):
            made = Reading(
                scanner: scanner(field, fallback: eventIDField), cloudEventScanner: scanner(field, fallback: "id"),
                idHeader: nil)
        case .header(let name):
            made = Reading(
                scanner: scanner(eventIDField), cloudEventScanner: scanner(eventIDField, fallback: "id"),
                idHeader: Array(name.utf8))
        case nil:
            made = Reading(
                scanner: scanner(eventIDField), cloudEventScanner: scanner(eventIDField, fallback: "id"), idHeader: nil)
        }
        readings[topic] = made
        return made
    }

    private func scanner(_ field: String, fallback: String? = nil) -> EventScanner {
        let fallback = fallback == field ? nil : fallback
        let fields = [field] + (fallback.map { [$0] } ?? [])
        if let known = scanners[fields] { return known }
        let made = EventScanner(eventIDField: field, fallbackIDField: fallback)
        scanners[fields] = made
        return made
    }

    private func deadLetter(
        _ message: UnsafeMutablePointer<rd_kafka_message_t>, _ payload: UnsafeRawBufferPointer, _ event: ScannedEvent?,
        _ key: UnsafeRawBufferPointer?, _ headers: MessageHeaders, _ problem: InvalidEvent, _ intake: PartitionIntake
    ) -> DeadLetter {
        DeadLetter(
            eventID: eventID(payload, event, headers, reading?.idHeader), failedAt: WallClock.milliseconds,
            table: intake.stream.table,
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

    /// The id as it would be if the message were an event, as far as it can be told.
    private func eventID(
        _ payload: UnsafeRawBufferPointer, _ event: ScannedEvent?, _ headers: MessageHeaders, _ idHeader: [UInt8]?
    ) -> String {
        do throws(InvalidEvent) {
            if let idHeader, let headerID = try headers.eventID(in: idHeader) {
                return String(decoding: headerID, as: UTF8.self)
            }
            if let storedID = event?.storedID { return String(decoding: storedID, as: UTF8.self) }
            if case .payloadSlice(let offset, let length) = event?.id {
                return String(decoding: payload[offset..<(offset + length)], as: UTF8.self)
            }
            if let headerID = try headers.eventID() { return String(decoding: headerID, as: UTF8.self) }
        } catch {
            // Not usable as an id; the dead letter shows it among its headers.
        }
        return EventID.derive(from: payload)
    }

    /// Writes the headers in the entry format's encoding (see `EntryFormat.swift`).
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

    /// Messages without headers need no search.
    @inline(__always)
    var isEmpty: Bool { list == nil }

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
        return try found.map(Self.checked)
    }

    /// The event id that the header with this name carries; `nil` if it is not there, or without a value.
    func eventID(in wanted: [UInt8]) throws(InvalidEvent) -> UnsafeRawBufferPointer? {
        guard list != nil else { return nil }
        for (name, value) in self {
            guard let value, value.count > 0, name.elementsEqual(wanted) else { continue }
            return try Self.checked(value)
        }
        return nil
    }

    private static func checked(_ id: UnsafeRawBufferPointer) throws(InvalidEvent) -> UnsafeRawBufferPointer {
        guard id.count <= Limits.eventIDBytes else {
            throw InvalidEvent(
                kind: "invalid_event_id",
                message: "the header's event id is longer than \(Limits.eventIDBytes) bytes", byteOffset: nil)
        }
        guard id.allSatisfy({ $0 < 0x80 }) || String(validating: id, as: UTF8.self) != nil else {
            throw InvalidEvent(kind: "invalid_event_id", message: "the header's event id is not UTF-8", byteOffset: nil)
        }
        return id
    }

    /// Whether the payload is a CloudEvent with all its attributes in JSON ("structured content mode"). Media types
    /// know no case and can have parameters behind a semicolon.
    var announceStructuredCloudEvent: Bool {
        for (name, value) in self {
            guard let value, Self.isEqual(name, "content-type") else { continue }
            let type = value.prefix { $0 != UInt8(ascii: ";") && $0 != UInt8(ascii: " ") }
            return Self.isEqual(UnsafeRawBufferPointer(rebasing: type), "application/cloudevents+json")
        }
        return false
    }

    private static func isEqual(_ bytes: UnsafeRawBufferPointer, _ lowercase: StaticString) -> Bool {
        guard bytes.count == lowercase.utf8CodeUnitCount else { return false }
        for index in bytes.indices {
            let byte = bytes[index]
            let lowered = (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
            guard lowered == lowercase.utf8Start[index] else { return false }
        }
        return true
    }
}
