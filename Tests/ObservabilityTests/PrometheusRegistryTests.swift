import CoreMetrics
import Logging
import Observability
import Testing

@Suite struct PrometheusRegistryTests {
    private func families(_ registry: PrometheusRegistry) throws -> [String: PrometheusParser.Family] {
        Dictionary(try PrometheusParser.parse(registry.render()).map { ($0.name, $0) }, uniquingKeysWith: { $1 })
    }

    private func registry(
        _ descriptions: [MetricDescription] = [], maximumSeries: Int = 1_000, logger: Logger = .silent
    ) -> PrometheusRegistry {
        PrometheusRegistry(
            descriptions: descriptions, maximumSeries: maximumSeries, processMetrics: false, logger: logger)
    }

    @Test func rendersExactlyThisText() {
        let registry = registry([
            MetricDescription(name: "ingest_events_total", help: "Events."),
            MetricDescription(name: "ingest_wait_seconds", help: "Waits.", buckets: [0.005, 1]),
        ])
        Counter(label: "ingest_events_total", dimensions: [("stream", "b"), ("source", "http")], factory: registry)
            .increment(by: 7)
        Counter(label: "ingest_events_total", dimensions: [("source", "http"), ("stream", "a")], factory: registry)
            .increment()
        Meter(label: "ingest_bytes", factory: registry).set(1.5)
        let timer = Timer(label: "ingest_wait_seconds", factory: registry)
        timer.recordNanoseconds(5_000_000)
        timer.recordNanoseconds(250_000_000)
        timer.recordNanoseconds(2_000_000_000)
        let expected = """
            # TYPE ingest_bytes gauge
            ingest_bytes 1.5
            # HELP ingest_events_total Events.
            # TYPE ingest_events_total counter
            ingest_events_total{source="http",stream="a"} 1
            ingest_events_total{source="http",stream="b"} 7
            # HELP ingest_metrics_series_dropped_total Metric handles that record into nothing: too many label \
            combinations, or a name used twice.
            # TYPE ingest_metrics_series_dropped_total counter
            ingest_metrics_series_dropped_total 0
            # HELP ingest_wait_seconds Waits.
            # TYPE ingest_wait_seconds histogram
            ingest_wait_seconds_bucket{le="0.005"} 1
            ingest_wait_seconds_bucket{le="1"} 2
            ingest_wait_seconds_bucket{le="+Inf"} 3
            ingest_wait_seconds_sum 2.255
            ingest_wait_seconds_count 3

            """
        #expect(String(decoding: registry.render(), as: UTF8.self) == expected)
    }

    @Test func countsCanBeRead() throws {
        let registry = registry()
        let counter = Counter(
            label: "ingest.events_total", dimensions: [("stream", "a\"b\n"), ("stream", "x")], factory: registry)
        counter.increment(by: 7)
        Counter(label: "ingest.events_total", factory: registry).increment()
        Gauge(label: "size", factory: registry).record(3)
        let counts = registry.counts(of: "ingest_events_total")
        #expect(counts.map(\.labels) == [[:], ["stream": "a\"b\n"]])
        #expect(counts.map(\.value) == [1, 7])
        counter.increment()
        #expect(registry.counts(of: "ingest_events_total").last?.value == 8)
        #expect(registry.counts(of: "size").isEmpty && registry.counts(of: "other").isEmpty)
        counter.destroy()
        #expect(registry.counts(of: "ingest_events_total").count == 1)
    }

    @Test func everyKindOfHandleComesBackFromTheText() throws {
        let registry = registry([
            MetricDescription(name: "sizes", help: "Sizes.", buckets: MetricDescription.countBuckets)
        ])
        let counter = Counter(label: "c_total", factory: registry)
        counter.increment(by: 40)
        counter.increment(by: 2)
        counter.increment(by: -5)
        FloatingPointCounter(label: "f_total", factory: registry).increment(by: 0.25)
        FloatingPointCounter(label: "f_total", factory: registry).increment(by: -1.0)
        FloatingPointCounter(label: "f_total", factory: registry).increment(by: Double.nan)
        let meter = Meter(label: "m", factory: registry)
        meter.set(10)
        meter.increment(by: 0.5)
        meter.decrement(by: 1.0)
        Gauge(label: "g", factory: registry).record(-3)
        let recorder = Recorder(label: "sizes", factory: registry)
        recorder.record(5)
        recorder.record(6)
        recorder.record(1_000_000)
        recorder.record(Double.nan)
        let families = try families(registry)
        #expect(families["c_total"]?.samples == [.init(name: "c_total", labels: [:], value: 42)])
        #expect(families["f_total"]?.samples.first?.value == 0.25)
        #expect(families["f_total"]?.type == "counter")
        #expect(families["m"]?.samples.first?.value == 9.5)
        #expect(families["g"]?.samples.first?.value == -3)
        #expect(families["g"]?.type == "gauge")
        let sizes = try #require(families["sizes"]).samples
        #expect(sizes.first { $0.labels == ["le": "5"] }?.value == 1)
        #expect(sizes.first { $0.labels == ["le": "10"] }?.value == 2)
        #expect(sizes.first { $0.labels == ["le": "+Inf"] }?.value == 3)
        #expect(sizes.first { $0.name == "sizes_sum" }?.value == 1_000_011)
    }

