import Glibc
import IngestCore
import Synchronization
import TestSupport

/// Clients that send events until they are stopped, each on a thread of its own.
final class EventLoad: Sendable {
    /// What the threads share with their owner.
    private final class Shared: Sendable {
        let isStopped = Atomic(false)
        let failure = Mutex<String?>(nil)
        /// Offsets up to which each partition may be filled: the mock cluster forgets what is too much for it.
        let limits: Mutex<[Int]>

        init(partitions: Int) { limits = Mutex(Array(repeating: EventLoad.partitionRoom, count: partitions)) }
    }

    /// The mock keeps about 5 MB of a partition; these are about 3.
    static let partitionRoom = 20_000
    static let topic = "events"
    private let shared: Shared
    private let threads: [DedicatedThread]

    /// Starts HTTP clients (sources 0 ...) and one producer that fills all partitions (the sources behind them).
    init(clients: Int, port: UInt16, kafka: KafkaMock, partitions: Int, ledger: EventLedger, seed: UInt64) {
        let shared = Shared(partitions: partitions)
        self.shared = shared
        threads =
            (0..<clients).map { client in
                DedicatedThread(name: "http-load") {
                    var random = SplitMix64(state: seed &+ UInt64(client))
                    Self.post(client, port, ledger, &random, shared)
                }
            } + [
                DedicatedThread(name: "kafka-load") {
                    var random = SplitMix64(state: seed &+ UInt64(clients))
                    Self.produce(kafka, partitions, firstSource: clients, ledger, &random, shared)
                }
            ]
    }

    deinit { stop() }

    /// Kafka's committed offset of a partition, which makes room for further messages.
    func committed(_ offset: Int64, partition: Int) {
        shared.limits.withLock { $0[partition] = Int(offset) + Self.partitionRoom }
    }

    /// Ends the threads; what they are sending is answered or cut off first.
    func stop() {
        shared.isStopped.store(true, ordering: .releasing)
        for thread in threads { thread.join() }
    }

    /// Why a thread ended before its time.
    var failure: String? { shared.failure.withLock { $0 } }

    private static func post(
        _ client: Int, _ port: UInt16, _ ledger: EventLedger, _ random: inout SplitMix64, _ shared: Shared
    ) {
        var connection: ServiceConnection?
        while !shared.isStopped.load(ordering: .acquiring) {
            let isSmall = Int.random(in: 0..<3, using: &random) == 0
            let numbers = ledger.take(isSmall ? 1 : .random(in: 1...200, using: &random), from: client)
            let body = Array(numbers.map { EventLedger.event(client, $0) }.joined(separator: "\n").utf8)
            // A body that was cut off is sent again until it is answered, or dropped: a client may do either.
            let insists = Bool.random(using: &random)
            repeat {
                do {
                    if connection?.isOver ?? true { connection = try ServiceConnection(port: port) }
                    let response = try connection!.request("POST", "/v1/events", body)
                    if response.status == 202 { ledger.acknowledge(numbers, of: client, answer: response.text) }
                    break
                } catch {
                    connection = nil
                    pause(milliseconds: 10)
                }
            } while insists && !shared.isStopped.load(ordering: .acquiring)
            // What a client does between two requests; keeps the volume within what a test should check.
            pause(milliseconds: .random(in: 0...60, using: &random))
        }
    }

    private static func produce(
        _ kafka: KafkaMock, _ partitions: Int, firstSource: Int, _ ledger: EventLedger, _ random: inout SplitMix64,
        _ shared: Shared
    ) {
        while !shared.isStopped.load(ordering: .acquiring) {
            let partition = Int.random(in: 0..<partitions, using: &random)
            let source = firstSource + partition
            let count = Int.random(in: 1...200, using: &random)
            if ledger.sent(source) + count <= shared.limits.withLock({ $0[partition] }) {
                let numbers = ledger.take(count, from: source)
                do {
                    try kafka.produce(
                        numbers.map { .init(EventLedger.event(source, $0)) }, to: topic, partition: Int32(partition))
                } catch {
                    shared.failure.withLock { $0 = "\(error)" }
                    return
                }
                ledger.acknowledge(numbers, of: source, answer: "its number as its offset")
            }
            pause(milliseconds: .random(in: 5...40, using: &random))
        }
    }

    private static func pause(milliseconds: Int) {
        var time = timespec(tv_sec: 0, tv_nsec: milliseconds * 1_000_000)
        nanosleep(&time, nil)
    }
}
