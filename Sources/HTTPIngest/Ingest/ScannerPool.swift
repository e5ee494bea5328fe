internal import EventJSON
internal import Synchronization

/// Scanners for whoever needs one for a moment: there are never more than threads that scan.
///
/// `@unchecked`: a scanner is not `Sendable`, but it is either in the pool, under the lock, or with the one thread
/// that took it out.
final class ScannerPool: @unchecked Sendable {
    private let make: @Sendable () -> EventScanner
    private let lock = Mutex(())
    private var idle: [EventScanner] = []

    /// - Parameter make: makes a scanner; all it makes are alike.
    init(_ make: @escaping @Sendable () -> EventScanner) { self.make = make }

    func withScanner<Result>(_ body: (EventScanner) -> Result) -> Result {
        let scanner = lock.withLock { _ in idle.popLast() } ?? make()
        defer { lock.withLock { _ in idle.append(scanner) } }
        return body(scanner)
    }
}
