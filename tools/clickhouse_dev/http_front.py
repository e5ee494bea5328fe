"""What a ClickHouse server's HTTP interface does, over the embedded engine.

Kept from the server [ClickHouse: src/Server/HTTPHandler.cpp]: paths, parameters and headers; the query text is the
`query` parameter followed by the body; any other parameter is a setting; GET implies readonly; errors carry the
exception code in a header and the server's words in the body; keep-alive with a time limit.

Left out, and answered with code 48 (NOT_IMPLEMENTED) rather than ignored: sessions (`session_id`), the native
compression of bodies (`compress`, `decompress`), roles. Answers are sent when the statement has ended, as with
`wait_end_of_query=1`, so a failed query never begins with status 200.
"""

import base64
import binascii
import json
import socket
import threading
import time
import uuid
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from . import statements
from .embedded_engine import EmbeddedEngine, Outcome
from .error_codes import EngineError, make_error
from .request_body import BadEncoding, Disconnected, RequestBody, UnknownEncoding, decoded

_KEEP_ALIVE_SECONDS = 30
_DEFAULT_FORMAT = "TabSeparated"
_UNSUPPORTED = ("session_id", "compress", "decompress", "role")
_NOT_SETTINGS = {
    "query", "database", "default_format", "user", "password", "quota_key", "query_id", "stacktrace",
    "session_timeout", "session_check", "close_session", "client_protocol_version", "buffer_size",
    "wait_end_of_query", *_UNSUPPORTED,
}  # fmt: skip
_NOT_FOUND = (
    "There is no handle {path}\n"
    "Use / or /ping for health checks.\n"
    "Send queries from your program with POST method or GET /?query=...\n"
)


