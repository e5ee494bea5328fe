import CCurl
import Glibc
import IngestCore
import ServiceLog

/// An INSERT on its way through the client. Its completion is called exactly once.
final class PendingInsert {
    let request: InsertRequest
    /// Endpoints that were tried in vain.
    var triedEndpoints = 0
    /// The token that it is sent under: the request's, or one that no server can know.
    private(set) var token: String
    /// Whether a success can be that of an earlier attempt, whose rows may not be there (`RowLookup`).
    private(set) var isRepeated: Bool
    /// Whether it was sent under a token that the server keeps.
    var isDeduplicated = false
    private var isCompleted = false

    init(_ request: InsertRequest) {
        self.request = request
        token = request.token
        isRepeated = request.isRepeated
    }

    /// Has it sent under a token of its own. Not again the same: nobody could tell whether its rows got in then.
    func renew() {
        token = "\(request.token)-again-\(String(UInt64.random(in: .min ... .max), radix: 16))"
        isRepeated = false
    }

    func complete(_ outcome: InsertOutcome) {
        precondition(!isCompleted, "an INSERT completed twice")
        isCompleted = true
        request.completion(outcome)
    }
}

/// Sends batches with a curl multi handle: the whole work of the client's thread, and used by no other.
///
/// All batches go to the current endpoint. A server is asked what it can do before its first batch, and again after
/// it was unreachable; meanwhile batches wait. When a connection can't be made, nothing was sent, and the batch goes
/// to the next endpoint at once; after any other passing failure the next batches go there, and this one is reported:
/// when and how to send it again is the flusher's decision.
final class TransferLoop {
    /// A table that is too large to be looked through in time stays so.
    private static let timeoutExceeded = 159

    private let configuration: ClickHouseConfiguration
    private let classes: ErrorClasses
    private let queue: RequestQueue
    private let log: EventLog
    private let multi: UnsafeMutableRawPointer
    private var endpoints: [Endpoint]
    private var current = 0
    private var waiting: [PendingInsert] = []
    private var running: [UnsafeMutableRawPointer: Transfer] = [:]
    private var idle: [Transfer] = []

    init(configuration: ClickHouseConfiguration, endpoints: [EndpointURL], queue: RequestQueue, log: EventLog) {
        guard let multi = curl_multi_init() else { preconditionFailure("curl_multi_init: out of memory") }
        self.multi = multi
        self.configuration = configuration
        self.queue = queue
        self.log = log
        self.endpoints = endpoints.map { Endpoint(url: $0) }
        classes = ErrorClasses(overrides: configuration.failureClassOverrides)
        check(ccurl_multi_set_long(multi, CURLMOPT_MAXCONNECTS, configuration.maximumConnections))
        queue.open(WakeHandle(multi))
    }

    deinit { curl_multi_cleanup(multi) }

