"""`ingestd bench`: whether the generators, the ledger and `verify` tell the truth. Nothing here is about speed."""

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from clickhouse_fixture import ROOT, DevelopmentClickHouse, wait_until
from service_fixture import BINARY, Service

KAFKA = os.path.join(os.path.dirname(BINARY), "kafka-dev")
LANE = 10**12


@unittest.skipUnless(os.access(BINARY, os.X_OK) and os.access(KAFKA, os.X_OK), "no build")
class BenchTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.clickhouse = DevelopmentClickHouse("auto")
        cls.addClassCleanup(cls.clickhouse.close)
        cls.url = f"http://127.0.0.1:{cls.clickhouse.port}"
        cls.service = Service(CLICKHOUSE_URL=cls.url, BATCH_MAX_AGE="100ms")
        cls.addClassCleanup(cls.service.close)
        cls.kafka = subprocess.Popen(
            [KAFKA, "serve", "--topics", "bench:8,events:4,small:1", "--exit-with-stdin"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        cls.addClassCleanup(cls.end_kafka)
        cls.brokers = cls.kafka.stdout.readline().removeprefix("ready ").strip()
        subprocess.run(
            [os.path.join(ROOT, "tools/migrate")], env={"PATH": os.environ["PATH"], "CLICKHOUSE_URL": cls.url},
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip

    @classmethod
    def end_kafka(cls):
        cls.kafka.stdin.close()
        cls.kafka.wait(30)
        cls.kafka.stdout.close()

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="bench-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.ledger = os.path.join(self.folder, "ledger")

    def start_service(self, **settings):
        service = Service(CLICKHOUSE_URL=self.url, BATCH_MAX_AGE="100ms", **settings)
        self.addCleanup(service.close)
        return service

    def command(self, *arguments, **settings):
        environment = {
            "PATH": os.environ["PATH"], "CLICKHOUSE_URL": self.url, "KAFKA_BOOTSTRAP_SERVERS": self.brokers, **settings,
        }  # fmt: skip
        return [BINARY, "bench", *map(str, arguments)], environment

    def bench(self, *arguments, code=0, **settings):
        """The last JSON that a command prints."""
        command, environment = self.command(*arguments, **settings)
        run = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, timeout=60)
        self.assertEqual(run.returncode, code, run.stderr + run.stdout)
        return json.loads(run.stdout.splitlines()[-1]) if run.stdout else run.stderr

    def verify(self, *arguments, code=0):
        return self.bench("verify", "--ledger", self.ledger, *arguments, code=code)

    def write_ledger(self, prefix, *ranges):
        with open(self.ledger, "w") as file:
            file.write(f"ids {prefix}\n" + "".join(f"{first:016} {last:016}\n" for first, last in ranges))

    def insert(self, *ids):
        rows = "".join(f'{{"event_id":"{name}","payload":"{{}}","source":"http"}}\n' for name in ids)
        answer = self.clickhouse.insert("events", rows.encode())
        self.assertEqual(answer.status, 200, answer.body)

    # verify

    def test_verify_names_what_is_missing_and_counts_copies(self):
        def ids(prefix, numbers):
            return [f"{prefix}{number:016}" for number in numbers]

        numbers = [*range(500), *range(3 * LANE, 3 * LANE + 500)]
        self.insert(*ids("lost-", [n for n in numbers if n not in (7, 3 * LANE + 499)]))
        self.insert("lost-x", "lost-" + "0" * 17, *ids("other-", numbers))
        self.write_ledger("lost-", (0, 499), (100, 200), (3 * LANE, 3 * LANE + 499))
        found = self.verify(code=1)
        self.assertEqual(found["missing_ids"], ids("lost-", [7, 3 * LANE + 499]))
        self.assertEqual((found["acknowledged"], found["found"], found["missing"]), (1000, 998, 2))

        self.insert(*ids("lost-", [7, 3 * LANE + 499, 8, 9]))
        found = self.verify()
        self.assertEqual((found["found"], found["missing"], found["copies"]), (1000, 0, 0))
        # The view shows each once; the table has the copies until they are merged.
        self.clickhouse.query("CREATE TABLE copied ENGINE = MergeTree ORDER BY event_id AS SELECT * FROM events")
        self.addCleanup(self.clickhouse.query, "DROP TABLE copied")
        self.clickhouse.query("INSERT INTO copied SELECT * FROM events WHERE event_id IN ('{}', '{}')".format(
            *ids("lost-", [8, 3 * LANE])))  # fmt: skip
        found = self.verify("--table", "copied")
        self.assertGreaterEqual(found["copies"], 2)
        self.assertLessEqual(set(ids("lost-", [8, 3 * LANE])), set(found["copied_ids"]))
        self.verify("--table", "copied", "--once", code=1)
        # As many rows as ids, but not the ids: a copy must not stand in for a missing one.
        gone = ids("lost-", [3 * LANE + 1])
        self.clickhouse.query(
            "CREATE TABLE masked ENGINE = MergeTree ORDER BY event_id AS SELECT * FROM events_unique WHERE"
            f" event_id != '{gone[0]}'"
        )
        self.addCleanup(self.clickhouse.query, "DROP TABLE masked")
        self.clickhouse.query(f"INSERT INTO masked SELECT * FROM events_unique WHERE event_id = '{ids('lost-', [5])[0]}'")
        found = self.verify("--table", "masked", code=1)
        self.assertEqual((found["missing_ids"], found["copied_ids"]), (gone, ids("lost-", [5])))

    def test_verify_is_bounded_where_everything_is_missing(self):
        self.write_ledger("none-", (0, 20_000_000))
        found = self.verify("--limit", 3, code=1)
        self.assertEqual(found["missing"], 20_000_001)
        self.assertEqual(found["missing_ids"], [f"none-{n:016}" for n in range(3)])

    def test_verify_searches_large_ranges_for_single_ids(self):
        lost = [0, 123_456, 599_999]
        self.clickhouse.query(
            "INSERT INTO events (event_id, payload, source) SELECT concat('many-', leftPad(toString(number), 16, '0')),"
            f" '', 'http' FROM numbers(600000) WHERE number NOT IN ({lost[0]}, {lost[1]}, {lost[2]})"
        )
        self.write_ledger("many-", (0, 599_999))
        found = self.verify(code=1)
        self.assertEqual(found["missing_ids"], [f"many-{n:016}" for n in lost])
        self.assertEqual(found["missing"], 3)

    # http

    def test_http_in_a_closed_loop(self):
        sent = self.bench(
            "http", "--port", self.service.port, "--connections", 5, "--threads", 2, "--events", 7, "--seconds", 0.5,
            "--ledger", self.ledger, "--sizes", "realistic", "--duplicates", 0.2, "--depth", 3,
        )  # fmt: skip
        found = self.verify("--wait", 10)
        self.assertGreater(sent["requests"], 20)
        self.assertEqual(sent["events"], 7 * sent["requests"])
        self.assertGreater(sent["repeated_requests"], 0)
        # What was sent twice is one id; nothing was refused, so there is nothing else.
        self.assertEqual(found["acknowledged"], sent["events"] - 7 * sent["repeated_requests"])
        self.assertEqual(found["copies"], 0)

    def test_http_in_an_open_loop(self):
        sent = self.bench(
            "http", "--port", self.service.port, "--connections", 2, "--events", 1, "--seconds", 1, "--rate", 30,
            "--ledger", self.ledger, "--path", "/v1/events?ack=inserted",
        )  # fmt: skip
        self.assertEqual((sent["requests"], sent["unsent"], sent["refused"]), (30, 0, {}))
        self.assertLessEqual(sent["latency"]["p50"], sent["latency"]["p99"])
        # An insert takes 100 ms at least, so two connections are late at this rate, and say so.
        self.assertGreater(sent["seconds"], 1.4)
        self.assertGreater(sent["latency"]["max"], 1000 * (sent["seconds"] - 1.1))
        self.assertEqual(self.verify()["found"], 30)

    def test_killed_in_the_middle(self):
        command, environment = self.command(
            "http", "--port", self.service.port, "--events", 10, "--seconds", 60, "--ledger", self.ledger)
        load = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: os.path.exists(self.ledger) and os.path.getsize(self.ledger) > 2_000, "a ledger")
        finally:
            load.kill()
            load.wait(10)
        found = self.verify("--wait", 10)
        self.assertGreater(found["acknowledged"], 100)
        self.assertEqual(found["missing"], 0)

    def test_what_was_sent_and_not_acknowledged_is_not_in_the_ledger(self):
        acknowledged = []

        def serve():
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as stream:
                for index in range(60):
                    length = 0
                    while (line := stream.readline().strip()):
                        if line.startswith(b"Content-Length:"):
                            length = int(line.split()[1])
                    ids = re.findall(rb'"event_id":"x-(\d{16})"', stream.read(length))
                    # The last ones are read, and never answered.
                    if index < 57:
                        acknowledged.extend(ids)
                        connection.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
                is_read.set()
                stream.read(1)

        is_read = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = threading.Thread(target=serve)
            server.start()
            command, environment = self.command(
                "http", "--port", listener.getsockname()[1], "--connections", 1, "--depth", 3, "--events", 4,
                "--seconds", 60, "--prefix", "x-", "--ledger", self.ledger,
            )  # fmt: skip
            load = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
            try:
                self.assertTrue(is_read.wait(30))
                time.sleep(0.5)
            finally:
                load.kill()
                load.wait(10)
                server.join(10)
        with open(self.ledger) as file:
            lines = file.read().splitlines()
        self.assertEqual(lines[0], "ids x-")
        claimed = {n for line in lines[1:] for first, last in [line.split()] for n in range(int(first), int(last) + 1)}
        self.assertEqual(claimed, set(map(int, acknowledged)))
        self.assertEqual(len(claimed), 57 * 4)

    def test_refused_requests_are_not_in_the_ledger(self):
        service = self.start_service(HTTP_TOKEN="secret")
        sent = self.bench("http", "--port", service.port, "--seconds", 0.2, "--events", 1, "--ledger", self.ledger)
        self.assertEqual(sent["events"], 0)
        self.assertEqual(list(sent["refused"]), ["401"])
        self.assertEqual(self.verify()["acknowledged"], 0)
        sent = self.bench(
            "http", "--port", service.port, "--seconds", 0.2, "--events", 1, "--ledger", self.ledger, "--token", "secret"
        )
        self.assertEqual(self.verify("--wait", 10)["acknowledged"], sent["events"])

    # Kafka, drain, backlog, reference

    def test_kafka_to_clickhouse(self):
        self.start_service(
            KAFKA_CONSUMER_ENABLED="true", KAFKA_BOOTSTRAP_SERVERS=self.brokers, KAFKA_TOPICS="events",
            KAFKA_DLQ_FORWARDING="off",
        )  # fmt: skip
        sent = self.bench(
            "kafka", "--topic", "events", "--events", 3_333, "--produce-only", "--duplicates", 0.1, "--sizes",
            "realistic", "--ledger", self.ledger,
        )  # fmt: skip
        self.assertGreater(sent["repeated_messages"], 0)
        self.assertEqual(sent["messages"], 3_333 + sent["repeated_messages"])
        found = self.verify("--wait", 20)
        self.assertEqual((found["acknowledged"], found["found"], found["copies"]), (3_333, 3_333, 0))

    def test_kafka_to_journal(self):
        found = self.bench("kafka", "--topic", "bench", "--events", 20_000, "--rounds", 1, "--path", self.folder)
        self.assertEqual(found["messages"], 20_000)
        self.assertGreater(found["ratio"], 0)
        # Another run would read what the first has sent, too.
        error = self.bench("kafka", "--topic", "bench", "--events", 10, "--path", self.folder, code=1)["messages"]
        self.assertEqual(error, 10)
        self.assertEqual(os.listdir(self.folder), [])

    def test_drain(self):
        found = self.bench(
            "drain", "--events", 12_345, "--rounds", 2, "--path", self.folder, "--sizes", "realistic",
            BATCH_MAX_ROWS="2000",
        )  # fmt: skip
        self.assertEqual(found["events"], 12_345)
        self.assertGreaterEqual(found["batches"], 7)
        self.assertGreater(found["ratio"], 0)
        self.assertEqual(self.clickhouse.query("SHOW TABLES LIKE 'ingestd_bench%'"), "")
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_backlog_is_delivered(self):
        journal = os.path.join(self.folder, "journal")
        self.bench("fill", "--events", 7_777, "--ledger", self.ledger, JOURNAL_PATH=journal)
        self.assertEqual(self.verify("--limit", 1, code=1)["missing"], 7_777)
        self.start_service(JOURNAL_PATH=journal)
        self.assertEqual(self.verify("--wait", 10)["found"], 7_777)

    def test_the_reference_servers_acknowledge_everything(self):
        for name in ("nio", "hummingbird"):
            with self.subTest(name):
                server = subprocess.Popen(
                    [BINARY, "bench", "http-reference", "--server", name], stdout=subprocess.PIPE, text=True)
                try:
                    port = server.stdout.readline().removeprefix("ready ").strip()
                    sent = self.bench("http", "--port", port, "--seconds", 0.3, "--events", 100, "--sizes", "realistic")
                    self.assertGreater(sent["requests"], 10)
                    self.assertEqual(sent["refused"], {})
                finally:
                    server.kill()
                    server.wait(10)
                    server.stdout.close()


if __name__ == "__main__":
    unittest.main()
