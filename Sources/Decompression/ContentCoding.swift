/// A compression that a body can have (the values of HTTP's `Content-Encoding`, RFC 9110, section 8.4.1).
public enum ContentCoding: String, Sendable, Hashable, CaseIterable {
    /// Members of RFC 1952, one or more behind each other.
    case gzip
    /// RFC 1950 (zlib), which is what the name stands for, or RFC 1951 alone (raw), which is what some clients send.
    case deflate
    /// Frames of RFC 8878, one or more behind each other, with windows of 8 MiB at most (RFC 9659).
    case zstd

    /// - Parameter name: as in the header; case does not matter. `x-gzip` is gzip.
    public init?(name: some StringProtocol) {
        let name = name.lowercased()
        self.init(rawValue: name == "x-gzip" ? "gzip" : name)
    }
}

/// How far a decompression may go.
public struct DecompressionLimits: Sendable, Equatable {
    /// Decompressed bytes.
    public var maxBytes: Int
    /// Decompressed bytes for each compressed one, checked beyond `ratioFreeBytes`.
    public var maxRatio: Int

    /// Up to so many decompressed bytes any ratio will do: a line that is repeated often is no attack.
    public static let ratioFreeBytes = 1 << 20

    /// Collects the parts; both at least 1.
    public init(maxBytes: Int, maxRatio: Int) {
        precondition(maxBytes > 0 && maxRatio > 0, "a limit below 1")
        self.maxBytes = maxBytes
        self.maxRatio = maxRatio
    }
}

/// Why compressed bytes could not be decompressed.
public enum DecompressionError: Error, Sendable, Equatable {
    /// They are not what they are said to be; about where in the compressed bytes.
    case corrupt(reason: String, byteOffset: Int)
    /// They end too early.
    case truncated(ContentCoding)
    /// More than `maxBytes` come out.
    case tooLarge(maxBytes: Int)
    /// More than `maxRatio` bytes come out for each byte.
    case ratio(maxRatio: Int)
    /// The system has no memory for it.
    case noMemory
}
