"""Child processes: started, watched, stopped; none survives.

Each gets a session of its own, so that Ctrl-C in the terminal reaches only us and we stop them in order. Should we be
killed, the kernel tells them (and those that take `--exit-with-stdin` see their stdin close as well).
"""

import os
import re
import signal
import subprocess
import time

from clickhouse_dev.server_process import die_with_parent


class Failure(Exception):
    """Why it can't go on, in words for the user."""


class Child:
    """One child process with a log file."""

    def __init__(self, name: str, command: list[str], log: str, environment: dict[str, str] | None = None):
        self.name = name
        self._log = log
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
        self.pid = self._process.pid

    def log_text(self) -> str:
        """All that the child has printed."""
        with open(self._log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def wait_for_line(self, pattern: str, seconds: float) -> re.Match:
        """Waits until the child has printed a line that matches."""
        line = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + seconds
        while True:
            match = line.search(self.log_text())
            if match:
                return match
            self.check()
            if time.monotonic() > deadline:
                raise Failure(f"{self.name} is not ready after {seconds:.0f} s:\n{self._last_words()}")
            time.sleep(0.02)

    def check(self) -> None:
        """Raises if the child has ended."""
        code = self._process.poll()
        if code is not None:
            raise Failure(f"{self.name} ended with code {code}; its last words (all of them in {self._log}):\n"
                          f"{self._last_words()}")  # fmt: skip

    def _last_words(self) -> str:
        return "\n".join("    " + line for line in self.log_text().splitlines()[-10:])

    def stop(self, seconds: float) -> None:
        """SIGTERM, and SIGKILL if that does not help in time."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                print(f"{self.name} did not stop within {seconds:.0f} s: killed", flush=True)
                self.kill()
        self._process.stdin.close()

    def kill(self) -> None:
        """SIGKILL."""
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
