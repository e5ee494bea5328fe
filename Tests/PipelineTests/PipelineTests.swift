import Foundation
import IngestCore
import Journal
import Logging
import Pipeline
import Synchronization
import TestSupport
import Testing

/// A destination that keeps what it is given, and fails on demand. Answers on a thread of its own, as the real one.
final class ScriptedDestination: InsertDestination {
    struct Insert: Sendable, Equatable {
        let token: String
        let payloads: [String]
        let isRepeated: Bool
    }

    let inserts = Mutex<[Insert]>([])
    let failure = Mutex<FailureClass?>(nil)
    /// Events that hold this text are rejected.
    let badText = Mutex<String?>(nil)
    private let mailbox = Mailbox<InsertRequest>()
    private let thread = Mutex<DedicatedThread?>(nil)

    init() {
        let started = DedicatedThread(name: "destination") { [self] in
            var batch: [InsertRequest] = []
            while mailbox.receive(into: &batch) { batch.forEach(answer) }
        }
        thread.withLock { $0 = started }
    }

    func insert(_ request: InsertRequest) { mailbox.send(request) }

    func stop() {
        mailbox.close()
        thread.withLock { $0.take() }?.join()
    }

    private func answer(_ request: InsertRequest) {
        do {
            let payloads = try request.makeReader().payloads()
            if let text = badText.withLock({ $0 }), let row = payloads.firstIndex(where: { $0.contains(text) }) {
                let failure = InsertFailure(
                    failureClass: .rowData, clickHouseCode: 27, httpStatus: 400, message: "no: \(payloads[row])",
                    rowHint: row + 1)
                return request.completion(.failed(failure))
            }
            inserts.withLock {
                $0.append(Insert(token: request.token, payloads: payloads, isRepeated: request.isRepeated))
            }
            if let failureClass = failure.withLock({ $0 }) {
                request.completion(.failed(InsertFailure(failureClass: failureClass, message: "scripted")))
            } else {
                request.completion(.inserted)
            }
        } catch let damage as DamagedEntry {
            request.completion(.damaged(damage))
        } catch {
            request.completion(.unreadable("\(error)"))
        }
    }
}

@Suite struct PipelineTests {
    final class Setup: Sendable {
        let directory: TemporaryDirectory
        let journal: Journal
        let destination: ScriptedDestination
        let pipeline: Pipeline

        init(
            directory: TemporaryDirectory, destination: ScriptedDestination = ScriptedDestination(),
            deadLetters: (any DeadLetterDestination)? = nil, batchMaxAge: UInt64 = 1_000_000
        ) throws {
            self.directory = directory
            self.destination = destination
            let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            var configuration = JournalConfiguration(
                path: directory.path, maxBytes: 64 << 20, minFreeDiskBytes: 0, tables: ["events", "other"])
            configuration.forwardsDeadLetters = deadLetters != nil
            journal = try Journal.open(configuration, logger: logger)
            pipeline = Pipeline(
                journal: journal, destination: destination, deadLetters: deadLetters,
                configuration: FlushConfiguration(
                    batchMaxRows: 100, batchMaxAge: batchMaxAge, backoffMin: 1_000_000, backoffMax: 5_000_000,
                    holdRetryInterval: 5_000_000),
                logger: logger)
            try pipeline.start()
        }

        func append(_ payloads: [String], to table: String = "events") async throws -> Range<UInt64> {
            try await journal.append(
                stream: journal.stream(table: table)!.id, origin: .http, receivedAt: 0,
                events: EventBuffer(payloads: payloads)
            ).sequences
        }

        /// Ends it as a shutdown does, in order.
        func stop() {
            pipeline.stop()
            destination.stop()
            journal.close()
        }
    }

    @Test func eventsReachTheDestinationAndLeaveTheJournal() async throws {
        let setup = try Setup(directory: TemporaryDirectory("pipeline"))
        let payloads = (0..<250).map { "{\"n\":\($0)}" }
        let sequences = try await setup.append(payloads)
        let report = await setup.pipeline.insertion(
            of: sequences, in: setup.journal.stream(table: "events")!.id, timeout: .seconds(30))
        #expect(report == InsertionReport(inserted: 250, deadLettered: 0, deadLetterIDs: []))
        let inserts = setup.destination.inserts.withLock { $0 }
        #expect(Set(inserts.flatMap(\.payloads)) == Set(payloads))
        let snapshot = setup.journal.snapshot
        #expect(snapshot.streams.values.allSatisfy { $0.pendingEvents == 0 })
        setup.stop()
    }

    /// `ack=inserted` must not answer before the events are inserted.
    @Test func insertionIsNotReportedWhileTheDestinationFails() async throws {
        let setup = try Setup(directory: TemporaryDirectory("pipeline"))
        setup.destination.failure.withLock { $0 = .transient }
        let sequences = try await setup.append(["{}"])
        let stream = setup.journal.stream(table: "events")!.id
        #expect(await setup.pipeline.insertion(of: sequences, in: stream, timeout: .milliseconds(50)) == nil)
        setup.destination.failure.withLock { $0 = nil }
        #expect(await setup.pipeline.insertion(of: sequences, in: stream, timeout: .seconds(30))?.inserted == 1)
        setup.stop()
    }

