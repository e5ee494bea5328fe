import Crypto

/// By which a repeated request is recognized: the client gave it a key (the header `Idempotency-Key`), and sends the
/// same again when it got no answer.
///
/// Both are hashes, so that a key of any length costs the same, and what a client wrote is not kept.
public struct RequestKey: Hashable, Sendable {
    /// Names the request: hash of the stream and of the client's key.
    public let key: UInt128
    /// What the request says: hash of its body and of what else decides about its events. Another fingerprint under
    /// the same key is a client's mistake.
    public let fingerprint: UInt128

    /// Pairs two hashes.
    public init(key: UInt128, fingerprint: UInt128) {
        self.key = key
        self.fingerprint = fingerprint
    }

    /// Hashes with SHA-256, of which 128 bits are kept: nobody can make two requests that are taken for one.
    /// - Parameters:
    ///   - clientKey: what the client wrote.
    ///   - meaning: what beside the body decides about the events, in any form that is the same for the same request:
    ///     the format of the body, parameters of the query.
    public init(clientKey: some StringProtocol, stream: StreamID, meaning: String, body: UnsafeRawBufferPointer) {
        var name = SHA256()
        Swift.withUnsafeBytes(of: stream.rawValue.littleEndian) { name.update(bufferPointer: $0) }
        name.update(text: clientKey)
        key = UInt128(firstBytesOf: name.finalize())
        var contents = SHA256()
        // The length first, so that no byte can belong to either of the two.
        Swift.withUnsafeBytes(of: UInt64(meaning.utf8.count).littleEndian) { contents.update(bufferPointer: $0) }
        contents.update(text: meaning)
        contents.update(bufferPointer: body)
        fingerprint = UInt128(firstBytesOf: contents.finalize())
    }
}

extension SHA256 {
    fileprivate mutating func update(text: some StringProtocol) {
        var text = String(text)
        text.withUTF8 { update(bufferPointer: UnsafeRawBufferPointer($0)) }
    }
}

extension UInt128 {
    fileprivate init(firstBytesOf digest: SHA256.Digest) {
        self = digest.prefix(16).reduce(0) { $0 << 8 | UInt128($1) }
    }
}
