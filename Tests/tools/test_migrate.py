"""tools/migrate, and what the schema promises."""

import glob
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

from clickhouse_fixture import ROOT, DevelopmentClickHouse

MIGRATE = os.path.join(ROOT, "tools/migrate")
PASSWORD = "a'b\"c\\d $HOME"


class MigrateCase(unittest.TestCase):
    """A ClickHouse, and a database of its own for each test."""

    engine = "chdb"

    @classmethod
    def setUpClass(cls):
        cls.server = DevelopmentClickHouse(cls.engine, "--password", PASSWORD)
        cls.count = 0

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def setUp(self):
        # A database each, so that tests don't see each other.
        type(self).count += 1
        self.database = f"my `test-{self.count}"
        self.folder = tempfile.mkdtemp(prefix="migrate-")
        self.addCleanup(shutil.rmtree, self.folder)

    def environment(self, **variables):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CLICKHOUSE_")}
        url = f"http://{self.server.host}:{self.server.port}"
        own = {"CLICKHOUSE_URL": url, "CLICKHOUSE_DATABASE": self.database, "CLICKHOUSE_PASSWORD": PASSWORD}
        return {name: value for name, value in {**clean, **own, **variables}.items() if value is not None}

    def migrate(self, *arguments, **variables):
        return subprocess.run(
            [MIGRATE, *arguments], env=self.environment(**variables), capture_output=True, text=True, timeout=60
        )

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w") as file:
            file.write(text)

    def request(self, text, **parameters):
        headers = {"X-ClickHouse-User": "default", "X-ClickHouse-Key": PASSWORD}
        self.server.disconnect()  # a run of the tool may have taken longer than the server keeps a connection
        return self.server.request(body=text.encode(), headers=headers, database=self.database, **parameters)

    def query(self, text):
        answer = self.request(text)
        self.assertEqual(answer.status, 200, answer.body)
        return answer.body.rstrip("\n")

    def assertApplied(self, run, *lines):
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        self.assertEqual(run.stdout.splitlines()[1:], list(lines))