    /// Guarantee 4: the same batch under the same token, also by the next process.
    @Test func restartSendsTheSameBatchesUnderTheSameTokens() async throws {
        let directory = try TemporaryDirectory("pipeline")
        let sent = try await sendInVain(directory)
        #expect(!sent.isEmpty)
        let second = try Setup(directory: directory)
        #expect(await second.pipeline.drain(timeout: .seconds(30)))
        let again = second.destination.inserts.withLock { Dictionary($0.map { ($0.token, $0.payloads) }) { $1 } }
        for (token, payloads) in sent { #expect(again[token] == payloads) }
        // What was sealed may have been sent; the last event was not even sealed.
        let inserts = second.destination.inserts.withLock { $0 }
        #expect(inserts.filter { sent[$0.token] != nil }.allSatisfy { $0.isRepeated })
        #expect(inserts.contains { $0.payloads.contains("{\"n\":30}") && !$0.isRepeated })
        #expect(again.values.flatMap { $0 }.sorted() == (0..<31).map { "{\"n\":\($0)}" }.sorted())
        second.stop()
    }

    /// A journal restored from a copy gives sequences away that the original has used since: other events under a used
    /// token would be dropped as a repetition.
    @Test func restoredCopyHasTokensOfItsOwn() async throws {
        let original = try TemporaryDirectory("pipeline")
        _ = try await tokens(of: "{\"n\":1}", in: original)
        let copy = try TemporaryDirectory("pipeline")
        try FileManager.default.copyItem(atPath: original.appending("data.mdb"), toPath: copy.appending("data.mdb"))
        let first = try await tokens(of: "{\"n\":2}", in: original)
        let second = try await tokens(of: "{\"n\":3}", in: copy)
        #expect(first.count == 1 && second.count == 1)
        #expect(first != second)
    }

    /// Tokens of the inserts that one more event leads to.
    private func tokens(of payload: String, in directory: TemporaryDirectory) async throws -> [String] {
        let setup = try Setup(directory: directory)
        _ = try await setup.append([payload])
        #expect(await setup.pipeline.drain(timeout: .seconds(30)))
        setup.stop()
        return setup.destination.inserts.withLock { $0.map(\.token) }
    }

    /// A first process whose inserts all fail; what it sent, by token.
    private func sendInVain(_ directory: TemporaryDirectory) async throws -> [String: [String]] {
        let first = try Setup(directory: directory)
        first.destination.failure.withLock { $0 = .transient }
        _ = try await first.append((0..<30).map { "{\"n\":\($0)}" })
        let destination = first.destination
        try await eventually("a batch was sent") { destination.inserts.withLock { !$0.isEmpty } }
        _ = try await first.append(["{\"n\":30}"])
        first.stop()
        return destination.inserts.withLock { Dictionary($0.map { ($0.token, $0.payloads) }) { $1 } }
    }

    /// Guarantee 6: other streams go on.
    @Test func heldStreamDoesNotHoldOthers() async throws {
        let directory = try TemporaryDirectory("pipeline")
        let setup = try Setup(directory: directory)
        setup.destination.failure.withLock { $0 = .configuration }
        _ = try await setup.append(["{}"])
        let pipeline = setup.pipeline
        try await eventually("the stream is held") {
            pipeline.status.contains { $0.table == "events" && $0.mode == "held" && $0.reason == "scripted" }
        }
        setup.destination.failure.withLock { $0 = nil }
        let other = try await setup.append(["{}"], to: "other")
        let stream = setup.journal.stream(table: "other")!.id
        #expect(await setup.pipeline.insertion(of: other, in: stream, timeout: .seconds(30))?.inserted == 1)
        // And it resumes by itself.
        try await eventually("the stream resumed") { pipeline.status.allSatisfy { $0.mode == "running" } }
        setup.stop()
    }

    @Test func drainFlushesWithoutWaitingForAge() async throws {
        let setup = try Setup(directory: TemporaryDirectory("pipeline"), batchMaxAge: 3_600_000_000_000)
        _ = try await setup.append(["{}"])
        #expect(setup.destination.inserts.withLock { $0.isEmpty })
        #expect(await setup.pipeline.drain(timeout: .seconds(30)))
        #expect(setup.destination.inserts.withLock { $0.count } == 1)
        setup.stop()
    }

    @Test func drainGivesUpWhenTheDestinationIsAway() async throws {
        let setup = try Setup(directory: TemporaryDirectory("pipeline"))
        setup.destination.failure.withLock { $0 = .transient }
        _ = try await setup.append(["{}"])
        #expect(await setup.pipeline.drain(timeout: .seconds(30)) == false)
        setup.stop()
    }
}
