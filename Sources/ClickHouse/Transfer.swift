import CCurl
import IngestCore

/// One request to a server: a curl handle, what it sends and what came back. Used for one request after the other.
///
/// Lives on the transfer loop's thread. The callbacks below are called by curl on that thread, only inside
/// `curl_multi_perform` and only while the handle is in the multi handle; the loop holds the transfer that long, so
/// the unretained pointer they get is valid.
final class Transfer {
    /// Why a transfer was made.
    enum Purpose {
        /// Asks a server what it can do.
        case capabilities
        /// Sends a batch.
        case insert(PendingInsert)
        /// Asks whether the rows of a batch are there.
        case lookup(PendingInsert, RowLookup)
    }

    /// The largest buffer that curl takes is 2 MiB; each read callback fills one, and it becomes one chunk.
    private static let uploadBufferBytes = 512 << 10
    /// Longest time for the answer to the first question; all batches wait for it.
    private static let capabilityTimeout = Duration.seconds(15)

    let handle: UnsafeMutableRawPointer
    let body: BatchBody
    private(set) var answer = ServerAnswer()
    /// Why the body ended early, if it did.
    private(set) var unreadable: BatchBody.Unreadable?
    /// Position of the endpoint that it goes to.
    private(set) var endpoint = 0
    private(set) var purpose = Purpose.capabilities
    /// Whether curl has sent the request twice by itself.
    private(set) var wasSentTwice = false
    private let requestTimeout: Duration
    private let insertHeaders: HeaderList
    private let compressedInsertHeaders: HeaderList
    private let queryHeaders: HeaderList
    private let lookupHeaders: HeaderList
    private let errorText: UnsafeMutablePointer<CChar>

    init(configuration: ClickHouseConfiguration) {
        guard let handle = curl_easy_init() else { preconditionFailure("curl_easy_init: out of memory") }
        self.handle = handle
        body = BatchBody(mode: configuration.rowMode)
        requestTimeout = configuration.requestTimeout
        var credentials = ["X-ClickHouse-User: \(configuration.user)"]
        if !configuration.password.isEmpty { credentials.append("X-ClickHouse-Key: \(configuration.password)") }
        queryHeaders = HeaderList(credentials)
        lookupHeaders = HeaderList(credentials + ["Expect:", "Content-Type: text/plain"])
        // curl would ask whether it may send (`Expect: 100-continue`) and wait for an answer.
        let insert = credentials + ["Transfer-Encoding: chunked", "Expect:", "Content-Type: application/x-ndjson"]
        insertHeaders = HeaderList(insert)
        compressedInsertHeaders = HeaderList(insert + ["Content-Encoding: zstd"])
        errorText = .allocate(capacity: Int(CURL_ERROR_SIZE))
        errorText.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
        setOptions(configuration)
    }

    deinit {
        curl_easy_cleanup(handle)
        errorText.deallocate()
    }

    /// Prepares the question what the server can do.
    func prepareCapabilities(endpoint index: Int, url: String) {
        prepare(.capabilities, endpoint: index, url: url)
        set(CURLOPT_HTTPGET, 1)
        set(CURLOPT_TIMEOUT_MS, min(requestTimeout, Self.capabilityTimeout).wholeMilliseconds)
        check(ccurl_set_list(handle, CURLOPT_HTTPHEADER, queryHeaders.list))
    }

    /// Prepares an INSERT.
    func prepareInsert(_ insert: PendingInsert, endpoint index: Int, url: String, compresses: Bool) {
        prepare(.insert(insert), endpoint: index, url: url)
        body.start(insert.request, compresses: compresses)
        check(ccurl_set_pointer(handle, CURLOPT_POSTFIELDS, nil))
        set(CURLOPT_POST, 1)
        set(CURLOPT_TIMEOUT_MS, requestTimeout.wholeMilliseconds)
        set(CURLOPT_POSTFIELDSIZE, -1)
        let headers = compresses ? compressedInsertHeaders : insertHeaders
        check(ccurl_set_list(handle, CURLOPT_HTTPHEADER, headers.list))
    }

