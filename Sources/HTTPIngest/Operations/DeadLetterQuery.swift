internal import IngestCore

/// The parameters of requests that concern many dead letters.
struct DeadLetterQuery {
    private(set) var filter = DeadLetterFilter()
    /// Letters up to this number are skipped.
    private(set) var after: UInt64 = 0
    /// The most letters to list.
    private(set) var limit = 100
    private(set) var isNewestFirst = false

    /// - Parameter query: of a request that lists.
    /// - Throws: `Problem` 400.
    init(listing query: String?) throws(Problem) {
        for (name, value) in try QueryParameters(query).pairs {
            switch name {
            case "after":
                guard let number = UInt64(digits: value) else { throw .badParameter("after is a dead letter's id") }
                after = number
            case "limit":
                guard let number = UInt64(digits: value), (1...1_000).contains(number) else {
                    throw .badParameter("limit is a number from 1 to 1000")
                }
                limit = Int(number)
            case "order":
                guard value == "oldest" || value == "newest" else { throw .badParameter("order is oldest or newest") }
                isNewestFirst = value == "newest"
            default:
                try read(name, value)
            }
        }
        guard !isNewestFirst || after == 0 else { throw .badParameter("order=newest goes without after") }
    }

    /// - Parameter query: of a request that changes what it fits. All letters must be asked for by name: a variable
    ///   that a script forgot to set must not mean them.
    /// - Throws: `Problem` 400.
    init(changing query: String?) throws(Problem) {
        var isAll = false
        for (name, value) in try QueryParameters(query).pairs {
            if name == "all" {
                guard value == "true" else { throw .badParameter("all can be \"true\"") }
                isAll = true
            } else {
                try read(name, value)
            }
        }
        let isFiltered = filter != DeadLetterFilter()
        guard isAll || isFiltered else {
            throw .badParameter("say which dead letters: stream, kind, since or until; or all=true for all of them")
        }
        guard !isAll || !isFiltered else { throw .badParameter("all=true goes without stream, kind, since and until") }
    }

    private mutating func read(_ name: String, _ value: String) throws(Problem) {
        switch name {
        case "stream", "kind":
            guard !value.isEmpty else { throw .badParameter("\(name) is empty") }
            if name == "stream" { filter.stream = value } else { filter.kind = value }
        case "since", "until":
            guard let time = Self.time(value) else {
                throw .badParameter(
                    "\(name) is a time such as 2026-11-23T01:58:00Z, a date, or milliseconds since 1970 UTC")
            }
            if name == "since" { filter.since = time } else { filter.until = time }
        default:
            throw .unknownParameter(name)
        }
    }

    private static func time(_ text: String) -> Int64? {
        if let number = UInt64(digits: text) { return Int64(exactly: number) }
        return Timestamp.milliseconds(iso8601: text)
    }
}

extension UInt64 {
    /// A number of nothing but digits. (The standard library's own initializer takes signs too.)
    init?(digits text: some StringProtocol) {
        guard text.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }) else { return nil }
        self.init(text)
    }
}
