"""Other programs that keep events on disk before they are delivered, where they are on PATH (benchmarks/peers)."""

import os
import shutil
import socket
import time

from .bench import Bench
from .servers import Failure, Process, free_port, start_kafka, wait_until
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
        _rsyslogd(bench, path)
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


def _rsyslogd(bench: Bench, path: str) -> None:
    folder = bench.new_folder()
    # It flushes its queue for each message: more would only take longer.
    events = 2_000 if bench.settings.quick else 10_000
    output = os.path.join(folder, "output")
    process, brokers = start_kafka(bench.settings, folder, "bench:8")
    with process:
        bench.run(
            "kafka", "--topic", "bench", "--events", events, "--produce-only", KAFKA_BOOTSTRAP_SERVERS=brokers)
        _write(folder, "rsyslog.conf", FOLDER=folder, OUTPUT=output, TOPIC="bench", BROKERS=brokers)
        command = [path, "-n", "-f", os.path.join(folder, "rsyslog.conf"), "-i", os.path.join(folder, "pid")]
        with Process(command, bench.settings.environment, os.path.join(folder, "log")) as rsyslogd:
            def lines() -> int:
                if rsyslogd.process.poll() is not None:
                    raise Failure(f"rsyslogd ended with {rsyslogd.process.returncode}; see {rsyslogd.log}")
                if not os.path.exists(output):
                    return 0
                with open(output, "rb") as file:
                    return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))

            wait_until(lambda: lines() > 0, "rsyslogd has read something", 60)
            started, first = time.monotonic(), lines()
            wait_until(lambda: lines() >= events, "rsyslogd has read everything", 180)
            rate = (events - first) / (time.monotonic() - started)
    bench.results.add("rsyslogd_kafka_events", rate, "events/s")
    bench.say(f"{path}: {rate:,.0f} events/s from Kafka to a flushed disk queue and a file")
