"""stack.yml as tests read it, and a docker that is a script, for tests of the tools that deploy it."""

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

import yaml

from clickhouse_fixture import ROOT

ONE_SHOTS = {"kafka-init", "schema-init"}


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def stack():
    """stack.yml with the defaults of its variables."""
    return yaml.safe_load(re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", read("stack.yml")))


def seconds(duration):
    value, unit = re.fullmatch(r"(\d+)(s|m)", duration).groups()
    return int(value) * {"s": 1, "m": 60}[unit]


# State is files in $FAKE: swarm (JSON), images, secrets, services, labels. Everything asked for is appended to calls.
FAKE_DOCKER = r"""#!/bin/sh
echo "$*" >>"$FAKE/calls"
case "$*" in
    'info --format'*) cat "$FAKE/swarm" ;;
    'swarm init'*) echo '{"LocalNodeState":"active","ControlAvailable":true,"NodeID":"n1"}' >"$FAKE/swarm" ;;
    'image inspect '*) grep -qx "$3" "$FAKE/images" ;;
    'pull '*) echo "no route to registry" >&2; exit 1 ;;
    'node ls'*) echo n1 ;;
    'node inspect'*NanoCPUs*) echo "true $(cat "$FAKE/cpus")000000000" ;;
    'node inspect'*) cat "$FAKE/labels" ;;
    'node update'*) echo true >"$FAKE/labels" ;;
    'secret ls'*) cat "$FAKE/secrets" ;;
    'secret create'*) echo "$5" >>"$FAKE/secrets"; cat >"$FAKE/secret-$5" ;;
    'stack deploy'*) env | grep -E '^(CONFIG|TAG|[A-Z]+_CPUS)' >"$FAKE/environment"; cp "$FAKE/deployed" "$FAKE/services" ;;
    'stack ls'*) [ ! -s "$FAKE/services" ] || echo ingestd ;;
    'stack rm'*) : >"$FAKE/services" ;;
    'service ls'*Ports*) cat "$FAKE/ports" ;;
    'service ls'*) cat "$FAKE/services" ;;
    'service inspect'*) if [ -s "$FAKE/services" ] && [ -e "$FAKE/update" ]; then cat "$FAKE/update"; else echo null; fi ;;
    'service ps'*-init) echo 'Complete 1 second ago	' ;;
    'service ps --quiet'*) echo t1 t2 t3 ;;
    'service ps'*) echo 'Failed 1 second ago	task: of old' ;;
    'inspect --type task'*) cat "$FAKE/tasks" ;;
    'volume ls'*) echo ingestd_journal-1 ;;
esac
"""
ACTIVE = '{"LocalNodeState":"active","ControlAvailable":true,"NodeID":"n1"}'


class StackToolCase(unittest.TestCase):
    """Runs a tool, with the stand-in for docker, in a folder that is removed."""

    TOOL = "tools/stack"

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="stack-")
        self.addCleanup(shutil.rmtree, self.folder)
        # Two ports that are free.
        self.ports = [socket.create_server(("", 0)) for _ in range(2)]
        http, grafana = (listener.getsockname()[1] for listener in self.ports)
        for listener in self.ports:
            listener.close()
        self.environment = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}", "FAKE": self.folder, "STACK_POLL_SECONDS": "0.01",
            "STACK_SECRETS_DIR": f"{self.folder}/mine", "STACK_HTTP_PORT": str(http), "STACK_NAME": "ingestd",
            "STACK_GRAFANA_PORT": str(grafana), "STACK_TIMEOUT": "30",
        }  # fmt: skip
        os.mkdir(f"{self.folder}/bin")
        self.write("bin/docker", FAKE_DOCKER)
        os.chmod(f"{self.folder}/bin/docker", 0o755)
        self.write("swarm", ACTIVE)
        self.write("images", "".join(f"{service['image']}\n" for service in stack()["services"].values()))
        self.write("labels", "\n")
        self.write("cpus", "4")
        # The first is the newest of replica 1, the second of replica 2.
        errors = ("2026-01-01T10:00:00Z", "task: of old"), ("2026-01-01T11:00:00Z", "task: non-zero exit (1)")
        tasks = [{"Status": {"Timestamp": time, "Err": error}} for time, error in errors]
        self.write("tasks", json.dumps([*tasks, {"Status": {"Timestamp": "2026-01-01T12:00:00Z"}}]))
        for name in ("secrets", "services", "ports", "calls"):
            self.write(name, "")
        self.write(
            "deployed",
            "".join(f"ingestd_{name}\t{'0/1' if name in ONE_SHOTS else '1/1'}\n" for name in stack()["services"]),
        )

    def write(self, name, text):
        with open(f"{self.folder}/{name}", "w") as file:
            file.write(text)

    def fake(self, name):
        with open(f"{self.folder}/{name}") as file:
            return file.read()

    def run_tool(self, command="up", **changes):
        return subprocess.run(
            [os.path.join(ROOT, self.TOOL), command], env=self.environment | changes, capture_output=True,
            text=True, timeout=60,
        )  # fmt: skip

    def refused(self, *words, command="up", **changes):
        answer = self.run_tool(command, **changes)
        self.assertEqual(answer.returncode, 1, answer.stdout)
        for word in words:
            self.assertIn(word, answer.stderr)
        self.assertNotIn("Traceback", answer.stderr)
        return answer
