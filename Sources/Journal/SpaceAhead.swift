import IngestCore

/// Writes some of the file's pages ahead of their use while small commits make it grow.
///
/// A commit that extends the file waits longer for its flush, because the file system has blocks and a length to note; and
/// LMDB gathers the pages of a small commit from all over the file, which are as many writes of the disk. So after a
/// small commit that has extended the file the next one also stores a value of zeros, and the one behind that deletes
/// it. What is left is a run of free pages whose blocks exist.
///
/// Free pages that can't be used yet, because a reader holds an old view, are no reason for more of them.
struct SpaceAhead {
    /// What a transaction has to do for it.
    enum Step: Equatable {
        case nothing
        /// Store a value of zeros that takes so many bytes of the file.
        case write(Int)
        /// Delete the value.
        case delete
    }

    /// Larger commits gain less than the zeros cost.
    private static let smallCommitBytes = 128 << 10
    private static let largestBytes = 1 << 20
    /// Commits until pages that one has freed can be used.
    private static let restingCommits = 3

    private enum State {
        case idle(restingCommits: Int)
        case written
    }

    private var state: State
    private var fileBytes = Int.max

    /// - Parameter isWritten: whether the value is in the file, from a process that has ended in between.
    init(isWritten: Bool) { state = isWritten ? .written : .idle(restingCommits: 0) }

    /// What the next transaction has to do. To be kept only if that is committed.
    /// - Parameters:
    ///   - commitBytes: of the records that it stores.
    ///   - fileBytes: the file's size before it.
    ///   - freeBytes: how much of that is free; asked for only if it matters.
    mutating func next(commitBytes: Int, fileBytes: Int, freeBytes: () -> Int) -> Step {
        let hasGrown = fileBytes > self.fileBytes
        self.fileBytes = fileBytes
        switch state {
        case .written:
            state = .idle(restingCommits: Self.restingCommits)
            return .delete
        case .idle(let resting) where resting > 0:
            state = .idle(restingCommits: resting - 1)
            return .nothing
        case .idle:
            // In proportion to the file, so that a small journal stays small.
            let bytes = min(Self.largestBytes, fileBytes / 16)
            guard hasGrown, commitBytes > 0, commitBytes <= Self.smallCommitBytes, bytes >= 64 << 10,
                freeBytes() < bytes
            else { return .nothing }
            state = .written
            return .write(bytes)
        }
    }
}
