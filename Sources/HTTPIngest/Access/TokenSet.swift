internal import Crypto

/// Tokens and what each of them may do. Tokens are kept as SHA-256 digests: comparing those takes the same time whatever
/// a stranger sends, and a dump of the memory holds no token that came from a file.
///
/// The file's format: one token a line, `TOKEN [RIGHT...]`, separated by blanks. Rights are `ingest` (all streams),
/// `ingest:NAME,NAME` (these streams, by the name in the path or the table's name, percent-encoded as in a path), and
/// `operations`; a token without rights may ingest into all streams. Empty lines and lines that begin with `#` are
/// skipped.
struct TokenSet: Sendable {
    struct Rights: Sendable, Equatable {
        var ingestsAll = false
        var streams: Set<String> = []
        var operates = false
        /// The one token of a simple set-up: it operates too unless there is a token for that.
        var isGeneral = false
    }

    /// 32 bytes.
    private typealias Digest = SIMD4<UInt64>

    private var digests: [Digest] = []
    private var rights: [Rights] = []
    /// Whether a token has the right `operations`.
    private(set) var hasOperationsToken = false

    /// Bytes of the file.
    static let maxFileBytes = 1 << 20
    /// Lines of the file.
    static let maxFileLines = 1_000

    var count: Int { digests.count }

    /// - Returns: whether the token was new.
    @discardableResult
    mutating func add(_ token: Substring, _ rights: Rights) -> Bool {
        let digest = Self.digest(token)
        guard !digests.contains(digest) else { return false }
        digests.append(digest)
        self.rights.append(rights)
        if rights.operates { hasOperationsToken = true }
        return true
    }

    /// What the token may do; `nil` if it is none of these. Looks at all tokens in every case.
    func rights(of token: Substring) -> Rights? {
        let digest = Self.digest(token)
        var found = -1
        for index in digests.indices {
            let difference = digests[index] ^ digest
            let isSame = difference[0] | difference[1] | difference[2] | difference[3] == 0
            found = isSame ? index : found
        }
        return found >= 0 ? rights[found] : nil
    }

    private static func digest(_ token: Substring) -> Digest {
        var hasher = SHA256()
        let isHashed: Void? = token.utf8.withContiguousStorageIfAvailable {
            hasher.update(bufferPointer: UnsafeRawBufferPointer($0))
        }
        if isHashed == nil { hasher.update(data: Array(token.utf8)) }
        return hasher.finalize().withUnsafeBytes { $0.loadUnaligned(as: Digest.self) }
    }

    /// Adds the tokens of a file.
    /// - Throws: `UnusableFile`, which names the line.
    mutating func add(contentsOf file: WatchedFile) throws(UnusableFile) {
        try Self.read(file) { token, rights in add(token, rights) }
    }

    /// Reads a file.
    /// - Parameter take: gets each token; says whether it is not there already.
    /// - Throws: `UnusableFile`, which names the line.
    static func read(_ file: WatchedFile, take: (Substring, Rights) -> Bool) throws(UnusableFile) {
        let bytes = try file.read(limit: maxFileBytes)
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw UnusableFile(file.path, "is not UTF-8 text")
        }
        let lines = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (index, line) in lines.enumerated() {
            func broken(_ reason: String) -> UnusableFile { UnusableFile(file.path, "line \(index + 1): \(reason)") }
            let isBlank = { (byte: UInt8) in byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") || byte == 13 }
            let words = line.split(whereSeparator: isBlank).map { Substring($0) }
            guard let token = words.first, !token.hasPrefix("#") else { continue }
            guard index < maxFileLines else { throw broken("more than \(maxFileLines) lines") }
            guard token.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
                throw broken("a token consists of visible ASCII characters")
            }
            var rights = Rights()
            for (position, word) in words.dropFirst().enumerated() {
                guard rights.add(word) else {
                    throw broken("right \(position + 1) is none of ingest, ingest:NAME,NAME and operations")
                }
            }
            if words.count == 1 { rights.ingestsAll = true }
            guard take(token, rights) else {
                throw broken("the token is there already, in a line above or as one of the service's settings")
            }
        }
    }
}

/// The file of tokens as commands see it that talk to a service.
public enum TokensFile {
    /// The first token in the file that has the right `operations`.
    /// - Returns: `nil` if none has.
    /// - Throws: `HTTPConfigurationError` if the file can't be used; it names the line and never what is in it.
    public static func operationsToken(path: String) throws(HTTPConfigurationError) -> String? {
        var found: Substring?
        do throws(UnusableFile) {
            try TokenSet.read(WatchedFile(path)) { token, rights in
                if found == nil, rights.operates { found = token }
                return true
            }
        } catch {
            throw HTTPConfigurationError(description: "\(error)")
        }
        return found.map(String.init)
    }
}

extension TokenSet.Rights {
    /// - Returns: whether the word is a right.
    fileprivate mutating func add(_ word: Substring) -> Bool {
        let named = "ingest:"
        switch word {
        case "ingest": ingestsAll = true
        case "operations": operates = true
        case _ where word.hasPrefix(named):
            let names = word.dropFirst(named.count).utf8.split(
                separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
            for name in names {
                guard let name = PercentEncoding.decode(name), !name.isEmpty else { return false }
                streams.insert(name)
            }
        default: return false
        }
        return true
    }
}
