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


@unittest.skipUnless(has_systemd(252), "no systemd-analyze, or an older one")
@unittest.skipUnless(os.access(BINARY, os.X_OK), "no debug build")
class UnitTests(unittest.TestCase):
    def setUp(self):
        with open(UNIT, encoding="utf-8") as unit:
            self.unit = unit.read()
        self.folder = tempfile.mkdtemp(prefix="unit-")
        self.addCleanup(shutil.rmtree, self.folder)

    def analyze(self, unit: str, *arguments: str) -> subprocess.CompletedProcess:
        path = os.path.join(self.folder, "ingestd.service")
        with open(path, "w", encoding="utf-8") as file:
            # The program is not installed here.
            file.write(unit.replace("=/usr/bin/ingestd ", "=/bin/true "))
        return subprocess.run(["systemd-analyze", *arguments, path], capture_output=True, text=True, timeout=60)

    def test_systemd_understands_the_unit(self):
        def verify(unit: str) -> str:
            answer = self.analyze(unit, "verify", "--man=no", "--recursive-errors=no")
            return f"{answer.stdout}{answer.stderr}" + ("" if answer.returncode == 0 else "failed")

        self.assertEqual(verify(self.unit), "")
        self.assertIn("ProtectSytem", verify(self.unit.replace("ProtectSystem", "ProtectSytem")))

    def test_little_is_possible_from_within(self):
        def check(unit: str) -> subprocess.CompletedProcess:
            threshold = f"--threshold={round(MOST_EXPOSURE * 10)}"
            return self.analyze(unit, "security", "--offline=true", "--no-pager", threshold)

        answer = check(self.unit)
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
        self.assertNotEqual(check(self.unit.replace("CapabilityBoundingSet=\n", "")).returncode, 0, "the check works")

    def test_times_and_secrets_fit_the_service(self):
        reference = subprocess.run([BINARY, "config", "reference"], capture_output=True, text=True, check=True).stdout
        secrets = re.search(r"^- Secrets \((.*?)\)", reference, re.MULTILINE)[1]
        loaded = re.findall(r"^LoadCredential=(\w+):ingestd\.(\w+)$", self.unit, re.MULTILINE)
        self.assertEqual({name for name, _ in loaded}, {name for _, name in loaded})
        self.assertEqual({name.upper() for name, _ in loaded}, set(re.findall(r"`(\w+)`", secrets)))

        timeout = re.search(r"`SHUTDOWN_TIMEOUT` \| `(\d+)s`", reference)[1]
        self.assertGreater(int(re.search(r"^TimeoutStopSec=(\d+)s$", self.unit, re.MULTILINE)[1]), int(timeout) + 30)


if __name__ == "__main__":
    unittest.main()
