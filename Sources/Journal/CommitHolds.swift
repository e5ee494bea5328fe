import IngestCore

/// The offsets that commits wait for, by partition: those of dead letters that the DLQ topic has not got. Gives the
/// lowest of each partition in whatever order letters come and go. Equal to table `forwarding` after each commit.
struct CommitHolds: Sendable {
    private var byPartition: [TopicPartition: OffsetHeap] = [:]
    /// What the open transaction has done here, to be undone if it fails.
    private var changes: [Change] = []

    private struct Change {
        let partition: TopicPartition
        let letter: HeldLetter
        let isRelease: Bool
    }

    /// The lowest offset that is held.
    subscript(partition: TopicPartition) -> Int64? { byPartition[partition]?.lowest }

    /// The partitions with a held offset.
    var partitions: some Sequence<TopicPartition> { byPartition.keys }

    /// Holds the offset for the letter `number`.
    mutating func add(_ offset: Int64, of partition: TopicPartition, for number: UInt64) {
        let letter = HeldLetter(offset: offset, number: number)
        byPartition[partition, default: OffsetHeap()].insert(letter)
        changes.append(Change(partition: partition, letter: letter, isRelease: false))
    }

    /// Ends what `add` began with the same arguments.
    mutating func release(_ offset: Int64, of partition: TopicPartition, for number: UInt64) {
        let letter = HeldLetter(offset: offset, number: number)
        remove(letter, from: partition)
        changes.append(Change(partition: partition, letter: letter, isRelease: true))
    }

    /// The transaction is on stable storage.
    mutating func commit() { changes.removeAll(keepingCapacity: true) }

    /// The transaction failed: everything since the last `commit` did not happen.
    mutating func rollBack() {
        for change in changes.reversed() {
            if change.isRelease {
                byPartition[change.partition, default: OffsetHeap()].insert(change.letter)
            } else {
                remove(change.letter, from: change.partition)
            }
        }
        changes.removeAll()
    }

    private mutating func remove(_ letter: HeldLetter, from partition: TopicPartition) {
        byPartition[partition]?.remove(letter)
        if byPartition[partition]?.lowest == nil { byPartition[partition] = nil }
    }
}

/// A letter and the offset that waits for it. Several letters can wait at one offset: a message that was consumed again.
private struct HeldLetter: Hashable, Comparable {
    let offset: Int64
    let number: UInt64

    static func < (left: HeldLetter, right: HeldLetter) -> Bool {
        (left.offset, left.number) < (right.offset, right.number)
    }
}

/// A binary min-heap. What is removed elsewhere than at its top only goes when it gets there.
private struct OffsetHeap {
    private var letters: [HeldLetter] = []
    private var removed: Set<HeldLetter> = []

    var lowest: Int64? { letters.first?.offset }

    mutating func insert(_ letter: HeldLetter) {
        guard removed.remove(letter) == nil else { return }
        letters.append(letter)
        var index = letters.count - 1
        while index > 0, letters[index] < letters[(index - 1) / 2] {
            letters.swapAt(index, (index - 1) / 2)
            index = (index - 1) / 2
        }
    }

    mutating func remove(_ letter: HeldLetter) {
        removed.insert(letter)
        while let top = letters.first, removed.remove(top) != nil { removeTop() }
    }

    private mutating func removeTop() {
        letters.swapAt(0, letters.count - 1)
        letters.removeLast()
        var index = 0
        while true {
            var least = index
            for child in [2 * index + 1, 2 * index + 2] where child < letters.count && letters[child] < letters[least] {
                least = child
            }
            guard least != index else { return }
            letters.swapAt(index, least)
            index = least
        }
    }
}
