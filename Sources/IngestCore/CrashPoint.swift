#if DEBUG
    import Glibc
    import Synchronization
#endif

/// Places at which the crash tests let the process die as by SIGKILL. Nothing of it is in a release build.
///
/// `INGESTD_CRASH_POINT=divided:3` kills the process when it passes `divided` the third time.
public enum CrashPoint: String, CaseIterable, Sendable {
    /// A group is in the commit log; nobody was told, and the journal's transaction does not have it.
    case logged
    /// A group is written into the open transaction, and not committed.
    case written
    /// A group is on stable storage; nobody was told.
    case committed
    /// A batch is sealed and is about to be sent.
    case sealed
    /// ClickHouse has answered; nothing was decided.
    case answered
    /// A batch is to be divided; its parts are not sealed.
    case dividing
    /// The parts of a batch are sealed; none was sent.
    case divided
    /// The flushed position is about to be moved.
    case advancing
    /// The flushed position, with its dead letters and trims, is on stable storage; the flusher does not know.
    case advanced

    /// The process is at this place.
    @inline(__always)
    public func pass() {
        #if DEBUG
            CrashPlan.chosen?.passed(self)
        #endif
    }
}

#if DEBUG
    private final class CrashPlan: Sendable {
        static let chosen: CrashPlan? = {
            guard let text = getenv("INGESTD_CRASH_POINT") else { return nil }
            let parts = String(cString: text).split(separator: ":")
            guard parts.count == 2, let point = CrashPoint(rawValue: String(parts[0])), let count = Int(parts[1]) else {
                preconditionFailure("INGESTD_CRASH_POINT is a crash point, a colon, and a number")
            }
            return CrashPlan(point, count)
        }()

        private let point: CrashPoint
        private let left: Atomic<Int>

        init(_ point: CrashPoint, _ count: Int) {
            self.point = point
            left = Atomic(count)
        }

        func passed(_ point: CrashPoint) {
            guard point == self.point, left.subtract(1, ordering: .relaxed).newValue == 0 else { return }
            kill(getpid(), SIGKILL)
        }
    }
#endif
