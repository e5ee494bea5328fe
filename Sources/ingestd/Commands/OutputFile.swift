import Glibc

/// Where an export goes: standard output, or a file that is there only once it is complete and on stable storage.
struct OutputFile: ~Copyable {
    private static let bufferBytes = 256 << 10

    private let descriptor: CInt
    /// The file that it becomes, and the name that it has until then; `nil` where bytes go straight to their place.
    private let names: (final: String, temporary: String)?
    private let closesDescriptor: Bool
    private var buffer: [UInt8] = []
    private var isFinished = false

    /// - Parameter path: the file to be made or replaced; `nil` is standard output.
    init(_ path: String?) throws(TerminalError) {
        guard let path else {
            (descriptor, names, closesDescriptor) = (STDOUT_FILENO, nil, false)
            return
        }
        var status = stat()
        // A device or a pipe is written to; a file in its place would be a new thing.
        if stat(path, &status) == 0, status.st_mode & S_IFMT != S_IFREG {
            (descriptor, names, closesDescriptor) = (open(path, O_WRONLY | O_CLOEXEC), nil, true)
        } else {
            let temporary = "\(path).\(getpid()).part"
            // Events may be confidential: not for everyone.
            descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o640)
            (names, closesDescriptor) = ((path, temporary), true)
        }
        guard descriptor >= 0 else { throw Self.error("can't write \(names?.temporary ?? path)") }
    }

    deinit {
        if closesDescriptor, descriptor >= 0 { close(descriptor) }
        if let names, !isFinished { unlink(names.temporary) }
    }

    /// Writes bytes, some time before `finish` returns.
    mutating func write(_ bytes: some Sequence<UInt8>) throws(TerminalError) {
        buffer.append(contentsOf: bytes)
        if buffer.count >= Self.bufferBytes { try flush() }
    }

    /// Writes what is left, and puts the file in its place.
    mutating func finish() throws(TerminalError) {
        try flush()
        guard let names else { return }
        guard fsync(descriptor) == 0 else { throw Self.error("can't sync \(names.temporary)") }
        guard rename(names.temporary, names.final) == 0 else { throw Self.error("can't make \(names.final)") }
        isFinished = true
        let slash = names.final.lastIndex(of: "/")
        let folder = slash.map { $0 == names.final.startIndex ? "/" : String(names.final[..<$0]) } ?? "."
        let folderDescriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folderDescriptor >= 0 else { throw Self.error("can't sync \(folder)") }
        defer { close(folderDescriptor) }
        guard fsync(folderDescriptor) == 0 || errno == EINVAL else { throw Self.error("can't sync \(folder)") }
    }

    private mutating func flush() throws(TerminalError) {
        let failure = buffer.withUnsafeBytes { bytes -> TerminalError? in
            var offset = 0
            while offset < bytes.count {
                let count = Glibc.write(descriptor, bytes.baseAddress! + offset, bytes.count - offset)
                if count >= 0 {
                    offset += count
                } else if errno != EINTR {
                    return Self.error("can't write \(names?.temporary ?? "the output")")
                }
            }
            return nil
        }
        if let failure { throw failure }
        buffer.removeAll(keepingCapacity: true)
    }

    private static func error(_ what: String) -> TerminalError {
        TerminalError("\(what): \(String(cString: strerror(errno)))")
    }
}
