/// How much flows: the differences between two answers of a service, per second.
struct FlowRates: Sendable, Equatable {
    struct Source: Sendable, Equatable {
        var accepted: Double?
        var rejected: Double?
        var deadLetters: Double?
    }

    struct Stream: Sendable, Equatable {
        /// Into the journal, those that are sent again after they were dead letters included.
        var taken: Double?
        var inserted: Double?
        var deadLetters: Double?
    }

    /// What a source is known by.
    struct SourceKey: Hashable, Sendable {
        let source: String
        let stream: String
    }

    /// Two answers that are closer to each other say nothing.
    private static let shortestSeconds = 0.01

    /// The time between the answers.
    let seconds: Double
    /// Of all sources and streams together.
    let intake: Source
    let delivery: Stream
    let sources: [SourceKey: Source]
    let streams: [String: Stream]
    /// How fast it grows; negative while it shrinks.
    let storedBytes: Double
    let pendingEvents: Double

    /// - Returns: `nil` if there is no knowing: the service was started anew, or it is another one, or there was hardly
    ///   any time.
    init?(from older: StatusSample, to newer: StatusSample) {
        let (before, now) = (older.status, newer.status)
        // The service's own clock, which knows nothing of how long its answers take.
        let seconds = now.uptime_seconds - before.uptime_seconds
        guard seconds >= Self.shortestSeconds, !newer.isOfAnotherRun(than: older) else { return nil }
        // A counter that falls has begun anew.
        func rate(_ before: Int?, _ now: Int?) -> Double? {
            guard let before, let now, now >= before else { return nil }
            return Double(now &- before) / seconds
        }
        self.seconds = seconds
        intake = Source(
            accepted: rate(before.total(\.accepted_events), now.total(\.accepted_events)),
            rejected: rate(before.total(\.rejected_events), now.total(\.rejected_events)),
            deadLetters: rate(before.total(\.dead_letter_events), now.total(\.dead_letter_events)))
        delivery = Stream(
            taken: rate(before.total(\.next_sequence), now.total(\.next_sequence)),
            inserted: rate(before.total(\.inserted_events), now.total(\.inserted_events)),
            deadLetters: rate(before.total(\.dead_letters), now.total(\.dead_letters)))
        let sourcesBefore = Dictionary(
            (before.sources ?? []).map { ($0.key, $0) }, uniquingKeysWith: { first, _ in first })
        sources = Dictionary(
            (now.sources ?? []).map { source in
                // One that was not there had brought nothing.
                let before = sourcesBefore[source.key]
                return (
                    source.key,
                    Source(
                        accepted: rate(before?.accepted_events ?? 0, source.accepted_events),
                        rejected: rate(before?.rejected_events ?? 0, source.rejected_events),
                        deadLetters: rate(before?.dead_letter_events ?? 0, source.dead_letter_events))
                )
            }, uniquingKeysWith: { first, _ in first })
        let streamsBefore = Dictionary(before.streams.map { ($0.stream, $0) }, uniquingKeysWith: { first, _ in first })
        streams = Dictionary(
            now.streams.map { stream in
                let before = streamsBefore[stream.stream]
                return (
                    stream.stream,
                    Stream(
                        taken: rate(before?.next_sequence, stream.next_sequence),
                        inserted: rate(before?.inserted_events, stream.inserted_events),
                        deadLetters: rate(before?.dead_letters, stream.dead_letters))
                )
            }, uniquingKeysWith: { first, _ in first })
        storedBytes = Double(now.journal.stored_bytes &- before.journal.stored_bytes) / seconds
        pendingEvents = Double(now.pendingEvents &- before.pendingEvents) / seconds
    }

    /// What the journal comes to if all goes on like this.
    enum Forecast: Equatable {
        case full(seconds: Double)
        /// Nothing waits any more.
        case empty(seconds: Double)
    }

    /// - Parameter status: the newer one of those that these rates are of.
    /// - Returns: `nil` if nothing can be told: the backlog does not change, or it is so young that it only goes up and
    ///   down with the batches.
    func forecast(_ status: ServiceStatus) -> Forecast? {
        let pending = status.pendingEvents
        guard pending > 0, status.oldestEventAgeSeconds ?? .infinity > seconds else { return nil }
        if pendingEvents < 0 { return .empty(seconds: Double(pending) / -pendingEvents) }
        guard pendingEvents > 0, storedBytes > 0, let limit = status.journal.max_bytes else { return nil }
        return .full(seconds: Double(max(0, limit &- status.journal.stored_bytes)) / storedBytes)
    }
}

extension ServiceStatus.Source {
    var key: FlowRates.SourceKey { FlowRates.SourceKey(source: source, stream: stream) }
}

extension StatusSample {
    /// Whether the service has another journal, or was started between the two answers: each says, to within the time
    /// that it took, when the service was started.
    fileprivate func isOfAnotherRun(than older: StatusSample) -> Bool {
        if let id = status.journal.id, let before = older.status.journal.id, id != before { return true }
        // Clocks of two machines go apart by some parts in ten thousand at the most.
        let tolerance = 0.5 + (answeredAt - older.answeredAt) / 1_000
        let earliest = askedAt - status.uptime_seconds
        return earliest > older.answeredAt - older.status.uptime_seconds + tolerance
    }
}

/// The last answers, for rates that do not jump with every batch.
struct SampleWindow: Sendable {
    /// Longer than batches take to fill up, short enough to follow what happens.
    private static let seconds = 10.0

    private var samples: [StatusSample] = []

    var last: StatusSample? { samples.last }
    /// Over the window, or what there is of it; `nil` with one answer.
    private(set) var rates: FlowRates?

    mutating func add(_ sample: StatusSample) {
        if let last = samples.last, sample.isOfAnotherRun(than: last) { samples = [] }
        samples.append(sample)
        let enough = sample.answeredAt - Self.seconds
        while samples.count > 2, samples[1].answeredAt <= enough { samples.removeFirst() }
        rates = samples.count > 1 ? FlowRates(from: samples[0], to: sample) : nil
    }
}
