import Glibc

/// Topics as settings name them: by name, or by a pattern, which is a POSIX extended regular expression that begins
/// with `^`. librdkafka compiles the patterns of a subscription with the same function of the C library, so that what
/// it subscribes to and what a route or rule is for are the same topics.
///
/// Usable from any thread.
public final class TopicPattern: Sendable {
    /// Why a text is no pattern.
    public struct Invalid: Error, Sendable, Equatable, CustomStringConvertible {
        /// The C library's words.
        public let description: String
    }

    /// A compiled expression. `@unchecked Sendable`: `regexec` does not change it (POSIX has it thread-safe).
    private struct Expression: @unchecked Sendable {
        let pointer: UnsafeMutablePointer<regex_t>
    }

    /// The name or pattern as set.
    public let text: String
    /// `nil` for a name.
    private let expression: Expression?

    /// Compiles a pattern; takes a name as it is.
    public init(_ text: String) throws(Invalid) {
        self.text = text
        guard Self.isPattern(text) else {
            expression = nil
            return
        }
        let pointer = UnsafeMutablePointer<regex_t>.allocate(capacity: 1)
        let code = regcomp(pointer, text, REG_EXTENDED | REG_NOSUB)
        guard code == 0 else {
            let words = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
                regerror(code, pointer, buffer.baseAddress, buffer.count)
                return String(cString: buffer.baseAddress!)
            }
            pointer.deallocate()
            throw Invalid(description: words)
        }
        expression = Expression(pointer: pointer)
    }

    deinit {
        guard let expression else { return }
        regfree(expression.pointer)
        expression.pointer.deallocate()
    }

    /// Whether a text is a pattern rather than a name. No name of a topic can begin like that.
    public static func isPattern(_ text: String) -> Bool { text.utf8.first == UInt8(ascii: "^") }

    /// Whether this is a pattern.
    public var isPattern: Bool { expression != nil }

    /// Whether the topic is meant.
    public func matches(_ topic: String) -> Bool {
        guard let expression else { return topic == text }
        return regexec(expression.pointer, topic, 0, nil, 0) == 0
    }
}
