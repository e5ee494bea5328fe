import Glibc

/// Why a file of the configuration could not be used, in the system's words. Never contains what is in it.
struct FileProblem: Error {
    let reason: String
}

/// Reading small files: the YAML file and files with secrets. Pipes work too (`--config <(...)`).
enum ConfigurationFile {
    /// The largest that is read.
    static let maximumBytes = 1 << 20

    static func contents(of path: String) throws(FileProblem) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileProblem(reason: String(cString: strerror(errno))) }
        defer { close(descriptor) }
        var contents: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16_384)
        while true {
            let count = read(descriptor, &chunk, chunk.count)
            if count > 0 {
                contents += chunk[..<count]
                guard contents.count <= maximumBytes else { throw FileProblem(reason: "it is larger than 1 MiB") }
            } else if count == 0 {
                return contents
            } else if errno != EINTR {
                throw FileProblem(reason: String(cString: strerror(errno)))
            }
        }
    }

    /// A secret: the text without the one line feed (or CR LF) that editors put at the end.
    static func secret(in path: String) throws(FileProblem) -> String {
        guard let text = String(validating: try contents(of: path), as: UTF8.self) else {
            throw FileProblem(reason: "it is not UTF-8 text")
        }
        var scalars = text.unicodeScalars[...]
        if scalars.last == "\n" {
            scalars = scalars.dropLast()
            if scalars.last == "\r" { scalars = scalars.dropLast() }
        }
        return String(scalars)
    }
}
