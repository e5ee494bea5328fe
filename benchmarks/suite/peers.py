"""Other programs that keep events on disk before they are delivered, where they are on PATH (benchmarks/peers)."""

import os
import shutil
import socket
import time

from .bench import Bench
from .servers import Failure, Process, free_port, kafka_partitions, start_kafka, wait_until
from .settings import ROOT


def measure(bench: Bench) -> None:
    """Other programs that are on PATH: fluent-bit and vector by HTTP, rsyslogd by Kafka."""
    found = False
    for name, program, arguments in (
        ("fluent_bit", "fluent-bit", ["-c", "{folder}/fluent-bit.conf"]),
        ("vector", "vector", ["--quiet", "--config", "{folder}/vector.yaml"]),
    ):
        path = shutil.which(program)
        if path is not None:
            found = True
            _http(bench, name, path, arguments)
    path = shutil.which("rsyslogd")
    if path is not None:
        found = True
        for sync in ("on", "off"):
            _rsyslogd(bench, path, sync)
    if not found:
        bench.say("none of fluent-bit, vector and rsyslogd is on PATH")


def _write(folder: str, name: str, **values) -> None:
    """A configuration with its places filled in."""
    with open(os.path.join(ROOT, "benchmarks/peers", name)) as file:
        text = file.read()
    for place, value in values.items():
        text = text.replace(f"@{place}@", str(value))
    with open(os.path.join(folder, name), "w") as file:
        file.write(text)


def _answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def _http(bench: Bench, name: str, path: str, arguments: list[str]) -> None:
    folder = bench.new_folder()
    port = free_port()
    for configuration in ("fluent-bit.conf", "vector.yaml"):
        _write(folder, configuration, FOLDER=folder, PORT=port)
    command = [path, *(argument.format(folder=folder) for argument in arguments)]
    with Process(command, bench.settings.environment, os.path.join(folder, "log")):
        wait_until(lambda: _answers(port), f"{path} listens; see {folder}/log", 30)
        sent = bench.load(port, 16, 1_000)
    rate = bench.results.add(f"{name}_16x1000_events", sent["events_per_second"], "events/s")
    bench.say(f"{path}: {rate:,.0f} events/s in bodies of 1,000, 16 connections")
    ours = bench.results.get("http_16x1000_events")
    if ours is not None:
        bench.results.add(f"http_16x1000_to_{name}", ours / rate, "ratio")


def _rsyslogd(bench: Bench, path: str, sync: str) -> None:
    """Kafka to its disk queue and a file; `sync`: whether the queue's files are flushed."""
    folder = bench.new_folder()
    # It flushes for each message: more would only take longer.
    events = 10_000 if sync == "on" else 200_000
    if bench.settings.quick:
        events //= 10
    output = os.path.join(folder, "output")
    process, brokers = start_kafka(bench.settings, folder, f"bench:{kafka_partitions(events)}")
    with process:
        [sent] = bench.run(
            "kafka", "--topic", "bench", "--events", events, "--produce-only", KAFKA_BOOTSTRAP_SERVERS=brokers)
        wanted = sent["bytes"] + events
        _write(folder, "rsyslog.conf", FOLDER=folder, OUTPUT=output, TOPIC="bench", BROKERS=brokers, SYNC=sync)
        command = [path, "-n", "-f", os.path.join(folder, "rsyslog.conf"), "-i", os.path.join(folder, "pid")]
        with Process(command, bench.settings.environment, os.path.join(folder, "log")) as rsyslogd:
            def written() -> int:
                if rsyslogd.process.poll() is not None:
                    raise Failure(f"rsyslogd ended with {rsyslogd.process.returncode}; see {rsyslogd.log}")
                return os.path.getsize(output) if os.path.exists(output) else 0

            wait_until(lambda: written() > 0, "rsyslogd has read something", 60)
            started, first, cpu = time.monotonic(), written(), rsyslogd.cpu_seconds()
            wait_until(lambda: written() >= wanted, "rsyslogd has read everything", 180)
            share = (wanted - first) / wanted
            rate = events * share / (time.monotonic() - started)
            cpu = (rsyslogd.cpu_seconds() - cpu) / (events * share) * 1e6
    with open(output, "rb") as file:
        lines = file.read().splitlines()
    if len(set(lines)) != events or len(lines) != events:
        raise Failure(f"of {events} events rsyslogd has written {len(set(lines))}, on {len(lines)} lines")
    name, words = ("rsyslogd_kafka", "a flushed") if sync == "on" else ("rsyslogd_kafka_unflushed", "an unflushed")
    bench.results.add(f"{name}_events", rate, "events/s")
    bench.results.add(f"{name}_cpu", cpu, "us", "lower")
    bench.say(f"{path}: {rate:,.0f} events/s from Kafka to {words} disk queue and a file; CPU {cpu:.1f} us an event")
    ours = bench.results.get("kafka_journal_events")
    if ours is not None:
        bench.results.add(f"kafka_journal_to_{name.replace('_kafka', '')}", ours / rate, "ratio")
