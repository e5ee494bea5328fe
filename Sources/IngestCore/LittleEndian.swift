/// Unaligned little-endian loads and stores; bounds are the caller's business (checked by the buffers in debug
/// builds). On the little-endian machines that we run on each is one instruction.
extension UnsafeRawBufferPointer {
    @inlinable
    package func loadLittleEndian<T: FixedWidthInteger>(_ offset: Int, as type: T.Type = T.self) -> T {
        T(littleEndian: loadUnaligned(fromByteOffset: offset, as: T.self))
    }
}

extension UnsafeMutableRawBufferPointer {
    @inlinable
    package func storeLittleEndian<T: FixedWidthInteger>(_ value: T, _ offset: Int) {
        storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
    }
}