class MigrateTests(MigrateCase):
    """The tool, with files of the tests' own."""

    def test_applies_in_order_once(self):
        # 002 needs what 001 makes; 010 comes after 002.
        self.write("002_b.sql", "INSERT INTO log SELECT max(n) + 1 FROM log")
        self.write("010_c.sql", "INSERT INTO log SELECT max(n) + 1 FROM log;")
        self.write("001_a.sql", "CREATE TABLE log (n Int32) ENGINE = MergeTree ORDER BY n; INSERT INTO log VALUES (1);")
        self.write("README.md", "not a migration")
        self.write("1_no.sql", "not a migration")
        self.assertApplied(self.migrate(self.folder), "001_a.sql: applied", "002_b.sql: applied", "010_c.sql: applied")
        self.assertApplied(
            self.migrate(self.folder),
            "001_a.sql: applied before", "002_b.sql: applied before", "010_c.sql: applied before",
        )  # fmt: skip
        self.assertEqual(self.query("SELECT groupArray(n) FROM (SELECT n FROM log ORDER BY n)"), "[1,2,3]")
        self.assertEqual(self.query("SELECT count(), min(length(checksum)) FROM schema_migrations"), "3\t64")

    def test_cuts_statements_where_a_server_would(self):
        self.write(
            "001_a.sql",
            """-- a comment; with a semicolon and an apostrophe: it's
            CREATE TABLE `a;b` (s String /* ; ' */ COMMENT 'don''t; \\'stop\\'') ENGINE = MergeTree ORDER BY s;
            # another; comment
            INSERT INTO `a;b` SELECT ';' AS "x;y";;
            INSERT INTO `a;b` SELECT 'two\n;lines' -- no semicolon at the end""",
        )
        self.assertApplied(self.migrate(self.folder), "001_a.sql: applied")
        self.assertEqual(
            self.query("SELECT groupArray(s) FROM (SELECT s FROM `a;b` ORDER BY s)"), "[';','two\\n;lines']"
        )

    def test_changed_file_is_refused(self):
        self.write("001_a.sql", "CREATE TABLE a (n Int32) ENGINE = MergeTree ORDER BY n")
        self.migrate(self.folder)
        self.write("001_a.sql", "CREATE TABLE a (n Int64) ENGINE = MergeTree ORDER BY n")
        run = self.migrate(self.folder)
        self.assertEqual(run.returncode, 1)
        self.assertIn("001_a.sql was changed after it had been applied", run.stderr)

    def test_failure_names_the_statement_and_is_not_recorded(self):
        self.write("001_a.sql", "CREATE TABLE IF NOT EXISTS a (n Int32) ENGINE = MergeTree ORDER BY n; SELEC 1")
        run = self.migrate(self.folder)
        self.assertEqual(run.returncode, 1)
        self.assertRegex(run.stderr, r"001_a\.sql, statement 2: Code: 62\.")
        self.write("001_a.sql", "CREATE TABLE IF NOT EXISTS a (n Int32) ENGINE = MergeTree ORDER BY n; SELECT 1")
        self.assertApplied(self.migrate(self.folder), "001_a.sql: goes on after statement 1", "001_a.sql: applied")

    def test_password_is_no_argument_of_a_process(self):
        # A stand-in for curl writes down how it is called, and calls curl.
        calls = os.path.join(self.folder, "calls")
        os.mkdir(os.path.join(self.folder, "bin"))
        self.write("bin/curl", f'#!/bin/bash\nprintf "%s\\n" "$@" >>{calls}\nexec {shutil.which("curl")} "$@"\n')
        os.chmod(os.path.join(self.folder, "bin/curl"), 0o755)
        run = self.migrate(PATH=f"{self.folder}/bin:{os.environ['PATH']}")
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        with open(calls) as file:
            text = file.read()
        self.assertIn("--data-binary", text)
        self.assertNotIn(PASSWORD, text)

    def test_settings_from_files(self):
        self.write("password", PASSWORD + "\n")
        run = self.migrate(CLICKHOUSE_PASSWORD=None, CLICKHOUSE_PASSWORD_FILE=f"{self.folder}/password")
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        run = self.migrate(CLICKHOUSE_PASSWORD=None, CLICKHOUSE_PASSWORD_FILE=f"{self.folder}/missing")
        self.assertEqual(run.returncode, 1)
        self.assertIn("CLICKHOUSE_PASSWORD_FILE: can't read", run.stderr)

    def test_wrong_password_fails_at_once(self):
        run = self.migrate(CLICKHOUSE_PASSWORD="wrong")
        self.assertEqual(run.returncode, 1)
        self.assertIn("Authentication failed", run.stderr)
        self.assertNotIn("wrong", run.stderr)

    def test_waits_for_a_server_that_is_starting(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        run = self.migrate("--wait", "0", CLICKHOUSE_URL=url)
        self.assertEqual(run.returncode, 1)
        self.assertIn(f"{url} does not answer within 0 s", run.stderr)
        waiting = subprocess.Popen(
            [MIGRATE],
            env=self.environment(CLICKHOUSE_URL=url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.server.stop(signal.SIGTERM)
        self.server.start(port)
        output, errors = waiting.communicate(timeout=60)
        self.assertEqual((waiting.returncode, errors), (0, ""))
        self.assertIn("001_events.sql: applied", output)

    def test_every_server_of_the_list_gets_the_schema(self):
        second = DevelopmentClickHouse("chdb", "--password", PASSWORD)
        self.addCleanup(second.close)
        urls = f"http://127.0.0.1:{self.server.port}, http://127.0.0.1:{second.port}/"
        run = self.migrate(CLICKHOUSE_URL=urls)
        self.assertEqual((run.returncode, run.stdout.count("001_events.sql: applied")), (0, 2))

    def test_wrong_usage(self):
        self.assertEqual(self.migrate("--what").returncode, 64)
        run = self.migrate(self.folder)
        self.assertEqual(run.returncode, 1)
        self.assertIn("no [0-9][0-9][0-9]_*.sql", run.stderr)


class SchemaTests(MigrateCase):
    """The tables that `schema/` makes, with rows as the service sends them."""

    HTTP = '{"event_id":"%s","payload":"{}","source":"http","received_at":"%s"}'
    KAFKA = (
        '{"event_id":"%s","payload":"{}","source":"kafka","topic":"events","partition":0,"offset":%d,"key":"k",'
        '"received_at":"%s"}'
    )

    def setUp(self):
        super().setUp()
        run = self.migrate()
        self.assertEqual((run.returncode, run.stderr), (0, ""))

    def insert(self, *rows, **parameters):
        answer = self.request("INSERT INTO events FORMAT JSONEachRow\n" + "\n".join(rows), **parameters)
        self.assertEqual((answer.status, answer.body), (200, ""))

    def test_schema_is_idempotent_without_records(self):
        self.query("TRUNCATE TABLE schema_migrations")
        run = self.migrate()
        self.assertEqual((run.returncode, run.stderr), (0, ""))

    def test_no_table_reads_from_kafka_itself(self):
        # Delivery is the service's: a table of that engine would take messages past the journal, and commit them.
        paths = glob.glob(os.path.join(ROOT, "schema/**/*.sql"), recursive=True)
        self.assertGreater(len(paths), 6)
        for path in paths:
            with open(path, encoding="utf-8") as file:
                statements = re.sub("--.*", "", file.read())
            engines = re.findall(r"\bENGINE\s*=\s*(\w+)", statements, re.IGNORECASE)
            self.assertEqual([name for name in engines if "mergetree" not in name.lower() and name != "Distributed"], [])
            self.assertNotRegex(statements, r"(?i)\bkafka_\w+\s*=|\bkafka\s*\(")
        self.assertEqual(
            self.query(
                "SELECT engine FROM system.tables WHERE database = currentDatabase() AND engine ILIKE '%kafka%'"
            ),
            "",
        )
        self.assertGreater(int(self.query("SELECT count() FROM system.tables WHERE database = currentDatabase()")), 3)

    def test_rows_of_both_sources(self):
        self.insert(self.HTTP % ("h", "2026-01-02 03:04:05.678"), self.KAFKA % ("k", 7, "2026-01-02 03:04:05.679"))
        self.assertEqual(
            self.query(
                "SELECT event_id, source, topic, partition, offset, key, received_at FROM events ORDER BY event_id"
            ),
            "h\thttp\t\t-1\t-1\t\t2026-01-02 03:04:05.678\nk\tkafka\tevents\t0\t7\tk\t2026-01-02 03:04:05.679",
        )

    def test_copies_collapse_whatever_else_differs(self):
        # Received days apart, from different sources and partitions.
        self.insert(self.HTTP % ("one", "2026-01-31 23:59:59.999"))
        self.insert(
            self.KAFKA % ("one", 1, "2026-02-01 00:00:00.000"), self.KAFKA % ("two", 2, "2026-02-01 00:00:00.000")
        )
        self.insert(self.KAFKA % ("one", 900, "2027-05-05 05:05:05.000"))
        self.assertEqual(self.query("SELECT count() FROM events"), "4")
        self.assertEqual(self.query("SELECT count(), uniqExact(event_id) FROM events_unique"), "2\t2")
        self.query("OPTIMIZE TABLE events FINAL")
        self.assertEqual(self.query("SELECT event_id, offset FROM events ORDER BY event_id"), "one\t900\ntwo\t2")

    def test_a_batch_sent_again_adds_no_row(self):
        for _ in range(3):
            self.insert(self.HTTP % ("one", "2026-01-01 00:00:00.000"), insert_deduplication_token="batch-1")
        self.assertEqual(self.query("SELECT count() FROM events"), "1")
        window = "SELECT extract(engine_full, 'non_replicated_deduplication_window = (\\\\d+)') FROM system.tables"
        self.assertGreaterEqual(
            int(self.query(f"{window} WHERE name = 'events' AND database = currentDatabase()")), 1000
        )


if __name__ == "__main__":
    unittest.main()
