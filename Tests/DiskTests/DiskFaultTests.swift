import Glibc
import IngestCore
import Journal
import Logging
import TestSupport
import Testing

@testable import DiskWriter

/// The disk answers with errors: new events are refused with a reason, what was accepted stays, and the journal goes on
/// by itself when the errors are over, or says that it can't.
@Suite struct DiskFaultTests {
    /// A writer with a journal on a disk that fails as ordered.
    private final class Scene {
        let folder: TemporaryDirectory
        let disk: FaultyFolder
        private(set) var writer: DiskProcess
        private(set) var accepted: UInt64 = 1
        private let table = Workload.tables[0]

        /// - Parameter commitDelayMilliseconds: 0 for a journal without a commit log.
        init(commitDelayMilliseconds: Int = 0) throws {
            folder = try TemporaryDirectory("fault")
            disk = try FaultyFolder(in: folder)
            writer = try DiskProcess(
                journal: disk.appending("journal"), commitDelayMilliseconds: commitDelayMilliseconds, on: disk)
        }

        /// Appends events that must be accepted, behind what was accepted before.
        func accept() throws {
            let sequences = try writer.append(table, count: 3, bytes: 3_000).get()
            #expect(sequences.lowerBound >= accepted, "sequences that were given already: \(sequences)")
            accepted = sequences.upperBound
        }

        func noteAccepted(_ sequences: Range<UInt64>) { accepted = sequences.upperBound }

        /// Appends events that must be refused.
        /// - Returns: why they were.
        func refuse() throws -> String {
            switch try writer.append(table, count: 3, bytes: 3_000) {
            case .success(let sequences): throw Problem("\(sequences) were accepted on a disk that fails")
            case .failure(let problem): return problem.description
            }
        }

        /// Closes the journal, opens it again and reads everything in it.
        /// - Parameter isHealed: whether the disk works again before the journal is closed, or only before it is opened.
        /// - Returns: sequences of what it holds.
        func reopened(isHealed: Bool = true) throws -> Range<UInt64> {
            if isHealed { try disk.heal() }
            try writer.close()
            try disk.heal()
            let journal = try Journal.open(
                JournalConfiguration(path: disk.appending("journal"), minFreeDiskBytes: 0, tables: Workload.tables),
                logger: Logger(label: "test"))
            let stream = try #require(journal.stream(table: table))
            let state = try #require(journal.snapshot.streams[stream.id])
            let reader = try journal.reader(state.stream.id, state.position..<state.nextSequence)
            var count: UInt64 = 0
            while try reader.read({ run in
                while let event = try run.next() {
                    #expect(DiskEvent(payload: event.payload) != nil, "event \(event.sequence) is not what was sent")
                    count += 1
                }
            }) {}
            #expect(count == state.nextSequence - state.position)
            return state.position..<state.nextSequence
        }
    }

    /// How a disk fails, and what the refusal must say.
    struct Fault: Sendable, CustomTestStringConvertible {
        let operation: FaultyFolder.Operation
        let error: Int32
        let reason: String
        var testDescription: String { "\(operation) fails with errno \(error)" }
    }

    static let passing = [
        Fault(operation: .write, error: ENOSPC, reason: "make room"),
        Fault(operation: .write, error: EDQUOT, reason: "make room"),
        // A file system that runs full first writes less than it should.
        Fault(operation: .write, error: 0, reason: "could not write"),
        Fault(operation: .write, error: EIO, reason: "could not write"),
        Fault(operation: .write, error: EROFS, reason: "could not write"),
        Fault(operation: .sync, error: ENOSPC, reason: "make room"),
        Fault(operation: .sync, error: EIO, reason: "could not write"),
        Fault(operation: .sync, error: EROFS, reason: "could not write"),
    ]

    @Test(arguments: passing)
    func journalGoesOnWhenTheErrorsAreOver(_ fault: Fault) async throws {
        let scene = try Scene()
        try scene.accept()
        for _ in 0..<3 {
            try scene.disk.fail(fault.operation, error: fault.error)
            for _ in 0..<3 {
                let reason = try scene.refuse()
                #expect(reason.contains(fault.reason), "\(reason)")
            }
            #expect(try scene.writer.ask("refusal") != "refusal ", "the journal does not say that it refuses")
            #expect(try scene.writer.ask("failure") == "failure ", "it gave up")
            try scene.disk.heal()
            try scene.accept()
            #expect(try scene.writer.ask("refusal") == "refusal ")
        }
        // In the middle of a commit, and only once.
        try scene.disk.fail(fault.operation, error: fault.error, skip: fault.operation == .write ? 1 : 0, count: 1)
        _ = try scene.writer.append(Workload.tables[0], count: 40, bytes: 3_000)
        try scene.disk.heal()
        try scene.accept()
        #expect(try scene.reopened() == 1..<scene.accepted)
    }

    /// Whoever sends events only to a service that is ready would never send again to one that waits for them.
    @Test(arguments: [passing[0], passing[2], passing[6]])
    func refusalEndsWithoutNewEvents(_ fault: Fault) async throws {
        let scene = try Scene()
        try scene.disk.fail(fault.operation, error: fault.error)
        _ = try scene.refuse()
        try scene.disk.heal()
        try await eventually("the journal accepts again", within: .seconds(10)) {
            try scene.writer.ask("refusal") == "refusal "
        }
        try scene.accept()
    }

