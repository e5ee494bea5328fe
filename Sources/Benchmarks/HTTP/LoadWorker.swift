import CEpoll
import Glibc
import IngestCore

/// One thread's connections, in one epoll set.
struct LoadWorker {
    /// What came of it.
    struct Outcome: Sendable {
        var requests = 0
        var events = 0
        var bytes = 0
        var repeatedRequests = 0
        var refused: [Int: Int] = [:]
        var unsent = 0
        var latencies = Histogram()

        mutating func add(_ other: Outcome) {
            requests += other.requests
            events += other.events
            bytes += other.bytes
            repeatedRequests += other.repeatedRequests
            refused.merge(other.refused) { $0 + $1 }
            unsent += other.unsent
            latencies.merge(other.latencies)
        }
    }

    /// Bodies prepared for a connection have about so many bytes together, where they differ.
    private static let variedBytes = 1 << 20
    /// A service that is silent for so long is taken for hung, nanoseconds.
    private static let patience: UInt64 = 30_000_000_000
    /// How long an open loop may go on behind its time to send what it is late with, nanoseconds.
    private static let overtime: UInt64 = 10_000_000_000

    private let options: HTTPLoad.Options
    private let index: Int
    private var connections: [LoadConnection] = []
    /// Connections that can begin a request; each is in it at most once.
    private var free = Ring()
    private let poller: CInt
    /// Wakes an open loop more exactly than the milliseconds of epoll.
    private let timer: CInt
    private var timerTime: UInt64?
    /// Requests begun and not answered.
    private var unansweredCount = 0
    private var page: LedgerPage
    private var random: Random
    private var outcome = Outcome()
    private var buffer = [UInt8](repeating: 0, count: 65_536)

    init(_ options: HTTPLoad.Options, index: Int, ledger: Ledger?) throws(BenchmarkFailure) {
        self.options = options
        self.index = index
        page = LedgerPage(ledger)
        random = Random(state: options.seed &+ UInt64(index) &* 0x51_7C_C1B7)
        poller = cepoll_make()
        timer = ctimer_make()
        guard poller >= 0, timer >= 0 else { throw BenchmarkFailure(call: "epoll or timerfd") }
        for lane in stride(from: index, to: options.connections, by: options.threads) {
            let socket = try LoadConnection.connect(host: options.host, port: options.port)
            connections.append(LoadConnection(socket: socket, lane: lane, bodies: bodies(lane: lane)))
        }
    }

    private func bodies(lane: Int) -> [EventBody] {
        var generator = EventGenerator(
            sizes: options.sizes, eventBytes: options.eventBytes, prefix: options.prefix,
            seed: options.seed &+ UInt64(lane))
        let token = options.token.map { "Authorization: Bearer \($0)\r\n" } ?? ""
        let count =
            switch options.sizes {
            case .fixed: 1
            case .realistic: max(2, Self.variedBytes / (options.eventsPerRequest * options.eventBytes))
            }
        return (0..<count).map { _ in
            EventBody(generator.events(options.eventsPerRequest)) { length in
                Array(
                    ("POST \(options.path) HTTP/1.1\r\nHost: \(options.host)\r\nContent-Type: application/x-ndjson\r\n"
                        + token + "Content-Length: \(length)\r\n\r\n").utf8)
            }
        }
    }

    /// Sends and receives until the time is up and everything is answered.
    /// - Parameter start: the time to begin at, nanoseconds.
    mutating func run(from start: UInt64) throws(BenchmarkFailure) -> Outcome {
        defer {
            for connection in connections { close(connection.socket) }
            close(poller)
            close(timer)
        }
        for index in connections.indices {
            try watch(connections[index].socket, index, isNew: true, sends: false)
            free.append(index)
        }
        try watch(timer, connections.count, isNew: true, sends: false)
        do {
            try loop(from: start)
        } catch {
            // What was acknowledged before stays acknowledged.
            try page.write()
            throw error
        }
        try page.write()
        return outcome
    }

    private mutating func loop(from start: UInt64) throws(BenchmarkFailure) {
        let end = start + UInt64(options.seconds * 1e9)
        var schedule = options.rate.map {
            LoadSchedule(start: start, rate: $0, seconds: options.seconds, worker: index, of: options.threads)
        }
        var events = [epoll_event](repeating: epoll_event(), count: 256)
        var lastAnswer = MonotonicClock.now
        while true {
            let now = MonotonicClock.now
            try beginRequests(&schedule, at: now, end: end)
            let isOver =
                schedule.map { $0.nextTime == nil || now >= end + Self.overtime } ?? (now >= end)
            if isOver && unansweredCount == 0 { break }
            try setTimer(isOver || free.isEmpty ? nil : schedule?.nextTime)
            let count = epoll_wait(poller, &events, CInt(events.count), 100)
            guard count >= 0 || errno == EINTR else { throw BenchmarkFailure(call: "epoll_wait") }
            for position in 0..<max(0, Int(count)) {
                let index = Int(cepoll_number(&events[position]))
                if index == connections.count {
                    var expirations: UInt64 = 0
                    _ = read(timer, &expirations, 8)
                    continue
                }
                if cepoll_has_room(&events[position]) != 0 { try send(index) }
                if cepoll_has_input(&events[position]) != 0, try receive(index) { lastAnswer = MonotonicClock.now }
            }
            let later = MonotonicClock.now
            if unansweredCount == 0 { lastAnswer = later }
            guard later - lastAnswer < Self.patience else { throw BenchmarkFailure("no answer within 30 s") }
            try page.write(at: later)
        }
        while schedule?.take(at: .max) != nil { outcome.unsent += 1 }
    }

