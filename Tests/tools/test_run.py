"""`make run` from end to end, with the debug build that `make test` has made."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
import urllib.request

from clickhouse_fixture import ROOT, descendants, is_alive, wait_until

BINARIES = [os.path.join(ROOT, ".build/debug", name) for name in ("ingestd", "kafka-dev")]
EVENTS = 600


@unittest.skipUnless(all(os.access(path, os.X_OK) for path in BINARIES), "no debug build")
class RunTests(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="run-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.log = os.path.join(self.folder, "output")
        # Whatever the developer's shell points at: this test starts everything itself.
        prefixes = ("KAFKA_", "CLICKHOUSE_", "HTTP_", "JOURNAL_")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
        self.environment["CLICKHOUSE_PASSWORD"] = "it's \\secret"

    def start(self, *arguments):
        command = [os.path.join(ROOT, "tools/run"), "--no-build", "--configuration", "debug", "--data", self.folder]
        with open(self.log, "w") as output:
            process = subprocess.Popen(
                [*command, "--events", str(EVENTS), *arguments],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        if process.poll() is None:
            process.terminate()
        process.wait(60)

    def output(self):
        with open(self.log) as file:
            return file.read()

    def wait_for(self, text, process):
        wait_until(lambda: text in self.output() or process.poll() is not None, text, 120)
        self.assertIn(text, self.output())

    def number(self, label):
        match = re.search(rf"^ +{re.escape(label)}.* ([\d,]+)$", self.output(), re.MULTILINE)
        return int(match[1].replace(",", ""))

    def test_twice_in_the_same_folder(self):
        for _ in range(2):
            process = self.start("--once")
            self.assertEqual(process.wait(180), 0, self.output())
            self.assertEqual(self.number("sent"), self.number("acknowledged"))
            self.assertEqual(self.number("waiting in the journal"), 0)
            self.assertEqual(self.number("different event ids"), EVENTS)
            self.assertEqual(self.number("rows without copies (FINAL)"), EVENTS)

    def test_acknowledges_while_clickhouse_is_down_and_leaves_nothing_behind(self):
        process = self.start()
        self.wait_for("Ctrl-C stops everything", process)
        service = re.search(r"ingestd at (http://\S+),", self.output())[1]
        clickhouse = re.search(r"ClickHouse at (http://[^,]+),", self.output())[1]
        children = descendants(process.pid)

        process.send_signal(signal.SIGUSR1)
        self.wait_for("ClickHouse is stopped", process)
        event = b'{"event_id":"sent-while-down"}'
        request = urllib.request.Request(service + "/v1/events", event, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            self.assertEqual(response.status, 202)
        process.send_signal(signal.SIGUSR1)
        self.wait_for("ClickHouse is back", process)

        query = b"SELECT count() FROM events WHERE event_id = 'sent-while-down'"
        headers = {"X-ClickHouse-Key": self.environment["CLICKHOUSE_PASSWORD"]}

        def has_arrived():
            with urllib.request.urlopen(urllib.request.Request(clickhouse, query, headers), timeout=30) as response:
                return response.read() == b"1\n"

        wait_until(has_arrived, "the event is in ClickHouse", 60)
        children += descendants(process.pid)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(60), 0, self.output())
        self.assertLess(time.monotonic() - started, 30)
        self.assertFalse([pid for pid in children if is_alive(pid)])

    def test_sigkill_leaves_nothing_behind(self):
        process = self.start()
        self.wait_for("Ctrl-C stops everything", process)
        children = descendants(process.pid)
        self.assertEqual(len(children), 3)
        process.kill()
        wait_until(lambda: not any(map(is_alive, children)), "all children end", 60)


if __name__ == "__main__":
    unittest.main()
