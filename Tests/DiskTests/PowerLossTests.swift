import Foundation
import TestSupport
import Testing

/// The power goes at any moment: whatever a disk may then hold, the journal opens and has everything that was
/// acknowledged.
///
/// `INGESTD_POWER_CUTS` sets the number of cuts, `INGESTD_POWER_SEED` the work and the places of the cuts. A failure
/// names the log and the cut; with `INGESTD_POWER_LOG` and `INGESTD_POWER_CUT` set to them it comes again.
@Suite struct PowerLossTests {
    private static let environment = ProcessInfo.processInfo.environment
    private static let cutCount = environment["INGESTD_POWER_CUTS"].flatMap(Int.init) ?? 2_000
    private static let seed = environment["INGESTD_POWER_SEED"].flatMap(UInt64.init) ?? 20_261_123
    private static var steps: Int { max(600, cutCount / 8) }

    /// Without and with a commit log.
    @Test(.enabled(if: environment["INGESTD_POWER_LOG"] == nil), arguments: [0, 50])
    func acknowledgedEventsSurviveAPowerCut(commitDelayMilliseconds: Int) throws {
        let loss = try PowerLoss.record(
            seed: Self.seed, steps: Self.steps, commitDelayMilliseconds: commitDelayMilliseconds)
        try expectNoProblem(loss, Self.cutCount * 3 / 8)
    }

    /// The same with a disk that fails now and then before the power goes: a failed sync loses what it was to write for
    /// good, and what is acknowledged later must not rest on it. Where LMDB can't take a commit back whose last write
    /// failed, the file shows that commit to the next process, and the disk may not have it.
    @Test(.enabled(if: environment["INGESTD_POWER_LOG"] == nil), arguments: [true, false])
    func acknowledgedEventsSurviveAPowerCutAfterDiskErrors(commitsAreTakenBack: Bool) throws {
        var faults = commitsAreTakenBack ? [] : ["1 back 5 0 -1"]
        for number in 1..<16 {
            let skip = number * Self.steps / 16
            faults.append("1 sync 5 \(skip) 1")
            faults.append("1 write 28 \(2 * skip + 7) 2")
            faults.append("1 write 0 \(2 * skip + 70) 1")
        }
        for number in 1..<6 { faults.append("1 meta 5 \(number * Self.steps / 16) 1") }
        let loss = try PowerLoss.record(seed: Self.seed &+ 1, steps: Self.steps, faults: faults)
        #expect(loss.failedOperations > 5)
        try expectNoProblem(loss, Self.cutCount / 4)
    }

    /// The checks would notice if a sync were missing: the data's before the meta page, the meta page's own, or the
    /// commit log's.
    @Test(.enabled(if: environment["INGESTD_POWER_LOG"] == nil), arguments: [0, 50])
    func aMissingSyncIsNoticed(commitDelayMilliseconds: Int) throws {
        let loss = try PowerLoss.record(
            seed: Self.seed, steps: 200, commitDelayMilliseconds: commitDelayMilliseconds)
        // Not only while the journal is made.
        let cuts = loss.cuts(250, seed: 1).filter { $0.operations > 100 }
        #expect(!(try loss.check(cuts, ignoring: .fileSyncs, maxProblems: 1).isEmpty))
        #expect(!(try loss.check(cuts, ignoring: .writeSyncs, maxProblems: 1).isEmpty))
        #expect(try loss.check(cuts, maxProblems: 1).isEmpty)
    }

    @Test(.enabled(if: environment["INGESTD_POWER_LOG"] != nil))
    func oneCutAgain() throws {
        let loss = try PowerLoss(logPath: try #require(Self.environment["INGESTD_POWER_LOG"]))
        let words = try #require(Self.environment["INGESTD_POWER_CUT"]).split(separator: ":")
        let cut = PowerLoss.Cut(operations: try #require(Int(words[0])), seed: try #require(UInt64(words[1])))
        for (_, problem) in try loss.check([cut]) { Issue.record("\(problem)") }
    }

    private func expectNoProblem(_ loss: PowerLoss, _ count: Int) throws {
        let problems = try loss.check(loss.cuts(count, seed: Self.seed))
        guard !problems.isEmpty else { return }
        let kept = NSTemporaryDirectory() + "/ingestd-power-\(UUID().uuidString).log"
        try FileManager.default.copyItem(atPath: loss.logPath, toPath: kept)
        for (cut, problem) in problems { Issue.record("INGESTD_POWER_LOG=\(kept) \(cut): \(problem)") }
    }
}
