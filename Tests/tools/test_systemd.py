"""What the service tells systemd, and the unit that systemd runs it by."""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from clickhouse_fixture import ROOT, wait_until
from service_fixture import BINARY, free_port

UNIT = os.path.join(ROOT, "deploy/systemd/ingestd.service")
# Of systemd's 0 (nothing is possible) to 10 (everything is).
MOST_EXPOSURE = 1.5

# <sys/ptrace.h>, <sys/wait.h>
PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
LIBC.ptrace.restype = ctypes.c_long


def has_systemd(version: int) -> bool:
    """Whether systemd-analyze is there, and of this version or newer."""
    if not shutil.which("systemd-analyze"):
        return False
    answer = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True)
    found = re.match(r"systemd (\d+)", answer.stdout)
    return bool(found) and int(found[1]) >= version


@unittest.skipUnless(os.access(BINARY, os.X_OK), "no debug build")
class NotificationTests(unittest.TestCase):
    """A socket stands in for systemd's."""

    def listen(self, address: str) -> None:
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)
        self.manager.bind(address)

    def start(self, notify: str, **settings: str) -> None:
        self.folder = tempfile.mkdtemp(prefix="systemd-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.environment = {
            "PATH": os.environ["PATH"], "HTTP_PORT": "0", "JOURNAL_PATH": os.path.join(self.folder, "journal"),
            "KAFKA_CONSUMER_ENABLED": "false", "CLICKHOUSE_URL": f"http://127.0.0.1:{free_port()}",
            "SHUTDOWN_TIMEOUT": "2s", "NOTIFY_SOCKET": notify, **settings,
        }  # fmt: skip
        with open(os.path.join(self.folder, "log"), "wb") as log:
            self.service = subprocess.Popen([BINARY, "serve"], env=self.environment, stdout=log, stderr=log)
        self.addCleanup(self.end)

    def end(self) -> None:
        if self.service.poll() is None:
            self.service.kill()
        self.service.wait(30)

    def log(self) -> str:
        with open(os.path.join(self.folder, "log"), encoding="utf-8") as log:
            return log.read()

    def message(self, seconds: float = 30) -> dict[str, str]:
        """The next thing that the service says."""
        self.manager.settimeout(seconds)
        try:
            text = self.manager.recv(4096).decode()
        except TimeoutError:
            raise AssertionError(f"the service said nothing for {seconds} s:\n{self.log()}") from None
        return dict(line.split("=", 1) for line in text.split("\n"))

    def test_start_life_and_end_are_told(self):
        folder = tempfile.mkdtemp(prefix="notify-")
        self.addCleanup(shutil.rmtree, folder)
        path = os.path.join(folder, "notify")
        self.listen(path)
        self.start(path, WATCHDOG_USEC="400000")

        ready = self.message()
        self.assertEqual(ready["READY"], "1")
        self.assertRegex(ready["STATUS"], r"^Listening on 127\.0\.0\.1:\d+; 0 events wait for ClickHouse$")
        began = time.monotonic()
        for _ in range(5):
            self.assertEqual(self.message(seconds=10)["WATCHDOG"], "1")
        # The first comes at once, and then one every 200 ms: neither slower nor in a flood.
        self.assertGreater(time.monotonic() - began, 0.6)

        self.service.send_signal(signal.SIGTERM)
        while "WATCHDOG" in (stopping := self.message()):
            pass
        self.assertEqual(stopping["STOPPING"], "1")
        # Time for the shutdown, and for closing what is open after it.
        self.assertEqual(stopping["EXTEND_TIMEOUT_USEC"], "32000000")
        self.assertEqual(self.service.wait(30), 0)
        self.assertNotIn("warning", self.log().lower())

    def test_a_service_that_hangs_says_nothing(self):
        # An abstract socket: its name is in no folder.
        name = f"ingestd-test-{os.getpid()}"
        self.listen("\0" + name)
        self.start("@" + name, WATCHDOG_USEC="200000")
        while "WATCHDOG" not in self.message():
            pass
        self.hang()
        self.manager.setblocking(False)
        with self.assertRaises(BlockingIOError):
            while True:  # what was said before
                self.manager.recv(4096)
        with self.assertRaises(AssertionError):
            self.message(seconds=1)

    def hang(self) -> None:
        """Stops the threads of the HTTP server, as a debugger does, and those only: the rest of the process is well."""
        is_stopped = False
        for thread in map(int, os.listdir(f"/proc/{self.service.pid}/task")):
            with open(f"/proc/{self.service.pid}/task/{thread}/comm") as name:
                if not name.read().startswith("NIO-"):
                    continue
            for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
                if LIBC.ptrace(request, thread, None, None) != 0:
                    self.skipTest(f"can't stop a thread: ptrace says {os.strerror(ctypes.get_errno())}")
            os.waitpid(thread, WALL)
            # A thread that is watched ends only when its watcher has seen it.
            self.addCleanup(os.waitpid, thread, WALL)
            self.addCleanup(self.service.kill)
            is_stopped = True
        self.assertTrue(is_stopped, "there are threads of the HTTP server")

    def test_nobody_to_tell(self):
        self.start("")
        wait_until(lambda: "waiting_events" in self.log(), "the service is ready")
        self.service.send_signal(signal.SIGTERM)
        self.assertEqual(self.service.wait(30), 0)
        self.assertNotIn("NOTIFY_SOCKET", self.log())


if __name__ == "__main__":
    unittest.main()
