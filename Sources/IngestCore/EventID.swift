import Crypto

/// Event ids that have to be made.
public enum EventID {
    /// Length of a derived id in bytes.
    public static let derivedLength = 64

    /// Writes the lower-case hex SHA-256 of `payload` to the first 64 bytes of `target`.
    public static func derive(from payload: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) {
        precondition(target.count >= derivedLength, "no room for a derived event id")
        var hash = SHA256()
        hash.update(bufferPointer: payload)
        var index = 0
        for byte in hash.finalize() {
            target[index] = hexDigit(byte >> 4)
            target[index + 1] = hexDigit(byte & 15)
            index += 2
        }
    }

    /// The lower-case hex SHA-256 of `payload`.
    public static func derive(from payload: UnsafeRawBufferPointer) -> String {
        String(unsafeUninitializedCapacity: derivedLength) { target in
            derive(from: payload, into: UnsafeMutableRawBufferPointer(target))
            return derivedLength
        }
    }

    private static func hexDigit(_ nibble: UInt8) -> UInt8 { nibble < 10 ? 0x30 + nibble : 0x57 + nibble }
}