    /// Prepares the question whether a batch's rows are there.
    func prepareLookup(_ lookup: RowLookup, of insert: PendingInsert, endpoint index: Int, url: String) {
        prepare(.lookup(insert, lookup), endpoint: index, url: url)
        set(CURLOPT_POSTFIELDSIZE, lookup.statement.utf8.count)
        check(ccurl_set_string(handle, CURLOPT_COPYPOSTFIELDS, lookup.statement))
        set(CURLOPT_TIMEOUT_MS, requestTimeout.wholeMilliseconds)
        check(ccurl_set_list(handle, CURLOPT_HTTPHEADER, lookupHeaders.list))
    }

    /// Lets go of what was sent.
    func finish() {
        body.finish()
        purpose = .capabilities
    }

    /// Whether nothing was sent: the next server can be tried at once.
    func failedToConnect(_ result: CURLcode) -> Bool {
        switch result {
        case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_CONNECT, CURLE_SSL_CONNECT_ERROR: true
        case CURLE_OPERATION_TIMEDOUT: requestBytes == 0
        default: false
        }
    }

    /// What a transfer without a whole answer means.
    func networkFailure(_ result: CURLcode) -> InsertFailure {
        let detail = String(cString: errorText)
        let text =
            if result == CURLE_OK {
                "the connection ended within the answer's header"
            } else {
                detail.isEmpty ? String(cString: curl_easy_strerror(result)) : detail
            }
        let failureClass: FailureClass
        switch result {
        // Certificates and the like do not mend themselves.
        case CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE, CURLE_SSL_CERTPROBLEM,
            CURLE_UNSUPPORTED_PROTOCOL,
            CURLE_URL_MALFORMAT:
            failureClass = .configuration
        default: failureClass = .transient
        }
        let message = requestBytes > 0 ? "no complete answer, so the outcome is unknown: \(text)" : text
        return InsertFailure(
            failureClass: failureClass, httpStatus: answer.status > 0 ? answer.status : nil,
            message: ServerAnswer.bounded(message))
    }

    private var requestBytes: Int {
        var bytes: CLong = 0
        check(ccurl_get_long(handle, CURLINFO_REQUEST_SIZE, &bytes))
        return bytes
    }

    // MARK: Options

    private func prepare(_ purpose: Purpose, endpoint index: Int, url: String) {
        self.purpose = purpose
        endpoint = index
        answer.reset()
        unreadable = nil
        wasSentTwice = false
        errorText[0] = 0
        check(ccurl_set_string(handle, CURLOPT_URL, url))
    }

    private func setOptions(_ configuration: ClickHouseConfiguration) {
        let context = Unmanaged.passUnretained(self).toOpaque()
        check(ccurl_set_pointer(handle, CURLOPT_PRIVATE, context))
        check(ccurl_set_pointer(handle, CURLOPT_READDATA, context))
        check(ccurl_set_data_callback(handle, CURLOPT_READFUNCTION, onRead))
        check(ccurl_set_pointer(handle, CURLOPT_SEEKDATA, context))
        check(ccurl_set_seek_callback(handle, onSeek))
        check(ccurl_set_pointer(handle, CURLOPT_WRITEDATA, context))
        check(ccurl_set_data_callback(handle, CURLOPT_WRITEFUNCTION, onBody))
        check(ccurl_set_pointer(handle, CURLOPT_HEADERDATA, context))
        check(ccurl_set_data_callback(handle, CURLOPT_HEADERFUNCTION, onHeader))
        check(ccurl_set_pointer(handle, CURLOPT_ERRORBUFFER, errorText))
        check(ccurl_set_string(handle, CURLOPT_USERAGENT, "ingestd"))
        // A proxy from the environment would be a surprise between two servers.
        check(ccurl_set_string(handle, CURLOPT_NOPROXY, "*"))
        set(CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1)
        set(CURLOPT_NOSIGNAL, 1)
        set(CURLOPT_TCP_KEEPALIVE, 1)
        set(CURLOPT_UPLOAD_BUFFERSIZE, Self.uploadBufferBytes)
        set(CURLOPT_CONNECTTIMEOUT_MS, configuration.connectTimeout.wholeMilliseconds)
    }

