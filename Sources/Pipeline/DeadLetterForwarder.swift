import IngestCore
import Journal
import ServiceLog
import Synchronization

/// Takes dead letters from the journal's store to the DLQ topic, in order of their numbers, and notes durably what the
/// topic has acknowledged; only then may the offsets of the Kafka messages that they were be committed. One thread.
///
/// At least once: what was acknowledged but not yet noted is sent again after a crash.
final class DeadLetterForwarder: Sendable {
    private enum News: Sendable {
        /// The store has letters that were not seen yet.
        case stored
        case answered(UInt64, Result<Void, DeadLetterFailure>)
        case noted([UInt64], succeeded: Bool)
        case retryNow
    }

    private let journal: Journal
    private let destination: any DeadLetterDestination
    private let log: EventLog
    private let pauses: FlushConfiguration
    private let mailbox = Mailbox<News>()
    private let thread = Mutex<DedicatedThread?>(nil)

    /// - Parameter pauses: its backoff and hold times are used.
    init(journal: Journal, destination: any DeadLetterDestination, pauses: FlushConfiguration, log: EventLog) {
        self.journal = journal
        self.destination = destination
        self.pauses = pauses
        self.log = log
    }

    /// Starts with what the store has from before.
    func start() {
        let started = DedicatedThread(name: "dead-letters") { [self] in
            var loop = Loop(forwarder: self)
            loop.run()
        }
        thread.withLock { $0 = started }
    }

    /// The journal has stored dead letters. Called on its writer's thread.
    func stored() { mailbox.send(.stored) }

    /// Tries again now what failed.
    func retryNow() { mailbox.send(.retryNow) }

    /// Ends the thread. What the topic acknowledges from here on is sent again after the next start.
    func stop() {
        mailbox.close()
        thread.withLock { $0.take() }?.join()
    }

    private struct Loop {
        /// Letters on their way to the topic, and their bytes.
        private static let window = 256
        private static let windowBytes = 16 << 20

        let forwarder: DeadLetterForwarder
        private var backoff: Backoff
        /// Numbers up to here were read and are in one of the sets below, or done.
        private var cursor: UInt64 = 0
        private var mayHaveMore = true
        private var sending: [UInt64: Int] = [:]
        private var sendingBytes = 0
        /// Acknowledged by the topic, not yet noted in the journal.
        private var acknowledged: Set<UInt64> = []
        private var isNoting = false
        /// Refused by the topic for what they are.
        private var refused: Set<UInt64> = []
        private var readAt: UInt64 = 0
        private var noteAt: UInt64 = 0
        private var refusedRetryAt: UInt64 = .max

        init(forwarder: DeadLetterForwarder) {
            self.forwarder = forwarder
            backoff = Backoff(
                minimum: forwarder.pauses.backoffMin, maximum: forwarder.pauses.backoffMax,
                seed: UInt64.random(in: .min ... .max))
        }

        mutating func run() {
            var batch: [News] = []
            var deadline: UInt64? = MonotonicClock.now
            while forwarder.mailbox.receive(into: &batch, until: deadline) {
                for news in batch { take(news, MonotonicClock.now) }
                let now = MonotonicClock.now
                if now >= refusedRetryAt { retryRefused() }
                note(now)
                fill(now)
                deadline = nextDeadline
            }
        }

        private var nextDeadline: UInt64? {
            var deadlines: [UInt64] = refused.isEmpty ? [] : [refusedRetryAt]
            if mayHaveMore, hasRoom { deadlines.append(readAt) }
            if !acknowledged.isEmpty, !isNoting { deadlines.append(noteAt) }
            return deadlines.min()
        }

        private mutating func take(_ news: News, _ now: UInt64) {
            switch news {
            case .stored:
                mayHaveMore = true
            case .answered(let number, .success):
                sendingBytes -= sending.removeValue(forKey: number) ?? 0
                acknowledged.insert(number)
                backoff.reset()
            case .answered(let number, .failure(let failure)):
                sendingBytes -= sending.removeValue(forKey: number) ?? 0
                failed(number, failure, now)
            case .noted(let numbers, let succeeded):
                isNoting = false
                if succeeded {
                    acknowledged.subtract(numbers)
                } else {
                    noteAt = now + forwarder.pauses.backoffMax / 30
                }
            case .retryNow:
                readAt = now
                retryRefused()
            }
        }

        private mutating func failed(_ number: UInt64, _ failure: DeadLetterFailure, _ now: UInt64) {
            let metadata: EventLog.Metadata = ["dead_letter": "\(number)", "error": "\(failure)"]
            if failure.isMessageAtFault {
                // Kept here, and its Kafka offset uncommitted, until the topic takes it or an operator discards it.
                forwarder.log.write(
                    .deadLetterRefused, "the DLQ topic refuses a dead letter", metadata)
                refused.insert(number)
                refusedRetryAt = min(refusedRetryAt, now + 20 * forwarder.pauses.holdRetryInterval)
            } else {
                // One line for each pause, not for each letter.
                if now >= readAt {
                    forwarder.log.write(
                        .deadLetterForwardingFailed, "dead letters can't be forwarded, retrying", metadata)
                    readAt = now + backoff.next()
                }
                cursor = min(cursor, number - 1)
                mayHaveMore = true
            }
        }

        private mutating func retryRefused() {
            guard let first = refused.min() else { return }
            cursor = min(cursor, first - 1)
            refused = []
            refusedRetryAt = .max
            mayHaveMore = true
        }

        /// Makes durable what was acknowledged.
        private mutating func note(_ now: UInt64) {
            guard !isNoting, !acknowledged.isEmpty, now >= noteAt else { return }
            isNoting = true
            let numbers = Array(acknowledged)
            let mailbox = forwarder.mailbox
            forwarder.journal.markForwarded(numbers) { result in
                if case .success = result {
                    mailbox.send(.noted(numbers, succeeded: true))
                } else {
                    mailbox.send(.noted(numbers, succeeded: false))
                }
            }
        }

        /// Sends more letters, as many as the window takes.
        private mutating func fill(_ now: UInt64) {
            while mayHaveMore, now >= readAt, hasRoom {
                do {
                    let letters = try forwarder.journal.unforwarded(
                        after: cursor, limit: Self.window - sending.count, maxBytes: Self.windowBytes - sendingBytes)
                    guard let last = letters.last else {
                        mayHaveMore = false
                        return
                    }
                    for letter in letters where isNew(letter.number) { try send(letter) }
                    cursor = last.number
                } catch {
                    forwarder.log.write(
                        .deadLetterUnreadable, "dead letters can't be read", ["error": "\(error)"])
                    readAt = now + forwarder.pauses.holdRetryInterval
                }
            }
        }

        /// A letter larger than the window goes alone.
        private var hasRoom: Bool { sending.count < Self.window && sendingBytes < Self.windowBytes }

        private func isNew(_ number: UInt64) -> Bool {
            sending[number] == nil && !acknowledged.contains(number) && !refused.contains(number)
        }

        private mutating func send(_ letter: StoredDeadLetter) throws {
            let message = try Journal.message(for: letter)
            sending[letter.number] = message.value.count
            sendingBytes += message.value.count
            let mailbox = forwarder.mailbox
            forwarder.destination.send(message) { mailbox.send(.answered(letter.number, $0)) }
        }
    }
}