    @Test func extremeNumbersAreLegalText() throws {
        let registry = registry()
        let values: [Double] = [.infinity, -.infinity, 1e300, 1e-300, 0x1p53, -0.0, 1e15, 0x1p70]
        for (index, value) in values.enumerated() {
            Gauge(label: "g", dimensions: [("i", "\(index)")], factory: registry).record(value)
        }
        Gauge(label: "undefined", factory: registry).record(Double.nan)
        let counter = Counter(label: "large_total", factory: registry)
        counter.increment(by: Int64.max)
        let families = try families(registry)
        #expect(families["g"]?.samples.map(\.value) == values)
        #expect(families["undefined"]?.samples.first?.value.isNaN == true)
        // Not rounded to a double on our side.
        #expect(String(decoding: registry.render(), as: UTF8.self).contains("large_total 9223372036854775807\n"))
    }

    @Test(arguments: ["quote \" inside", "back\\slash", "line\nfeed", "\\n", "", "ключ 🗝", "}, x=\"1\"", "tab\tcr\r"])
    func labelValuesAndHelpSurvive(text: String) throws {
        let registry = registry([MetricDescription(name: "x_total", help: text)])
        Counter(label: "x_total", dimensions: [("v", text), ("w", "after")], factory: registry).increment()
        let family = try #require(try families(registry)["x_total"])
        #expect(family.samples.map(\.labels) == [["v": text, "w": "after"]])
        #expect(family.help == text)
    }

    @Test func foreignNamesBecomeLegal() throws {
        let registry = registry()
        Counter(label: "http.server.requests", dimensions: [("http.method", "GET"), ("1st", "x")], factory: registry)
            .increment()
        Timer(label: "9 lives", dimensions: [("le", "own")], factory: registry).recordSeconds(1)
        Counter(label: "", dimensions: [("", "empty"), ("a", "first"), ("a", "second")], factory: registry).increment()
        let families = try families(registry)
        #expect(families["http_server_requests"]?.samples.first?.labels == ["http_method": "GET", "_1st": "x"])
        #expect(families["_9_lives"]?.samples.last?.labels == ["le_": "own"])
        #expect(families["_"]?.samples.first?.labels == ["_": "empty", "a": "first"])
    }

    @Test func handlesOfOneNameAndLabelsShareTheirSeries() throws {
        let registry = registry()
        let first = Counter(label: "c_total", dimensions: [("a", "1"), ("b", "2")], factory: registry)
        let second = Counter(label: "c_total", dimensions: [("b", "2"), ("a", "1")], factory: registry)
        first.increment(by: 3)
        second.increment(by: 4)
        #expect(try families(registry)["c_total"]?.samples.map(\.value) == [7])
        first.reset()
        #expect(try families(registry)["c_total"]?.samples.map(\.value) == [0])
    }

    @Test func aSeriesEndsWithItsLastHandle() throws {
        let registry = registry()
        let first = Counter(label: "c_total", factory: registry)
        let second = Counter(label: "c_total", factory: registry)
        first.increment(by: 3)
        first.destroy()
        #expect(try families(registry)["c_total"]?.samples.map(\.value) == [3], "another handle still records")
        second.destroy()
        #expect(try families(registry)["c_total"] == nil)
        second.increment(by: 9)
        second.destroy()
        let third = Counter(label: "c_total", factory: registry)
        third.increment()
        #expect(try families(registry)["c_total"]?.samples.map(\.value) == [1], "begins at zero")
        second.destroy()
        #expect(try families(registry)["c_total"]?.samples.map(\.value) == [1], "a dead handle ends nothing")
        withExtendedLifetime((first, third)) {}
    }

    @Test func everyKindOfHandleCanBeDestroyed() throws {
        let registry = registry()
        let counter = FloatingPointCounter(label: "f_total", factory: registry)
        let meter = Meter(label: "m", factory: registry)
        let recorder = Recorder(label: "r", factory: registry)
        let timer = Timer(label: "t_seconds", factory: registry)
        #expect(try families(registry).count == 5)
        counter.destroy()
        meter.destroy()
        recorder.destroy()
        timer.destroy()
        #expect(try families(registry).count == 1)
    }