    private func set(_ option: CURLoption, _ value: Int) {
        check(ccurl_set_long(handle, option, value))
    }

    /// The options are ours and known to this libcurl: what fails here is memory or a mistake.
    private func check(_ result: CURLcode) {
        precondition(result == CURLE_OK, "libcurl refused an option: \(String(cString: curl_easy_strerror(result)))")
    }

    // MARK: What curl calls

    fileprivate func read(into target: UnsafeMutableRawBufferPointer) -> Int {
        do {
            return try body.read(into: target)
        } catch {
            unreadable = error
            return Int(CURL_READFUNC_ABORT)
        }
    }

    fileprivate func sendsAgain() {
        wasSentTwice = true
        body.rewind()
    }

    fileprivate func receivedHeader(_ line: UnsafeRawBufferPointer) { answer.appendHeader(line) }

    fileprivate func receivedBody(_ bytes: UnsafeRawBufferPointer) { answer.appendBody(bytes) }
}

/// `CURLOPT_READFUNCTION`: the next bytes of the body; 0 ends it, `CURL_READFUNC_ABORT` breaks it off.
private let onRead: @convention(c) (UnsafeMutablePointer<CChar>?, Int, Int, UnsafeMutableRawPointer?) -> Int = {
    target, size, count, context in
    Unmanaged<Transfer>.fromOpaque(context!).takeUnretainedValue()
        .read(into: UnsafeMutableRawBufferPointer(start: target, count: size * count))
}

/// `CURLOPT_SEEKFUNCTION`: curl found a kept connection dead before an answer came, and sends all of it on a new one.
private let onSeek: @convention(c) (UnsafeMutableRawPointer?, curl_off_t, CInt) -> CInt = { context, offset, origin in
    guard offset == 0, origin == 0 else { return CURL_SEEKFUNC_CANTSEEK }
    Unmanaged<Transfer>.fromOpaque(context!).takeUnretainedValue().sendsAgain()
    return CURL_SEEKFUNC_OK
}

/// `CURLOPT_HEADERFUNCTION`: one whole header line.
private let onHeader: @convention(c) (UnsafeMutablePointer<CChar>?, Int, Int, UnsafeMutableRawPointer?) -> Int = {
    bytes, size, count, context in
    Unmanaged<Transfer>.fromOpaque(context!).takeUnretainedValue()
        .receivedHeader(UnsafeRawBufferPointer(start: bytes, count: size * count))
    return size * count
}

/// `CURLOPT_WRITEFUNCTION`: the next bytes of the answer's body.
private let onBody: @convention(c) (UnsafeMutablePointer<CChar>?, Int, Int, UnsafeMutableRawPointer?) -> Int = {
    bytes, size, count, context in
    Unmanaged<Transfer>.fromOpaque(context!).takeUnretainedValue()
        .receivedBody(UnsafeRawBufferPointer(start: bytes, count: size * count))
    return size * count
}

/// Header lines as curl wants them; owns the list.
final class HeaderList {
    private(set) var list: UnsafeMutablePointer<curl_slist>?

    init(_ lines: [String]) {
        for line in lines {
            guard let longer = curl_slist_append(list, line) else { preconditionFailure("out of memory") }
            list = longer
        }
    }

    deinit { curl_slist_free_all(list) }
}

extension Duration {
    /// Rounded up, at least 1: curl takes 0 for "no limit".
    fileprivate var wholeMilliseconds: Int {
        let (seconds, attoseconds) = components
        return max(1, Int(seconds) * 1_000 + Int((attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000))
    }
}
