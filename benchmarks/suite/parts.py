"""The parts of a run: what each measures is said in docs/benchmarks.md."""

import contextlib
import os
import shutil
import signal
import statistics
import time

from .bench import Bench
from .servers import Failure, Service, kafka_partitions, start_clickhouse, start_kafka, start_reference

EVENT_BYTES = 217
# Bytes a second that no load will exceed.
MOST_BYTES = 1_200_000_000
# Servers that HTTP is measured against (`ingestd bench http-reference`). The targets are ratios to the first.
REFERENCES = ("hummingbird", "nio")


def journal(bench: Bench) -> None:
    """The journal's append against write+fdatasync."""
    few = ["--mebibytes", 8, "--rounds", 3] if bench.settings.quick else []
    for row in bench.run("journal", "--path", bench.new_folder(), *few):
        size = f"{row['entry_bytes'] >> 10}kib" if row["entry_bytes"] < 1 << 20 else f"{row['entry_bytes'] >> 20}mib"
        bench.results.add(f"journal_{size}_rate", row["journal_rate"], "MB/s")
        bench.results.add(f"file_{size}_rate", row["file_rate"], "MB/s")
        ratio = bench.results.add(f"journal_{size}_ratio", row["journal_rate"] / row["file_rate"], "ratio")
        bench.say(f"{size}: {row['journal_rate']:,.0f} MB/s, write+fdatasync {row['file_rate']:,.0f} MB/s: {ratio:.2f}")


def http(bench: Bench) -> None:
    """Durable HTTP against servers that only read bodies."""
    folder = bench.new_folder()
    add = bench.results.add
    with contextlib.ExitStack() as running:
        service = running.enter_context(Service(bench.settings, folder))
        references = {}
        for server in REFERENCES:
            process, references[server] = start_reference(bench.settings, folder, server)
            running.enter_context(process)
        # In turns: what slows the machine for a while slows all of them.
        rounds = 1 if bench.settings.quick else 3
        seconds = bench.settings.seconds / rounds
        for connections, events in ((16, 1_000), (16, 1), (256, 1)):
            name = f"http_{connections}x{events}"
            bounds: dict[str, list[float]] = {server: [] for server in references}
            loads = []
            cpu = 0.0
            for _ in range(rounds):
                for server, port in references.items():
                    bounds[server].append(bench.load(port, connections, events, seconds)["requests_per_second"])
                before = service.cpu_seconds()
                loads.append(bench.load(service.port, connections, events, seconds))
                cpu += service.cpu_seconds() - before

            def median(value, loads=loads) -> float:
                return statistics.median(value(load) for load in loads)

            rate = add(f"{name}_events", median(lambda load: load["events_per_second"]), "events/s")
            for server, bound in bounds.items():
                add(f"{name}_{server}_events", statistics.median(bound) * events, "events/s")
                ratio = statistics.median(load["requests_per_second"] / most for load, most in zip(loads, bound))
                add(f"{name}_{server}_ratio", ratio, "ratio")
            add(f"{name}_p50", median(lambda load: load["latency"]["p50"]), "ms", "lower")
            p99 = add(f"{name}_p99", median(lambda load: load["latency"]["p99"]), "ms", "lower")
            add(f"{name}_cpu", cpu / sum(load["events"] for load in loads) * 1e6, "us", "lower")
            generator = median(lambda load: load["generator_cpu_seconds"] / load["seconds"])
            add(f"{name}_generator", generator, "cores", "lower")
            bench.say(
                f"{connections} connections, {events} events: {rate:,.0f} events/s; p99 {p99:.2f} ms; body-only: "
                + ", ".join(
                    f"{server} {bench.results.get(f'{name}_{server}_events'):,.0f} "
                    f"({bench.results.get(f'{name}_{server}_ratio'):.2f})" for server in references)
            )  # fmt: skip
        add("ingest_cpu", bench.results.get("http_16x1000_cpu"), "us", "lower")
        # Half of what a closed loop got: queues are short, and what remains is the service's own latency.
        rate = max(10, bench.results.get("http_16x1_events") / 2)
        sent = bench.load(service.port, 64, 1, rate=rate)
        for quantile in ("p50", "p99", "p999", "max"):
            bench.results.add(f"http_open_{quantile}", sent["latency"][quantile], "ms", "lower")
        bench.say(f"at {rate:,.0f} requests/s: p50 {sent['latency']['p50']:.2f} p99 {sent['latency']['p99']:.2f} ms")


