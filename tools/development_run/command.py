"""The order of things, from setup to Ctrl-C."""

import argparse
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time

from clickhouse_dev.server_process import free_port, is_free

from .endpoints import ClickHouse, Service, setting
from .processes import Child, Failure
from .samples import Samples, make_samples

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
HOST = "127.0.0.1"
HTTP_BODY_EVENTS = 500
READY_SECONDS = 60
ARRIVAL_SECONDS = 120
STOP_SECONDS = 40  # the service's SHUTDOWN_TIMEOUT is 30 s

_DESCRIPTION = """\
Starts the development Kafka and ClickHouse (unless KAFKA_BOOTSTRAP_SERVERS or CLICKHOUSE_URL name others), migrates
the schema, starts the service, sends sample events through Kafka and HTTP, shows them arriving in ClickHouse, and
stays up until Ctrl-C. The journal and ClickHouse's data are kept in the folder of --data for the next time."""


class Stop(BaseException):
    """Ctrl-C, or another signal that ends us."""


def main() -> int:
    """The command; returns the exit code."""
    options = _parse_options()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _raise_stop)
    # A proxy for the world outside must not get what stays on this machine; curl and libcurl read this too.
    os.environ["no_proxy"] = ",".join(filter(None, (os.environ.get("no_proxy"), HOST, "localhost")))
    try:
        if not options.no_build:
            _build(options.configuration)
        os.makedirs(os.path.join(options.data, "logs"), exist_ok=True)
        with _locked(options.data):
            return _Run(options).run()
    except Stop:
        return 0
    except Failure as failure:
        print(f"\nrun: {failure}", file=sys.stderr)
        return 1


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/run", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", metavar="DIR", default=os.path.join(ROOT, ".run"), help="folder for data [.run]")
    parser.add_argument("--events", type=int, default=6000, help="number of different sample events [%(default)s]")
    parser.add_argument("--once", action="store_true", help="stop when the events have arrived")
    parser.add_argument("--configuration", choices=("release", "debug"), default="release", help="build [%(default)s]")
    parser.add_argument("--no-build", action="store_true", help="take what is installed and built already")
    options = parser.parse_args()
    options.data = os.path.abspath(options.data)
    return options


def _raise_stop(*_) -> None:
    raise Stop


