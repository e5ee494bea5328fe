"""What is asked of the service and of ClickHouse over HTTP."""

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request

from .processes import Failure

_TIMEOUT_SECONDS = 30


def setting(name: str, default: str) -> str:
    """A setting as the service reads it: the variable, else the file that NAME_FILE names, else the default."""
    if os.environ.get(name):
        return os.environ[name]
    path = os.environ.get(name + "_FILE")
    if not path:
        return default
    try:
        with open(path) as file:
            return file.read().rstrip("\n")
    except OSError as error:
        raise Failure(f"{name}_FILE: can't read {path}: {error.strerror}") from None


class Service:
    """The service's HTTP interface."""

    def __init__(self, url: str):
        self.url = url
        self._token = setting("HTTP_TOKEN", "")

    def _request(self, path: str, body: bytes | None = None, content_type: str = "") -> tuple[int, bytes]:
        headers = {"Content-Type": content_type} if body is not None else {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(self.url + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def is_ready(self) -> bool:
        """Whether it accepts events durably."""
        try:
            return self._request("/readyz")[0] == 200
        except (urllib.error.URLError, http.client.HTTPException, OSError):
            return False

    def send(self, lines: list[bytes]) -> int:
        """Sends events as one NDJSON body; returns how many were acknowledged."""
        status, answer = self._request("/v1/events", b"\n".join(lines) + b"\n", "application/x-ndjson")
        if status != 202:
            raise Failure(f"POST /v1/events answered {status}: {answer.decode('utf-8', 'replace')}")
        return json.loads(answer)["accepted"]

    def journal_events(self) -> int:
        """Number of events that wait in the journal."""
        status, text = self._request("/metrics")
        if status != 200:
            raise Failure(f"GET /metrics answered {status}")
        values = [line.rpartition(" ")[2] for line in text.decode().splitlines() if _is_gauge(line)]
        return int(sum(map(float, values)))


def _is_gauge(line: str) -> bool:
    return line.startswith(("ingest_journal_events{", "ingest_journal_events "))


class ClickHouse:
    """ClickHouse's HTTP interface, with the credentials that the service uses."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self.database = setting("CLICKHOUSE_DATABASE", "default")
        self.table = setting("CLICKHOUSE_TABLE", "events")
        self._headers = {"X-ClickHouse-User": setting("CLICKHOUSE_USER", "default")}
        password = setting("CLICKHOUSE_PASSWORD", "")
        if password:
            self._headers["X-ClickHouse-Key"] = password

    def query(self, text: str) -> list[str]:
        """The fields of the first row of a result."""
        url = f"{self.url}/?{urllib.parse.urlencode({'database': self.database})}"
        request = urllib.request.Request(url, text.encode(), self._headers)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
                return response.read().decode().split("\n")[0].split("\t")
        except urllib.error.HTTPError as error:
            raise Failure(f"ClickHouse answered {error.code}: {error.read().decode('utf-8', 'replace')}") from None
        except OSError as error:
            raise Failure(f"ClickHouse at {self.url} does not answer: {error}") from None

    def count(self, prefix: str) -> tuple[int, int, int]:
        """Rows, different event ids, and rows without copies, of the events whose id begins with `prefix`."""
        text = f"SELECT count(), uniqExact(event_id) FROM {self.table} WHERE startsWith(event_id, '{prefix}')"
        rows, distinct = self.query(text)
        collapsed = self.query(f"SELECT count() FROM {self.table} FINAL WHERE startsWith(event_id, '{prefix}')")
        return int(rows), int(distinct), int(collapsed[0])
