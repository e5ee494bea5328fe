import IngestCore
import Journal

/// One run of events on its way through a `StreamFlusher`. Its boundaries are sealed, so they and its deduplication
/// token stay the same in every attempt.
///
///     sealing -> ready -> sending -> done
///                 ^          |
///                 |          +-> dividing -> (its parts are ready)
///                 +----------+
struct FlushBatch {
    enum State: Equatable {
        /// The journal does not have its boundaries yet.
        case sealing
        case ready
        case sending
        /// The journal does not have the boundaries of its parts yet.
        case dividing([Part])
        /// Inserted, or lost as `loss` says.
        case done
    }

    /// A piece of a batch that is to go its own way.
    struct Part: Equatable {
        let sequences: Range<UInt64>
        var role = Role.plain
        /// Set if it is known already that it can't be inserted.
        var damage: DamagedEntry?
    }

    /// What a part shows about the server's hint that led to it.
    enum Role: Equatable {
        case plain
        /// Stands before the row that the server has named: must be good if the hint is true.
        case beforeSuspect
        /// The row that the server has named: must be bad if the hint is true.
        case suspect
    }

    /// Why the batch's one event (or damaged entry) becomes a dead letter.
    enum Loss: Equatable {
        case rejected(DeadLetter.Problem)
        case damaged(DamagedEntry)
    }

    let sequences: Range<UInt64>
    /// Of the Kafka partitions with an entry that ends in it.
    let partitions: [TopicPartition: StreamFlusher.FlushedOffset]
    var state: State
    var role = Role.plain
    /// End of the batch that it was a part of in the beginning.
    let originEnd: UInt64
    /// How often its events were sent, those before a division included.
    var attempts = 0
    /// How often the server found it too large.
    var shapeFailures = 0
    /// Whether an attempt without a clear answer may have inserted it, so that it should keep its token.
    var mayHaveArrived = false
    /// Whether these very events were sent under their token before, in vain.
    var hasFailed = false
    var loss: Loss?

    init(
        sequences: Range<UInt64>, partitions: [TopicPartition: StreamFlusher.FlushedOffset], state: State,
        originEnd: UInt64? = nil
    ) {
        self.sequences = sequences
        self.partitions = partitions
        self.state = state
        self.originEnd = originEnd ?? sequences.upperBound
    }

    /// The batches that take its place.
    func divided(into parts: [Part]) -> [FlushBatch] {
        parts.map { part in
            var batch = FlushBatch(
                sequences: part.sequences,
                // What a damaged entry's header said of its offsets is not to be trusted.
                partitions: partitions.filter {
                    part.damage == nil && part.sequences.lowerBound < $0.value.entryEnd
                        && $0.value.entryEnd <= part.sequences.upperBound
                },
                state: part.damage == nil ? .ready : .done, originEnd: originEnd)
            batch.role = part.role
            batch.attempts = attempts
            batch.loss = part.damage.map { .damaged($0) }
            return batch
        }
    }

    /// Parts around the row that the server complains about, counted from 1. Whether it is the right row is found out
    /// by sending them: what is sent alone gets a verdict of its own.
    func parts(aroundRow row: Int) -> [Part]? {
        guard row >= 1, row <= sequences.count else { return nil }
        let suspect = sequences.lowerBound + UInt64(row - 1)
        return [
            Part(sequences: sequences.lowerBound..<suspect, role: .beforeSuspect),
            Part(sequences: suspect..<(suspect + 1), role: .suspect),
            Part(sequences: (suspect + 1)..<sequences.upperBound),
        ].filter { !$0.sequences.isEmpty }
    }

    /// Two parts of the same size.
    var halves: [Part] {
        let middle = sequences.lowerBound + UInt64(sequences.count / 2)
        return [Part(sequences: sequences.lowerBound..<middle), Part(sequences: middle..<sequences.upperBound)]
    }

    /// Parts around an entry that can't be read; `nil` if it lies outside.
    func parts(around damage: DamagedEntry) -> [Part]? {
        let damaged = damage.sequences.clamped(to: sequences)
        guard !damaged.isEmpty else { return nil }
        return [
            Part(sequences: sequences.lowerBound..<damaged.lowerBound),
            Part(sequences: damaged, damage: DamagedEntry(sequences: damaged, reason: damage.reason)),
            Part(sequences: damaged.upperBound..<sequences.upperBound),
        ].filter { !$0.sequences.isEmpty }
    }
}
