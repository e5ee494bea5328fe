"""`ingestd health`: what health checks of containers go by."""

import os
import shutil
import socket
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.request

from service_fixture import BINARY, Service, free_port


def health(*arguments, **settings):
    """Runs the command with nothing but these settings."""
    return subprocess.run(
        [BINARY, "health", *arguments], env={"PATH": os.environ["PATH"], **settings}, capture_output=True, text=True,
        timeout=30,
    )  # fmt: skip


@unittest.skipUnless(os.access(BINARY, os.X_OK), "no build")
class HealthCommandTests(unittest.TestCase):
    def make_service(self, **settings):
        service = Service(**settings)
        self.addCleanup(service.close)
        return service

    def check(self, answer, code, text):
        self.assertEqual(answer.returncode, code, answer.stderr)
        self.assertEqual(len((answer.stdout + answer.stderr).splitlines()), 1, "one line")
        self.assertIn(text, answer.stdout + answer.stderr)

    def test_ready_without_a_token_and_at_the_address_listened_on(self):
        service = self.make_service(HTTP_TOKEN="events", HTTP_OPERATIONS_TOKEN="operations", HTTP_HOST="0.0.0.0")
        at = {"HTTP_HOST": "0.0.0.0", "HTTP_PORT": str(service.port)}
        self.check(health(**at), 0, "ready")
        self.check(health("--live", **at), 0, "alive")
        self.check(health("--http-port", str(service.port)), 0, "ready")

    def test_a_service_that_can_accept_nothing_is_alive_and_not_ready(self):
        # More than any disk has free.
        service = self.make_service(JOURNAL_MIN_FREE_DISK_BYTES="16TiB")
        request = urllib.request.Request(f"{service.url}/v1/events", data=b"{}")
        with self.assertRaises(urllib.error.HTTPError, msg="it looks at the disk when it is to write"):
            urllib.request.urlopen(request, timeout=10)
        at = {"HTTP_PORT": str(service.port)}
        self.check(health(**at), 1, "not ready; journal: ")
        self.check(health("--live", **at), 0, "alive")

    def test_nobody_or_somebody_else_there(self):
        self.check(health(HTTP_PORT=str(free_port())), 1, "no service answers at http://127.0.0.1:")
        self.check(health(HTTP_PORT="0"), 1, "HTTP_PORT is 0")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            silent = health(HTTP_PORT=str(port))  # accepts, and never answers
            self.check(silent, 1, f"no service answers at http://127.0.0.1:{port}")

    def test_over_tls(self):
        folder = tempfile.mkdtemp(prefix="health-")
        self.addCleanup(shutil.rmtree, folder)
        files = {"HTTP_TLS_CERTIFICATE": f"{folder}/service.pem", "HTTP_TLS_KEY": f"{folder}/service.key"}
        command = [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", files["HTTP_TLS_KEY"], "-out", files["HTTP_TLS_CERTIFICATE"], "-subj", "/CN=service.example",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)

        class Secure(Service):
            def _is_ready(self):
                # It asks for no certificate, so it is up once it takes connections.
                with socket.socket() as client:
                    return client.connect_ex(("127.0.0.1", self.port)) == 0

        service = Secure(**files)
        self.addCleanup(service.close)
        at = {"HTTP_PORT": str(service.port)}
        self.check(health(**at, **files), 0, "ready")
        self.check(health(**at), 1, "no service answers at http://")


if __name__ == "__main__":
    unittest.main()