    @Test func tooManySeriesAreDroppedCountedAndLoggedOnce() throws {
        let log = LogCapture()
        let registry = registry(maximumSeries: 3, logger: log.jsonLogger(label: "metrics"))
        for index in 0..<10 {
            Counter(label: "c_total", dimensions: [("id", "\(index)")], factory: registry).increment()
            Counter(label: "other_total", factory: registry).increment()
        }
        var families = try families(registry)
        #expect(families["c_total"]?.samples.count == 3)
        #expect(families["other_total"]?.samples.map(\.value) == [10])
        #expect(families["ingest_metrics_series_dropped_total"]?.samples.map(\.value) == [7])
        let lines = try log.objects()
        #expect(lines.count == 1)
        #expect(lines.first?["metric"] as? String == "c_total")

        // Room that was given back can be used again.
        let known = Counter(label: "c_total", dimensions: [("id", "0")], factory: registry)
        known.destroy()
        known.destroy()
        Counter(label: "c_total", dimensions: [("id", "new")], factory: registry).increment(by: 5)
        families = try self.families(registry)
        #expect(families["c_total"]?.samples.map(\.labels["id"]) == ["1", "2", "new"])
    }

    @Test func aNameHasOneKind() throws {
        let log = LogCapture()
        let registry = registry(logger: log.jsonLogger(label: "metrics"))
        Timer(label: "t_seconds", factory: registry).recordSeconds(1)
        Counter(label: "t_seconds", factory: registry).increment()
        for _ in 0..<3 { Meter(label: "t_seconds_count", factory: registry).set(5) }
        let families = try families(registry)
        #expect(families["t_seconds"]?.type == "histogram")
        #expect(families["t_seconds_count"] == nil)
        #expect(families["ingest_metrics_series_dropped_total"]?.samples.map(\.value) == [4])
        #expect(try log.objects().count == 2)
    }

    @Test func collectorsRunBeforeEachRendering() throws {
        let registry = registry()
        // A `Meter` would hold the registry, which holds its collectors.
        let gauge = registry.makeMeter(label: "depth", dimensions: [])
        registry.onScrape { gauge.increment(by: 1) }
        registry.onScrape { [weak registry] in
            if let registry { Meter(label: "made_late", factory: registry).set(1) }
        }
        let first = try families(registry)
        #expect(first["depth"]?.samples.first?.value == 1)
        #expect(first["made_late"] != nil, "what a collector makes is in the same rendering")
        #expect(try families(registry)["depth"]?.samples.first?.value == 2)
    }

    @Test func concurrentRecordingLosesNothing() async throws {
        let registry = registry([MetricDescription(name: "t_seconds", help: "T.", buckets: [1])])
        let rounds = 20_000
        let workers = 4
        await withTaskGroup(of: Void.self) { group in
            for worker in 0..<workers {
                group.addTask {
                    let counter = Counter(label: "c_total", factory: registry)
                    let fraction = FloatingPointCounter(label: "f_total", factory: registry)
                    let meter = Meter(label: "m", factory: registry)
                    let timer = Timer(label: "t_seconds", factory: registry)
                    for round in 0..<rounds {
                        counter.increment()
                        fraction.increment(by: 0.5)
                        meter.increment(by: 2.0)
                        timer.recordNanoseconds(round % 2 == 0 ? 500_000_000 : 1_500_000_000)
                        if round % 2_000 == 0 {
                            _ = registry.render()
                            Counter(label: "n_total", dimensions: [("w", "\(worker)")], factory: registry).increment()
                        }
                    }
                }
            }
        }
        let total = Double(rounds * workers)
        let families = try families(registry)
        #expect(families["c_total"]?.samples.first?.value == total)
        #expect(families["f_total"]?.samples.first?.value == total / 2)
        #expect(families["m"]?.samples.first?.value == total * 2)
        #expect(families["t_seconds"]?.samples.map(\.value) == [total / 2, total, total, total])
        #expect(families["n_total"]?.samples.count == workers)
    }

    @Test func processMetricsAreThere() throws {
        let registry = PrometheusRegistry(descriptions: [], logger: .silent)
        let families = try families(registry)
        func value(_ name: String) throws -> Double { try #require(families[name]?.samples.first?.value, "\(name)") }
        #expect(try value("process_cpu_seconds_total") > 0)
        #expect(try value("process_resident_memory_bytes") > 1_000_000)
        #expect(try value("process_open_fds") >= 3)
        #expect(try value("process_max_fds") >= value("process_open_fds"))
        let now = Double(LogCapture.wallClockSeconds())
        let start = try value("process_start_time_seconds")
        #expect(start <= now + 1 && start > now - 3_600)
        #expect(families["process_cpu_seconds_total"]?.type == "counter")
    }
}
