"""kafka-dev makes topics that are asked for on standard input, as Kafka's stand-in in `make stack-test` does."""

import os
import subprocess
import unittest

from clickhouse_fixture import ROOT

KAFKA = os.path.join(ROOT, ".build/debug/kafka-dev")


@unittest.skipUnless(os.access(KAFKA, os.X_OK), "no debug build")
class TopicsFromStandardInputTests(unittest.TestCase):
    def setUp(self):
        self.process = subprocess.Popen(
            [KAFKA, "serve", "--topics-from-stdin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.addCleanup(self.process.stderr.close)
        self.addCleanup(self.process.stdout.close)
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)
        ready, address = self.process.stdout.readline().split()
        self.assertEqual(ready, "ready")
        self.address = address

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def test_makes_topics_until_input_ends(self):
        self.assertEqual(self.ask("events:3"), "created events\n")
        self.assertEqual(self.ask("events.dlq:1"), "created events.dlq\n")
        # The mock makes an unknown topic with 4 partitions by itself.
        for topic, partitions in (("events", 3), ("events.dlq", 1)):
            shown = subprocess.run(
                [KAFKA, "committed", "--bootstrap-servers", self.address, "--group", "g", "--topic", topic],
                capture_output=True, text=True, timeout=30, check=True,
            )  # fmt: skip
            self.assertEqual(len(shown.stdout.splitlines()), partitions, shown.stdout)
        self.process.stdin.close()
        self.assertEqual(self.process.wait(10), 0)

    def test_refuses_what_is_no_topic(self):
        self.process.stdin.write("events\n")
        self.process.stdin.close()
        self.assertEqual(self.process.wait(10), 64)
        self.assertIn('"events" is not NAME:PARTITIONS', self.process.stderr.read())


if __name__ == "__main__":
    unittest.main()
