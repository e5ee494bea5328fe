"""Starts and ends what is measured."""

import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import time

from .settings import ROOT, Settings

_START_SECONDS = 120


class Failure(Exception):
    """A part could not be measured; the message says why."""


def free_port() -> int:
    """A port of the loopback that nobody listens on, for the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(condition, what: str, seconds: float, pause: float = 0.01) -> None:
    """Returns when the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)


class Process:
    """A process of its own session, ended with its scope."""

    def __init__(self, command: list[str], environment: dict[str, str], log: str, reads: bool = False):
        self.command = command
        with open(log, "ab") as file:
            self.process = subprocess.Popen(
                command, env=environment, cwd=ROOT, stderr=file, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if reads else file, text=True,
            )  # fmt: skip
        self.log = log

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def line(self, pattern: str) -> re.Match:
        """The first line that it prints, which must look like this."""
        readable, _, _ = select.select([self.process.stdout], [], [], _START_SECONDS)
        line = self.process.stdout.readline() if readable else ""
        match = re.match(pattern, line)
        if match is None:
            self.end()
            raise Failure(f"{self.command[0]} did not get ready: {line!r}; see {self.log}")
        return match

    def end(self, number: int = signal.SIGTERM, seconds: float = 60) -> None:
        """Ends the process; by force if it takes too long."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    def cpu_seconds(self) -> float:
        """CPU that it has used."""
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> dict[str, float]:
        """MiB: anonymous memory now, and the most that was resident."""
        with open(f"/proc/{self.pid}/status") as file:
            found = dict(re.findall(r"^(RssAnon|VmHWM):\s+(\d+) kB", file.read(), re.MULTILINE))
        return {name: int(value) / 1024 for name, value in found.items()}


class Service(Process):
    """A running ingestd with a journal of its own."""

    def __init__(self, settings: Settings, folder: str, **values: str):
        self.port = free_port()
        environment = {
            **settings.environment,
            "HTTP_PORT": str(self.port),
            "JOURNAL_PATH": os.path.join(folder, "journal"),
            "JOURNAL_MAX_BYTES": "64GiB",
            "KAFKA_CONSUMER_ENABLED": "false",
            # A port that is closed: ClickHouse is away, and answers are the journal's alone.
            "CLICKHOUSE_URL": "http://127.0.0.1:9",
            "KAFKA_DLQ_FORWARDING": "off",
            "SHUTDOWN_TIMEOUT": "1s",
            **values,
        }
        started = time.monotonic()
        super().__init__([settings.binary("ingestd"), "serve"], environment, os.path.join(folder, "service.log"))
        try:
            wait_until(self._is_ready, f"ingestd is ready; see {self.log}", _START_SECONDS, 0.002)
        except BaseException:
            self.end(signal.SIGKILL)
            raise
        self.start_seconds = time.monotonic() - started

    def get(self, path: str) -> tuple[int, bytes]:
        """One request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise Failure(f"ingestd ended with {self.process.returncode}; see {self.log}")
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def pending(self) -> int:
        """Events that wait for ClickHouse."""
        status = json.loads(self.get("/v1/status")[1])
        return sum(stream["pending_events"] for stream in status["streams"])

    def wait_until_drained(self, seconds: float) -> None:
        """Returns when everything is in ClickHouse."""
        wait_until(lambda: self.pending() == 0, "all events are in ClickHouse", seconds)


def start_clickhouse(settings: Settings, folder: str) -> tuple[Process, str]:
    """A development ClickHouse with the project's tables; its URL."""
    process = Process(
        [
            os.path.join(ROOT, "tools/clickhouse-dev"), "--data", os.path.join(folder, "clickhouse"), "--port", "0",
            "--exit-with-stdin",
        ],
        settings.environment, os.path.join(folder, "clickhouse.log"), reads=True,
    )  # fmt: skip
    match = process.line(r"ready (http://\S+) engine=(\S+) version=(\S+)")
    process.engine = f"{match[2]} {match[3]}"
    try:
        subprocess.run(
            [os.path.join(ROOT, "tools/migrate")], env={**settings.environment, "CLICKHOUSE_URL": match[1]}, check=True,
            stdout=subprocess.DEVNULL, timeout=120,
        )  # fmt: skip
    except BaseException:
        process.end()
        raise
    return process, match[1]


def start_kafka(settings: Settings, folder: str, topics: str) -> tuple[Process, str]:
    """A development Kafka with these topics; its bootstrap servers."""
    process = Process(
        [settings.binary("kafka-dev"), "serve", "--topics", topics, "--exit-with-stdin"], settings.environment,
        os.path.join(folder, "kafka.log"), reads=True,
    )  # fmt: skip
    return process, process.line(r"ready (\S+)")[1]


def kafka_partitions(events: int) -> int:
    """How many partitions hold so many events: the development Kafka keeps 5 MiB of each."""
    return max(4, events * 400 // (3 << 20) + 1)


def start_reference(settings: Settings, folder: str, server: str) -> tuple[Process, int]:
    """A server that only reads bodies, nio or hummingbird; its port."""
    process = Process(
        [settings.binary("ingestd"), "bench", "http-reference", "--server", server], settings.environment,
        os.path.join(folder, f"{server}.log"), reads=True,
    )  # fmt: skip
    return process, int(process.line(r"ready (\d+)")[1])
