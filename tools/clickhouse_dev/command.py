"""Options, signals, life and death of a development ClickHouse."""

import argparse
import base64
import contextlib
import fcntl
import http.client
import importlib.util
import os
import signal
import sys
import threading
import time

from . import server_process

_START_SECONDS = 60
_STOP_SECONDS = 5
# Version 18.16 waits 5 s for idle keep-alive connections. What it has acknowledged is on disk, so we don't.
_SERVER_STOP_SECONDS = 2
_LOCK_SECONDS = 10
_DESCRIPTION = """\
Starts a development ClickHouse on loopback. When it answers, one line is printed:

    ready http://127.0.0.1:PORT engine=server|chdb version=X

Data are kept below DIR, apart for each engine, also across SIGKILL. SIGTERM and SIGINT stop it.
Engine `chdb` is today's engine, embedded, behind an HTTP front; `server` is an installed clickhouse-server."""


class StartError(Exception):
    """Why it can't start, in words for the user."""


def main() -> int:
    """The command; returns the exit code."""
    options = _parse_options()
    stop = threading.Event()
    # The main thread waits for this event; the handlers run between its instructions.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    if options.exit_with_stdin:
        threading.Thread(target=_watch_stdin, args=(stop,), daemon=True).start()
    try:
        engine = _choose_engine(options.engine)
        folder = os.path.join(os.path.abspath(options.data), engine)
        os.makedirs(folder, exist_ok=True)
        with _locked(folder, stop) as lock:
            if engine == "chdb":
                return _run_embedded(options, folder, stop)
            return _run_server(options, folder, stop, lock)
    except StartError as error:
        print(f"clickhouse-dev: {error}", file=sys.stderr)
        return 1


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="clickhouse-dev", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", metavar="DIR", required=True, help="folder for data; made if missing")
    parser.add_argument("--engine", choices=("auto", "server", "chdb"), default="auto", help="auto: chdb if installed")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on [%(default)s]")
    parser.add_argument("--port", type=int, default=8123, help="HTTP port; 0 takes a free one [%(default)s]")
    parser.add_argument("--user", default="default", help="the only user [%(default)s]")
    # The variable keeps the password out of the list of processes.
    password = os.environ.pop("CLICKHOUSE_DEV_PASSWORD", "")
    parser.add_argument("--password", default=password, help="the user's password [$CLICKHOUSE_DEV_PASSWORD, or empty]")
    parser.add_argument("--exit-with-stdin", action="store_true", help="stop also when stdin is closed")
    return parser.parse_args()


def _watch_stdin(stop: threading.Event) -> None:
    try:
        while os.read(0, 4096):
            pass
    except OSError:  # closed from the beginning
        pass
    stop.set()


def _choose_engine(wanted: str) -> str:
    has_chdb = importlib.util.find_spec("chdb") is not None
    has_server = server_process.find_server() is not None
    if wanted == "chdb" and not has_chdb:
        raise StartError("chdb-core is not installed; run tools/setup")
    if wanted == "server" and not has_server:
        raise StartError("neither clickhouse-server nor clickhouse is installed; run tools/setup test")
    if wanted != "auto":
        return wanted
    if not has_chdb and not has_server:
        raise StartError("neither chdb-core nor a ClickHouse server is installed; run tools/setup")
    return "chdb" if has_chdb else "server"


@contextlib.contextmanager
def _locked(folder: str, stop: threading.Event):
    """Holds the folder: two engines over the same data would destroy them.

    The predecessor may have been killed a moment ago and still be on its way out, so this waits a while. The kernel
    drops the lock with the last process that has the descriptor: ours, and the server's.
    """
    path = os.path.join(folder, "lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline or stop.wait(0.05):
                    raise StartError(f"another clickhouse-dev uses {folder}") from None
        yield descriptor
    finally:
        os.close(descriptor)


def _run_embedded(options: argparse.Namespace, folder: str, stop: threading.Event) -> int:
    from .embedded_engine import EmbeddedEngine
    from .http_front import HTTPFront

    data = os.path.join(folder, "data")
    os.makedirs(data, exist_ok=True)
    # The engine's database `default` takes names of files in the working folder for tables.
    work = os.path.join(folder, "work")
    os.makedirs(work, exist_ok=True)
    os.chdir(work)
    engine = EmbeddedEngine(data)
    try:
        front = HTTPFront((options.host, options.port), engine, options.user, options.password)
    except OSError as error:
        engine.close()
        raise StartError(f"can't listen on {options.host}:{options.port}: {error.strerror}") from None
    threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    port = front.server_address[1]
    if not _ping(options.host, port):
        raise StartError("the HTTP front does not answer")
    _print_ready(options.host, port, "chdb", engine.version)
    stop.wait()
    if front.close(_STOP_SECONDS):
        engine.close()
    # Threads of idle connections, or of a statement that does not end, must not hold the process.
    sys.stdout.flush()
    os._exit(0)


def _run_server(options: argparse.Namespace, folder: str, stop: threading.Event, lock: int) -> int:
    command = server_process.find_server()
    port = options.port or server_process.free_port(options.host)
    if not server_process.is_free(options.host, port):
        raise StartError(f"can't listen on {options.host}:{port}: Address already in use")
    server = server_process.start(command, folder, options.host, port, options.user, options.password, lock)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _ping(options.host, port):
            if server.poll() is not None:
                words = server_process.last_words(folder)
                raise StartError(f"{command[0]} ended with code {server.returncode}:\n{words}")
            if time.monotonic() > deadline:
                raise StartError(f"{command[0]} does not answer after {_START_SECONDS} s; see {folder}")
            if stop.wait(0.02):
                return 0
        _print_ready(options.host, port, "server", _server_version(options, port))
        # A child's death comes as no event to a waiting thread, hence a thread that waits for it.
        threading.Thread(target=lambda: (server.wait(), stop.set()), daemon=True).start()
        stop.wait()
        if server.returncode is not None:
            words = server_process.last_words(folder)
            raise StartError(f"{command[0]} ended with code {server.returncode}:\n{words}")
        return 0
    finally:
        server_process.stop(server, _SERVER_STOP_SECONDS)


def _ping(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().read() == b"Ok.\n"
    except OSError:
        return False
    finally:
        connection.close()


def _server_version(options: argparse.Namespace, port: int) -> str:
    credentials = base64.b64encode(f"{options.user}:{options.password}".encode()).decode()
    connection = http.client.HTTPConnection(options.host, port, timeout=5)
    try:
        connection.request("GET", "/?query=SELECT%20version()", headers={"Authorization": f"Basic {credentials}"})
        return connection.getresponse().read().decode().strip()
    finally:
        connection.close()


def _print_ready(host: str, port: int, engine: str, version: str) -> None:
    print(f"ready http://{host}:{port} engine={engine} version={version}", flush=True)
