/// Writes bytes as the inside of a JSON string: quote, backslash and control characters escaped, all else as it is.
///
/// Bytes above 0x7F pass unchanged, valid UTF-8 or not: ClickHouse takes the bytes of a string as they come, and so
/// what arrives in the column is exactly what was given.
enum JSONEscape {
    /// Bytes that one input byte can become (`\u001f`).
    static let largestExpansion = 6
    /// Bytes that may be written, and left meaningless, behind the result.
    static let slack = 32
    /// Bytes of the scratch memory that `escape` works in.
    static let scratchBytes = 32

    /// Escapes `count` bytes.
    /// - Parameters:
    ///   - target: room for `count * largestExpansion + slack` bytes.
    ///   - scratch: `scratchBytes` that nobody else uses meanwhile.
    /// - Returns: bytes written.
    ///
    /// Words of 8 bytes are copied first and looked at afterwards; where one holds a special byte, the bytes behind it
    /// are copied once more, shifted. Text without special bytes so runs at nearly the speed of a copy, and dense JSON
    /// costs one store more for each quote. The last bytes go through `scratch`, so that nothing is read behind the
    /// input.
    @inline(__always)
    static func escape(
        _ source: UnsafeRawPointer, count: Int, into target: UnsafeMutableRawPointer, scratch: UnsafeMutableRawPointer
    ) -> Int {
        var input = source
        var left = count
        var output = target
        // Shifted copies read up to 8 bytes behind the word.
        while left >= 16 {
            escapeWord(input, &output)
            input += 8
            left -= 8
        }
        guard left > 0 else { return output - target }
        // Blanks behind the input are copied like any other byte, and then taken back.
        scratch.storeBytes(of: blanks, as: UInt64.self)
        scratch.storeBytes(of: blanks, toByteOffset: 8, as: UInt64.self)
        scratch.copyMemory(from: input, byteCount: left)
        escapeWord(scratch, &output)
        if left > 8 { escapeWord(scratch + 8, &output) }
        return output - target - ((left > 8 ? 16 : 8) - left)
    }

    private static let blanks: UInt64 = 0x2020_2020_2020_2020
    private static let lowBits: UInt64 = 0x7F7F_7F7F_7F7F_7F7F
    private static let highBits: UInt64 = 0x8080_8080_8080_8080

    /// The top bit of each byte of `word` that is zero; exact, no carry from byte to byte.
    @inline(__always)
    private static func zeroBytes(_ word: UInt64) -> UInt64 { ~(((word & lowBits) &+ lowBits) | word) & highBits }

    @inline(__always)
    private static func escapeWord(_ input: UnsafeRawPointer, _ output: inout UnsafeMutableRawPointer) {
        let word = UInt64(littleEndian: input.loadUnaligned(as: UInt64.self))
        output.storeBytes(of: word.littleEndian, as: UInt64.self)
        var rest =
            zeroBytes(word ^ 0x2222_2222_2222_2222) | zeroBytes(word ^ 0x5C5C_5C5C_5C5C_5C5C)
            | zeroBytes(word & 0xE0E0_E0E0_E0E0_E0E0)
        while rest != 0 {
            let index = rest.trailingZeroBitCount >> 3
            let byte = input.load(fromByteOffset: index, as: UInt8.self)
            if byte >= 0x20 {
                output.storeBytes(of: 0x5C, toByteOffset: index, as: UInt8.self)
                output.storeBytes(of: byte, toByteOffset: index + 1, as: UInt8.self)
                output += 1
            } else {
                output += writeControl(byte, to: output + index) - 1
            }
            output.storeBytes(
                of: input.loadUnaligned(fromByteOffset: index + 1, as: UInt64.self), toByteOffset: index + 1,
                as: UInt64.self)
            rest &= rest - 1
        }
        output += 8
    }

    @inline(never)
    private static func writeControl(_ byte: UInt8, to target: UnsafeMutableRawPointer) -> Int {
        target.storeBytes(of: 0x5C, as: UInt8.self)
        let short: UInt8? =
            switch byte {
            case 0x08: 0x62
            case 0x09: 0x74
            case 0x0A: 0x6E
            case 0x0C: 0x66
            case 0x0D: 0x72
            default: nil
            }
        if let short {
            target.storeBytes(of: short, toByteOffset: 1, as: UInt8.self)
            return 2
        }
        let low = byte & 15
        target.storeBytes(of: 0x75, toByteOffset: 1, as: UInt8.self)
        target.storeBytes(of: 0x30, toByteOffset: 2, as: UInt8.self)
        target.storeBytes(of: 0x30, toByteOffset: 3, as: UInt8.self)
        target.storeBytes(of: 0x30 + (byte >> 4), toByteOffset: 4, as: UInt8.self)
        target.storeBytes(of: low < 10 ? 0x30 + low : 0x57 + low, toByteOffset: 5, as: UInt8.self)
        return 6
    }
}