def _build(configuration: str) -> None:
    def step(*command: str) -> None:
        result = subprocess.run(command, cwd=ROOT)
        if result.returncode != 0:
            raise Failure(f"{' '.join(command)} failed")

    step("tools/setup", "run")
    swift = subprocess.run(["tools/find-swift"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    print("Building ingestd (the first time takes some minutes) ...", flush=True)
    for product in ("ingestd", "kafka-dev"):
        step(swift, "build", "-c", configuration, "--product", product)


@contextlib.contextmanager
def _locked(folder: str):
    """One run at a time in a folder; the file holds the process id, for `kill`."""
    path = os.path.join(folder, "pid")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with open(path) as file:
            raise Failure(f"already running, as process {file.read().strip()}") from None
    os.truncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    try:
        yield
    finally:
        os.unlink(path)
        os.close(descriptor)


def _next_run_number(folder: str) -> int:
    """Counts the runs of a folder."""
    path = os.path.join(folder, "runs")
    number = 1
    if os.path.exists(path):
        with open(path) as file:
            number = int(file.read()) + 1
    with open(path + ".new", "w") as file:
        file.write(f"{number}\n")
    os.replace(path + ".new", path)
    return number


class _Run:
    """One run: its children, in the order in which they were started."""

    def __init__(self, options: argparse.Namespace):
        self._options = options
        self._number = _next_run_number(options.data)
        self._children: list[Child] = []
        self._clickhouse: Child | None = None
        self._clickhouse_wanted = True

    def run(self) -> int:
        try:
            brokers, topic = self._start_kafka()
            clickhouse = ClickHouse(self._start_clickhouse())
            self._migrate(clickhouse)
            service = self._start_service(brokers, topic, clickhouse)
            complete = self._send_and_show(service, clickhouse, brokers, topic)
            if not self._options.once:
                self._print_next_steps(service, clickhouse, brokers, topic)
                self._stay()
            return 0 if complete else 1
        finally:
            self._stop_all()

    def _say(self, text: str) -> None:
        print(text, flush=True)

    def _child(self, name: str, *command: str, environment: dict[str, str] | None = None) -> Child:
        log = os.path.join(self._options.data, "logs", f"{name}.log")
        child = Child(name, list(command), log, environment)
        self._children.append(child)
        return child

    def _binary(self, name: str) -> str:
        path = os.path.join(ROOT, ".build", self._options.configuration, name)
        if not os.access(path, os.X_OK):
            raise Failure(f"{path} is missing; run it without --no-build")
        return path

    def _start_kafka(self) -> tuple[str, str]:
        """Bootstrap servers and the topic to send to."""
        brokers = setting("KAFKA_BOOTSTRAP_SERVERS", "")
        if brokers:
            self._say(f"Kafka at {brokers} (KAFKA_BOOTSTRAP_SERVERS)")
            return brokers, setting("KAFKA_TOPICS", "events").split(",")[0]
        # The development Kafka is in memory: its topics and offsets begin anew with each run, the journal remembers
        # those of the last one. Under the same name it would take the new partitions for the old ones and skip what
        # it believes to hold already, so each run has a topic of its own.
        topic = f"events-{self._number:04d}"
        kafka = self._child(
            "kafka-dev", self._binary("kafka-dev"), "serve", "--topics", f"{topic}:4,events.dlq:1", "--exit-with-stdin"
        )
        brokers = kafka.wait_for_line(r"^ready (\S+)$", READY_SECONDS)[1]
        self._say(f"Kafka at {brokers} (development broker, in memory), topic {topic}")
        return brokers, topic

    def _start_clickhouse(self) -> str:
        """The URL of ClickHouse."""
        url = setting("CLICKHOUSE_URL", "")
        if url:
            return url.split(",")[0]
        return self._start_development_clickhouse(_port(8123, "ClickHouse"))

    def _start_development_clickhouse(self, port: int) -> str:
        self._clickhouse_port = port
        self._clickhouse = self._child(
            "clickhouse-dev", os.path.join(ROOT, "tools/clickhouse-dev"), "--data",
            os.path.join(self._options.data, "clickhouse"), "--port", str(port), "--exit-with-stdin",
            "--user", setting("CLICKHOUSE_USER", "default"),
            environment={**os.environ, "CLICKHOUSE_DEV_PASSWORD": setting("CLICKHOUSE_PASSWORD", "")},
        )  # fmt: skip
        return self._clickhouse.wait_for_line(r"^ready (http://\S+) ", READY_SECONDS)[1]

    def _migrate(self, clickhouse: ClickHouse) -> None:
        environment = {**os.environ, "CLICKHOUSE_URL": os.environ.get("CLICKHOUSE_URL") or clickhouse.url}
        if subprocess.run([os.path.join(ROOT, "tools/migrate")], env=environment).returncode != 0:
            raise Failure("the schema could not be applied")

    def _start_service(self, brokers: str, topic: str, clickhouse: ClickHouse) -> Service:
        port = _port(int(setting("HTTP_PORT", "8080")), "the service")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HTTP_TLS_")},
            "HTTP_HOST": HOST,
            "HTTP_PORT": str(port),
            "KAFKA_BOOTSTRAP_SERVERS": brokers,
            "KAFKA_TOPICS": os.environ.get("KAFKA_TOPICS") or topic,
            "CLICKHOUSE_URL": os.environ.get("CLICKHOUSE_URL") or clickhouse.url,
            "JOURNAL_PATH": os.environ.get("JOURNAL_PATH") or os.path.join(self._options.data, "journal"),
            "LOG_FORMAT": os.environ.get("LOG_FORMAT") or "text",
        }
        ingestd = self._binary("ingestd")
        child = self._child("ingestd", ingestd, "serve", environment=environment)
        service = Service(f"http://{HOST}:{port}")
        deadline = time.monotonic() + READY_SECONDS
        while not service.is_ready():
            child.check()
            if time.monotonic() > deadline:
                raise Failure(
                    f"ingestd is not ready after {READY_SECONDS} s; see {self._options.data}/logs/ingestd.log"
                )
            time.sleep(0.05)
        self._say(f"ingestd at {service.url}, journal in {_short(environment['JOURNAL_PATH'])}")
        return service

    def _send_and_show(self, service: Service, clickhouse: ClickHouse, brokers: str, topic: str) -> bool:
        """Sends the sample events and prints what became of them; false if not all arrived."""
        samples = make_samples(self._number, self._options.events)
        self._say(f"Sending {len(samples.kafka) + len(samples.http):,} sample events ...")
        produce = [self._binary("kafka-dev"), "produce", "--bootstrap-servers", brokers, "--topic", topic]
        produced = subprocess.run(produce, input=b"\n".join(samples.kafka) + b"\n", capture_output=True)
        if produced.returncode != 0:
            raise Failure(f"kafka-dev produce failed: {produced.stderr.decode('utf-8', 'replace')}")
        accepted = 0
        for start in range(0, len(samples.http), HTTP_BODY_EVENTS):
            accepted += service.send(samples.http[start : start + HTTP_BODY_EVENTS])

        deadline = time.monotonic() + ARRIVAL_SECONDS
        while True:
            rows, distinct, collapsed = clickhouse.count(samples.prefix)
            waiting = service.journal_events()
            complete = distinct == samples.distinct and waiting == 0
            if sys.stdout.isatty():
                print(f"\r{distinct:,} of {samples.distinct:,} events are in ClickHouse", end="", flush=True)
            if complete or time.monotonic() > deadline:
                break
            for child in self._children:
                child.check()
            time.sleep(0.1)
        if sys.stdout.isatty():
            print()
        self._print_table(samples, accepted, waiting, rows, distinct, collapsed)
        if not complete:
            self._say(f"Not all events arrived within {ARRIVAL_SECONDS} s; see {self._options.data}/logs/ingestd.log")
        return complete

    def _print_table(
        self, samples: Samples, accepted: int, waiting: int, rows: int, distinct: int, collapsed: int
    ) -> None:
        kafka, http = len(samples.kafka), len(samples.http)
        lines = (
            ("", "Kafka", "HTTP", "together"),
            ("sent", kafka, http, kafka + http),
            ("acknowledged", kafka, accepted, kafka + accepted),
            ("of them sent twice on purpose", "", "", kafka + http - samples.distinct),
            ("waiting in the journal", "", "", waiting),
            ("rows in ClickHouse", "", "", rows),
            ("  different event ids", "", "", distinct),
            ("  rows without copies (FINAL)", "", "", collapsed),
        )
        print()
        for label, *numbers in lines:
            cells = (f"{number:>10,}" if isinstance(number, int) else f"{number:>10}" for number in numbers)
            print(f"  {label:<30}{''.join(cells)}".rstrip())
        print(flush=True)

    def _print_next_steps(self, service: Service, clickhouse: ClickHouse, brokers: str, topic: str) -> None:
        token = ' -H "Authorization: Bearer $HTTP_TOKEN"' if setting("HTTP_TOKEN", "") else ""
        key = ' -H "X-ClickHouse-Key: $CLICKHOUSE_PASSWORD"' if setting("CLICKHOUSE_PASSWORD", "") else ""
        user = setting("CLICKHOUSE_USER", "default")
        key += f" -H 'X-ClickHouse-User: {user}'" if user != "default" else ""
        query = f"curl '{clickhouse.url}/?database={clickhouse.database}'{key} -d"
        post = f"curl -i {service.url}/v1/events{token} -H 'Content-Type: application/json' -d"
        produce = f"{_short(self._binary('kafka-dev'))} produce --bootstrap-servers {brokers} --topic {topic}"
        self._say("Try next, in another terminal in this folder:\n")
        self._say("  # Send an event, and see it arrive.")
        self._say(f'  {post} \'{{"event_id":"my-1","hello":"world"}}\'')
        self._say(f'  echo \'{{"event_id":"my-2","hello":"Kafka"}}\' | {produce}')
        self._say(f"  {query} \"SELECT * FROM {clickhouse.table} WHERE event_id LIKE 'my-%' FORMAT PrettyCompact\"\n")
        self._say("  # How is the service?")
        for path in ("/readyz", "/v1/status", "/metrics"):
            self._say(f"  curl {service.url}{path}{token}")
        if self._clickhouse:
            signal_us = f"kill -USR1 $(cat {_short(os.path.join(self._options.data, 'pid'))})"
            self._say("\n  # Stop ClickHouse: events are acknowledged all the same, and wait in the journal ...")
            self._say(f"  {signal_us}")
            self._say(f'  {post} \'{{"event_id":"my-3","sent":"while ClickHouse was down"}}\'')
            self._say(f"  curl -s {service.url}/metrics{token} | grep '^ingest_journal_events'")
            self._say("  # ... until it is back.")
            self._say(f"  {signal_us}")
        self._say(f"\nLogs are in {_short(self._options.data)}/logs. Ctrl-C stops everything.")

    def _stay(self) -> None:
        """Watches the children until a signal ends us.

        SIGUSR1 stops the development ClickHouse, and starts it again.
        """
        signal.signal(signal.SIGUSR1, self._toggle_clickhouse)
        while True:
            if self._clickhouse and self._clickhouse_wanted and self._clickhouse not in self._children:
                self._start_development_clickhouse(self._clickhouse_port)
                self._children.insert(0, self._children.pop())  # to be stopped after the service, as before
                self._say("ClickHouse is back")
            elif self._clickhouse in self._children and not self._clickhouse_wanted:
                self._children.remove(self._clickhouse)
                self._clickhouse.stop(STOP_SECONDS)
                self._say("ClickHouse is stopped; the same signal starts it again")
            for child in self._children:
                child.check()
            time.sleep(0.1)

    def _toggle_clickhouse(self, *_) -> None:
        self._clickhouse_wanted = not self._clickhouse_wanted

    def _stop_all(self) -> None:
        """Stops what was started last first: the service before what it needs. A second Ctrl-C kills."""
        if self._children:
            self._say("\nStopping ...")
        try:
            while self._children:
                self._children[-1].stop(STOP_SECONDS)
                self._children.pop()
        except Stop:
            while self._children:
                self._children.pop().kill()


def _port(wanted: int, what: str) -> int:
    """The wanted port, or a free one if somebody uses it."""
    if is_free(HOST, wanted):
        return wanted
    port = free_port(HOST)
    print(f"Port {wanted} is in use; {what} gets {port}", flush=True)
    return port


def _short(path: str) -> str:
    """A path as one would type it in the project's folder."""
    relative = os.path.relpath(path, ROOT)
    return path if relative.startswith("..") else relative
