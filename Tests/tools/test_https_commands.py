"""Commands that ask a running service do so over HTTPS where it serves that."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import unittest
import urllib.request

from clickhouse_fixture import ROOT, wait_until

INGESTD = os.path.join(ROOT, ".build/debug/ingestd")


@unittest.skipUnless(os.access(INGESTD, os.X_OK), "no debug build")
class HTTPSCommandTests(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="https-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.make_certificate("service")
        self.environment = {
            "PATH": os.environ["PATH"], "HTTP_PORT": "0", "JOURNAL_PATH": os.path.join(self.folder, "journal"),
            "KAFKA_CONSUMER_ENABLED": "false", "CLICKHOUSE_URL": "http://127.0.0.1:1", "LOG_FORMAT": "text",
            "SHUTDOWN_TIMEOUT": "0s", "HTTP_TOKEN": "events", "HTTP_OPERATIONS_TOKEN": "operations",
            "HTTP_TLS_CERTIFICATE": self.path("service.pem"), "HTTP_TLS_KEY": self.path("service.key"),
            "HTTP_TLS_CLIENT_CA": self.path("service.pem"),
        }  # fmt: skip

    def path(self, name):
        return os.path.join(self.folder, name)

    def make_certificate(self, name):
        # For a name that nobody calls it by, and signed by itself: the command knows the file, not an authority.
        command = [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", self.path(f"{name}.key"), "-out", self.path(f"{name}.pem"), "-subj", f"/CN={name}.example",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)

    def start(self):
        log = self.path("log")
        with open(log, "w") as output:
            service = subprocess.Popen([INGESTD, "serve"], env=self.environment, stdout=output, stderr=output)
        self.addCleanup(service.wait, 60)
        self.addCleanup(service.terminate)

        def address():
            with open(log) as text:
                return re.search(r"http=127.0.0.1:(\d+)", text.read())

        wait_until(lambda: address() or service.poll() is not None, "the service is ready")
        with open(log) as text:
            self.assertTrue(address(), text.read())
        self.environment["HTTP_PORT"] = address()[1]

    def run_command(self, *arguments, **changes):
        environment = {name: value for name, value in (self.environment | changes).items() if value is not None}
        return subprocess.run([INGESTD, *arguments], env=environment, capture_output=True, text=True, timeout=60)

    def test_a_command_asks_the_service_over_tls(self):
        self.start()
        answer = self.run_command("dead-letters", "retry", "--all")
        self.assertEqual(answer.returncode, 0, answer.stderr)

        picture = self.run_command("top", "--once")
        self.assertEqual(picture.returncode, 0, picture.stderr)
        self.assertIn(f"connected  {socket.gethostname()}", picture.stdout)
        self.assertIn(f"https://127.0.0.1:{self.environment['HTTP_PORT']}", picture.stdout)

        with open(self.path("tokens"), "w") as tokens:
            tokens.write("events ingest\noperations operations\n")
        for command in (["top", "--once"], ["dead-letters", "retry", "--all"]):
            answer = self.run_command(*command, HTTP_OPERATIONS_TOKEN=None, HTTP_TOKENS_PATH=self.path("tokens"))
            self.assertEqual(answer.returncode, 0, answer.stderr)

        refused = self.run_command("dead-letters", "retry", "--all", HTTP_OPERATIONS_TOKEN="events")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("HTTP_OPERATIONS_TOKEN", refused.stderr)

        self.make_certificate("other")
        other = {"HTTP_TLS_CERTIFICATE": self.path("other.pem"), "HTTP_TLS_KEY": self.path("other.key")}
        stranger = self.run_command("dead-letters", "retry", "--all", **other)
        self.assertEqual(stranger.returncode, 1, "another service's certificate is not accepted")

        context = ssl.create_default_context(cafile=self.path("service.pem"))
        context.check_hostname = False
        with self.assertRaises(OSError, msg="the service wants a certificate of its clients"):
            port = self.environment["HTTP_PORT"]
            urllib.request.urlopen(f"https://127.0.0.1:{port}/livez", timeout=10, context=context)


if __name__ == "__main__":
    unittest.main()
