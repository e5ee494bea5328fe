/// A valid header `traceparent` of W3C Trace Context (https://www.w3.org/TR/trace-context/): the trace that an event came
/// with. Kept with the event as one of its headers (see `EntryFormat.swift`), as it was written.
///
/// What is not valid counts as absent, as the standard wants it. `tracestate` is not kept for events from HTTP.
public struct TraceParent: Sendable, Equatable {
    /// The header's name in the entry format.
    private static let name: StaticString = "traceparent"
    /// The same as an attribute of a CloudEvent, in the names of its Kafka binding.
    private static let attribute: StaticString = "ce_traceparent"
    /// Version, trace, parent and flags. Later versions may have more behind.
    private static let length = 55
    /// The longest one of a later version that is kept.
    private static let maxLength = 256

    /// It alone as an event's headers, in the entry format's encoding.
    public let headers: [UInt8]

    /// - Returns: `nil` if it is not valid.
    public init?(_ text: String) {
        let value = Array(text.utf8)
        guard value.withUnsafeBytes(Self.isValid) else { return nil }
        var headers = [UInt8](repeating: 0, count: 6)
        headers.withUnsafeMutableBytes {
            $0.storeLittleEndian(UInt16(Self.name.utf8CodeUnitCount), 0)
            $0.storeLittleEndian(Int32(value.count), 2)
        }
        headers += UnsafeBufferPointer(start: Self.name.utf8Start, count: Self.name.utf8CodeUnitCount)
        self.headers = headers + value
    }

    /// As it was written.
    public var text: String { String(decoding: headers[(6 + Self.name.utf8CodeUnitCount)...], as: UTF8.self) }

    /// Whether it is a header that the standard wants to be used: of version 00, or of a later one as far as that can be
    /// told (sections 3.2.2 and 3.2.4).
    private static func isValid(_ text: UnsafeRawBufferPointer) -> Bool {
        guard text.count >= length, text.count <= maxLength else { return false }
        func isHex(_ range: Range<Int>) -> Bool {
            range.allSatisfy { (0x30...0x39).contains(text[$0]) || (0x61...0x66).contains(text[$0]) }
        }
        func isZero(_ range: Range<Int>) -> Bool { range.allSatisfy { text[$0] == 0x30 } }
        let dash = UInt8(ascii: "-")
        guard isHex(0..<2), text[2] == dash, isHex(3..<35), text[35] == dash, isHex(36..<52), text[52] == dash,
            isHex(53..<55), !isZero(3..<35), !isZero(36..<52)
        else { return false }
        if isZero(0..<2) { return text.count == length }
        if text[0] == UInt8(ascii: "f"), text[1] == UInt8(ascii: "f") { return false }
        guard text.count > length else { return true }
        return text[length] == dash && text.allSatisfy { (0x21...0x7E).contains($0) }
    }

    /// The valid one among an event's headers: that of a CloudEvent before that of the transport, because it is the
    /// event's own.
    /// - Parameter headers: in the entry format's encoding; what is malformed ends the search.
    @inline(__always)
    public static func find(in headers: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        headers.isEmpty ? nil : search(headers)
    }

    private static func search(_ headers: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        var found: UnsafeRawBufferPointer?
        var rest = headers[...]
        while rest.count >= 6 {
            let lengths = UnsafeRawBufferPointer(rebasing: rest.prefix(6))
            let nameLength = Int(lengths.loadLittleEndian(0, as: UInt16.self))
            let valueLength = Int(max(0, lengths.loadLittleEndian(2, as: Int32.self)))
            rest = rest.dropFirst(6)
            guard nameLength + valueLength <= rest.count else { break }
            let header = UnsafeRawBufferPointer(rebasing: rest.prefix(nameLength + valueLength))
            rest = rest.dropFirst(nameLength + valueLength)
            // Lengths tell nearly all others apart.
            let isAttribute = nameLength == attribute.utf8CodeUnitCount
            guard isAttribute || nameLength == name.utf8CodeUnitCount && found == nil else { continue }
            let value = UnsafeRawBufferPointer(rebasing: header[nameLength...])
            let wanted = isAttribute ? attribute : name
            guard header.starts(with: UnsafeBufferPointer(start: wanted.utf8Start, count: nameLength)), isValid(value)
            else {
                continue
            }
            if isAttribute { return value }
            found = value
        }
        return found
    }
}
