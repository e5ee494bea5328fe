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

    private enum Key {
        static let quit: Set<UInt8> = [UInt8(ascii: "q"), UInt8(ascii: "Q"), interrupt]
        static let interrupt: UInt8 = 3
        static let redraw: UInt8 = 12
        static let suspend: UInt8 = 26
        static let escape: UInt8 = 27
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
        try draw(view, on: screen)
        for await event in events {
            var isDamaged = false
            switch event {
            case .looked(let result): view.add(result)
            case .pressed(let bytes):
                // Cursor keys and the like come as sequences of which the rest means something else.
                guard bytes.first != Key.escape else { continue }
                if !Key.quit.isDisjoint(with: bytes) { return nil }
                if bytes.contains(Key.suspend) {
                    screen.leave()
                    // As the terminal would have done: to all of the job, with this process stopped when it returns.
                    kill(0, SIGTSTP)
                    continue
                }
                isDamaged = bytes.contains(Key.redraw)
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
