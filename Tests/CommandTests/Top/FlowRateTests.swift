import Testing

@testable import ingestd

@Suite struct FlowRateTests {
    private typealias Fixture = StatusFixture

    @Test func ratesAreDifferencesPerSecond() throws {
        let rates = try #require(
            FlowRates(
                from: Fixture.sample(after: 0),
                to: Fixture.sample(after: 4) {
                    $0.sources = [Fixture.source("http", accepted: 400), Fixture.source("kafka", accepted: 40)]
                    $0.sources?[0].rejected_events = 8
                    $0.streams[0] = Fixture.stream("events", pending: 40, taken: 440)
                    $0.streams[0].dead_letters = 2
                    $0.journal.stored_bytes = 2_000
                }))
        #expect(rates.seconds == 4)
        #expect(rates.intake == .init(accepted: 110, rejected: 2, deadLetters: 0))
        #expect(rates.delivery == .init(taken: 110, inserted: 100, deadLetters: 0.5))
        // A source that was not there had brought nothing.
        #expect(rates.sources[.init(source: "kafka", stream: "events")]?.accepted == 10)
        #expect(rates.streams["events"]?.inserted == 100)
        #expect(rates.storedBytes == 500 && rates.pendingEvents == 10)
    }

    /// The service's clock counts, not the time until its answers are here.
    @Test func slowAnswersDoNotChangeRates() throws {
        let before = Fixture.sample(after: 0)
        var status = Fixture.sample(after: 2) { $0.streams[0].inserted_events = 100 }.status
        status.streams[0].next_sequence = 101
        let late = StatusSample(status: status, document: [], askedAt: 1_002, answeredAt: 1_006)
        #expect(FlowRates(from: before, to: late)?.delivery.inserted == 50)
    }

    @Test func whatOlderServicesDoNotTellIsNotKnown() throws {
        var old = Fixture.quiet
        (old.host, old.sources, old.journal.max_bytes) = (nil, nil, nil)
        (old.streams[0].inserted_events, old.streams[0].dead_letters) = (nil, nil)
        let rates = try #require(
            FlowRates(
                from: Fixture.sample(after: 0, from: old),
                to: Fixture.sample(after: 2, from: old) {
                    $0.streams[0].next_sequence += 10
                    $0.streams[0].pending_events = 10
                    $0.journal.stored_bytes = 100
                }))
        #expect(rates.intake == .init())
        #expect(rates.delivery == .init(taken: 5))
        #expect(rates.streams["events"] == .init(taken: 5))
        #expect(rates.forecast(Fixture.sample(after: 2, from: old).status) == nil)
    }

    @Test func aCounterThatFallsHasNoRate() throws {
        var before = Fixture.quiet
        before.streams.append(Fixture.stream("other", taken: 50))
        let rates = try #require(
            FlowRates(
                from: Fixture.sample(after: 0, from: before),
                to: Fixture.sample(after: 1, from: before) {
                    $0.streams[1].inserted_events = 10
                    $0.streams[0].inserted_events = 7
                }))
        #expect(rates.streams["other"]?.inserted == nil)
        #expect(rates.streams["events"]?.inserted == 7)
        #expect(rates.delivery.inserted == nil)
    }

    /// Counters that are larger again by the next look, in spite of a restart, must not pass for a slow flow.
    @Test(arguments: [0.3, 1.0, 60, 3_600])
    func aRestartHasNoRates(gap: Double) {
        let before = Fixture.sample(after: 0) { $0.uptime_seconds = 0.2 }
        func after(_ uptime: Double) -> StatusSample {
            Fixture.sample(after: gap) {
                $0.uptime_seconds = uptime
                $0.streams[0].inserted_events = 1_000_000
            }
        }
        #expect(FlowRates(from: before, to: after(gap + 0.2)) != nil)
        #expect(FlowRates(from: before, to: after(0.1)) == nil)
        if gap > 10 { #expect(FlowRates(from: before, to: after(gap - 5)) == nil) }
        let other = Fixture.sample(after: gap) {
            $0.uptime_seconds = gap + 0.2
            $0.journal.id = "another"
        }
        #expect(FlowRates(from: before, to: other) == nil)
    }

    @Test func twoAnswersAtOnceSayNothing() {
        #expect(FlowRates(from: Fixture.sample(after: 0), to: Fixture.sample(after: 0)) == nil)
        #expect(FlowRates(from: Fixture.sample(after: 0), to: Fixture.sample(after: 0.001)) == nil)
    }

    @Test func forecasts() throws {
        func forecast(
            pending: (Int, Int), stored: (Int, Int), age: Double? = 60, limit: Int? = 10_000
        ) -> FlowRates.Forecast? {
            func sample(_ seconds: Double, _ pending: Int, _ stored: Int) -> StatusSample {
                Fixture.sample(after: seconds) {
                    $0.streams[0].pending_events = pending
                    $0.streams[0].oldest_event_age_seconds = age
                    ($0.journal.stored_bytes, $0.journal.max_bytes) = (stored, limit)
                }
            }
            let now = sample(2, pending.1, stored.1)
            return FlowRates(from: sample(0, pending.0, stored.0), to: now)?.forecast(now.status)
        }
        #expect(forecast(pending: (0, 10), stored: (1_000, 2_000)) == .full(seconds: 16))
        #expect(forecast(pending: (100, 80), stored: (2_000, 1_000)) == .empty(seconds: 8))
        // Delivered events that are kept take room too; that is no danger.
        #expect(forecast(pending: (100, 80), stored: (1_000, 2_000)) == .empty(seconds: 8))
        #expect(forecast(pending: (10, 10), stored: (1_000, 2_000)) == nil)
        #expect(forecast(pending: (10, 0), stored: (2_000, 1_000)) == nil)
        // A batch that is filling up.
        #expect(forecast(pending: (0, 10), stored: (1_000, 2_000), age: 0.5) == nil)
        #expect(forecast(pending: (0, 10), stored: (1_000, 2_000), age: nil) == .full(seconds: 16))
        #expect(forecast(pending: (0, 10), stored: (1_000, 2_000), limit: nil) == nil)
        #expect(forecast(pending: (0, 10), stored: (1_000, 20_000)) == .full(seconds: 0))
    }

    @Test func theWindowHoldsTenSecondsOfOneRun() throws {
        var window = SampleWindow()
        #expect(window.rates == nil)
        func add(_ seconds: Double, _ inserted: Int) {
            window.add(Fixture.sample(after: seconds) { $0.streams[0].inserted_events = inserted })
        }
        add(0, 0)
        #expect(window.rates == nil && window.last != nil)
        for second in 1...20 { add(Double(second), second * 100) }
        #expect(window.rates?.seconds == 10)
        #expect(window.rates?.delivery.inserted == 100)
        // The gap of an outage counts: it was no time without flow.
        add(80, 2_600)
        #expect(window.rates?.seconds == 60)
        #expect(window.rates?.delivery.inserted == 10)
        window.add(Fixture.sample(after: 82) { $0.uptime_seconds = 1 })
        #expect(window.rates == nil)
        window.add(Fixture.sample(after: 84) { $0.uptime_seconds = 3 })
        #expect(window.rates?.seconds == 2)
    }

    /// Sums wrap around: whoever answers must not be able to end this process.
    @Test func absurdNumbersAreBorne() throws {
        let absurd = Fixture.sample(after: 1) {
            $0.streams = ["a", "b"].map { Fixture.stream($0, pending: .max) }
            $0.streams[0].inserted_events = .min
            $0.streams[1].inserted_events = .max
            $0.journal.stored_bytes = .min
            $0.journal.max_bytes = .max
            $0.sources = [Fixture.source("http", accepted: .max), Fixture.source("kafka", accepted: .max)]
            $0.kafka.partitions = [Fixture.partition("t", 0, lag: .min), Fixture.partition("t", 1, lag: .max)]
        }
        let rates = FlowRates(from: Fixture.sample(after: 0), to: absurd)
        for columns in [1, 40, 200] {
            let picture = TopPicture(
                address: "", connection: .connected, status: absurd.status, content: .rates(rates))
            #expect(!picture.lines(columns: columns, rows: 20).isEmpty)
        }
    }
}