def curves(bench: Bench) -> None:
    """What bodies, connections, event sizes and streams cost."""
    seconds = bench.settings.seconds / 2
    streams = (1, 4, 16, 64)
    routes = ",".join(f"s{n}=stream{n}" for n in range(streams[-1]))
    folder = bench.new_folder()
    with Service(bench.settings, folder, STREAMS=routes) as service:
        def measure(name, label, unit, points):
            found = []
            for x, load in points:
                sent = bench.load(service.port, **{"seconds": seconds, **load})
                found.append((x, sent[unit]))
            words = {"events_per_second": "events/s", "requests_per_second": "requests/s", "bytes": "bytes"}
            bench.results.curve(name, label, words[unit], found)
            bench.say(f"{name}: " + "  ".join(f"{x}: {y:,.0f}" for x, y in found))

        quick = bench.settings.quick
        measure(
            "Events of one request", "events", "events_per_second",
            [(n, {"connections": 16, "events": n}) for n in ((1, 1_000) if quick else (1, 10, 100, 1_000, 10_000))],
        )  # fmt: skip
        measure(
            "Connections, single events", "connections", "requests_per_second",
            [(n, {"connections": n, "events": 1}) for n in ((1, 64) if quick else (1, 4, 16, 64, 256, 1_024))],
        )  # fmt: skip
        measure(
            "Event size, bodies of about 200 kB", "bytes of an event", "events_per_second",
            [
                (size, {"connections": 16, "events": max(1, 217_000 // size), "event_bytes": size})
                for size in ((217, 4_000) if quick else (160, 217, 500, 1_000, 4_000, 16_000))
            ],
        )  # fmt: skip
        # The generator sends to one path; several of them at once are several streams.
        found = []
        for count in (1, 4) if quick else streams:
            found.append((count, _several_streams(bench, service.port, count, seconds)))
        bench.results.curve("Streams, bodies of 100", "streams", "events/s", found)
        bench.say("Streams: " + "  ".join(f"{x}: {y:,.0f}" for x, y in found))


def _several_streams(bench: Bench, port: int, count: int, seconds: float) -> float:
    """Events a second of `count` generators, each with a stream of its own, 64 connections together."""
    import concurrent.futures

    def one(index: int) -> dict:
        return bench.load(
            port, 64 // count, 100, seconds, path=f"/v1/events/s{index}",
            prefix=f"stream{count}-{index}-{os.getpid()}-",
        )  # fmt: skip

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        sent = list(pool.map(one, range(count)))
    return sum(one["events"] for one in sent) / max(one["seconds"] for one in sent)


def backlog(bench: Bench) -> None:
    """Start, memory and rates with a backlog in the journal."""
    folder = bench.new_folder()
    largest = bench.settings.backlog_gb
    free = shutil.disk_usage(folder).free / 1e9
    # Beside the backlog there is what the loads add, and the room for them.
    needed = 1.5 * largest + 4 * bench.settings.seconds
    if free < needed:
        raise Failure(f"a backlog of {largest:g} GB needs {needed:.0f} GB of disk, and {free:.0f} GB are free")
    sizes = [largest / 20, largest / 2, largest]
    rates, starts, filled = [], [], 0.0
    for size in sizes:
        _fill(bench, folder, size - filled)
        filled = size
        with Service(bench.settings, folder) as service:
            starts.append((size, service.start_seconds))
            rates.append((size, bench.load(service.port, 16, 1_000)["events_per_second"]))
            memory = service.memory()
            service.end(signal.SIGKILL)
        if size == sizes[1]:
            bench.results.add("backlog_size", size, "GB")
            bench.results.add("memory_backlog", memory["RssAnon"], "MiB", "lower")
            bench.results.add("start_backlog", starts[-1][1], "s", "lower")
        bench.say(
            f"{size:g} GB: ready in {starts[-1][1] * 1000:.0f} ms, {rates[-1][1]:,.0f} events/s, "
            f"anonymous memory {memory['RssAnon']:.0f} MiB"
        )
    bench.results.curve("Backlog, bodies of 1,000", "GB in the journal", "events/s", rates)
    bench.results.curve("Start", "GB in the journal", "s until ready", starts)
    # Less than that in a large file makes the journal compact it when it opens, and the room is gone.
    _compare_backlogs(bench, folder, min(max(sizes[0], 0.1), largest), largest)


def _fill(bench: Bench, folder: str, gigabytes: float) -> None:
    """Adds events to a journal that nobody has open."""
    bench.run(
        "fill", "--events", int(gigabytes * 1e9 / EVENT_BYTES), JOURNAL_PATH=os.path.join(folder, "journal"),
        JOURNAL_MAX_BYTES="64GiB",
    )  # fmt: skip


def _compare_backlogs(bench: Bench, large_folder: str, small: float, large: float) -> None:
    """The rate with the largest backlog against that with the smallest, in turns, each with blocks to write into.

    A load that extends its file is several times slower than one that writes into blocks that are there, as a journal
    does that ClickHouse empties; so which of two was the first to extend its file decided (2.16 once).
    """
    small_folder = bench.new_folder()
    _fill(bench, small_folder, small)
    rounds, seconds = (1, bench.settings.seconds) if bench.settings.quick else (7, bench.settings.seconds / 10)
    rates: dict[str, list[float]] = {small_folder: [], large_folder: []}
    lengths = {}
    with contextlib.ExitStack() as running:
        services = {}
        for folder in rates:
            # One load more than is measured: the first is for warming up.
            path = os.path.join(folder, "journal/data.mdb")
            lengths[path] = _add_room(path, int((rounds + 1) * seconds * MOST_BYTES))
            services[folder] = running.enter_context(Service(bench.settings, folder))
        for turn in range(rounds + 1):
            for folder in list(rates) if turn % 2 else reversed(list(rates)):
                sent = bench.load(services[folder].port, 16, 1_000, seconds)
                if turn > 0:
                    rates[folder].append(sent["events_per_second"])
        for service in services.values():
            service.end(signal.SIGKILL)
    if any(os.path.getsize(path) > length for path, length in lengths.items()):
        raise Failure("the room in the journals' files did not last: the ratio of their rates means nothing")
    small_rate, large_rate = (statistics.median(rates[folder]) for folder in (small_folder, large_folder))
    # Of each turn, so that what slows both for a while cancels out.
    ratio = statistics.median(large / small for small, large in zip(rates[small_folder], rates[large_folder]))
    bench.results.add("backlog_rate_ratio", ratio, "ratio")
    bench.results.add("http_16x1000_reused_events", large_rate, "events/s")
    bench.say(
        f"in turns, into blocks that are there: {large_rate:,.0f} events/s with {large:g} GB, {small_rate:,.0f} with "
        f"{small:g} GB: {ratio:.2f}"
    )


def _add_room(path: str, length: int) -> int:
    """Makes a file of LMDB longer by blocks that are written and flushed: LMDB takes its pages from there on.

    Returns its length then. Blocks that are only reserved (fallocate) would not do: the first write into one is slow.
    """
    block = bytes(8 << 20)
    with open(path, "ab") as file:
        for _ in range(length // len(block) + 1):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return os.path.getsize(path)


def kafka(bench: Bench) -> None:
    """Kafka to journal against a bare consumer."""
    folder = bench.new_folder()
    # So many that a round takes a second. The development Kafka keeps 5 MiB of a partition: 20,000 of these events.
    events = 20_000 if bench.settings.quick else 1_500_000
    process, brokers = start_kafka(bench.settings, folder, f"bench:{kafka_partitions(events)}")
    with process:
        sent, read = bench.run(
            "kafka", "--topic", "bench", "--events", events, "--rounds", 1 if bench.settings.quick else 4, "--path",
            folder, KAFKA_BOOTSTRAP_SERVERS=brokers,
        )  # fmt: skip
    bench.results.add("kafka_journal_events", read["journal_rate"], "events/s")
    bench.results.add("kafka_bare_events", read["bare_rate"], "events/s")
    bench.results.add("kafka_journal_ratio", read["ratio"], "ratio")
    bench.results.add("kafka_journal_first_events", read["first_journal_rate"], "events/s")
    bench.results.add("kafka_journal_cpu", read["journal_cpu_microseconds"], "us", "lower")
    bench.results.add("kafka_bare_cpu", read["bare_cpu_microseconds"], "us", "lower")
    bench.results.add("kafka_added_cpu", read["added_cpu_microseconds"], "us", "lower")
    bench.say(
        f"{read['journal_rate']:,.0f} events/s ({read['first_journal_rate']:,.0f} into a new journal), bare consumer "
        f"{read['bare_rate']:,.0f}: {read['ratio']:.2f}; CPU {read['journal_cpu_microseconds']:.2f} us/event, bare "
        f"consumer {read['bare_cpu_microseconds']:.2f}; produced {sent['messages'] / sent['seconds']:,.0f}/s"
    )


class _ClickHouse:
    """The operator's ClickHouse, or a development server for the time of a part."""

    def __init__(self, bench: Bench, folder: str):
        self._process = None
        self.url = bench.settings.clickhouse_url
        if not self.url:
            self._process, self.url = start_clickhouse(bench.settings, folder)

    def __enter__(self) -> str:
        return self.url

    def __exit__(self, *_) -> None:
        if self._process is not None:
            self._process.end()


def drain(bench: Bench) -> None:
    """Journal to ClickHouse against direct INSERTs."""
    folder = bench.new_folder()
    events, rounds = (50_000, 1) if bench.settings.quick else (1_000_000, 3)
    with _ClickHouse(bench, folder) as url:
        [found] = bench.run(
            "drain", "--events", events, "--rounds", rounds, "--path", folder, CLICKHOUSE_URL=url)
    bench.results.add("drain_events", found["drain_rate"], "events/s")
    bench.results.add("drain_direct_events", found["direct_rate"], "events/s")
    bench.results.add("drain_ratio", found["ratio"], "ratio")
    bench.results.add("drain_cpu", found["drain_cpu_microseconds"], "us", "lower")
    bench.say(f"{found['drain_rate']:,.0f} events/s, direct {found['direct_rate']:,.0f}: {found['ratio']:.2f}")


def http_to_clickhouse(bench: Bench) -> None:
    """HTTP to ClickHouse with both running, and how long an event takes until it can be read."""
    folder = bench.new_folder()
    ledger = os.path.join(folder, "ledger")
    seconds = 2 * bench.settings.seconds
    with _ClickHouse(bench, folder) as url, Service(bench.settings, folder, CLICKHOUSE_URL=url) as service:
        sent = bench.load(
            service.port, 16, 1_000, seconds, ledger=ledger, sizes="realistic", duplicates=0.01,
            event_bytes=EVENT_BYTES,
        )  # fmt: skip
        # From the first request, before which the generator makes its events, until the last row can be read: what
        # waits in the journal does not count as delivered.
        started = time.monotonic() - sent["seconds"]
        service.wait_until_drained(600)
        rate = sent["events"] / (time.monotonic() - started)
        bench.results.add("http_clickhouse_events", rate, "events/s")
        bench.say(f"{rate:,.0f} events/s from the first request to the last row; accepted "
                  f"{sent['events_per_second']:,.0f} events/s")  # fmt: skip
        bench.verify(ledger, url, "HTTP to ClickHouse")

        ledger = os.path.join(folder, "ledger-visible")
        sent = bench.load(
            service.port, 64, 1, seconds, rate=20, path="/v1/events?ack=inserted", ledger=ledger)
        for quantile in ("p50", "p99", "max"):
            bench.results.add(f"visible_{quantile}", sent["latency"][quantile], "ms", "lower")
        bench.say(f"until an event can be read: p50 {sent['latency']['p50']:.0f} p99 {sent['latency']['p99']:.0f} ms")
        bench.verify(ledger, url, "latency until visible")


def kafka_to_clickhouse(bench: Bench) -> None:
    """Kafka to ClickHouse."""
    folder = bench.new_folder()
    ledger = os.path.join(folder, "ledger")
    events = 20_000 if bench.settings.quick else 500_000
    process, brokers = start_kafka(bench.settings, folder, f"events:{kafka_partitions(events)}")
    with process, _ClickHouse(bench, folder) as url:
        with Service(
            bench.settings, folder, CLICKHOUSE_URL=url, KAFKA_CONSUMER_ENABLED="true", KAFKA_TOPICS="events",
            KAFKA_BOOTSTRAP_SERVERS=brokers,
        ) as service:  # fmt: skip
            sent = bench.run(
                "kafka", "--topic", "events", "--events", events, "--produce-only", "--ledger", ledger, "--sizes",
                "realistic", "--duplicates", 0.01, KAFKA_BOOTSTRAP_SERVERS=brokers,
            )[0]  # fmt: skip
            started = time.monotonic()
            bench.run("verify", "--ledger", ledger, "--wait", 300, CLICKHOUSE_URL=url)
            service.wait_until_drained(300)
            bench.say(f"{sent['messages']:,} messages, all delivered {time.monotonic() - started:.1f} s after the last")
            bench.verify(ledger, url, "Kafka to ClickHouse")


def recovery(bench: Bench) -> None:
    """How long after an outage until the backlog is delivered, by its size."""
    points = []
    for events in (20_000, 50_000) if bench.settings.quick else (100_000, 500_000, 2_000_000):
        folder = bench.new_folder()
        ledger = os.path.join(folder, "ledger")
        with _ClickHouse(bench, folder) as url:
            bench.run(
                "fill", "--events", events, "--ledger", ledger, JOURNAL_PATH=os.path.join(folder, "journal"),
                JOURNAL_MAX_BYTES="64GiB",
            )  # fmt: skip
            started = time.monotonic()
            with Service(bench.settings, folder, CLICKHOUSE_URL=url) as service:
                service.wait_until_drained(600)
                points.append((events, time.monotonic() - started))
                bench.say(f"{events:,} events: delivered {points[-1][1]:.2f} s after the start")
                bench.verify(ledger, url, "recovery")
    bench.results.curve("Recovery after an outage", "events waiting", "s until delivered", points)
