"""The embedded engine (chDB): one process-wide engine over a folder, and a connection per request.

Tried with chdb-core 26.9: connections are cheap (0.4 ms), each has its own settings and database, and different
connections work at the same time in different threads without holding Python's lock. One connection at a time runs
one statement; a streaming INSERT occupies it until it is finished or cancelled. An INSERT is on disk, as a part of a
MergeTree table, when `insert_done` returns: SIGKILL after that does not lose it. A streaming INSERT that is
cancelled, or whose connection is closed, inserts nothing. One whose rows are refused behind the parser (a CONSTRAINT, a
MATERIALIZED column that throws, too many partitions) inserts nothing either, but reports success, which a server does
not: to have rows refused, use types.

Memory: the engine needs about 350 MiB to begin with. A result is held in memory twice (engine and answer), an INSERT
needs its block (up to about a million rows or 256 MiB) and one piece of the body. The engine's own limit
(`max_server_memory_usage`, 90 % of the machine) applies; per query `max_memory_usage` can be sent as a setting.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .error_codes import EngineError, make_error, parse_error

_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")


@dataclass(frozen=True)
class Outcome:
    """What a statement did: the answer's bytes, and the numbers of X-ClickHouse-Summary."""

    body: bytes = b""
    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    elapsed_seconds: float = 0.0


class EmbeddedEngine:
    """The engine over one folder. One per process; all methods are callable from any thread."""

    def __init__(self, folder: str):
        # Importing the package loads half a gigabyte of engine; only whoever wants the engine pays for it.
        from chdb import _chdb

        # The engine installs handlers of its own for SIGTERM and others when it is loaded.
        _chdb.reset_signal_handlers()
        _chdb.set_signal_handlers_enabled(0)
        self._chdb = _chdb
        # So that BACKUP ... TO File('NAME') works, as on a server that has a place for backups.
        self._address = f"{folder}?backups.allowed_path={folder}/backups"
        # The engine lives as long as one connection is open.
        self._keeper = _chdb.connect(self._address)
        self.version = self._text("SELECT version()")
        self.timezone = self._text("SELECT timezone()")
        self._content_types = dict(
            line.split("\t")
            for line in self._text("SELECT name, content_type FROM system.formats WHERE is_output").splitlines()
        )

    def _text(self, query: str) -> str:
        return self._keeper.query(query, "TSVRaw").bytes().decode().rstrip("\n")

    def content_type(self, format_name: str) -> str:
        """The Content-Type of an output format."""
        return self._content_types.get(format_name, "text/plain; charset=UTF-8")

    def connect(self) -> "Connection":
        """A fresh connection: default settings, database `default`."""
        return Connection(self, self._chdb.connect(self._address))

    def close(self) -> None:
        """Stops the engine. No connection may be in use."""
        self._keeper.close()


class Connection:
    """A connection for one request. Used by one thread; a context manager that closes it."""

    def __init__(self, engine: EmbeddedEngine, handle):
        self._engine = engine
        self._handle = handle
        # chDB completes "1 + 1" to a SELECT; a server does not.
        self._run(lambda: handle.query("SET implicit_select = 0", "Null"))

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_) -> None:
        self._handle.close()

    def _run(self, action):
        try:
            return action()
        except RuntimeError as error:
            raise parse_error(str(error), self._engine.version) from None

    def use_database(self, name: str) -> None:
        """Makes `name` the current database; code 81 if there is none."""
        quoted = name.replace("\\", "\\\\").replace("`", "\\`")
        self._run(lambda: self._handle.query(f"USE `{quoted}`", "Null"))

    def set(self, name: str, value: str) -> None:
        """Sets a setting for this connection; code 115 if there is none of that name."""
        if not _SETTING_NAME.match(name):
            raise make_error(115, "UNKNOWN_SETTING", f"Unknown setting '{name}'.", self._engine.version)
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        self._run(lambda: self._handle.query(f"SET {name} = '{quoted}'", "Null"))

    def query(self, text: str, format_name: str, parameters: dict[str, str]) -> Outcome:
        """Runs a statement and returns its whole result."""
        result = self._run(lambda: self._handle.query(text, format_name, params=parameters))
        return Outcome(
            body=result.bytes() or b"",
            read_rows=result.storage_rows_read(),
            read_bytes=result.storage_bytes_read(),
            written_rows=result.rows_written(),
            written_bytes=result.bytes_written(),
            elapsed_seconds=result.elapsed(),
        )

    def insert(self, statement: str, format_name: str, pieces: Iterable[bytes]) -> Outcome:
        """Runs an INSERT with data as a stream; inserts nothing if `pieces` raises."""
        inserter = self._run(lambda: self._handle.send_insert(statement, format_name))
        try:
            for piece in pieces:
                self._run(lambda: self._handle.insert_append(inserter, piece))
            result = self._run(lambda: self._handle.insert_done(inserter))
        except EngineError:
            raise
        except BaseException:
            self._run(lambda: self._handle.insert_cancel(inserter))
            raise
        return Outcome(
            written_rows=result.rows_written(),
            written_bytes=result.bytes_written(),
            elapsed_seconds=result.elapsed(),
        )
