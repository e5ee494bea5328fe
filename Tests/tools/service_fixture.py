"""Starts the built `ingestd` for tests."""

import http.client
import os
import shutil
import socket
import subprocess
import tempfile

from clickhouse_fixture import ROOT, wait_until

BINARY = os.environ.get("INGESTD_BINARY", os.path.join(ROOT, ".build/debug/ingestd"))


def free_port() -> int:
    """A port of the loopback that nobody listens on, for the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Service:
    """A running ingestd without Kafka, with its journal in a folder of its own."""

    def __init__(self, **settings: str):
        self.folder = tempfile.mkdtemp(prefix="ingestd-")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {
            "PATH": os.environ["PATH"],
            "HTTP_PORT": str(self.port),
            "JOURNAL_PATH": os.path.join(self.folder, "journal"),
            "KAFKA_CONSUMER_ENABLED": "false",
            # Nobody there, unless the test says otherwise.
            "CLICKHOUSE_URL": f"http://127.0.0.1:{free_port()}",
            "SHUTDOWN_TIMEOUT": "1s",
            **settings,
        }
        self.start()

    def start(self) -> None:
        """Starts it, with the journal as it was."""
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.process = subprocess.Popen([BINARY, "serve"], stdout=log, stderr=log, env=self._environment)
        try:
            wait_until(self._is_ready, f"ingestd is ready ({BINARY})")
        except BaseException:
            print(self.log())
            self.close()
            raise

    def _is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"ingestd ended with {self.process.returncode}")
        try:
            return self.get("/readyz") == 200
        except ConnectionError:
            return False

    def get(self, path: str) -> int:
        """The status of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def log(self) -> str:
        with open(os.path.join(self.folder, "log"), encoding="utf-8") as log:
            return log.read()

    def stop(self) -> None:
        """Ends it; the journal stays."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(30)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)