class HTTPFront(ThreadingHTTPServer):
    """Accepts connections, a thread each, and counts the statements under way."""

    daemon_threads = True
    # Sockets of many clients that connect at once wait here.
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], engine: EmbeddedEngine, user: str, password: str):
        self.engine = engine
        self.user = user
        self.password = password
        self.display_name = socket.gethostname()
        self._changed = threading.Condition()
        self._under_way = 0
        self._closing = False
        super().__init__(address, _RequestHandler)

    def begin_statement(self) -> bool:
        """Counts a statement; false when the front is closing and begins none any more."""
        with self._changed:
            if self._closing:
                return False
            self._under_way += 1
            return True

    def end_statement(self) -> None:
        """Counts a statement off."""
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    def close(self, grace_seconds: float) -> bool:
        """Stops accepting, and waits for the statements under way; false if they did not end in time."""
        self.shutdown()
        self.server_close()
        with self._changed:
            self._closing = True
            return self._changed.wait_for(lambda: self._under_way == 0, grace_seconds)

    def handle_error(self, request, client_address) -> None:
        """A client that went away is no news; anything else is printed as usual."""
        import sys

        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _RequestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _KEEP_ALIVE_SECONDS
    disable_nagle_algorithm = True
    wbufsize = -1  # one write for headers and body

    server: HTTPFront

    def version_string(self) -> str:
        return "clickhouse-dev"

    def log_message(self, format, *args) -> None:
        pass

    def handle_expect_100(self) -> bool:
        # Writes are buffered: without the flush a client like curl waits a second before it sends the body.
        answered = super().handle_expect_100()
        self.wfile.flush()
        return answered

    def do_GET(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def do_HEAD(self) -> None:
        self._route()

    def _route(self) -> None:
        url = urlsplit(self.path)
        if self.command != "POST" and url.path in ("/ping", "/replicas_status"):
            return self._answer(200, b"Ok.\n", {"Content-Type": "text/html; charset=UTF-8"})
        parameters = dict(parse_qsl(url.query, keep_blank_values=True, errors="surrogateescape"))
        if self.command != "POST" and url.path == "/" and "query" not in parameters:
            return self._answer(200, b"Ok.\n", {"Content-Type": "text/html; charset=UTF-8"})
        if url.path != "/":
            text = _NOT_FOUND.format(path=url.path).encode()
            return self._answer(404, text, {"Content-Type": "text/plain; charset=UTF-8"}, close=True)
        if not self.server.begin_statement():
            self.close_connection = True
            return None
        try:
            self._handle_query(parameters)
        finally:
            self.server.end_statement()

    def _handle_query(self, parameters: dict[str, str]) -> None:
        engine = self.server.engine
        query_id = parameters.get("query_id") or self.headers.get("X-ClickHouse-Query-Id") or str(uuid.uuid4())
        headers = {
            "X-ClickHouse-Server-Display-Name": self.server.display_name,
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Timezone": engine.timezone,
        }
        started = time.monotonic()
        body = None
        try:
            body = self._request_body()
            outcome, format_name = self._execute(parameters, body)
            status, answer = 200, outcome.body
            headers["Content-Type"] = engine.content_type(format_name)
            headers["X-ClickHouse-Format"] = format_name
            headers["X-ClickHouse-Summary"] = _summary(outcome, time.monotonic() - started)
        except EngineError as error:
            status, answer = error.http_status, error.text.encode("utf-8", "replace") + b"\n"
            headers["Content-Type"] = "text/plain; charset=UTF-8"
            headers["X-ClickHouse-Exception-Code"] = str(error.code)
            if status == 401:
                headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
        except Disconnected:
            self.close_connection = True
            return
        try:
            keep = body is not None and body.drain()
        except Disconnected:
            keep = False
        self._answer(status, answer, headers, close=not keep)

    def _request_body(self) -> RequestBody:
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        length = self.headers.get("Content-Length")
        if length is not None and not length.isdigit():
            raise self._error(36, "BAD_ARGUMENTS", "Content-Length can't be read")
        if self.command == "POST" and not chunked and length is None:
            message = "The Transfer-Encoding is not chunked and there is no Content-Length header for POST request"
            raise self._error(381, "HTTP_LENGTH_REQUIRED", message)
        return RequestBody(self.rfile, int(length) if length else None, chunked)

    def _execute(self, parameters: dict[str, str], body: RequestBody) -> tuple[Outcome, str]:
        """Runs what the request asks for; returns its outcome and the name of the output format."""
        self._authenticate(parameters)
        for name in _UNSUPPORTED:
            if parameters.get(name) not in (None, "", "0"):
                raise self._error(48, "NOT_IMPLEMENTED", f"clickhouse-dev does not support the parameter {name}")
        headers: Message = self.headers
        format_name = parameters.get("default_format") or headers.get("X-ClickHouse-Format") or _DEFAULT_FORMAT
        database = parameters.get("database") or headers.get("X-ClickHouse-Database")
        try:
            pieces = decoded(body.pieces(), headers.get("Content-Encoding", ""))
            with self.server.engine.connect() as connection:
                for name, value in parameters.items():
                    if name not in _NOT_SETTINGS and not name.startswith("param_"):
                        connection.set(name, value)
                if database:
                    connection.use_database(database)
                if self.command != "POST":
                    connection.set("readonly", "2")

                text = parameters.get("query", "")
                insert = statements.parse_insert(text)
                if insert is None or not insert.is_complete:
                    # The body is more of the text.
                    rest = b"".join(pieces)
                    pieces = iter(())
                    if rest:
                        text = (text + "\n" if text else "") + rest.decode("utf-8", "surrogateescape")
                    insert = statements.parse_insert(text)
                if insert is not None:
                    inline = text[insert.data_offset :].encode("utf-8", "surrogateescape")
                    return connection.insert(insert.statement, insert.format, _chain(inline, pieces)), format_name

                if statements.has_second_statement(text):
                    raise self._error(62, "SYNTAX_ERROR", "Syntax error (Multi-statements are not allowed)")
                text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
                if not text.strip():
                    raise self._error(
                        62, "SYNTAX_ERROR", "Syntax error: failed at position 1 (end of query): Empty query"
                    )
                named = {name[6:]: value for name, value in parameters.items() if name.startswith("param_")}
                outcome = connection.query(text, format_name, named)
                return outcome, statements.output_format(text) or format_name
        except UnknownEncoding as error:
            raise self._error(48, "NOT_IMPLEMENTED", f"Unknown compression method: {error}") from None
        except BadEncoding as error:
            raise self._error(354, "ZLIB_INFLATE_FAILED", f"The body can't be decompressed: {error}") from None

    def _authenticate(self, parameters: dict[str, str]) -> None:
        """Takes user and password from headers, Basic authentication or parameters; raises code 516."""
        user, password = self.headers.get("X-ClickHouse-User"), self.headers.get("X-ClickHouse-Key")
        authorization = self.headers.get("Authorization")
        in_parameters = "user" in parameters or "password" in parameters
        if (user or password) and (authorization or in_parameters) or (authorization and in_parameters):
            message = "Invalid authentication: it is not allowed to use several ways of authentication simultaneously"
            raise self._error(516, "AUTHENTICATION_FAILED", message)
        if authorization:
            scheme, _, value = authorization.partition(" ")
            try:
                if scheme.lower() != "basic":
                    raise ValueError(scheme)
                user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
            except (ValueError, binascii.Error):
                message = "Invalid authentication: only the 'Basic' scheme is supported"
                raise self._error(516, "AUTHENTICATION_FAILED", message) from None
        elif in_parameters:
            user, password = parameters.get("user"), parameters.get("password")
        user = user or "default"
        if user != self.server.user or (password or "") != self.server.password:
            message = f"{user}: Authentication failed: password is incorrect, or there is no user with such name."
            raise self._error(516, "AUTHENTICATION_FAILED", message)

    def _error(self, code: int, name: str, message: str) -> EngineError:
        return make_error(code, name, message, self.server.engine.version)

    def _answer(self, status: int, body: bytes, headers: dict[str, str], close: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value.replace("\r", " ").replace("\n", " "))
        self.send_header("Content-Length", str(len(body)))
        if close:
            self.send_header("Connection", "close")
        else:
            self.send_header("Connection", "Keep-Alive")
            self.send_header("Keep-Alive", f"timeout={_KEEP_ALIVE_SECONDS}")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


def _chain(inline: bytes, pieces):
    """Data that follow the statement in the query text, then the body."""
    if inline.strip():
        yield inline
        yield b"\n"
    yield from pieces


def _summary(outcome: Outcome, seconds: float) -> str:
    return json.dumps(
        {
            "read_rows": str(outcome.read_rows),
            "read_bytes": str(outcome.read_bytes),
            "written_rows": str(outcome.written_rows),
            "written_bytes": str(outcome.written_bytes),
            "elapsed_ns": str(int(seconds * 1e9)),
        },
        separators=(",", ":"),
    )
