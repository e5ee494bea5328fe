"""Drills: what docs/operations.md tells an operator to do, done with a real service and today's ClickHouse engine."""

import json
import os
import re
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

from clickhouse_fixture import ROOT, DevelopmentClickHouse, wait_until
from service_fixture import BINARY, Service, free_port

KAFKA = os.path.join(os.path.dirname(BINARY), "kafka-dev")
SCHEMA = os.path.join(ROOT, "schema")
GROUP = "ingestion-service"

shared = {}


def setUpModule():
    clickhouse = shared["clickhouse"] = DevelopmentClickHouse("chdb")
    unittest.addModuleCleanup(clickhouse.close)
    shared["count"] = 0
    # The bundled schema is applied once; each drill gets a copy.
    run = migrate(f"http://127.0.0.1:{clickhouse.port}", "template")
    assert run.returncode == 0, run.stderr
    clickhouse.query("BACKUP DATABASE template TO File('template')")


def migrate(url, database, *arguments):
    return subprocess.run(
        [os.path.join(ROOT, "tools/migrate"), *arguments],
        env={"PATH": os.environ["PATH"], "CLICKHOUSE_URL": url, "CLICKHOUSE_DATABASE": database},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


class Kafka:
    """A running kafka-dev with the topic `events`."""

    def __init__(self):
        self.process = subprocess.Popen(
            [KAFKA, "serve", "--topics", "events:2,events.dlq:1", "--exit-with-stdin"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        readable, _, _ = select.select([self.process.stdout], [], [], 30)
        line = self.process.stdout.readline() if readable else ""
        if not line.startswith("ready "):
            self.close()
            raise AssertionError(f"kafka-dev did not get ready: {line!r}")
        self.brokers = line.split()[1]

    def _run(self, command, *arguments, text=None):
        run = subprocess.run(
            [KAFKA, command, "--bootstrap-servers", self.brokers, "--topic", "events", *arguments],
            input=text, capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        return run.stdout

    def produce(self, payloads):
        assert self._run("produce", text="".join(f"{payload}\n" for payload in payloads)) == f"{len(payloads)}\n"

    def offsets(self):
        """The sums of the committed offsets and of the ends, over the partitions."""
        lines = [list(map(int, line.split())) for line in self._run("committed", "--group", GROUP).splitlines()]
        return sum(max(line[1], 0) for line in lines), sum(line[2] for line in lines)

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


class Gate:
    """Stands before a ClickHouse. What clients send passes only while it is open; what they get passes always."""

    def __init__(self, port):
        self._target = port
        self._sent = bytearray()
        self._open = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def open(self):
        self._open.set()

    def tokens(self):
        """The deduplication tokens of the inserts that passed, in their order."""
        return re.findall(r"insert_deduplication_token=ingestd-([\w-]+)", self._sent.decode("latin-1"))

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, server]
            for source, sink, waits in [(client, server, True), (server, client, False)]:
                self._threads.append(threading.Thread(target=self._pass, args=(source, sink, waits)))
                self._threads[-1].start()

    def _pass(self, source, sink, waits):
        try:
            while data := source.recv(65_536):
                if waits:
                    self._open.wait()
                    self._sent += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # closed, by one of the ends or by us

    def close(self):
        self._open.set()
        for each in self._sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # ended before
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()


def payload(event_id, text=""):
    return json.dumps({"event_id": event_id, "text": text})


def ids(prefix, count):
    return [f"{prefix}-{number}" for number in range(count)]


class Drill(unittest.TestCase):
    """A database with the bundled schema, and services with journals in one folder."""

    def setUp(self):
        shared["count"] += 1
        self.clickhouse = shared["clickhouse"]
        self.url = f"http://127.0.0.1:{self.clickhouse.port}"
        self.database = f"drill_{shared['count']}"
        self.folder = tempfile.mkdtemp(prefix="operations-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.expected = []
        self.query(f"RESTORE DATABASE template AS {self.database} FROM File('template')", "default")

    # The cluster's side

    def migrate(self, *arguments):
        return migrate(self.url, self.database, *arguments)

    def query(self, text, database=None):
        self.clickhouse.disconnect()  # others may have taken longer than the server keeps a connection
        return self.clickhouse.query(text, database=database or self.database)

    def take_away(self):
        """No stream can insert any more; each is held."""
        self.query(f"RENAME DATABASE {self.database} TO {self.database}_away", "default")

    def bring_back(self):
        self.query(f"RENAME DATABASE {self.database}_away TO {self.database}", "default")

    def back_up(self):
        self.query(f"BACKUP DATABASE {self.database} TO File('{self.database}')")

    def restore(self):
        settings = "allow_non_empty_tables = true"
        self.query(f"RESTORE DATABASE {self.database} FROM File('{self.database}') SETTINGS {settings}", "default")

    # The service's side

    def settings(self, journal, **settings):
        return {
            "JOURNAL_PATH": os.path.join(self.folder, journal),
            "CLICKHOUSE_URL": self.url,
            "CLICKHOUSE_DATABASE": self.database,
            "BATCH_MAX_AGE": "50ms",
            "RETRY_BACKOFF_MAX": "200ms",
            "HOLD_RETRY_INTERVAL": "200ms",
            **settings,
        }

    def start(self, journal="journal", **settings):
        service = Service(**self.settings(journal, **settings))
        self.addCleanup(service.close)
        return service

    def stop(self, service):
        service.process.terminate()
        self.assertEqual(service.process.wait(30), 0, service.log())

    def command(self, *arguments, code=0, **settings):
        """The output of an ingestd command, with the service's settings."""
        run = subprocess.run(
            [BINARY, *arguments],
            env={"PATH": os.environ["PATH"], **self.settings("journal", **settings)},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        self.assertEqual(run.returncode, code, run.stdout + run.stderr)
        return run.stdout

    def stats(self, journal="journal"):
        return json.loads(self.command("journal", "stats", "--json", JOURNAL_PATH=os.path.join(self.folder, journal)))

    def send(self, service, event_ids, text="", path="/v1/events"):
        """Sends events that the table must have in the end."""
        body = "\n".join(payload(event_id, text) for event_id in event_ids)
        request = urllib.request.Request(service.url + path, body.encode(), {"content-type": "application/x-ndjson"})
        with urllib.request.urlopen(request) as answer:
            self.assertEqual(answer.status, 202)
        self.expected += event_ids

    def status(self, service):
        with urllib.request.urlopen(f"{service.url}/v1/status") as answer:
            return json.load(answer)

    def metric(self, service, name):
        """The sum of a metric's values over its labels."""
        with urllib.request.urlopen(f"{service.url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].partition(" ")[0] == name)

    def wait_for_delivery(self, service):
        wait_until(lambda: self.metric(service, "ingest_journal_events") == 0, "everything is delivered", 20)

    def wait_for_hold(self, service):
        def is_held():
            streams = self.status(service)["streams"]
            return [stream["state"] for stream in streams] == ["held"]

        wait_until(is_held, "the stream is held", 20)

    def assertAllIsThere(self):
        """Each expected event once, with its own payload."""
        got = self.query("SELECT event_id FROM events_unique ORDER BY event_id").split()
        self.assertEqual(got, sorted(self.expected))
        self.assertEqual(len(set(self.expected)), len(self.expected), "the test means each event once")
        intact = self.query("SELECT countIf(JSONExtractString(payload, 'event_id') = event_id) FROM events_unique")
        self.assertEqual(int(intact), len(self.expected))


@unittest.skipUnless(shutil.which("jq"), "jq is not installed")
class CommandDrill(Drill):
    """The functions that the page has one paste."""

    def paste(self, service, line):
        with open(os.path.join(ROOT, "docs/operations.md"), encoding="utf-8") as file:
            text = file.read()
        functions = re.search(r"^## Commands used here\n.*?^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[1]
        own = f"URL={service.url} OPERATIONS_TOKEN=watcher"
        own += f" CLICKHOUSE_URL={self.url} CLICKHOUSE_DATABASE={self.database}"
        script = f"{functions}\n{own}\nset -euo pipefail\n{line}"
        run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30)
        self.assertEqual(run.stderr, "")
        self.assertEqual(run.returncode, 0)
        return run.stdout

    def test_they_ask_service_and_clickhouse(self):
        service = self.start(HTTP_OPERATIONS_TOKEN="watcher")
        self.take_away()
        self.send(service, ids("asked", 3))
        wait_until(lambda: self.paste(service, "held").startswith("events: held: "), "the stream is held", 20)
        self.assertEqual(self.paste(service, "waiting"), "3\n")
        self.bring_back()
        self.paste(service, "ask /v1/streams/retry -X POST")
        self.paste(service, 'until [ "$(waiting)" = 0 ]; do sleep 0.1; done')
        self.assertEqual(self.paste(service, "held"), "")
        self.assertEqual(self.paste(service, 'sql "SELECT count() FROM events_unique"'), "3\n")
        self.assertEqual(self.paste(service, 'sql "SELECT currentDatabase()" default'), "default\n")


class MigrationDrill(Drill):
    def test_a_migration_that_destroys_is_rolled_back_by_a_restore(self):
        service = self.start(JOURNAL_RETAIN="1h")
        self.send(service, ids("before", 300))
        self.wait_for_delivery(service)
        begin = int(time.time() * 1_000)
        self.back_up()
        self.send(service, ids("between", 200))
        self.wait_for_delivery(service)

        files = os.path.join(self.folder, "schema")
        os.mkdir(files)
        for name in os.listdir(SCHEMA):
            if name.endswith(".sql"):
                shutil.copy(os.path.join(SCHEMA, name), files)
        with open(os.path.join(files, f"{len(os.listdir(files)) + 1:03}_mistake.sql"), "w") as file:
            file.write(
                "ALTER TABLE events UPDATE payload = '' WHERE 1 SETTINGS mutations_sync = 1;"
                "ALTER TABLE events MODIFY COLUMN payload FixedString(80);"
            )
        self.assertEqual(self.migrate(files).returncode, 0)
        self.send(service, ids("after", 100))
        self.send(service, ids("rejected", 10), text="x" * 100)
        self.wait_for_delivery(service)
        self.assertEqual(self.query("SELECT countIf(payload = toFixedString('', 80)) FROM events"), "500")
        self.assertEqual(self.status(service)["dead_letters"]["stored"], 10)

        # Events are taken all the time.
        self.take_away()
        self.send(service, ids("meanwhile", 100))
        self.wait_for_hold(service)
        self.restore()
        self.wait_for_delivery(service)
        self.command("journal", "replay", "--stream", "events", "--since", str(begin - 1_000))
        self.command(
            "dead-letters", "retry", "--stream", "events", "--kind", "row_data", HTTP_PORT=str(service.port)
        )
        self.wait_for_delivery(service)
        self.assertAllIsThere()
        self.assertEqual(self.status(service)["dead_letters"]["stored"], 0)
        # The record of what is applied came back as well: the earlier version's files fit it.
        names = sorted(name for name in os.listdir(SCHEMA) if name.endswith(".sql"))
        self.assertEqual(self.migrate().stdout.splitlines()[1:], [f"{name}: applied before" for name in names])


class NodeDrill(Drill):
    def test_a_lost_disk_loses_no_event_of_kafka(self):
        kafka = Kafka()
        self.addCleanup(kafka.close)
        settings = {
            "KAFKA_CONSUMER_ENABLED": "true", "KAFKA_BOOTSTRAP_SERVERS": kafka.brokers,
            "KAFKA_COMMIT_INTERVAL": "100ms",
            "KAFKA_PROPERTIES": "session.timeout.ms=4000,heartbeat.interval.ms=100,fetch.wait.max.ms=20",
        }  # fmt: skip
        lost = self.start("lost", **settings)
        self.expected = ids("delivered", 200) + ids("waiting", 300)
        kafka.produce([payload(event_id) for event_id in self.expected[:200]])
        wait_until(lambda: kafka.offsets() == (200, 200), "the first are delivered and committed", 20)
        self.take_away()
        kafka.produce([payload(event_id) for event_id in self.expected[200:]])
        wait_until(lambda: self.metric(lost, "ingest_journal_events") == 300, "the others are in the journal", 20)
        lost.process.kill()
        lost.process.wait()
        shutil.rmtree(os.path.join(self.folder, "lost"))
        self.assertEqual(kafka.offsets(), (200, 500))

        self.bring_back()
        new = self.start("new", **settings)
        wait_until(lambda: kafka.offsets() == (500, 500), "the new node has delivered and committed", 20)
        self.assertAllIsThere()
        # It began where the lost one had committed, and not at the beginning.
        self.assertEqual(self.status(new)["streams"][0]["next_sequence"], 301)

    def test_a_journal_moves_with_its_folder(self):
        old = self.start("old", CLICKHOUSE_URL=f"http://127.0.0.1:{free_port()}")
        self.send(old, ids("moved", 500))
        with urllib.request.urlopen(f"{old.url}/v1/events?on_error=dead_letter", b"no event") as answer:
            self.assertEqual(answer.status, 202)
        self.stop(old)
        shutil.copytree(os.path.join(self.folder, "old"), os.path.join(self.folder, "journal"))
        shutil.rmtree(os.path.join(self.folder, "old"))
        self.command("journal", "verify")
        stats = self.stats()
        self.assertEqual((stats["streams"][0]["pending_events"], stats["dead_letters"]), (500, 1))

        new = self.start()
        self.wait_for_delivery(new)
        self.assertAllIsThere()
        self.assertEqual(self.query("SELECT count() FROM events"), "500", "nothing came twice")
        self.assertEqual(self.status(new)["dead_letters"]["stored"], 1)

    def test_a_journal_from_an_old_backup_loses_nothing_and_swallows_nothing(self):
        gate = Gate(self.clickhouse.port)
        self.addCleanup(gate.close)
        gate.open()
        self.take_away()
        first = self.start()
        self.send(first, ids("backed-up", 300))
        self.wait_for_hold(first)
        self.stop(first)
        shutil.copytree(os.path.join(self.folder, "journal"), os.path.join(self.folder, "backup"))

        self.bring_back()
        second = self.start(CLICKHOUSE_URL=gate.url)
        self.wait_for_delivery(second)
        self.send(second, ids("later", 200))
        self.wait_for_delivery(second)
        second.process.kill()
        second.process.wait()
        shutil.rmtree(os.path.join(self.folder, "journal"))
        shutil.move(os.path.join(self.folder, "backup"), os.path.join(self.folder, "journal"))

        restored = self.start(CLICKHOUSE_URL=gate.url)
        self.assertEqual(self.status(restored)["streams"][0]["next_sequence"], 301)
        self.wait_for_delivery(restored)
        # The batch of the copy was sealed, so it is the same.
        self.assertEqual(self.query("SELECT count() FROM events"), "500")
        # They get the sequences of "later", as many and in one request: only the content tells them apart.
        self.send(restored, ids("newest", 200))
        self.wait_for_delivery(restored)
        self.assertAllIsThere()
        backed_up, later, again, newest = gate.tokens()
        self.assertEqual(backed_up, again)
        self.assertEqual(later.rpartition("-")[0], newest.rpartition("-")[0], "the same journal, stream and sequences")
        self.assertNotEqual(later, newest)


class RestoredClickHouseDrill(Drill):
    def replay(self, begin, *arguments):
        self.command("journal", "replay", "--stream", "events", "--since", str(begin), *arguments)

    def test_replay_brings_back_what_a_restored_clickhouse_lacks(self):
        service = self.start(JOURNAL_RETAIN="1h")
        self.send(service, ids("saved", 300))
        self.wait_for_delivery(service)
        begin = int(time.time() * 1_000) - 1_000
        self.back_up()
        self.send(service, ids("lost", 200))
        self.wait_for_delivery(service)
        self.query(f"DROP DATABASE {self.database} SYNC", "default")
        self.send(service, ids("meanwhile", 100))
        self.wait_for_hold(service)

        self.restore()
        self.wait_for_delivery(service)
        self.assertEqual(self.query("SELECT count() FROM events_unique"), "400")
        self.replay(begin)
        self.assertAllIsThere()
        self.replay(begin)
        self.assertAllIsThere()
        self.assertEqual(self.query("SELECT sum(events) FROM events_counted"), "600")

    def test_a_table_whose_rows_were_deleted_remembers_tokens(self):
        service = self.start(JOURNAL_RETAIN="1h")
        self.send(service, ids("one-batch", 300))
        self.wait_for_delivery(service)
        self.query("ALTER TABLE events DELETE WHERE 1 SETTINGS mutations_sync = 1")
        # The batch has the boundaries of the first time, so its token, which the table knows.
        self.replay(0)
        self.assertEqual(self.query("SELECT count() FROM events_unique"), "0")
        self.replay(0, "--batch-max-rows", "299")
        self.assertAllIsThere()


class ScaleInDrill(Drill):
    def waiting(self, service):
        """What the page says to look at: by the metric, by the status, and from the folder."""
        status = sum(stream["pending_events"] for stream in self.status(service)["streams"])
        folder = sum(stream["pending_events"] for stream in self.stats()["streams"])
        return self.metric(service, "ingest_journal_events"), status, folder

    def test_a_replica_is_empty_only_when_all_is_delivered(self):
        gate = Gate(self.clickhouse.port)
        self.addCleanup(gate.close)
        service = self.start(CLICKHOUSE_URL=gate.url)
        self.send(service, ids("event", 500))
        wait_until(lambda: self.status(service)["streams"][0]["inserts_in_flight"] == 1, "an insert is under way", 10)
        self.assertEqual(self.waiting(service), (500, 500, 500))
        # A stop that has too little time leaves them, and says so.
        service.process.terminate()
        self.assertEqual(service.process.wait(30), 0)
        self.assertEqual(self.stats()["streams"][0]["pending_events"], 500)
        self.assertRegex(service.log(), r'"waiting_events":"?500')

        # Nothing but delivering: no consumer, and nobody knows the port.
        service = self.start(CLICKHOUSE_URL=gate.url, KAFKA_CONSUMER_ENABLED="false")
        wait_until(lambda: self.status(service)["streams"][0]["inserts_in_flight"] == 1, "an insert is under way", 10)
        self.assertEqual(self.waiting(service), (500, 500, 500))
        gate.open()

        def is_empty():
            empty = self.waiting(service)[0] == 0
            # Whoever reads 0 must find everything.
            self.assertTrue(not empty or self.query("SELECT count() FROM events_unique") == "500")
            return empty

        wait_until(is_empty, "the replica is empty", 20)
        self.assertEqual(self.waiting(service), (0, 0, 0))
        self.assertAllIsThere()
        self.stop(service)
        self.assertEqual(self.stats()["streams"][0]["pending_events"], 0)


if __name__ == "__main__":
    unittest.main()
