#!/usr/bin/env python3
"""Stands in for the image grafana/grafana in `make stack-test`: answers /api/health, if its files are where it looks.

It draws nothing: that the dashboard shows what it should is tested elsewhere. What it proves is that the secret, the
provisioning files and the volume of stack.yml can be read and written by the image's user.
"""

import glob
import http.server
import json
import os
import signal
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == "/api/health"
        body = json.dumps({"database": "ok"} if found else {"message": "Not found"}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with open(os.environ["GF_SECURITY_ADMIN_PASSWORD__FILE"]) as file:
        assert file.read(), "an empty password"
    for kind in ("datasources", "dashboards"):
        assert glob.glob(f"/etc/grafana/provisioning/{kind}/*.yml"), kind
    with open("/etc/grafana/dashboards/ingestd.json") as file:
        assert json.load(file)["panels"]
    with open("/var/lib/grafana/grafana.db", "a") as file:
        file.write("started\n")
    http.server.ThreadingHTTPServer(("", 3000), Handler).serve_forever()


if __name__ == "__main__":
    main()
