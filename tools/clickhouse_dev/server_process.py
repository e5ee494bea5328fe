"""An installed ClickHouse server as a child process, with a minimal configuration of its own.

Works with Debian's `clickhouse-server` (18.16) and is meant to work with today's `clickhouse server`: the
configuration holds only what both know. Everything that the server writes is below the given folder.
"""

import ctypes
import hashlib
import os
import shutil
import signal
import socket
import subprocess
from xml.sax.saxutils import escape

_PR_SET_PDEATHSIG = 1
# Debian installs the server into /usr/sbin, which is not on every user's PATH.
_EXTRA_PATH = "/usr/sbin:/usr/local/sbin"

_CONFIG = """<?xml version="1.0"?>
<yandex>
    <logger>
        <level>warning</level>
        <log>{folder}/server.log</log>
        <errorlog>{folder}/server.err.log</errorlog>
        <size>10M</size>
        <count>2</count>
    </logger>
    <display_name>clickhouse-dev</display_name>
    <listen_host>{host}</listen_host>
    <http_port>{http_port}</http_port>
    <tcp_port>{tcp_port}</tcp_port>
    <path>{folder}/data/</path>
    <tmp_path>{folder}/tmp/</tmp_path>
    <user_files_path>{folder}/user_files/</user_files_path>
    <format_schema_path>{folder}/format_schemas/</format_schema_path>
    <users_config>{folder}/users.xml</users_config>
    <default_profile>default</default_profile>
    <default_database>default</default_database>
    <max_connections>1024</max_connections>
    <keep_alive_timeout>10</keep_alive_timeout>
    <mark_cache_size>67108864</mark_cache_size>
    <uncompressed_cache_size>0</uncompressed_cache_size>
    <mlock_executable>false</mlock_executable>
    <timezone>UTC</timezone>
    <builtin_dictionaries_reload_interval>3600</builtin_dictionaries_reload_interval>
</yandex>
"""

_USERS = """<?xml version="1.0"?>
<yandex>
    <profiles><default><max_memory_usage>4000000000</max_memory_usage></default></profiles>
    <quotas><default></default></quotas>
    <users>
        <{user}>
            {password}
            <networks><ip>::1</ip><ip>127.0.0.1</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
        </{user}>
    </users>
</yandex>
"""


def find_server() -> list[str] | None:
    """The command of an installed server, or `None`."""
    path = os.environ.get("PATH", "") + ":" + _EXTRA_PATH
    server = shutil.which("clickhouse-server", path=path)
    if server:
        return [server]
    clickhouse = shutil.which("clickhouse", path=path)
    return [clickhouse, "server"] if clickhouse else None


def free_port(host: str) -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, 0))
        return probe.getsockname()[1]


def is_free(host: str, port: int) -> bool:
    """Whether a server can listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def die_with_parent(number: int = signal.SIGKILL):
    """A `preexec_fn`: the kernel sends the child a signal when this thread ends, however that happens.

    Use it from the main thread, whose end is the process's.
    """
    parent = os.getpid()
    # Looked up here: between fork and exec a child must not load libraries.
    prctl = ctypes.CDLL(None).prctl

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os.kill(os.getpid(), number)

    return prepare


def start(
    command: list[str], folder: str, host: str, port: int, user: str, password: str, lock: int
) -> subprocess.Popen:
    """Starts the server below `folder`. Call it from the main thread: the child dies with the calling thread.

    The server inherits the descriptor `lock`, so that the lock is held until it is gone too.
    """
    for name in ("data", "tmp", "user_files", "format_schemas"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    values = {"folder": escape(folder), "host": escape(host), "http_port": port, "tcp_port": free_port(host)}
    digest = hashlib.sha256(password.encode()).hexdigest()
    element = f"<password_sha256_hex>{digest}</password_sha256_hex>" if password else "<password></password>"
    _write(os.path.join(folder, "config.xml"), _CONFIG.format(**values))
    _write(os.path.join(folder, "users.xml"), _USERS.format(user=escape(user), password=element))
    with open(os.path.join(folder, "output.log"), "wb") as output:
        return subprocess.Popen(
            [*command, f"--config-file={folder}/config.xml"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Today's server forks a watchdog, which would outlive a SIGKILL of ours for a moment.
            env={**os.environ, "CLICKHOUSE_WATCHDOG_ENABLE": "0"},
            # Ctrl-C in a terminal goes to us; we stop the server in order.
            start_new_session=True,
            pass_fds=(lock,),
            preexec_fn=die_with_parent(),
        )


def stop(server: subprocess.Popen, grace_seconds: float) -> None:
    """Stops the server: SIGTERM, and SIGKILL if that does not help in time."""
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def last_words(folder: str) -> str:
    """The end of the server's logs, for an error message."""
    words = []
    for name in ("output.log", "server.err.log"):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            with open(path, "rb") as log:
                log.seek(max(0, os.path.getsize(path) - 2000))
                words.append(log.read().decode("utf-8", "replace").strip())
    return "\n".join(word for word in words if word)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
