import CCurl
public import IngestCore
public import Logging
internal import ServiceLog
import Synchronization

/// Inserts batches into ClickHouse over HTTP, as JSONEachRow.
///
/// One thread does all the work: it blocks in curl, which sends and receives on several kept connections at a time,
/// and encodes rows whenever a connection takes more. Completions and `makeReader` are called on it.
///
/// An INSERT counts as done only if the server says so completely: status 200, no exception in the header, an empty
/// body. Whatever else happens, including no answer, is a failure with its class (`ErrorClasses`), and the same batch
/// may be sent again under the same token. Batches below the server's `max_insert_block_size` (a million rows) are
/// inserted whole or not at all, per partition of the table; that a body broken off midway does not leave its first
/// rows behind is seen to by `BatchBody`.
///
/// `makeReader` is called again where curl repeats a request by itself: when a kept connection turns out to be dead
/// before anything of the answer came.
public final class ClickHouseClient: InsertDestination, Sendable {
    private let queue: RequestQueue
    /// The lock is held while joining, so that a second caller of `shutdown` waits too.
    private let thread: Mutex<DedicatedThread>

    /// libcurl wants to be set up once in a process.
    private static let isCurlReady: Bool = curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK

    /// Starts the client's thread; connects to nothing before the first batch.
    /// - Throws: `InvalidClickHouseConfiguration` with everything that is wrong.
    public init(configuration: ClickHouseConfiguration, logger: Logger) throws(InvalidClickHouseConfiguration) {
        var (endpoints, problems) = configuration.checked()
        if !Self.isCurlReady { problems.append("libcurl could not be initialized") }
        guard problems.isEmpty else { throw InvalidClickHouseConfiguration(problems: problems) }
        let queue = RequestQueue()
        self.queue = queue
        thread = Mutex(
            DedicatedThread(name: "clickhouse") { [endpoints] in
                TransferLoop(
                    configuration: configuration, endpoints: endpoints, queue: queue, log: EventLog(logger)
                ).run()
            })
    }

    /// Without `shutdown()` the thread ends by itself, soon after.
    deinit { queue.close() }

    /// Starts an INSERT and returns at once. Callable from any thread.
    ///
    /// After `shutdown()` the completion is called before this returns, on the caller's thread.
    public func insert(_ request: InsertRequest) {
        if !queue.put(request) { request.completion(RequestQueue.shuttingDown) }
    }

    /// Cancels what is in flight, fails what waits (transient: its outcome may be unknown), and returns when all
    /// completions were called and the thread has ended. May be called again; not from a completion.
    public func shutdown() {
        queue.close()
        thread.withLock { $0.join() }
    }

    /// Whether batches go through; if not, since when and why. Not required for readiness: the journal accepts events
    /// while ClickHouse is away. A row or batch that the server refuses is no trouble of ClickHouse's.
    public func state() -> ComponentHealth { queue.health }
}
