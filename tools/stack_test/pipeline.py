"""The deployed stack as its users see it: events in, rows out, tasks that live and die."""

import contextlib
import http.client
import json
import os
import secrets
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from .laboratory import ADDRESS, Daemon, Failure
from .local_images import ROOT

STACK = "ingestd"
SERVICE = "ingestion-service"
RUNNING = (SERVICE, "kafka", "clickhouse", "prometheus", "grafana")
ONE_SHOTS = ("kafka-init", "schema-init")
REPLICAS = 2
# Settings and secrets of the machine's own stack: out of sight for the test, they stay as they are.
HIDDEN = os.path.join(ROOT, ".stack")


def wait_for(what: str, condition: Callable[[], object], seconds: float) -> object:
    """What the condition gives once it is true; raises `Failure` with its last value after a time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            value = condition()
        except Failure as failure:
            value, last = None, str(failure)
        else:
            last = repr(value)
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {seconds:.0f} s; last: {last}")
        time.sleep(0.3)


class Pipeline:
    """What was deployed, and the ways to it."""

    def __init__(self, docker: Daemon, folder: str) -> None:
        self.docker = docker
        self.log = os.path.join(folder, "logs", "stack.log")
        os.makedirs(HIDDEN, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "stack-test", HIDDEN], check=True)
        self.secrets = os.path.join(HIDDEN, STACK, "secrets-1")
        self.settings = {
            "STACK_TIMEOUT": "240", "STACK_POLL_SECONDS": "1", "STACK_ADVERTISE_ADDR": ADDRESS,
            # Machines for tests are small, and updates are waited for.
            "JOURNAL_MAX_BYTES": "512MiB", "STACK_UPDATE_MONITOR": "15s", "STACK_UPDATE_DELAY": "2s",
        }  # fmt: skip

    def make(self, target: str, **settings: str) -> tuple[int, str]:
        """Runs a target of the Makefile; its exit code, and what it printed."""
        done = subprocess.run(
            ["make", "--no-print-directory", target], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env=self.docker.environment | self.settings | settings, timeout=900,
        )  # fmt: skip
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(f"$ make {target} {settings}\n{done.stdout}\n")
        return done.returncode, done.stdout

    def must(self, target: str, **settings: str) -> str:
        """As `make`; raises `Failure` if the target fails."""
        code, text = self.make(target, **settings)
        if code != 0:
            raise Failure(f"make {target} ended with {code}:\n{text}")
        return text

    def refused(self, words: str, target: str = "stack-up", **settings: str) -> str:
        """As `make`; raises `Failure` if the target does not fail, or does not say why."""
        code, text = self.make(target, **settings)
        if code == 0 or words not in text or "Traceback" in text:
            raise Failure(f"make {target} {settings} ended with {code}, and should have said `{words}`:\n{text}")
        return text

    # Tasks

    def tasks(self, service: str) -> list[str]:
        """The ids of its tasks that should run."""
        filters = ("--filter", "desired-state=running", "--no-trunc", "--quiet")
        return sorted(self.docker.run("service", "ps", *filters, f"{STACK}_{service}").split())

    def containers(self, service: str, all_of_them: bool = False) -> list[str]:
        """The ids of its containers: those that run, or all."""
        every = ("--all",) if all_of_them else ()
        name = f"label=com.docker.swarm.service.name={STACK}_{service}"
        return self.docker.run("ps", "--quiet", "--no-trunc", *every, "--filter", name).split()

    def replicas(self) -> dict[str, str]:
        """Running and wanted tasks of each service; Swarm counts a task as running once it is healthy."""
        lines = self.docker.run("service", "ls", "--format", "{{.Name}} {{.Replicas}}").splitlines()
        return {name.removeprefix(f"{STACK}_"): count for name, count, *_ in (line.split() for line in lines)}

    def is_healthy(self) -> bool:
        """Whether all services have all their tasks, and all containers say that they are healthy."""
        counts = self.replicas()
        for name in RUNNING:
            wanted, found = REPLICAS if name == SERVICE else 1, self.containers(name)
            # Swarm's count is late after a death; Docker's is early after a start.
            if counts.get(name) != f"{wanted}/{wanted}" or len(found) != wanted:
                raise Failure(f"{name} has {counts.get(name)} tasks and {len(found)} containers")
            for container in found:
                state = self.docker.run("inspect", "--format", "{{.State.Health.Status}}", container)
                if state != "healthy":
                    raise Failure(f"a container of {name} is {state}")
        return True

    def version(self) -> set[str]:
        """The versions of the image that the service's containers were made of."""
        label = '{{index .Config.Labels "org.opencontainers.image.version"}}'
        return {self.docker.run("inspect", "--format", label, name) for name in self.containers(SERVICE)}

    def execute(self, service: str, *command: str, given: bytes | None = None) -> str:
        """What a command in the service's container prints."""
        containers = self.containers(service)
        if not containers:
            raise Failure(f"{service} does not run")
        interactive = ("--interactive",) if given is not None else ()
        return self.docker.run("exec", *interactive, containers[0], *command, given=given)

    @contextlib.contextmanager
    def paused(self, service: str) -> Iterator[None]:
        """Stops the service's first process meanwhile; `docker pause` now and then fails on a busy machine."""
        container = self.containers(service)[0]
        self.docker.run("kill", "--signal", "STOP", container)
        try:
            yield
        finally:
            self.docker.run("kill", "--signal", "CONT", container)

    # Events and rows

    def secret(self, name: str) -> str:
        """A secret, from the file that `stack-up` has written."""
        with open(os.path.join(self.secrets, name)) as file:
            return file.read().strip()

    def request(self, method: str, path: str, body: bytes | None = None, token: str | None = "http_token",
                port: int = 8080, seconds: float = 5) -> tuple[int, str]:  # fmt: skip
        """A request to a published port: status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
        try:
            headers = {"Authorization": f"Bearer {self.secret(token)}"} if token else {}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def send(self, ids: Iterable[str], query: str = "", seconds: float = 5, port: int = 8080) -> tuple[int, str]:
        """Sends events with these ids over HTTP."""
        lines = "".join(json.dumps({"event_id": name, "text": "x" * 100}) + "\n" for name in ids)
        return self.request("POST", f"/v1/events{query}", lines.encode(), port=port, seconds=seconds)

    def query(self, statement: str) -> str:
        """What ClickHouse answers to the service's user."""
        return self.execute(
            "clickhouse", "wget", "-q", "-O", "-", "--header=X-ClickHouse-User: ingestd",
            f"--header=X-ClickHouse-Key: {self.secret('clickhouse_password')}", f"--post-data={statement}",
            "http://127.0.0.1:8123/",
        )  # fmt: skip

    def rows(self, prefix: str) -> set[str]:
        """The ids in ClickHouse that begin so."""
        return set(self.query(f"SELECT DISTINCT event_id FROM events WHERE startsWith(event_id, '{prefix}')").split())

    def wait_for_rows(self, wanted: set[str], prefix: str, seconds: float = 60) -> None:
        """Waits until all these ids are in ClickHouse; raises `Failure` with the number that is missing."""

        def all_there() -> bool:
            missing = wanted - self.rows(prefix)
            if missing:
                raise Failure(f"{len(missing)} of {len(wanted)} are missing, such as {sorted(missing)[0]}")
            return True

        wait_for("rows in ClickHouse", all_there, seconds)

    def states(self) -> str:
        """The tasks of all services and how they fared, for a report."""
        lines = []
        for service in (*RUNNING, *ONE_SHOTS):
            if self.docker.succeeds("service", "inspect", f"{STACK}_{service}"):
                form = "{{.Name}} {{.DesiredState}} {{.CurrentState}} {{.Error}}"
                text = self.docker.run("service", "ps", "--no-trunc", "--format", form, f"{STACK}_{service}")
                lines += text.splitlines()
        return "\n".join(lines)


