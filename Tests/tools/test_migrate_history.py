"""tools/migrate over time: failures, several runs at once, ways back, earlier versions with data, TLS, clusters."""

import http.client
import http.server
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import unittest

from clickhouse_fixture import ROOT, wait_until
from test_migrate import MIGRATE, PASSWORD, MigrateCase

sys.path.insert(0, os.path.join(ROOT, "tools"))

from clickhouse_dev.server_process import find_server  # noqa: E402  (needs the path set above)

SCHEMA = os.path.join(ROOT, "schema")
TABLE = "CREATE TABLE IF NOT EXISTS {} (n Int32) ENGINE = MergeTree ORDER BY n;"


class SharedServerCase(MigrateCase):
    """One embedded engine for all classes of this module: each takes a second and 350 MiB to start."""

    @classmethod
    def setUpClass(cls):
        cls.server, cls.count = shared["server"], 0

    @classmethod
    def tearDownClass(cls):
        pass

    def setUp(self):
        super().setUp()
        self.database += type(self).__name__


shared = {}


def setUpModule():
    MigrateCase.setUpClass()
    shared["server"] = MigrateCase.server


def tearDownModule():
    MigrateCase.tearDownClass()


class HistoryChecks:
    """What holds on every server, with files of the tests' own."""

    def refused(self, *arguments, **variables):
        run = self.migrate(*arguments, **variables)
        self.assertEqual(run.returncode, 1, run.stdout)
        return run.stderr

    def test_a_half_applied_file_goes_on_where_it_failed(self):
        # The first INSERT must not be repeated: it has rows to count.
        begin = TABLE.format("log") + "INSERT INTO log VALUES (1);"
        self.write("001_a.sql", begin + "INSERT INTO nowhere VALUES (1); INSERT INTO log VALUES (2)")
        for _ in range(2):
            self.assertIn("001_a.sql, statement 3: Code: 60", self.refused(self.folder))
        self.write("001_a.sql", begin.replace("(1)", "(7)") + "SELECT 1")
        self.assertIn("its statement 2 was changed after it had been applied", self.refused(self.folder))
        self.write("001_a.sql", TABLE.format("log"))
        self.assertIn("its statement 2 was changed", self.refused(self.folder))
        self.write("001_a.sql", begin + "INSERT INTO log VALUES (3); INSERT INTO log VALUES (2)")
        self.assertIn("001_a.sql: would be applied, statements 3 to 4", self.migrate("--dry-run", self.folder).stdout)
        self.assertApplied(self.migrate(self.folder), "001_a.sql: goes on after statement 2", "001_a.sql: applied")
        self.assertEqual(self.query("SELECT count(), sum(n) FROM log"), "3\t6")

    def test_a_dry_run_changes_nothing(self):
        self.write("001_a.sql", TABLE.format("a") + TABLE.format("b"))
        run = self.migrate("--dry-run", self.folder, EVENTS_RETENTION_DAYS="1")
        self.assertApplied(run, "001_a.sql: would be applied, statements 1 to 2")
        databases = self.server.query(
            f"SELECT count() FROM system.databases WHERE name = '{self.database}'",
            headers={"X-ClickHouse-User": "default", "X-ClickHouse-Key": PASSWORD},
        )
        self.assertEqual(databases, "0")

    def test_several_at_once_apply_each_statement_once(self):
        # ClickHouse would take each of these inserts again and again.
        self.write("001_a.sql", TABLE.format("log") + "INSERT INTO log VALUES (1); INSERT INTO log VALUES (2)")
        self.write("002_b.sql", "INSERT INTO log VALUES (3)")
        runs = [
            subprocess.Popen(
                [MIGRATE, self.folder], env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            for _ in range(4)
        ]
        outcomes = [(run.communicate(timeout=60)[1], run.returncode) for run in runs]
        self.assertEqual(outcomes, [(b"", 0)] * 4)
        self.assertEqual(self.query("SELECT count(), sum(n) FROM log"), "3\t6")
        self.assertEqual(self.query("SELECT count() FROM schema_migrations"), "2")
        locks = "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name LIKE '%lock%'"
        self.assertEqual(self.query(locks), "1")

    def test_down_steps_lead_back_and_up_again(self):
        os.mkdir(f"{self.folder}/down")
        self.write("001_a.sql", TABLE.format("a") + "INSERT INTO a VALUES (1)")
        self.write("002_b.sql", TABLE.format("b"))
        self.write("003_c.sql", TABLE.format("c") + "INSERT INTO c VALUES (1)")
        self.write("down/003_c.sql", "DROP TABLE IF EXISTS c; DROP TABLE nowhere")
        self.migrate(self.folder)
        # Nothing is begun that can't be ended.
        self.assertIn("taking back 002_b.sql would lose data", self.refused("--down-to", "001", self.folder))
        self.assertEqual(self.query("SELECT count() FROM c"), "1")
        self.write("down/002_b.sql", "DROP TABLE IF EXISTS b")

        self.assertIn("down/003_c.sql, statement 2: Code: 60", self.refused("--down-to", "001", self.folder))
        self.assertIn("003_c.sql was being taken back", self.refused(self.folder))
        self.write("down/003_c.sql", "DROP TABLE IF EXISTS c")
        run = self.migrate("--dry-run", "--down-to", "001", self.folder)
        self.assertApplied(run, "003_c.sql: would be taken back", "002_b.sql: would be taken back")
        run = self.migrate("--down-to", "001", self.folder)
        self.assertApplied(run, "003_c.sql: taken back", "002_b.sql: taken back")
        self.assertApplied(self.migrate("--down-to", "001", self.folder), "nothing was applied after 001")

        run = self.migrate(self.folder)
        self.assertApplied(run, "001_a.sql: applied before", "002_b.sql: applied", "003_c.sql: applied")
        self.assertEqual(self.query("SELECT (SELECT count() FROM a), (SELECT count() FROM c)"), "1\t1")

    def test_wrong_password_says_what_to_check(self):
        errors = self.refused(self.folder_with_one_file(), CLICKHOUSE_PASSWORD="wrong")
        self.assertIn("Are CLICKHOUSE_USER and CLICKHOUSE_PASSWORD right?", errors)

    def folder_with_one_file(self):
        self.write("001_a.sql", "SELECT 1")
        return self.folder


class HistoryTests(HistoryChecks, SharedServerCase):
    """On today's engine."""

    def test_history_that_does_not_fit_is_refused(self):
        self.write("001_a.sql", TABLE.format("a"))
        self.write("003_c.sql", TABLE.format("c"))
        self.assertApplied(self.migrate(self.folder), "001_a.sql: applied", "003_c.sql: applied")
        self.write("002_b.sql", TABLE.format("b"))
        self.assertIn("002_b.sql comes before 003_c.sql, which is applied already", self.refused(self.folder))
        os.rename(f"{self.folder}/002_b.sql", f"{self.folder}/003_b.sql")
        self.assertIn("two files with one number", self.refused(self.folder))
        os.remove(f"{self.folder}/003_b.sql")
        os.rename(f"{self.folder}/003_c.sql", f"{self.folder}/004_c.sql")
        self.assertIn("003_c.sql is applied to http", self.refused(self.folder))
        self.assertEqual(self.query("SELECT count() FROM system.tables WHERE database = currentDatabase()"), "5")

    def test_a_half_applied_file_can_be_taken_back(self):
        os.mkdir(f"{self.folder}/down")
        self.write("001_a.sql", TABLE.format("a") + "DROP TABLE nowhere")
        self.write("down/001_a.sql", "DROP TABLE IF EXISTS a")
        self.refused(self.folder)
        self.assertApplied(self.migrate("--down-to", "000", self.folder), "001_a.sql: taken back")
        self.write("001_a.sql", "CREATE TABLE a (other String) ENGINE = MergeTree ORDER BY other")
        self.assertApplied(self.migrate(self.folder), "001_a.sql: applied")

    def test_a_run_that_was_killed_holds_no_lock_for_long(self):
        self.write("001_a.sql", TABLE.format("log") + "INSERT INTO log VALUES (1); SELECT sleep(3);")
        killed = subprocess.Popen([MIGRATE, self.folder], env=self.environment(), stdout=subprocess.DEVNULL)
        progress = "SELECT count() FROM schema_migrations_progress"
        wait_until(lambda: self.request(progress).body == "2\n", "two statements were applied")
        killed.kill()
        killed.wait()
        self.write("001_a.sql", TABLE.format("log") + "INSERT INTO log VALUES (1); SELECT 1;")
        run = self.migrate("--lock-timeout", "3", self.folder)
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        self.assertRegex(run.stdout, f"waits for another run .*process {killed.pid}")
        self.assertIn("gave no sign of life for 3 s", run.stdout)
        self.assertIn("001_a.sql: goes on after statement 2", run.stdout)
        self.assertEqual(self.query("SELECT count() FROM log"), "1")

    def test_a_run_that_was_stopped_does_not_go_on_beside_the_next(self):
        # Its lock is taken over while it is under way. Short statements, many of them: the engine takes one request at a
        # time, and ours must get in between.
        self.write("001_a.sql", "SELECT sleep(0.4);" * 20 + "CREATE TABLE a (n Int32) ENGINE = MergeTree ORDER BY n")
        run = subprocess.Popen(
            [MIGRATE, self.folder], env=self.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        lock = "CREATE TABLE schema_migrations_lock_2 AS schema_migrations_lock_1"
        signs = "SELECT count() FROM schema_migrations_lock_1"
        wait_until(lambda: self.request(signs).body == "1\n", "it has the lock")
        self.query(lock)
        self.assertIn("another run has taken over", run.communicate(timeout=60)[1])
        self.assertEqual(run.returncode, 1)
        self.assertEqual(self.query("EXISTS TABLE a"), "0")


@unittest.skipUnless(find_server(), "no clickhouse-server is installed")
class OldServerHistoryTests(HistoryChecks, MigrateCase):
    """On the installed server: Debian's 18.16, which has neither the types nor the codecs of the bundled schema."""

    engine = "server"


class VersionTests(SharedServerCase):
    """The bundled schema, from each version of it."""

    ROWS = "".join(
        f'{{"event_id":"{number}","payload":"{{}}","source":"http","received_at":"2026-01-01 0{hour}:00:00.000"}}\n'
        for number, hour in [(1, 1), (2, 1), (1, 1), (3, 2)]
    )
    COUNTS = "SELECT toHour(hour), events FROM events_counted ORDER BY hour"
    NAMES = sorted(name for name in os.listdir(SCHEMA) if name.endswith(".sql"))

    def insert(self, rows=ROWS, **settings):
        answer = self.request("INSERT INTO events FORMAT JSONEachRow\n" + rows, **settings)
        self.assertEqual((answer.status, answer.body), (200, ""))

    def check_all_is_there(self):
        self.assertEqual(self.query("SELECT count(), uniqExact(event_id) FROM events_unique"), "3\t3")
        self.assertEqual(self.query(self.COUNTS), "1\t2\n2\t1")
        total = "SELECT uniqCombined64Merge(event_ids), min(first_received), max(last_received) FROM events_per_hour"
        self.assertEqual(self.query(total), "3\t2026-01-01 01:00:00.000\t2026-01-01 02:00:00.000")

    def test_from_each_version_with_rows_in_place(self):
        for count in range(1, len(self.NAMES)):
            with self.subTest(version=self.NAMES[count - 1]):
                self.database = f"version {count}"
                older = os.path.join(self.folder, str(count))
                os.mkdir(older)
                for name in self.NAMES[:count]:
                    shutil.copy(os.path.join(SCHEMA, name), older)
                self.assertApplied(self.migrate(older), *(f"{name}: applied" for name in self.NAMES[:count]))
                self.insert()
                # The first version of the tool recorded whole files only.
                self.query("DROP TABLE schema_migrations_progress")
                self.assertApplied(
                    self.migrate(),
                    *(f"{name}: applied before" for name in self.NAMES[:count]),
                    *(f"{name}: applied" for name in self.NAMES[count:]),
                )
                self.check_all_is_there()
                self.assertApplied(self.migrate(), *(f"{name}: applied before" for name in self.NAMES))
                self.insert()  # a replay changes nothing
                self.check_all_is_there()

    def test_back_to_the_first_version_and_up_again_keeps_the_events(self):
        self.migrate()
        self.insert()
        run = self.migrate("--down-to", "001")
        self.assertApplied(run, *(f"{name}: taken back" for name in reversed(self.NAMES[1:])))
        self.insert(self.ROWS.replace('"3"', '"4"'))  # nothing is left that an insert could fail on
        self.assertEqual(self.query("SELECT uniqExact(event_id) FROM events"), "4")
        run = self.migrate()
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        self.assertEqual(self.query("SELECT count(), uniqExact(event_id) FROM events_unique"), "4\t4")
        self.assertEqual(self.query(self.COUNTS), "1\t2\n2\t2")
        run = self.migrate("--down-to", "000")
        self.assertEqual(run.returncode, 1)
        self.assertIn("taking back 001_events.sql would lose data", run.stderr)
        self.assertEqual(self.query("SELECT count() FROM events_unique"), "4")

    def test_traces_come_and_go_with_their_column(self):
        older = os.path.join(self.folder, "older")
        os.mkdir(older)
        for name in self.NAMES[:3]:
            shutil.copy(os.path.join(SCHEMA, name), older)
        self.migrate(older)
        self.insert()
        self.migrate()
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        row = self.ROWS.splitlines()[0].replace('"event_id":"1"', f'"event_id":"4","traceparent":"{trace}"')
        self.insert(row)
        traces = "SELECT event_id, traceparent FROM events_unique ORDER BY event_id"
        self.assertEqual(self.query(traces), f"1\t\n2\t\n3\t\n4\t{trace}")
        # The last column, for what counts them.
        last = "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = '{}'"
        for table in ("events", "events_unique"):
            self.assertEqual(self.query(last.format(table) + " ORDER BY position DESC LIMIT 1"), "traceparent")
        self.migrate("--down-to", "003")
        answer = self.request(traces)
        self.assertEqual(answer.status, 404, answer.body)
        self.assertEqual(self.query("SELECT count() FROM events_unique"), "4")
        self.migrate()
        self.assertEqual(self.query(traces), "1\t\n2\t\n3\t\n4\t")

    def test_retries_count_once_with_the_settings_of_the_service(self):
        self.migrate()
        for _ in range(3):
            self.insert(insert_deduplication_token="batch-1", deduplicate_blocks_in_dependent_materialized_views=1)
        self.assertEqual(self.query("SELECT count() FROM events"), "3")  # one insert's rows, copies in it collapsed
        self.check_all_is_there()
        # A copy that comes an hour later is in both hours, and once in both together.
        self.insert(self.ROWS.splitlines()[0].replace("01:00:00", "02:00:00"))
        self.assertEqual(self.query(self.COUNTS), "1\t2\n2\t2")
        self.assertEqual(self.query("SELECT uniqCombined64Merge(event_ids) FROM events_per_hour"), "3")

    def test_retention(self):
        definition = "SELECT engine_full FROM system.tables WHERE name = 'events' AND database = currentDatabase()"
        self.migrate()
        self.insert()
        self.assertNotIn("TTL", self.query(definition))
        run = self.migrate(EVENTS_RETENTION_DAYS="03650")
        self.assertIn("retention: events are deleted 3650 days after", run.stdout)
        self.assertNotIn("retention", self.migrate(EVENTS_RETENTION_DAYS="3650").stdout)
        self.query("OPTIMIZE TABLE events FINAL")
        self.assertEqual(self.query("SELECT count() FROM events_unique"), "3")
        for wrong, words in [("3651", "at most 3650"), ("7d", "a number of days"), ("-1", "a number of days")]:
            run = self.migrate(EVENTS_RETENTION_DAYS=wrong)
            self.assertEqual(run.returncode, 1)
            self.assertIn(words, run.stderr)
        self.insert(self.ROWS.replace("2026-01-01", "2001-01-01"))
        self.query("OPTIMIZE TABLE events FINAL")
        self.assertEqual(self.query("SELECT min(received_at) FROM events"), "2026-01-01 01:00:00.000")
        self.assertEqual(self.query("SELECT toYear(min(hour)) FROM events_per_hour"), "2001")
        self.assertIn("retention: events are kept", self.migrate(EVENTS_RETENTION_DAYS="0").stdout)
        self.assertNotIn("TTL", self.query(definition))


class Front:
    """Stands before a ClickHouse, with TLS if there is a certificate; `rewrite` may change statements on their way."""

    def __init__(self, server, certificate=None, rewrite=lambda text: text):
        self.statements = []
        front = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                front.statements.append(body.decode())
                connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
                names = ("X-ClickHouse-User", "X-ClickHouse-Key")
                headers = {name: self.headers[name] for name in names if name in self.headers}
                connection.request(self.command, self.path, rewrite(body.decode()).encode(), headers)
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                self.send_response(answer.status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = handle_any

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.http.server_address[1]
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
            self.http.handle_error = lambda *_: None  # clients that don't trust us
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


class TLSTests(SharedServerCase):
    def test_certificate_must_be_known(self):
        key, certificate = f"{self.folder}/key.pem", f"{self.folder}/certificate.pem"
        command = [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", key, "-out", certificate, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        front = Front(self.server, (certificate, key))
        self.addCleanup(front.close)
        self.write("001_a.sql", TABLE.format("a"))
        url = f"https://127.0.0.1:{front.port}"
        # At once: waiting would not help.
        run = self.migrate(self.folder, "--wait", "600", CLICKHOUSE_URL=url)
        self.assertEqual(run.returncode, 64)
        run = self.migrate("--wait", "600", self.folder, CLICKHOUSE_URL=url)
        self.assertEqual(run.returncode, 1)
        self.assertIn("CLICKHOUSE_CA_FILE names the file", run.stderr)
        run = self.migrate(self.folder, CLICKHOUSE_URL=url, CLICKHOUSE_CA_FILE=f"{self.folder}/missing")
        self.assertIn("CLICKHOUSE_CA_FILE: can't read", run.stderr)
        run = self.migrate("--wait", "600", self.folder, CLICKHOUSE_URL=url, CLICKHOUSE_CA_FILE=key)
        self.assertEqual(run.returncode, 1)
        self.assertIn("CLICKHOUSE_CA_FILE names the file", run.stderr)
        run = self.migrate(self.folder, CLICKHOUSE_URL=url, CLICKHOUSE_CA_FILE=certificate)
        self.assertApplied(run, "001_a.sql: applied")


class ClusterTests(SharedServerCase):
    """schema/cluster, without a cluster: each statement is parsed as it is, and run as if there were one server.

    Not proved here: replication, DDL by ON CLUSTER and the sharding of inserts, which take a ClickHouse Keeper.
    """

    def setUp(self):
        super().setUp()
        self.database = f"cluster_{self.count}"

    @staticmethod
    def as_one_server(text):
        text = re.sub(r" ON CLUSTER '[^']*'", "", text)
        text = re.sub(r"SETTINGS\s+(?:(?:--[^\n]*\n)?\s*replicated_\w+ = \d+,?)+", "", text)
        text = re.sub(r"Replicated(\w*MergeTree)\('[^']*', '[^']*'(?:, )?", r"\1(", text)
        # A Distributed table over one shard reads as a Merge table does. It takes no rows, though.
        text = re.sub(r"Distributed\('[^']*', '([^']*)', '([^']*)', [^;]*\)", r"Merge('\1', '^\2$')", text)
        return text.replace("INSERT INTO events_per_hour\n", "INSERT INTO events_per_hour_local\n")

    def test_the_cluster_schema(self):
        front = Front(self.server, rewrite=self.as_one_server)
        self.addCleanup(front.close)
        # Nobody listens at the first.
        urls = f"http://127.0.0.1:1,http://127.0.0.1:{front.port}"
        settings = {"CLICKHOUSE_URL": urls, "CLICKHOUSE_CLUSTER": "main"}
        names = sorted(name for name in os.listdir(f"{SCHEMA}/cluster") if name.endswith(".sql"))
        self.assertEqual(names, VersionTests.NAMES, "both variants have the same files")
        self.assertApplied(self.migrate(**settings), *(f"{name}: applied" for name in names))
        self.query(
            "INSERT INTO events_local (event_id, payload, source, received_at) SELECT toString(number % 3), '{}', "
            "'http', toDateTime64('2026-01-01 01:00:00', 3, 'UTC') FROM numbers(9)"
        )
        self.query("INSERT INTO events_local SELECT * FROM events_local")
        self.assertEqual(self.query("SELECT events FROM events_counted"), "3")
        self.assertEqual(self.query("SELECT count() FROM events_unique"), "3")
        for table in ("events_local", "events", "events_unique"):
            self.assertEqual(self.query(f"SELECT DISTINCT traceparent FROM {table}"), "")
        self.assertApplied(self.migrate(**settings), *(f"{name}: applied before" for name in names))
        run = self.migrate(**settings, EVENTS_RETENTION_DAYS="3650")
        self.assertIn("retention: events are deleted 3650 days", run.stdout)
        run = self.migrate("--down-to", "001", **settings)
        self.assertApplied(run, *(f"{name}: taken back" for name in reversed(names[1:])))
        self.assertEqual(self.query("SELECT uniqExact(event_id) FROM events"), "3")

        definitions = [text for text in front.statements if re.search(r"^\s*(CREATE|DROP|ALTER)\b", text, re.MULTILINE)]
        for text in definitions:
            self.query(f"EXPLAIN AST {text}")
            bookkeeping = "schema_migrations_lock" in text or "schema_migrations DELETE" in text
            self.assertEqual("ON CLUSTER 'main'" in text, not bookkeeping, text)
        sent = "".join(definitions)
        self.assertNotIn("{cluster}", sent.replace("for {cluster} and", ""))
        self.assertIn(f"ReplicatedReplacingMergeTree('/clickhouse/tables/{self.database}/events_local/{{shard}}'", sent)
        self.assertIn(f"Distributed('main', '{self.database}', 'events_local', cityHash64(event_id))", sent)

    def test_columns_are_those_of_one_server(self):
        def columns(text):
            return re.sub(r"--.*|\s+", " ", text[text.index("(\n") : text.index("\n)\n")])

        for name, table in [("001_events.sql", "events"), ("003_events_per_hour.sql", "events_per_hour")]:
            both = []
            for folder in (SCHEMA, f"{SCHEMA}/cluster"):
                with open(os.path.join(folder, name)) as file:
                    both.append(" ".join(columns(file.read()).split()))
            self.assertEqual(*both, table)

    def test_the_other_variant_is_refused(self):
        self.assertEqual(self.migrate().returncode, 0)
        run = self.migrate(CLICKHOUSE_CLUSTER="main")
        self.assertEqual(run.returncode, 1)
        self.assertIn("was changed after it had been applied", run.stderr)
        run = self.migrate(CLICKHOUSE_CLUSTER="a'b")
        self.assertIn("CLICKHOUSE_CLUSTER: letters", run.stderr)
        run = self.migrate("--wait", "0", CLICKHOUSE_CLUSTER="main", CLICKHOUSE_URL="http://127.0.0.1:1")
        self.assertIn("none of http://127.0.0.1:1 answers within 0 s", run.stderr)


if __name__ == "__main__":
    unittest.main()
