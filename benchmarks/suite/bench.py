"""Runs `ingestd bench` for the parts."""

import json
import os
import subprocess

from .results import Results, number
from .servers import Failure
from .settings import Settings


class Bench:
    """What all parts share: settings, results, a folder, and a way to say what goes on."""

    def __init__(self, settings: Settings, results: Results, folder: str):
        self.settings = settings
        self.results = results
        self.folder = folder
        self._folders = 0

    def new_folder(self) -> str:
        """A folder for one part's journal and logs."""
        self._folders += 1
        path = os.path.join(self.folder, str(self._folders))
        os.mkdir(path)
        return path

    def say(self, text: str) -> None:
        """A line of progress."""
        print(f"  {text}", flush=True)

    def run(self, *arguments, limit: float = 900, **environment: str) -> list[dict]:
        """The JSON documents that a command prints."""
        command = [self.settings.binary("ingestd"), "bench", *map(str, arguments), "--json"]
        run = subprocess.run(
            command, env={**self.settings.environment, **environment}, capture_output=True, text=True, timeout=limit
        )
        documents = [json.loads(line) for line in run.stdout.splitlines()]
        if run.returncode != 0 and not (arguments[0] == "verify" and documents):
            raise Failure(f"ingestd bench {arguments[0]}: {run.stderr.strip()}")
        return documents

    def load(self, port: int, connections: int, events: int, seconds: float | None = None, **options) -> dict:
        """`bench http`; fails if anything was refused."""
        arguments = ["--port", port, "--connections", connections, "--events", events]
        arguments += ["--seconds", seconds or self.settings.seconds]
        for name, value in options.items():
            arguments += [f"--{name.replace('_', '-')}", value]
        [sent] = self.run("http", *arguments)
        if sent["refused"] or sent["unsent"]:
            raise Failure(f"not all was acknowledged: refused {sent['refused']}, not sent {sent['unsent']}")
        sent["events_per_second"] = sent["events"] / sent["seconds"]
        sent["requests_per_second"] = sent["requests"] / sent["seconds"]
        return sent

    def verify(self, ledger: str, clickhouse_url: str, what: str) -> None:
        """Every acknowledged event must be in ClickHouse."""
        [found] = self.run("verify", "--ledger", ledger, CLICKHOUSE_URL=clickhouse_url)
        self.results.verified += found["acknowledged"]
        self.say(
            f"verify: {number(found['acknowledged'])} acknowledged, {number(found['found'])} found, "
            f"{number(found['missing'])} missing, {number(found['copies'])} copies"
        )
        if found["missing"] or not found["acknowledged"]:
            raise Failure(f"{what}: {found['missing']} of {found['acknowledged']} events are missing: "
                          f"{', '.join(found['missing_ids'])}")  # fmt: skip
