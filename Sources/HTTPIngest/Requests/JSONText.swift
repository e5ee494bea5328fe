internal import NIOCore

/// Writes small JSON documents.
struct JSONText {
    private(set) var buffer = ByteBufferAllocator().buffer(capacity: 256)
    private var needsComma = false

    /// Writes an object as the document's root, or as an element.
    mutating func object(_ members: (inout JSONText) -> Void) {
        separate()
        buffer.writeStaticString("{")
        needsComma = false
        members(&self)
        buffer.writeStaticString("}")
        needsComma = true
    }

    mutating func member(_ name: StaticString, _ value: some FixedWidthInteger) {
        key(name)
        buffer.writeString(String(value))
    }

    mutating func member(_ name: StaticString, _ value: Bool) {
        key(name)
        buffer.writeString(value ? "true" : "false")
    }

    mutating func member(_ name: StaticString, _ value: String) {
        key(name)
        string(value)
    }

    /// An array of objects.
    mutating func array<Element>(
        _ name: StaticString, _ elements: [Element], _ members: (inout JSONText, Element) -> Void
    ) {
        key(name)
        buffer.writeStaticString("[")
        needsComma = false
        for element in elements { object { members(&$0, element) } }
        buffer.writeStaticString("]")
        needsComma = true
    }

    /// An array of strings.
    mutating func array(_ name: StaticString, _ elements: [String]) {
        key(name)
        buffer.writeStaticString("[")
        needsComma = false
        for element in elements {
            separate()
            string(element)
        }
        buffer.writeStaticString("]")
        needsComma = true
    }

    private mutating func separate() {
        if needsComma { buffer.writeStaticString(",") }
        needsComma = true
    }

    private mutating func key(_ name: StaticString) {
        separate()
        buffer.writeStaticString("\"")
        buffer.writeStaticString(name)
        buffer.writeStaticString("\":")
    }

    private mutating func string(_ value: String) {
        buffer.writeStaticString("\"")
        if value.utf8.allSatisfy({ $0 >= 0x20 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }) {
            buffer.writeString(value)
        } else {
            for byte in value.utf8 { escaped(byte) }
        }
        buffer.writeStaticString("\"")
    }

    private mutating func escaped(_ byte: UInt8) {
        switch byte {
        case UInt8(ascii: "\""): buffer.writeStaticString("\\\"")
        case UInt8(ascii: "\\"): buffer.writeStaticString("\\\\")
        case 0x0a: buffer.writeStaticString("\\n")
        case 0..<0x20:
            buffer.writeString("\\u00\(byte < 16 ? "0" : "")\(String(byte, radix: 16))")
        default: buffer.writeInteger(byte)
        }
    }
}
