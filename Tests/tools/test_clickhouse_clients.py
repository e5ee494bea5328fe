"""Real clients of ClickHouse insert into ingestd, and the rows arrive in ClickHouse."""

import gzip
import http.client
import json
import subprocess
import unittest
from base64 import b64encode
from urllib.parse import urlencode

import clickhouse_connect
import zstandard
from clickhouse_connect.driver.exceptions import DatabaseError

from clickhouse_fixture import DevelopmentClickHouse, wait_until
from service_fixture import Service

TOKEN = "s3cr:et"
TABLE = "CREATE TABLE visits (event_id String, a UInt64, b String DEFAULT 'x') ENGINE = MergeTree ORDER BY event_id"


class ClickHouseClientTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.clickhouse = DevelopmentClickHouse("chdb")
        cls.addClassCleanup(cls.clickhouse.close)
        cls.clickhouse.query(TABLE)
        cls.service = Service(
            CLICKHOUSE_URL=f"http://{cls.clickhouse.host}:{cls.clickhouse.port}",
            CLICKHOUSE_TABLE="visits",
            ROW_MODE="flat",
            HTTP_TOKEN=TOKEN,
            BATCH_MAX_AGE="10ms",
        )
        cls.addClassCleanup(cls.service.close)
        cls.client = clickhouse_connect.get_client(host="127.0.0.1", port=cls.service.port, password=TOKEN)
        cls.addClassCleanup(cls.client.close)

    def rows(self, prefix: str, count: int) -> bytes:
        return b"".join(b'{"event_id":"%s-%d","a":%d}\n' % (prefix.encode(), number, number) for number in range(count))

    def assertArrives(self, prefix: str, count: int):
        query = f"SELECT count(), sum(a) FROM visits WHERE event_id LIKE '{prefix}-%'"
        expected = f"{count}\t{count * (count - 1) // 2}"
        wait_until(lambda: self.clickhouse.query(query) == expected, f"{count} rows of {prefix}")

    def test_connect_finds_a_server(self):
        self.assertTrue(self.client.ping())
        self.assertEqual(self.client.command("SELECT 1"), 1)
        self.assertEqual(self.client.command("SELECT version()"), self.client.server_version)
        self.assertEqual(self.client.query("SELECT 1 AS a, 'x' AS b").result_rows, [(1, "x")])
        self.assertEqual(str(self.client.server_tz), "UTC")

    def test_connect_inserts(self):
        for prefix, compression in ("plain", None), ("gzip", "gzip"), ("zstd", "zstd"):
            body = self.rows(prefix, 1000)
            if compression == "gzip":
                body = gzip.compress(body)
            elif compression == "zstd":
                body = zstandard.compress(body)
            summary = self.client.raw_insert("visits", insert_block=body, fmt="JSONEachRow", compression=compression)
            self.assertEqual(summary.written_rows, 1000)
            self.assertArrives(prefix, 1000)

    def test_connect_inserts_with_columns_and_settings(self):
        settings = {"async_insert": 1, "wait_for_async_insert": 0, "insert_deduplication_token": "batch-1"}
        for _ in range(2):
            self.client.raw_insert(
                "default.visits",
                column_names=["event_id", "a"],
                insert_block=self.rows("columns", 10),
                fmt="JSONEachRow",
                settings=settings,
            )
        self.assertArrives("columns", 10)
        with self.assertRaises(DatabaseError) as failure:
            self.client.raw_insert(
                "visits", column_names=["a"], insert_block=self.rows("no", 1), fmt="JSONEachRow"
            )
        self.assertEqual(failure.exception.code, 117)

    def test_connect_is_told_what_can_not_be_done(self):
        for call, code in (
            (lambda: self.client.raw_insert("visits", insert_block=b"1\t2\n", fmt="TabSeparated"), 48),
            (lambda: self.client.raw_insert("nothing", insert_block=b"{}", fmt="JSONEachRow"), 60),
            (lambda: self.client.raw_insert("visits", insert_block=b"{", fmt="JSONEachRow"), 27),
            (lambda: self.client.command("DROP TABLE visits"), 48),
            (lambda: self.client.query("SELECT * FROM visits"), 48),
            (lambda: self.client.insert("visits", [[1]], column_names=["a"]), 48),
            (lambda: self.client.command("SELECT 1", settings={"input_format_allow_errors_num": 1}), 115),
        ):
            with self.assertRaises(DatabaseError) as failure:
                call()
            self.assertEqual(failure.exception.code, code, failure.exception)
        with self.assertRaises(DatabaseError) as failure:
            clickhouse_connect.get_client(host="127.0.0.1", port=self.service.port, password="wrong")
        self.assertEqual(failure.exception.code, 516)
        self.assertEqual(self.clickhouse.query("EXISTS TABLE visits"), "1")

    def request(self, method: str, target: str, body: bytes | None, headers: dict[str, str]):
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=10)
        self.addCleanup(connection.close)
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        return response.status, response.read()

    def test_vector(self):
        """The requests of its `clickhouse` sink (vectordotdev/vector: src/sinks/clickhouse/service.rs, config.rs)."""
        basic = {"Authorization": "Basic " + b64encode(b"user:" + TOKEN.encode()).decode()}
        self.assertEqual(self.request("GET", "/?query=SELECT%201", None, basic), (200, b"1\n"))
        query = urlencode(
            {
                "query": "INSERT INTO {database:Identifier}.{table:Identifier} FORMAT JSONEachRow",
                "param_database": "default",
                "param_table": "visits",
            }
        )
        target = f"/?input_format_import_nested_json=1&date_time_input_format=best_effort&async_insert=1&{query}"
        headers = {**basic, "Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
        self.assertEqual(self.request("POST", target, gzip.compress(self.rows("vector", 100)), headers), (200, b""))
        self.assertArrives("vector", 100)

    def test_curl(self):
        """Habits of scripts; Fluent Bit's `http` output does the first with a header of its own."""
        url = f"{self.service.url}/?query=INSERT+INTO+visits+FORMAT+JSONEachRow"
        commands = {
            "header": [url, "-H", f"X-ClickHouse-Key: {TOKEN}", "-H", "Content-Type: application/x-ndjson"],
            "basic": [url, "-u", f"default:{TOKEN}"],
            "parameter": [f"{url}&user=default&password={TOKEN}"],
            "chunked": [url, "-H", f"X-ClickHouse-Key: {TOKEN}", "-H", "Transfer-Encoding: chunked"],
        }
        for prefix, arguments in commands.items():
            run = subprocess.run(
                ["curl", "-sS", "--fail-with-body", *arguments, "--data-binary", "@-"],
                input=self.rows(prefix, 20),
                capture_output=True,
            )
            self.assertEqual((run.returncode, run.stdout), (0, b""), run.stderr)
            self.assertArrives(prefix, 20)

    def test_what_clickhouse_rejects_is_a_dead_letter(self):
        body = self.rows("good", 3) + b'{"event_id":"bad-0","a":"no number"}\n'
        self.assertEqual(self.client.raw_insert("visits", insert_block=body, fmt="JSONEachRow").written_rows, 4)
        self.assertArrives("good", 3)

        def letters():
            status, text = self.request("GET", "/v1/dead-letters", None, {"Authorization": f"Bearer {TOKEN}"})
            self.assertEqual(status, 200)
            return [letter["event_id"] for letter in json.loads(text)["dead_letters"]]

        wait_until(lambda: letters() == ["bad-0"], "the bad row is a dead letter")


if __name__ == "__main__":
    unittest.main()
