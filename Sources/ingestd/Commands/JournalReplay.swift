import IngestCore
import Journal

/// Sends stored events of one stream to ClickHouse again, past the service and its positions.
///
/// Batches end where the service's limits say, and at every multiple of the most rows: so two runs over ranges that
/// overlap agree on their batches, apart from the first. Each has the service's deduplication token for its boundaries,
/// and ClickHouse drops what it has had within its window.
struct JournalReplay {
    struct Settings {
        var maxRows: Int
        var maxBytes: Int
        var backoffMin: Duration
        var backoffMax: Duration
        /// Whether to go on behind events that can't be inserted.
        var continuesOnError: Bool
    }

    /// What came of it.
    struct Result {
        var eventCount = 0
        var batchCount = 0
        /// Events that ClickHouse rejected.
        var rejectedCount = 0
        /// Events of damaged entries.
        var damagedCount = 0
        /// Events that were deleted while others were sent.
        var deletedCount = 0
        /// Why it ended before the end of the range.
        var failure: String?

        var isComplete: Bool { rejectedCount + damagedCount + deletedCount == 0 && failure == nil }
    }

    /// Tries of a batch that fails for reasons that may pass.
    private static let attempts = 6

    private let inspection: JournalInspection
    private let stream: Stream
    private let destination: any InsertDestination
    private let settings: Settings
    private let report: (String) -> Void
    private var result = Result()
    /// Planned and not sent, the next one last.
    private var waiting: [Range<UInt64>] = []

    /// - Parameter report: gets a line for each event that can't be inserted, and each loss.
    init(
        _ inspection: JournalInspection, _ stream: Stream, to destination: any InsertDestination, _ settings: Settings,
        report: @escaping (String) -> Void
    ) {
        self.inspection = inspection
        self.stream = stream
        self.destination = destination
        self.settings = settings
        self.report = report
    }

    /// - Parameter progress: gets the sequence reached, after each batch.
    /// - Throws: when the journal can't be read.
    mutating func run(_ range: Range<UInt64>, progress: (UInt64) -> Void) async throws -> Result {
        var next = range.lowerBound
        while result.failure == nil {
            if let batch = waiting.popLast() {
                await send(batch)
                progress(batch.upperBound)
            } else if next < range.upperBound {
                try plan(&next, range.upperBound)
            } else {
                break
            }
        }
        return result
    }

    /// Plans the next batch, and moves `next` behind it.
    private mutating func plan(_ next: inout UInt64, _ end: UInt64) throws {
        let rows = UInt64(settings.maxRows)
        let cut = min(end, (next / rows + 1) * rows)
        do {
            let plan = try inspection.plan(
                stream.id, from: next, to: cut, maxRows: settings.maxRows, maxBytes: settings.maxBytes)
            let start = plan?.sequences.lowerBound ?? cut
            if start > next {
                result.deletedCount += Int(start - next)
                report("\(Terminal.sequences(next..<start)): not kept any more")
            }
            if let plan { waiting.append(plan.sequences) }
            next = plan?.sequences.upperBound ?? cut
        } catch let damage as DamagedEntry {
            note(damage)
            next = max(damage.sequences.upperBound, next + 1)
        }
    }

    private mutating func send(_ batch: Range<UInt64>) async {
        switch await insert(batch) {
        case .inserted:
            result.eventCount += batch.count
            result.batchCount += 1
        case .failed(let failure):
            switch failure.failureClass {
            // One event of many: find it by halves, as the service does.
            case .rowData where batch.count > 1, .batchShape where batch.count > 1:
                let middle = batch.lowerBound + UInt64(batch.count / 2)
                waiting += [middle..<batch.upperBound, batch.lowerBound..<middle]
            case .rowData, .batchShape:
                result.rejectedCount += 1
                report("\(Terminal.sequences(batch)): \(failure)")
                stopUnlessContinuing("ClickHouse rejected an event")
            case .configuration, .transient:
                result.failure = "\(Terminal.sequences(batch)): \(failure)"
            }
        case .damaged(let damage):
            let lost = damage.sequences.clamped(to: batch)
            for part in [lost.upperBound..<batch.upperBound, batch.lowerBound..<lost.lowerBound] where !part.isEmpty {
                waiting.append(part)
            }
            note(damage)
        case .unreadable(let reason):
            result.failure = "\(Terminal.sequences(batch)): \(reason)"
        }
    }

    private mutating func note(_ damage: DamagedEntry) {
        result.damagedCount += damage.sequences.count
        report("left out: \(damage)")
        stopUnlessContinuing("an entry is damaged")
    }

    private mutating func stopUnlessContinuing(_ reason: String) {
        guard !settings.continuesOnError else { return }
        result.failure = "\(reason); --continue-on-error passes over it"
    }

    /// Inserts a batch; again and again, for a while, as long as it fails for reasons that may pass.
    private func insert(_ batch: Range<UInt64>) async -> InsertOutcome {
        var pause = settings.backoffMin
        for attempt in 1... {
            let outcome = await insertOnce(batch)
            guard case .failed(let failure) = outcome, failure.failureClass == .transient, attempt < Self.attempts
            else {
                return outcome
            }
            do { try await Task.sleep(for: pause) } catch { return outcome }
            pause = min(pause * 2, settings.backoffMax)
        }
        preconditionFailure("the loop above only ends with an outcome")
    }

    private func insertOnce(_ batch: Range<UInt64>) async -> InsertOutcome {
        let token: String
        do {
            token = try inspection.token(stream.id, batch)
        } catch {
            return (error as? DamagedEntry).map { .damaged($0) } ?? .unreadable("\(error)")
        }
        return await withCheckedContinuation { continuation in
            destination.insert(
                InsertRequest(
                    table: stream.table, token: token, rowCount: batch.count,
                    makeReader: { [inspection, stream] in try inspection.reader(stream.id, batch) },
                    completion: { continuation.resume(returning: $0) }))
        }
    }
}
