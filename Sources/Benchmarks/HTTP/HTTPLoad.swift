import Glibc
import IngestCore
import Synchronization

/// An HTTP load run. In a closed loop each connection sends its next request when one is answered; with a rate, requests
/// are sent at that rate (`LoadSchedule`).
public struct HTTPLoad: Sendable {
    /// What to send, where, and for how long.
    public struct Options: Sendable {
        /// IPv4 address of the service. Load goes to loopback unless the operator says otherwise.
        public var host = "127.0.0.1"
        /// Its port.
        public var port: UInt16 = 8_080
        /// Path of the requests.
        public var path = "/v1/events"
        /// Connections, shared by `threads`.
        public var connections = 16
        /// Threads of the generator.
        public var threads = 1
        /// Requests on a connection that may wait for their answers at the same time.
        public var depth = 1
        /// Requests a second, of all connections together; `nil` for a closed loop.
        public var rate: Double?
        /// Events in each request.
        public var eventsPerRequest = 1_000
        /// Bytes of one event.
        public var eventBytes = 217
        /// How they differ in size.
        public var sizes = EventSizes.fixed
        /// Of the events' content and of what is sent twice.
        public var seed: UInt64 = 1
        /// Share of the requests that are sent once more right away, with the same events.
        public var duplicates = 0.0
        /// How long to send, seconds.
        public var seconds = 10.0
        /// Prefix of all event ids; a run of its own needs one of its own.
        public var prefix = "bench-"
        /// Bearer token, if the service wants one.
        public var token: String?
        /// File for the acknowledged ids; see `Ledger`.
        public var ledgerPath: String?

        /// The defaults.
        public init() {}
    }

    /// What came of it.
    public struct Result: Sendable, Encodable {
        /// Requests that were acknowledged: answered with a status of 200 to 299.
        public var requests = 0
        /// Events in them, those included that were sent twice.
        public var events = 0
        /// Bytes of their bodies.
        public var bytes = 0
        /// Requests among them that had been sent before.
        public var repeatedRequests = 0
        /// Requests answered otherwise, by status.
        public var refused: [String: Int] = [:]
        /// Seconds from the first request to the last answer.
        public var seconds = 0.0
        /// Requests that an open loop had to leave out at its end, because the service was too far behind.
        public var unsent = 0
        /// From sending to the whole answer; in an open loop from the time at which it was to be sent.
        public var latency: LatencySummary
        /// Seconds of CPU that the generator used: near `seconds` times `threads` it was the bottleneck itself.
        public var generatorCpuSeconds = 0.0

        /// Events a second.
        public var eventRate: Double { Double(events) / seconds }
        /// Requests a second.
        public var requestRate: Double { Double(requests) / seconds }
    }

    private let options: Options

    /// Nothing is sent before `run`.
    public init(_ options: Options) { self.options = options }

    /// Sends until the time is up, and waits for the answers. Blocks.
    /// - Throws: `BenchmarkFailure` for a connection that fails, or an answer that is none. The ledger then has what was
    ///   acknowledged before.
    public func run() throws -> Result {
        guard options.connections <= EventNumber.lanes else {
            throw BenchmarkFailure("at most \(EventNumber.lanes) connections")
        }
        try Ledger.check(prefix: options.prefix)
        let ledger = try options.ledgerPath.map { path throws(BenchmarkFailure) in
            try Ledger(path: path, prefix: options.prefix)
        }
        var workers: [LoadWorker] = []
        for index in 0..<options.threads { workers.append(try LoadWorker(options, index: index, ledger: ledger)) }
        let outcomes = Mutex<[Swift.Result<LoadWorker.Outcome, BenchmarkFailure>]>([])
        let cpu = ProcessTime.cpuSeconds
        let start = MonotonicClock.now
        let threads = workers.enumerated().map { index, worker in
            let box = WorkerBox(worker)
            return DedicatedThread(name: "load-\(index)") {
                let outcome = Swift.Result { () throws(BenchmarkFailure) in try box.worker.run(from: start) }
                outcomes.withLock { $0.append(outcome) }
            }
        }
        for thread in threads { thread.join() }
        let nanoseconds = MonotonicClock.now - start
        var sum = LoadWorker.Outcome()
        for outcome in outcomes.withLock({ $0 }) { sum.add(try outcome.get()) }
        var result = Result(latency: LatencySummary(sum.latencies))
        result.requests = sum.requests
        result.repeatedRequests = sum.repeatedRequests
        result.refused = Dictionary(uniqueKeysWithValues: sum.refused.map { ("\($0)", $1) })
        result.unsent = sum.unsent
        result.events = sum.events
        result.bytes = sum.bytes
        result.seconds = Double(nanoseconds) / 1e9
        result.generatorCpuSeconds = ProcessTime.cpuSeconds - cpu
        return result
    }
}

/// Takes a worker to its thread. `@unchecked Sendable`: made on one thread, then used by another only.
private final class WorkerBox: @unchecked Sendable {
    var worker: LoadWorker

    init(_ worker: LoadWorker) { self.worker = worker }
}

extension HTTPLoad.Result {
    /// A line of the table.
    public func text(_ options: HTTPLoad.Options) -> String {
        var line =
            "HTTP  \(options.connections) connections, \(options.eventsPerRequest) events a request  "
            + "\(grouped(eventRate)) events/s  \(grouped(requestRate)) requests/s  "
            + "\(grouped(Double(bytes) / seconds / 1e6)) MB/s  \(latency.text)"
        if let rate = options.rate { line += "  at a rate of \(grouped(rate)) requests/s" }
        if repeatedRequests > 0 { line += "  repeated \(repeatedRequests)" }
        if !refused.isEmpty { line += "  refused \(refused)" }
        if unsent > 0 { line += "  not sent \(unsent)" }
        return line
    }
}