    private mutating func beginRequests(
        _ schedule: inout LoadSchedule?, at now: UInt64, end: UInt64
    ) throws(BenchmarkFailure) {
        if schedule == nil {
            guard now < end else { return }
            // With a depth above 1 a connection can be free again as soon as it has sent.
            while let index = free.removeFirst() { try begin(index, at: MonotonicClock.now) }
        } else {
            guard now < end + Self.overtime else { return }
            while !free.isEmpty, let time = schedule!.take(at: MonotonicClock.now) {
                try begin(free.removeFirst()!, at: time)
            }
        }
    }

    private mutating func begin(_ index: Int, at start: UInt64) throws(BenchmarkFailure) {
        connections[index].isOffered = false
        unansweredCount += 1
        if options.duplicates > 0, connections[index].hasSent,
            random.fraction() < options.duplicates
        {
            connections[index].repeatLast(at: start)
        } else {
            connections[index].begin(at: start)
        }
        try send(index)
    }

    private mutating func send(_ index: Int) throws(BenchmarkFailure) {
        let wasWaiting = connections[index].isWatchedForRoom
        try connections[index].send()
        if connections[index].isSending != wasWaiting {
            connections[index].isWatchedForRoom = !wasWaiting
            try watch(connections[index].socket, index, isNew: false, sends: !wasWaiting)
        }
        offer(index)
    }

    /// Puts a connection into the row of free ones, if it is free and not there.
    private mutating func offer(_ index: Int) {
        guard !connections[index].isOffered, !connections[index].isSending,
            connections[index].unanswered.count < options.depth
        else { return }
        connections[index].isOffered = true
        free.append(index)
    }

    /// - Returns: whether there was an answer.
    private mutating func receive(_ index: Int) throws(BenchmarkFailure) -> Bool {
        let count = recv(connections[index].socket, &buffer, buffer.count, 0)
        if count < 0 && (errno == EAGAIN || errno == EINTR) { return false }
        guard count > 0 else {
            throw count == 0
                ? BenchmarkFailure("the service closed a connection") : BenchmarkFailure(call: "reading an answer")
        }
        buffer.withUnsafeBytes { connections[index].answers.append(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
        var hasAnswer = false
        while let status = try connections[index].answers.next() {
            guard let request = connections[index].takeAnswered() else {
                throw BenchmarkFailure("an answer with status \(status) to nothing that was asked")
            }
            hasAnswer = true
            unansweredCount -= 1
            note(status, request)
        }
        offer(index)
        return hasAnswer
    }

    private mutating func note(_ status: Int, _ request: LoadConnection.Request) {
        guard 200...299 ~= status else {
            outcome.refused[status, default: 0] += 1
            return
        }
        outcome.latencies.add(MonotonicClock.now - request.start)
        outcome.requests += 1
        outcome.events += request.numbers.count
        outcome.bytes += request.byteCount
        if request.isRepeat { outcome.repeatedRequests += 1 }
        page.acknowledge(request.numbers)
    }

    private func watch(_ descriptor: CInt, _ index: Int, isNew: Bool, sends: Bool) throws(BenchmarkFailure) {
        guard cepoll_watch(poller, descriptor, UInt32(index), isNew ? 1 : 0, sends ? 1 : 0) == 0 else {
            throw BenchmarkFailure(call: "epoll_ctl")
        }
    }

    private mutating func setTimer(_ time: UInt64?) throws(BenchmarkFailure) {
        guard time != timerTime else { return }
        timerTime = time
        guard ctimer_set(timer, time ?? 0) == 0 else { throw BenchmarkFailure(call: "timerfd_settime") }
    }
}

/// A queue of connections' numbers.
private struct Ring {
    private var items: [Int] = []
    private var first = 0

    var count: Int { items.count - first }
    var isEmpty: Bool { count == 0 }

    mutating func append(_ item: Int) { items.append(item) }

    mutating func removeFirst() -> Int? {
        guard first < items.count else { return nil }
        defer {
            first += 1
            if first >= 1_024 && first * 2 > items.count {
                items.removeFirst(first)
                first = 0
            }
        }
        return items[first]
    }
}
