import Dispatch
import Glibc
import Synchronization

/// The whole terminal, for a program that draws it anew again and again.
///
/// While it is entered, the terminal shows its alternate screen without a cursor, keys come unread and unechoed, and no
/// key sends a signal. `leave` gives everything back. Used by one task; writing happens on a queue of its own, because a
/// terminal that takes nothing (a line that hangs) must not keep this process from ending.
final class FullScreen {
    private static let enterSequence = "\u{1B}[?1049h\u{1B}[?25l\u{1B}[?7l\u{1B}[2J"
    /// Colors, wrapping, cursor, screen.
    private static let leaveSequence = "\u{1B}[m\u{1B}[?7h\u{1B}[?25h\u{1B}[?1049l"
    /// How long the terminal may take for the last bytes.
    private static let patience = DispatchTimeInterval.seconds(1)

    private let hasColor: Bool
    private let output = TerminalOutput()
    /// The terminal's settings as they were; `nil` while it is not entered.
    private var saved: termios?

    /// - Parameter hasColor: whether styles may be colors.
    init(hasColor: Bool) { self.hasColor = hasColor }

    var isEntered: Bool { saved != nil }

    /// Columns and rows.
    static var size: (columns: Int, rows: Int) {
        var size = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else {
            return (80, 24)
        }
        return (Int(size.ws_col), Int(size.ws_row))
    }

    /// - Throws: `TerminalError` if the terminal can't be asked or set.
    func enter() throws(TerminalError) {
        guard saved == nil else { return }
        var settings = termios()
        guard tcgetattr(STDIN_FILENO, &settings) == 0 else { throw Self.error() }
        let before = settings
        settings.c_lflag &= ~tcflag_t(ECHO | ICANON | ISIG | IEXTEN)
        settings.c_iflag &= ~tcflag_t(IXON | ICRNL | INLCR | IGNCR)
        // VMIN and VTIME: a key is there at once, and no key is not the end.
        (settings.c_cc.6, settings.c_cc.5) = (1, 0)
        guard Self.set(settings, TCSADRAIN) else { throw Self.error() }
        saved = before
        output.write(Self.enterSequence)
    }

    /// Draws the whole screen with one write. A frame that the terminal has no time for is left out.
    func draw(_ lines: [StyledLine], clearing: Bool) {
        let columns = Self.size.columns
        var frame = clearing ? "\u{1B}[2J" : ""
        for (row, line) in lines.enumerated() {
            frame += "\u{1B}[\(row + 1);1H" + line.escaped(hasColor: hasColor)
            // At the end of a full line it would take away the last character.
            if line.width < columns { frame += "\u{1B}[K" }
        }
        output.replace(frame)
    }

    /// Gives the terminal back; does nothing if it is given back. A terminal that is gone needs nothing any more.
    func leave() {
        guard let before = saved else { return }
        saved = nil
        let isWritten = output.finish(Self.leaveSequence, within: Self.patience)
        // Keys that were not read are not for whoever reads next. Without waiting where the terminal hangs.
        _ = Self.set(before, isWritten ? TCSAFLUSH : TCSANOW)
    }

    private static func set(_ settings: termios, _ when: CInt) -> Bool {
        var settings = settings
        while tcsetattr(STDIN_FILENO, when, &settings) != 0 {
            guard errno == EINTR else { return false }
        }
        return true
    }

    private static func error() -> TerminalError {
        TerminalError("can't use the terminal: \(String(cString: strerror(errno)))")
    }
}

/// Writes to standard output on a queue of its own.
private final class TerminalOutput: Sendable {
    private let queue = DispatchQueue(label: "terminal")
    /// The frame that is to be written next, and whether a block that will write it is in the queue.
    private let next = Mutex<(frame: String?, isQueued: Bool)>((nil, false))

    /// Writes a text after what was to be written before.
    func write(_ text: String) { queue.async { Self.writeAll(text) } }

    /// Writes a text instead of the last one, if that was not begun.
    func replace(_ frame: String) {
        let isQueued = next.withLock { next in
            defer { next = (frame, true) }
            return next.isQueued
        }
        guard !isQueued else { return }
        queue.async {
            let frame = self.next.withLock { next in
                defer { next = (nil, false) }
                return next.frame
            }
            if let frame { Self.writeAll(frame) }
        }
    }

    /// Writes a last text and waits for that.
    /// - Returns: whether it was written in time.
    func finish(_ text: String, within time: DispatchTimeInterval) -> Bool {
        // What was not begun is not worth waiting for.
        next.withLock { $0.frame = nil }
        let done = DispatchSemaphore(value: 0)
        queue.async {
            Self.writeAll(text)
            done.signal()
        }
        return done.wait(timeout: .now() + time) == .success
    }

    /// A terminal that is gone takes nothing, and its end is heard of otherwise.
    private static func writeAll(_ text: String) {
        var text = text
        text.withUTF8 { bytes in
            var offset = 0
            while offset < bytes.count {
                let count = Glibc.write(STDOUT_FILENO, bytes.baseAddress! + offset, bytes.count - offset)
                if count > 0 {
                    offset += count
                } else if count == 0 || errno != EINTR {
                    return
                }
            }
        }
    }
}

/// Keys as they are pressed.
struct Keyboard {
    private let source: any DispatchSourceRead

    /// - Parameters:
    ///   - pressed: gets the bytes of each key; called on a queue of its own.
    ///   - ended: there will be no more: the terminal is gone. Called again and again until `stop`.
    init(pressed: @escaping @Sendable ([UInt8]) -> Void, ended: @escaping @Sendable () -> Void) {
        let source = DispatchSource.makeReadSource(
            fileDescriptor: STDIN_FILENO, queue: DispatchQueue(label: "keyboard"))
        self.source = source
        source.setEventHandler {
            var bytes = [UInt8](repeating: 0, count: 64)
            let count = read(STDIN_FILENO, &bytes, bytes.count)
            if count > 0 {
                pressed(Array(bytes[..<count]))
            } else if count == 0 || errno != EINTR && errno != EAGAIN {
                ended()
            }
        }
        source.resume()
    }

    func stop() { source.cancel() }
}
