"""Starts `tools/clickhouse-dev` for tests and talks to it."""

import http.client
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from urllib.parse import urlencode

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
START_SECONDS = 60
_READY = re.compile(r"ready http://([^:]+):(\d+) engine=(\w+) version=(\S+)\n")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: str


class DevelopmentClickHouse:
    """A running clickhouse-dev; `folder` is kept by `restart` and removed by `close`."""

    def __init__(self, engine: str, *arguments: str):
        self.folder = tempfile.mkdtemp(prefix="clickhouse-dev-")
        self._engine = engine
        self._arguments = arguments
        self._connection = None
        self.start()

    def start(self, port: int = 0) -> None:
        command = [os.path.join(ROOT, "tools/clickhouse-dev"), "--data", self.folder, "--engine", self._engine]
        self.process = subprocess.Popen(
            [*command, "--port", str(port), "--exit-with-stdin", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        readable, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        line = self.process.stdout.readline() if readable else ""
        match = _READY.fullmatch(line)
        if match is None:
            self.close()
            raise AssertionError(f"clickhouse-dev did not get ready: {line!r}")
        self.host, self.port, self.engine, self.version = match[1], int(match[2]), match[3], match[4]

    def kill(self) -> None:
        self.disconnect()
        self.process.kill()
        self._reap()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.disconnect()
        self.process.send_signal(number)
        return self._reap()

    def _reap(self) -> int:
        code = self.process.wait(30)
        self.process.stdin.close()
        self.process.stdout.close()
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder)

    def disconnect(self) -> None:
        """Ends the keep-alive connection, which the server closes after some idle seconds."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def request(self, method="POST", path="/", body=None, headers=None, chunked=False, **parameters) -> Answer:
        """One request on the fixture's keep-alive connection."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        target = path + ("?" + urlencode(parameters) if parameters else "")
        if body is None and method == "POST":
            body = b""
        self._connection.request(method, target, body, headers or {}, encode_chunked=chunked)
        response = self._connection.getresponse()
        text = response.read().decode()
        return Answer(response.status, dict(response.getheaders()), text)

    def query(self, text: str, **parameters) -> str:
        """The result of a statement that must succeed, without the last line feed."""
        answer = self.request(body=text.encode(), **parameters)
        if answer.status != 200:
            raise AssertionError(f"{text}: {answer.status} {answer.body}")
        return answer.body.rstrip("\n")

    def insert(self, table: str, body, headers=None, chunked=False, **parameters) -> Answer:
        query = f"INSERT INTO {table} FORMAT JSONEachRow"
        return self.request(body=body, headers=headers, chunked=chunked, query=query, **parameters)


def wait_until(condition, what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


def descendants(pid: int) -> list[int]:
    """Process ids of the children of a process, and theirs."""
    found = []
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        for child in map(int, children.read().split()):
            found += [child, *descendants(child)]
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
