internal import EventJSON
internal import HTTPTypes
internal import IngestCore

/// What is on stable storage of a request.
struct Acceptance {
    /// Good events.
    let count: Int
    let stream: Stream
    /// Empty if there were only bad events.
    let sequences: Range<UInt64>
    /// `nil` if the client did not ask for them to be kept; then there are none.
    let badEvents: BadEvents?

    /// For an answer that comes before anything is inserted.
    func write(to text: inout JSONText) {
        writeEvents(to: &text)
        badEvents?.write(to: &text)
    }

    /// Once the events are on stable storage.
    var answer: Answer {
        var text = JSONText()
        text.object { write(to: &$0) }
        return .json(.accepted, text)
    }

    /// Once all are in ClickHouse or dead letters: those made of bad events count too.
    func answer(_ report: InsertionReport) -> Answer {
        var text = JSONText()
        text.object {
            writeEvents(to: &$0)
            $0.member("inserted", report.inserted)
            var all = badEvents ?? BadEvents()
            all.add(report)
            all.writeDeadLetters(to: &$0)
            if let badEvents { $0.problems(badEvents.problems) }
        }
        return .json(.ok, text)
    }

    private func writeEvents(to text: inout JSONText) {
        text.member("accepted", count)
        text.member("stream", stream.table)
        guard !sequences.isEmpty else { return }
        text.member("first_sequence", sequences.lowerBound)
        text.member("last_sequence", sequences.upperBound - 1)
    }
}

/// Bad events that are on stable storage as dead letters.
struct BadEvents {
    private var count = 0
    /// The first ones' ids.
    private var ids: [String] = []
    /// What is wrong with the first ones, and with what had no bytes to keep.
    private(set) var problems: [BodyReport.Problem] = []

    init() {}

    init(_ contents: BodyContents) {
        count = contents.deadLetters.count
        ids = contents.deadLetters.prefix(Limits.reportedProblems).map(\.eventID)
        problems = Array(contents.report.problems.prefix(Limits.reportedProblems))
    }

    mutating func add(_ report: InsertionReport) {
        count += report.deadLettered
        ids += report.deadLetterIDs.prefix(Limits.reportedProblems - ids.count)
    }

    func write(to text: inout JSONText) {
        writeDeadLetters(to: &text)
        text.problems(problems)
    }

    func writeDeadLetters(to text: inout JSONText) {
        text.member("dead_lettered", count)
        text.array("dead_letter_ids", ids)
    }
}