class Load:
    """Senders that go on until they are stopped, with a ledger of the ids that were acknowledged."""

    def __init__(self, pipeline: Pipeline, senders: int = 3) -> None:
        self.pipeline = pipeline
        self.prefix = f"load-{secrets.token_hex(4)}-"
        self.acknowledged: set[str] = set()
        self.answers: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(index,)) for index in range(senders)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _send(self, sender: int) -> None:
        number = 0
        while not self._stopped.is_set():
            ids = [f"{self.prefix}{sender}-{number}-{index}" for index in range(5)]
            try:
                status, _ = self.pipeline.send(ids)
                answer = str(status)
            except (OSError, http.client.HTTPException) as error:
                status, answer = 0, type(error).__name__
            with self._lock:
                self.answers[answer] += 1
                if status in (200, 202):
                    self.acknowledged.update(ids)
            if status in (200, 202):
                number += 1
                time.sleep(0.02)
            else:
                # As a sender does that wants to lose nothing: the same events again.
                time.sleep(0.2)

    def check(self) -> str:
        """Raises `Failure` if a row is missing of what was acknowledged; else says how much that was."""
        if len(self.acknowledged) < 100:
            raise Failure(f"only {len(self.acknowledged)} events were acknowledged: {dict(self.answers)}")
        self.pipeline.wait_for_rows(self.acknowledged, self.prefix)
        return f"{len(self.acknowledged)} acknowledged events, all in ClickHouse; answers {dict(self.answers)}"