    /// The same for the flusher's news: a position that could not be written is not moved, and moves later.
    @Test(arguments: passing)
    func positionMovesWhenTheErrorsAreOver(_ fault: Fault) async throws {
        let scene = try Scene()
        for _ in 0..<4 { try scene.accept() }
        try scene.disk.fail(fault.operation, error: fault.error)
        let answer = try scene.writer.ask("advance \(Workload.tables[0]) 7")
        #expect(answer.hasPrefix("failed"), "\(answer)")
        let state = try scene.writer.ask("state \(Workload.tables[0])")
        #expect(state.hasPrefix("state 13 1 1 "), "\(state)")
        try scene.disk.heal()
        #expect(try scene.writer.ask("advance \(Workload.tables[0]) 7") == "advanced")
        #expect(try scene.reopened() == 7..<13)
    }

    /// LMDB gives up when it can't write its meta page: the journal says so, refuses everything, and loses nothing.
    @Test(arguments: [EIO, ENOSPC, EROFS])
    func failedMetaPageStopsTheJournal(_ error: Int32) async throws {
        let scene = try Scene()
        for _ in 0..<4 { try scene.accept() }
        try scene.disk.fail(.meta, error: error, count: 1)
        _ = try scene.refuse()
        #expect(try scene.refuse().contains("Restart the service"))
        let failure = try scene.writer.ask("failure")
        #expect(failure.contains("Restart the service"), "\(failure)")
        #expect(try scene.writer.ask("advance \(Workload.tables[0]) 4").hasPrefix("failed"))
        #expect(try scene.refuse().contains("Restart the service"))
        let found = try scene.reopened()
        // The events of the commit that failed may be there: their sender was told that they are not, and sends again.
        #expect(found == 1..<13 || found == 1..<16, "\(found)")
    }

    // MARK: The commit log

    /// A commit log that can't be written is no reason to refuse events: the journal's file takes them.
    @Test(arguments: [EIO, ENOSPC, 0])
    func failedLogIsDoneWithout(_ error: Int32) throws {
        let scene = try Scene(commitDelayMilliseconds: 3_600_000)
        try scene.accept()
        #expect(try scene.writer.ask("state \(Workload.tables[0])").hasPrefix("state 1 1 1 "))
        try scene.disk.fail(.meta, error: error, count: 1)
        try scene.accept()
        #expect(try scene.writer.ask("state \(Workload.tables[0])").hasPrefix("state 7 1 1 "))
        // From now on each group is in the journal's file.
        try scene.disk.heal()
        try scene.accept()
        #expect(try scene.writer.ask("state \(Workload.tables[0])").hasPrefix("state 10 1 1 "))
        #expect(try scene.writer.ask("failure") == "failure ")
        #expect(try scene.reopened() == 1..<10)
    }

    /// What is in the commit log, and can't be stored in the journal's file, stays where it is; new events are refused
    /// until both can be written again, and the position moves meanwhile if that fits.
    @Test(arguments: [ENOSPC, EIO])
    func loggedEventsWaitUntilTheErrorsAreOver(_ error: Int32) async throws {
        let scene = try Scene(commitDelayMilliseconds: 500)
        try scene.accept()
        try scene.disk.fail(.write, error: error)
        #expect(try scene.writer.ask("failure") == "failure ")
        try await eventually("events are refused, as those of before can't be stored") {
            if case .success(let sequences) = try scene.writer.append(Workload.tables[0], count: 3, bytes: 3_000) {
                scene.noteAccepted(sequences)
                return false
            }
            return true
        }
        #expect(try scene.writer.ask("state \(Workload.tables[0])").hasPrefix("state 1 1 1 "))
        try scene.disk.heal()
        try await eventually("the journal has what was accepted", within: .seconds(10)) {
            try scene.writer.ask("state \(Workload.tables[0])").hasPrefix("state \(scene.accepted) 1 1 ")
        }
        try scene.accept()
        #expect(try scene.reopened() == 1..<scene.accepted)
    }

    /// The same, and the process ends before the disk is well again.
    @Test func loggedEventsSurviveAProcessThatCouldNotStoreThem() throws {
        let scene = try Scene(commitDelayMilliseconds: 3_600_000)
        for _ in 0..<3 { try scene.accept() }
        try scene.disk.fail(.write, error: ENOSPC)
        #expect(try scene.reopened(isHealed: false) == 1..<10)
    }

    /// A disk that fails while the journal is made leaves nothing that is in the way later.
    @Test(arguments: FaultyFolder.Operation.allCases)
    func journalIsMadeWhenTheErrorsAreOver(_ operation: FaultyFolder.Operation) throws {
        let folder = try TemporaryDirectory("fault")
        let disk = try FaultyFolder(in: folder)
        for skip in 0..<6 {
            try disk.fail(operation, error: EIO, skip: skip, count: 1)
            // Where the fault comes too late to matter, the journal opens.
            do { try DiskProcess(journal: disk.appending("journal"), on: disk).close() } catch is Problem {}
        }
        try disk.heal()
        let writer = try DiskProcess(journal: disk.appending("journal"), on: disk)
        #expect(try writer.append(bytes: 100).get() == 1..<2)
        try writer.close()
    }
}
