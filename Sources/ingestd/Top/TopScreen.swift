import Glibc
import IngestCore
import UnixSignals

/// `ingestd top` on a terminal: looks at the service, draws, and follows keys and signals.
struct TopScreen {
    private enum Event: Sendable {
        case looked(Result<StatusSample, TerminalError>)
        case pressed([UInt8])
        /// There will be no more keys.
        case terminalGone
        case signal(UnixSignal)
    }

    /// What was seen so far.
    private struct View {
        var window = SampleWindow()
        var connection: TopPicture.Connection?
        private var lostAt: (text: String, nanoseconds: UInt64)?

        /// None while nobody knows whether they still hold.
        var rates: FlowRates? {
            if case .connected = connection { window.rates } else { nil }
        }

        mutating func add(_ result: Result<StatusSample, TerminalError>) {
            switch result {
            case .success(let sample):
                window.add(sample)
                connection = .connected
                lostAt = nil
            case .failure(let failure):
                let lostAt = lostAt ?? (Self.timeOfDay, MonotonicClock.now)
                self.lostAt = lostAt
                connection = .lost(
                    since: lostAt.text, seconds: Double(MonotonicClock.now - lostAt.nanoseconds) / 1e9,
                    reason: failure.description)
            }
        }

        /// Where the reader is.
        private static var timeOfDay: String {
            var now = time(nil)
            var parts = tm()
            localtime_r(&now, &parts)
            return [parts.tm_hour, parts.tm_min, parts.tm_sec].map { $0 < 10 ? "0\($0)" : "\($0)" }
                .joined(separator: ":")
        }
    }

    let service: StatusReader
    let interval: Duration
    let hasColor: Bool

    /// Runs until it is to end.
    /// - Returns: the signal that has ended it; `nil` for a key.
    /// - Throws: `TerminalError` if the terminal can't be used.
    func run() async throws(TerminalError) -> UnixSignal? {
        let (events, continuation) = AsyncStream.makeStream(of: Event.self)
        // Before the terminal is changed, so that no signal leaves it so.
        let signals = await UnixSignalsSequence(trapping: .sigint, .sigterm, .sighup, .sigwinch, .sigcont)
        let tasks = [
            Task { for await signal in signals { continuation.yield(.signal(signal)) } },
            Task { [service, interval] in
                while !Task.isCancelled {
                    let begun = MonotonicClock.now
                    do throws(TerminalError) {
                        continuation.yield(.looked(.success(try await service.look())))
                    } catch {
                        continuation.yield(.looked(.failure(error)))
                    }
                    try await Task.sleep(for: interval - .nanoseconds(Int64(MonotonicClock.now - begun)))
                }
            },
        ]
        let screen = FullScreen(hasColor: hasColor)
        try screen.enter()
        let keyboard = Keyboard(
            pressed: { continuation.yield(.pressed($0)) }, ended: { continuation.yield(.terminalGone) })
        defer {
            keyboard.stop()
            screen.leave()
            for task in tasks { task.cancel() }
        }
        var view = View()
        var keys = KeyReader()
        try draw(view, on: screen)
        for await event in events {
            var isDamaged = false
            switch event {
            case .looked(let result): view.add(result)
            case .pressed(let bytes):
                let pressed = keys.read(bytes)
                if pressed.contains(.quit) { return nil }
                if pressed.contains(.suspend) {
                    screen.leave()
                    // As the terminal would have done: to all of the job, with this process stopped when it returns.
                    kill(0, SIGTSTP)
                    continue
                }
                isDamaged = pressed.contains(.redraw)
            case .terminalGone: return .sighup
            case .signal(.sigwinch): isDamaged = true
            case .signal(.sigcont): isDamaged = true
            case .signal(let signal): return signal
            }
            try draw(view, on: screen, isDamaged: isDamaged)
        }
        return nil
    }

    private func draw(_ view: View, on screen: FullScreen, isDamaged: Bool = false) throws(TerminalError) {
        // After the process was stopped.
        try screen.enter()
        let size = FullScreen.size
        let picture = TopPicture(
            address: service.address, connection: view.connection ?? .connecting, status: view.window.last?.status,
            content: .rates(view.rates), hint: "every \(Units.duration(interval)), q quits")
        screen.draw(picture.lines(columns: size.columns, rows: size.rows), clearing: isDamaged)
    }
}

/// What keys mean, from the bytes that a terminal sends for them.
struct KeyReader {
    enum Key: Equatable {
        case quit, suspend, redraw
    }

    /// Where it is in the bytes of one key: those of cursor keys and the like begin with an escape (ECMA-48), and may
    /// come in pieces. What follows them means something else than by itself.
    private enum Place {
        case outside, behindEscape, inSequence, lastOne
    }

    private var place = Place.outside

    mutating func read(_ bytes: [UInt8]) -> [Key] { bytes.compactMap { read($0) } }

    private mutating func read(_ byte: UInt8) -> Key? {
        switch (place, byte) {
        case (_, 0x1B): place = .behindEscape
        case (.behindEscape, UInt8(ascii: "[")): place = .inSequence
        case (.behindEscape, UInt8(ascii: "O")): place = .lastOne
        case (.inSequence, 0x20...0x3F): break
        case (.behindEscape, 0x20...), (.inSequence, 0x40...), (.lastOne, 0x20...): place = .outside
        default:
            // Control characters are always meant.
            place = .outside
            switch byte {
            case UInt8(ascii: "q"), UInt8(ascii: "Q"), 0x03: return .quit
            case 0x0C: return .redraw
            case 0x1A: return .suspend
            default: return nil
            }
        }
        return nil
    }
}