    /// Sends batches until the queue is closed; then everything not done fails.
    func run() {
        // OpenSSL writes to sockets without MSG_NOSIGNAL; curl reports the broken connection anyway.
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGPIPE)
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        while let arrived = queue.take() {
            waiting += arrived.map(PendingInsert.init)
            start()
            var count: CInt = 0
            check(curl_multi_perform(multi, &count))
            finishTransfers()
            start()
            // Woken by the queue; curl shortens the time by its own timeouts.
            check(curl_multi_poll(multi, nil, 0, 1_000, nil))
        }
        cancelAll()
    }

    // MARK: Starting

    /// Starts as many waiting batches as there is room for.
    private func start() {
        var started = 0
        defer { waiting.removeFirst(started) }
        while started < waiting.count && running.count < configuration.maximumConnections {
            switch endpoints[current].state {
            case .asking: return
            case .unknown:
                askCapabilities(of: current)
                return
            case .known(let capabilities):
                let insert = waiting[started]
                started += 1
                send(insert, capabilities)
            }
        }
    }

    private func askCapabilities(of index: Int) {
        endpoints[index].state = .asking
        let transfer = idle.popLast() ?? Transfer(configuration: configuration)
        transfer.prepareCapabilities(endpoint: index, url: endpoints[index].capabilityURL)
        add(transfer)
    }

    private func send(_ insert: PendingInsert, _ capabilities: ServerCapabilities) {
        let statement: String
        do {
            statement = try InsertStatement.text(
                table: insert.request.table, database: configuration.database, rowMode: configuration.rowMode,
                takesPatterns: capabilities.takesColumnPatterns)
        } catch {
            insert.complete(
                .failed(InsertFailure(failureClass: .configuration, message: ServerAnswer.bounded(error.message))))
            return
        }
        let endpoint = endpoints[current]
        insert.isDeduplicated = capabilities.hasDeduplicationToken
        let transfer = idle.popLast() ?? Transfer(configuration: configuration)
        transfer.prepareInsert(
            insert, endpoint: current,
            url: endpoint.insertURL(
                statement: statement, token: insert.token, rowMode: configuration.rowMode,
                capabilities: capabilities),
            compresses: endpoint.compresses(configuration.compression, capabilities))
        add(transfer)
    }

    private func add(_ transfer: Transfer) {
        running[transfer.handle] = transfer
        check(curl_multi_add_handle(multi, transfer.handle))
    }

    // MARK: Finishing

    private func finishTransfers() {
        var left: CInt = 0
        while let message = curl_multi_info_read(multi, &left) {
            guard message.pointee.msg == CURLMSG_DONE, let handle = message.pointee.easy_handle else { continue }
            let result = message.pointee.data.result
            guard let transfer = remove(handle) else { continue }
            let purpose = transfer.purpose
            switch purpose {
            case .capabilities: finishCapabilities(transfer, result)
            case .insert(let insert): finishInsert(insert, transfer, result)
            case .lookup(let insert, let lookup): finishLookup(lookup, of: insert, transfer, result)
            }
            transfer.finish()
            idle.append(transfer)
        }
    }

    private func remove(_ handle: UnsafeMutableRawPointer) -> Transfer? {
        check(curl_multi_remove_handle(multi, handle))
        return running.removeValue(forKey: handle)
    }

    private func finishCapabilities(_ transfer: Transfer, _ result: CURLcode) {
        let index = transfer.endpoint
        let url = endpoints[index].url.base
        let failure: InsertFailure
        if result != CURLE_OK || !transfer.answer.isComplete {
            failure = transfer.networkFailure(result)
        } else if transfer.answer.status == 200, transfer.answer.headerCode == nil,
            let capabilities = ServerCapabilities(answer: transfer.answer.body)
        {
            endpoints[index].state = .known(capabilities)
            log.write(
                .clickHouseConnected, "connected to ClickHouse",
                ["url": "\(url)", "version": "\(capabilities.version)"])
            if !capabilities.hasDeduplicationToken && !endpoints[index].warnedOfDuplicates {
                endpoints[index].warnedOfDuplicates = true
                log.write(
                    .clickHouseWithoutDeduplication,
                    "this ClickHouse knows no insert_deduplication_token: a retried batch can leave duplicate rows",
                    ["url": "\(url)", "version": "\(capabilities.version)"])
            }
            return
        } else {
            failure = capabilityFailure(transfer.answer)
        }
        endpoints[index].state = .unknown
        note(failure, at: index)
        // Another transfer's failure may have moved the batches to the next endpoint already.
        guard index == current else { return }
        if failure.failureClass == .transient { moveOn(from: index) }
        // A passing failure costs every waiting batch one endpoint; with none left it is theirs, as any other is.
        let affected = waiting
        waiting = []
        for insert in affected {
            insert.triedEndpoints += 1
            if failure.failureClass == .transient && insert.triedEndpoints < endpoints.count {
                waiting.append(insert)
            } else {
                insert.complete(.failed(failure))
            }
        }
    }

    /// A server that does not answer the question about itself is no fault of an event.
    private func capabilityFailure(_ answer: ServerAnswer) -> InsertFailure {
        let failure = answer.failure(classes)
        guard answer.status != 200 || failure.clickHouseCode != nil else {
            return InsertFailure(
                failureClass: .configuration, httpStatus: answer.status,
                message: ServerAnswer.bounded("the answer at this URL is not ClickHouse's: \(failure.message)"))
        }
        let passes = failure.failureClass == .transient || failure.failureClass == .batchShape
        return InsertFailure(
            failureClass: passes ? .transient : .configuration, clickHouseCode: failure.clickHouseCode,
            httpStatus: failure.httpStatus, message: failure.message)
    }

    private func finishInsert(_ insert: PendingInsert, _ transfer: Transfer, _ result: CURLcode) {
        let index = transfer.endpoint
        if let unreadable = transfer.unreadable {
            insert.complete(
                unreadable.damaged.map { .damaged($0) } ?? .unreadable(ServerAnswer.bounded(unreadable.message)))
            return
        }
        let answer = transfer.answer
        let failure: InsertFailure
        if result == CURLE_OK && answer.isInsertSuccess && transfer.body.isComplete {
            queue.noteSuccess()
            let isDoubtful = insert.isDeduplicated && (insert.isRepeated || transfer.wasSentTwice)
            if isDoubtful && configuration.rowMode == .envelope {
                lookUp(insert, at: index)
            } else {
                insert.complete(.inserted)
            }
            return
        } else if result == CURLE_OK && answer.isInsertSuccess {
            failure = InsertFailure(
                failureClass: .transient, httpStatus: answer.status,
                message: "the server answered before it had the whole batch")
        } else if answer.isComplete && (result == CURLE_OK || answer.headerCode != nil) {
            // A code in the header is the server's verdict, even if the text behind it did not arrive.
            failure = answer.failure(classes)
        } else {
            failure = transfer.networkFailure(result)
            if case .known = endpoints[index].state { endpoints[index].state = .unknown }
        }
        note(failure, at: index)
        if failure.failureClass == .transient { moveOn(from: index) }
        if result != CURLE_OK && transfer.failedToConnect(result) {
            insert.triedEndpoints += 1
            if insert.triedEndpoints < endpoints.count {
                waiting.append(insert)
                return
            }
        }
        insert.complete(.failed(failure))
    }

    /// Asks the server that has just confirmed a batch whether its rows are there.
    private func lookUp(_ insert: PendingInsert, at index: Int) {
        let lookup: RowLookup
        do {
            lookup = try RowLookup(insert.request, database: configuration.database)
        } catch {
            let damaged = (error as? DamagedEntry).map { InsertOutcome.damaged($0) }
            insert.complete(damaged ?? .unreadable(ServerAnswer.bounded("\(error)")))
            return
        }
        let transfer = idle.popLast() ?? Transfer(configuration: configuration)
        transfer.prepareLookup(lookup, of: insert, endpoint: index, url: endpoints[index].lookupURL)
        add(transfer)
    }

    private func finishLookup(
        _ lookup: RowLookup, of insert: PendingInsert, _ transfer: Transfer, _ result: CURLcode
    ) {
        let index = transfer.endpoint
        let answer = transfer.answer
        guard result == CURLE_OK && answer.isComplete else {
            return failLookup(of: insert, transfer.networkFailure(result), at: index)
        }
        let isSuccess = answer.status == 200 && answer.headerCode == nil
        switch isSuccess ? lookup.finding(answer.body) : .unclear {
        case .believed: insert.complete(.inserted)
        case .missing(let count):
            insert.renew()
            log.write(
                .clickHouseRowsMissing,
                "ClickHouse took a repeated batch for inserted and does not have its rows: it is inserted again",
                [
                    "url": "\(endpoints[index].url.base)", "table": "\(insert.request.table)",
                    "token": "\(insert.request.token)", "missing_in_sample": "\(count)",
                ])
            waiting.append(insert)
        case .unclear:
            let failure = answer.failure(classes)
            if failure.failureClass == .transient && failure.clickHouseCode != Self.timeoutExceeded {
                return failLookup(of: insert, failure, at: index)
            }
            // Whoever may not read has to believe.
            if !endpoints[index].warnedOfLookups {
                endpoints[index].warnedOfLookups = true
                log.write(
                    .clickHouseRowsUnchecked,
                    "whether the rows of a repeated batch are there can't be found out; GRANT SELECT on the table",
                    [
                        "url": "\(endpoints[index].url.base)", "table": "\(insert.request.table)",
                        "error": "\(failure.summary)",
                    ])
            }
            insert.complete(.inserted)
        }
    }

    private func failLookup(of insert: PendingInsert, _ failure: InsertFailure, at index: Int) {
        note(failure, at: index)
        if case .known = endpoints[index].state { endpoints[index].state = .unknown }
        if failure.failureClass == .transient { moveOn(from: index) }
        insert.complete(.failed(failure))
    }

    /// Uses the next endpoint from now on, unless another transfer has seen to that already.
    private func moveOn(from index: Int) {
        guard endpoints.count > 1, index == current else { return }
        current = (current + 1) % endpoints.count
        log.write(
            .clickHouseEndpointChanged, "using the next ClickHouse endpoint",
            ["from": "\(endpoints[index].url.base)", "to": "\(endpoints[current].url.base)"])
    }

    private func note(_ failure: InsertFailure, at index: Int) {
        switch failure.failureClass {
        case .transient, .configuration: queue.noteFailure("\(endpoints[index].url.base): \(failure.summary)")
        case .rowData, .batchShape: queue.noteSuccess()
        }
    }

    // MARK: Stopping

    /// Breaks off every transfer (no server takes what it got for a whole batch) and fails all that waits.
    private func cancelAll() {
        let transfers = Array(running.values)
        for transfer in transfers {
            _ = remove(transfer.handle)
            switch transfer.purpose {
            case .capabilities: break
            case .insert(let insert), .lookup(let insert, _): insert.complete(RequestQueue.shuttingDown)
            }
            transfer.finish()
        }
        for insert in waiting { insert.complete(RequestQueue.shuttingDown) }
        waiting = []
        for request in queue.drain() { request.completion(RequestQueue.shuttingDown) }
    }

    /// Calls with our own handles fail only for want of memory or by a mistake.
    private func check(_ code: CURLMcode) {
        precondition(code == CURLM_OK, "libcurl: \(String(cString: curl_multi_strerror(code)))")
    }
}
