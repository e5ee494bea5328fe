import Foundation

/// A folder that is removed with this object.
public final class TemporaryDirectory: Sendable {
    /// Its absolute path.
    public let path: String

    /// Makes it.
    public init(_ name: String = "test") throws {
        var template = Array("\(NSTemporaryDirectory())/ingestd-\(name)-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw CocoaError(.fileWriteUnknown) }
        path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// A path inside of it.
    public func appending(_ name: String) -> String { path + "/" + name }
}
