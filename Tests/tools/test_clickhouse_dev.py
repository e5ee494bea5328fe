"""The development ClickHouse behaves like a server: the same checks against both engines, where both apply."""

import gzip
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import unittest
import zlib

from clickhouse_fixture import ROOT, DevelopmentClickHouse, descendants, is_alive, wait_until

sys.path.insert(0, os.path.join(ROOT, "tools"))

from clickhouse_dev import server_process  # noqa: E402  (needs the path set above)

DEDUPLICATING = "CREATE TABLE d (a UInt64) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 9"
NEEDS_SERVER = unittest.skipUnless(server_process.find_server(), "no clickhouse-server is installed")

TABLE = "CREATE TABLE t (a UInt64, b String) ENGINE = MergeTree ORDER BY a"
ROWS = b'{"a":1,"b":"x"}\n{"a":2,"b":"y"}\n'
# A password that needs quoting everywhere.
PASSWORD = "s3'cr\\et&<>"


class BothEngines:
    """Checks that hold for the embedded engine and for an installed server."""

    engine: str

    @classmethod
    def setUpClass(cls):
        cls.server = DevelopmentClickHouse(cls.engine, "--password", PASSWORD)

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def setUp(self):
        self.auth = {"X-ClickHouse-User": "default", "X-ClickHouse-Key": PASSWORD}
        self.query("DROP TABLE IF EXISTS t")
        self.query(TABLE)

    def request(self, *, headers=None, **rest):
        return self.server.request(headers={**self.auth, **(headers or {})}, **rest)

    def query(self, text, **parameters):
        answer = self.request(body=text.encode(), **parameters)
        self.assertEqual(answer.status, 200, answer.body)
        return answer.body.rstrip("\n")

    def insert(self, body, headers=None, chunked=False, query="INSERT INTO t FORMAT JSONEachRow", **parameters):
        return self.request(body=body, headers=headers, chunked=chunked, query=query, **parameters)

    def rows(self):
        return self.query("SELECT a, b FROM t ORDER BY a")

    def test_health_paths(self):
        for path in ("/ping", "/"):
            answer = self.server.request("GET", path)
            self.assertEqual((answer.status, answer.body), (200, "Ok.\n"))
        answer = self.server.request("GET", "/nothing-here")
        self.assertEqual(answer.status, 404)
        self.assertIn("There is no handle /nothing-here", answer.body)

    def test_insert_with_content_length(self):
        answer = self.insert(ROWS)
        self.assertEqual((answer.status, answer.body), (200, ""))
        self.assertNotIn("X-ClickHouse-Exception-Code", answer.headers)
        self.assertEqual(self.rows(), "1\tx\n2\ty")

    def test_insert_chunked(self):
        pieces = (ROWS[i : i + 5] for i in range(0, len(ROWS), 5))
        answer = self.insert(pieces, headers={"Transfer-Encoding": "chunked"}, chunked=True)
        self.assertEqual((answer.status, answer.body), (200, ""))
        self.assertEqual(self.rows(), "1\tx\n2\ty")

    def test_client_that_asks_before_it_sends_is_answered_at_once(self):
        head = (
            "POST /?query=INSERT+INTO+t+FORMAT+JSONEachRow HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            f"X-ClickHouse-User: default\r\nX-ClickHouse-Key: {PASSWORD}\r\nContent-Length: {len(ROWS)}\r\n\r\n"
        )
        with socket.create_connection((self.server.host, self.server.port), timeout=30) as client:
            client.sendall(head.encode())
            self.assertTrue(client.recv(4096).startswith(b"HTTP/1.1 100 "))
            client.sendall(ROWS)
            self.assertTrue(client.recv(4096).startswith(b"HTTP/1.1 200 "))
        self.assertEqual(self.rows(), "1\tx\n2\ty")

    def test_insert_compressed(self):
        for encoding, body in {"gzip": gzip.compress(ROWS), "deflate": zlib.compress(ROWS)}.items():
            answer = self.insert(body, {"Content-Encoding": encoding})
            self.assertEqual((encoding, answer.status, answer.body), (encoding, 200, ""))
        self.assertEqual(self.query("SELECT count(), uniq(a) FROM t"), "4\t2")

    def test_insert_with_statement_and_data_in_the_body(self):
        self.query('INSERT INTO t FORMAT JSONEachRow\n{"a":1,"b":"x;y"}\n{"a":2,"b":"FORMAT z"}')
        self.query("INSERT INTO t (b, a) VALUES ('(;', 3), ('VALUES', 4)")
        self.query("INSERT INTO t SELECT 5, 'FORMAT q'")
        self.assertEqual(self.rows(), "1\tx;y\n2\tFORMAT z\n3\t(;\n4\tVALUES\n5\tFORMAT q")

    def test_insert_with_the_body_as_the_rest_of_the_statement(self):
        self.assertEqual(self.insert(b"(1, 'x')", query="INSERT INTO t VALUES").status, 200)
        self.assertEqual(self.insert(b"FORMAT JSONEachRow\n" + ROWS[:16], query="INSERT INTO t").status, 200)
        self.assertEqual(self.insert(b"2\tz\n", query="INSERT INTO t FORMAT TabSeparated").status, 200)
        self.assertEqual(self.rows(), "1\tx\n1\tx\n2\tz")

    def test_bad_row_is_named_and_inserts_nothing(self):
        for body in (b'{"a":1}\n{"a":"zz"}\n{"a":3}\n', b'{"a":1}\n{"a"\n'):
            answer = self.insert(body)
            self.assertIn(answer.status, (400, 500))
            self.assertRegex(answer.body, r"^Code: \d+[.,] (?s:.*)\(at row 2\)")
        self.assertEqual(self.rows(), "")

    def test_output_formats(self):
        self.insert(ROWS)
        self.assertEqual(self.query("SELECT a FROM t ORDER BY a"), "1\n2")
        self.assertEqual(self.query("SELECT b FROM t ORDER BY a FORMAT CSV"), '"x"\n"y"')
        answer = self.request(body=b"SELECT a, b FROM t ORDER BY a", default_format="JSONEachRow")
        self.assertEqual([json.loads(line)["b"] for line in answer.body.splitlines()], ["x", "y"])
        answer = self.request(body=b"SELECT a FROM t FORMAT JSON")
        self.assertEqual(answer.headers["Content-Type"], "application/json; charset=UTF-8")
        self.assertEqual(json.loads(answer.body)["rows"], 2)

    def test_get_is_read_only(self):
        answer = self.request(method="GET", query="SELECT 1 + 1")
        self.assertEqual((answer.status, answer.body), (200, "2\n"))
        answer = self.request(method="GET", query="DROP TABLE t")
        self.assertEqual(answer.status, 500)
        self.assertIn("Code: 164", answer.body)

    def test_settings_as_parameters(self):
        setting = "SELECT value FROM system.settings WHERE name = 'max_threads'"
        self.assertEqual(self.query(setting, max_threads="7"), "7")
        self.assertNotEqual(self.query(setting), "7")
        answer = self.request(body=b"SELECT 1", no_such_setting="1")
        self.assertEqual(answer.status, 404)
        self.assertRegex(answer.body, r"^Code: 115\b.*no_such_setting")

    def test_database_parameter(self):
        self.query("DROP DATABASE IF EXISTS other")
        self.query("CREATE DATABASE other")
        self.query(TABLE, database="other")
        self.assertEqual(self.insert(ROWS, database="other").status, 200)
        self.assertEqual(self.query("SELECT count() FROM t"), "0")
        self.assertEqual(self.query("SELECT count() FROM other.t"), "2")
        answer = self.request(body=b"SELECT 1", database="missing")
        self.assertEqual(answer.status, 404)
        self.assertIn("Code: 81", answer.body)

    def test_errors_carry_codes(self):
        for query, status, code in (
            ("SELECT * FROM missing", 404, 60),
            ("SELEC 1", 400, 62),
            ("SELECT 1; SELECT 2", 400, 62),
        ):
            answer = self.request(body=query.encode())
            self.assertEqual(answer.status, status, answer.body)
            self.assertRegex(answer.body, rf"^Code: {code}\b")
        self.assertEqual(self.insert(ROWS, query="INSERT INTO missing FORMAT JSONEachRow").status, 404)

    def test_authentication(self):
        quoted = {"user": "default", "password": PASSWORD}
        self.assertEqual(self.server.request(body=b"SELECT 1", **quoted).status, 200)
        for user, key in (("default", "wrong"), ("nobody", PASSWORD)):
            answer = self.server.request(body=b"SELECT 1", headers={"X-ClickHouse-User": user, "X-ClickHouse-Key": key})
            self.assertIn(answer.status, (401, 403, 500))
            self.assertRegex(answer.body, r"^Code: (192|193|194|516)\b")
        # The embedded front must not lose its place on the connection after a refusal with an unread body.
        self.assertEqual(self.rows(), "")

    def test_connection_is_kept(self):
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=30)
        try:
            local_ports = set()
            for number in range(3):
                body = b'{"a":%d}' % number if number != 1 else b'{"a":"bad"}' * 1000
                connection.request("POST", "/?query=INSERT+INTO+t(a)+FORMAT+JSONEachRow", body, self.auth)
                local_ports.add(connection.sock.getsockname()[1])
                connection.getresponse().read()
        finally:
            connection.close()
        self.assertEqual(self.rows(), "0\t\n2\t")
        if self.engine == "chdb":
            self.assertEqual(len(local_ports), 1)

    def test_concurrent_inserts(self):
        statuses = []

        def insert(start: int) -> None:
            connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=30)
            body = b"".join(b'{"a":%d}' % (start + number) for number in range(20_000))
            connection.request("POST", "/?query=INSERT+INTO+t(a)+FORMAT+JSONEachRow", body, self.auth)
            statuses.append(connection.getresponse().status)
            connection.close()

        threads = [threading.Thread(target=insert, args=(start * 20_000,)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(statuses, [200] * 4)
        self.assertEqual(self.query("SELECT count(), uniqExact(a) FROM t"), "80000\t80000")


class BothEnginesLifetime:
    """Life and death, for the embedded engine and for an installed server."""

    engine: str

    def setUp(self):
        self.server = DevelopmentClickHouse(self.engine)
        self.addCleanup(self.server.close)
        self.server.query(TABLE)

    def test_data_survive_sigkill_on_the_same_port(self):
        port = self.server.port
        written = 0
        for round_number in range(3):
            for number in range(20):
                answer = self.server.insert("t", b'{"a":%d}' % (round_number * 100 + number))
                self.assertEqual(answer.status, 200, answer.body)
                written += 1
            self.server.kill()
            self.server.start(port)
            self.assertEqual(self.server.port, port)
            self.assertEqual(self.server.query("SELECT count() FROM t"), str(written))

    def test_sigkill_leaves_no_process(self):
        children = descendants(self.server.process.pid)
        self.assertEqual(len(children) > 0, self.engine == "server")
        self.server.kill()
        wait_until(lambda: not any(map(is_alive, children)), "the server dies with clickhouse-dev")
        self.server.start()

    def test_signals_stop_it_cleanly(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self.server.insert("t", ROWS)
            self.assertEqual(self.server.stop(number), 0)
            self.server.start()
        self.assertEqual(self.server.query("SELECT count() FROM t"), "4")

    def test_closed_stdin_stops_it(self):
        children = descendants(self.server.process.pid)
        self.server.process.stdin.close()
        self.assertEqual(self.server.process.wait(30), 0)
        self.server.process.stdout.close()
        self.assertFalse(any(map(is_alive, children)))
        self.server.start()

    def test_port_in_use_is_said(self):
        command = [os.path.join(ROOT, "tools/clickhouse-dev"), "--data", self.server.folder + "/second"]
        command += ["--engine", self.engine, "--port", str(self.server.port)]
        second = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        self.assertEqual((second.returncode, second.stdout), (1, ""))
        self.assertIn(f"can't listen on 127.0.0.1:{self.server.port}", second.stderr)


class EmbeddedEngineTests(BothEngines, unittest.TestCase):
    """The embedded engine, which answers as today's server does."""

    engine = "chdb"

    def test_insert_zstd(self):
        import zstandard

        frames = zstandard.compress(ROWS[:16]) + zstandard.compress(ROWS[16:])
        self.assertEqual(self.insert(frames, {"Content-Encoding": "zstd"}).status, 200)
        self.assertEqual(self.rows(), "1\tx\n2\ty")
        self.assertEqual(self.insert(frames[:-3], {"Content-Encoding": "zstd"}).status, 500)
        self.assertEqual(self.insert(ROWS, {"Content-Encoding": "snail"}).status, 501)
        self.assertEqual(self.rows(), "1\tx\n2\ty")

    def test_client_that_goes_away_inserts_nothing(self):
        # 18.16 takes the part that arrived for the whole body, and inserts it.
        head = (
            "POST /?query=INSERT+INTO+t+FORMAT+JSONEachRow HTTP/1.1\r\nHost: x\r\n"
            f"X-ClickHouse-User: default\r\nX-ClickHouse-Key: {PASSWORD}\r\nContent-Length: 1000\r\n\r\n"
        )
        with socket.create_connection((self.server.host, self.server.port)) as client:
            client.sendall(head.encode() + ROWS)
        self.insert(b'{"a":7,"b":"later"}')
        self.assertEqual(self.rows(), "7\tlater")

    def test_headers(self):
        answer = self.insert(ROWS, query_id="my-query")
        self.assertEqual(answer.headers["X-ClickHouse-Query-Id"], "my-query")
        self.assertEqual(answer.headers["X-ClickHouse-Server-Display-Name"], socket.gethostname())
        self.assertEqual(json.loads(answer.headers["X-ClickHouse-Summary"])["written_rows"], "2")
        answer = self.request(body=b"SELECT a FROM t", default_format="CSV")
        self.assertEqual(answer.headers["X-ClickHouse-Format"], "CSV")
        self.assertTrue(answer.headers["X-ClickHouse-Timezone"])

    def test_exceptions_in_todays_form(self):
        self.query("CREATE TABLE IF NOT EXISTS times (d DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY d")
        cases = (
            (400, 27, "CANNOT_PARSE_INPUT_ASSERTION_FAILED", "t", b'{"a":"zz"}'),
            (400, 117, "INCORRECT_DATA", "t", b'{"nope":1}'),
            (400, 41, "CANNOT_PARSE_DATETIME", "times", b'{"d":"garbage"}'),
            (500, 33, "CANNOT_READ_ALL_DATA", "t", b'{"a":1'),
            (404, 60, "UNKNOWN_TABLE", "missing", b'{"a":1}'),
            (404, 16, "NO_SUCH_COLUMN_IN_TABLE", "t (zz)", b'{"a":1}'),
        )
        for status, code, name, table, body in cases:
            query = f"INSERT INTO {table} FORMAT JSONEachRow"
            answer = self.insert(body, query=query, input_format_skip_unknown_fields="0")
            self.assertEqual(answer.headers["X-ClickHouse-Exception-Code"], str(code), answer.body)
            self.assertEqual(answer.status, 500 if code == 16 else status)
            self.assertRegex(answer.body, rf"(?s)^Code: {code}\. DB::Exception: .*\({name}\) \(version [\d.]+\)\n$")
            self.assertEqual(answer.body.count("DB::Exception"), 1)
        answer = self.request(body=b"SELECT 1 FORMAT Nope")
        self.assertEqual((answer.status, answer.body.count("DB::Exception")), (404, 1))

    def test_wrong_password_is_403(self):
        answer = self.server.request(body=b"SELECT 1")
        self.assertEqual((answer.status, answer.headers["X-ClickHouse-Exception-Code"]), (403, "516"))
        self.assertIn("default: Authentication failed: password is incorrect", answer.body)

    def test_deduplication_token(self):
        self.query(DEDUPLICATING)
        for token, body in (("one", b'{"a":1}'), ("one", b'{"a":2}'), ("two", b'{"a":1}')):
            self.insert(body, query="INSERT INTO d FORMAT JSONEachRow", insert_deduplication_token=token)
        self.assertEqual(self.query("SELECT a FROM d"), "1\n1")

    def test_large_insert_is_one_part(self):
        body = b"".join(b'{"a":%d,"b":"%s"}\n' % (number, b"z" * 150) for number in range(100_000))
        pieces = (body[i : i + 65_536] for i in range(0, len(body), 65_536))
        self.assertEqual(self.insert(pieces, {"Transfer-Encoding": "chunked"}, chunked=True).status, 200)
        self.assertEqual(self.query("SELECT count() FROM t"), "100000")
        self.assertEqual(self.query("SELECT max(rows) FROM system.parts WHERE table = 't'"), "100000")

    def test_query_parameters(self):
        self.assertEqual(self.query("SELECT {x:UInt8} + 1", param_x="4"), "5")

    def test_length_required(self):
        with socket.create_connection((self.server.host, self.server.port)) as client:
            client.sendall(b"POST /?query=SELECT+1 HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertIn(b"411", client.recv(4096).split(b"\r\n")[0])

    def test_what_is_not_supported_is_refused(self):
        answer = self.request(body=b"SELECT 1", session_id="s")
        self.assertEqual((answer.status, answer.headers["X-ClickHouse-Exception-Code"]), (501, "48"))


@NEEDS_SERVER
class InstalledServerTests(BothEngines, unittest.TestCase):
    """Debian's server."""

    engine = "server"


class EmbeddedEngineLifetimeTests(BothEnginesLifetime, unittest.TestCase):
    engine = "chdb"

    def test_deduplication_survives_sigkill(self):
        self.server.query(DEDUPLICATING)
        self.server.insert("d", b'{"a":1}', insert_deduplication_token="one")
        self.server.kill()
        self.server.start()
        self.server.insert("d", b'{"a":1}', insert_deduplication_token="one")
        self.assertEqual(self.server.query("SELECT count() FROM d"), "1")

    def test_second_process_on_the_same_folder_is_refused(self):
        command = [os.path.join(ROOT, "tools/clickhouse-dev"), "--data", self.server.folder, "--port", "0"]
        second = subprocess.Popen(
            [*command, "--engine", "chdb", "--exit-with-stdin"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        _, errors = second.communicate()  # closes stdin, so it does not wait for the lock to the end
        self.assertEqual(second.returncode, 1)
        self.assertIn("another clickhouse-dev uses", errors)


@NEEDS_SERVER
class InstalledServerLifetimeTests(BothEnginesLifetime, unittest.TestCase):
    engine = "server"


if __name__ == "__main__":
    unittest.main()
