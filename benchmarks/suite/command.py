"""The command: runs the parts, prints the table, writes JSON and plot."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from . import machine, parts, peers, plot
from .bench import Bench
from .results import Results, table
from .servers import Failure
from .settings import Settings

PARTS: dict[str, Callable[[Bench], None]] = {
    "journal": parts.journal,
    "http": parts.http,
    "kafka": parts.kafka,
    # Behind those whose figures it compares with.
    "peers": peers.measure,
    "drain": parts.drain,
    "http-clickhouse": parts.http_to_clickhouse,
    "kafka-clickhouse": parts.kafka_to_clickhouse,
    "recovery": parts.recovery,
    "curves": parts.curves,
    "backlog": parts.backlog,
}


def main(usage: str) -> int:
    """The command; returns the exit code."""
    if len(sys.argv) > 1:
        print(usage.strip())
        return 0 if sys.argv[1] in ("-h", "--help") else 64
    settings = Settings.load()
    unknown = [name for name in settings.only if name not in PARTS]
    if unknown:
        for name, part in PARTS.items():
            print(f"{name:18} {part.__doc__}")
        return 0 if unknown == ["help"] else 64
    for name in ("ingestd", "kafka-dev"):
        if not os.access(settings.binary(name), os.X_OK):
            print(f"benchmarks/run: {settings.binary(name)} is not built: make bench builds it", file=sys.stderr)
            return 1
    # Ended like Ctrl-C: what was started is ended, and what was made is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = tempfile.mkdtemp(prefix="bench-", dir=settings.folder)
    try:
        return _run(settings, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(settings: Settings, folder: str) -> int:
    started = time.monotonic()
    facts = machine.facts(folder)
    for name, value in facts.items():
        print(f"{name:10} {value}")
    results = Results()
    bench = Bench(settings, results, folder)
    for name, part in PARTS.items():
        if settings.only and name not in settings.only:
            continue
        print(f"{name}: {part.__doc__}", flush=True)
        before = time.monotonic()
        try:
            part(bench)
        except (Failure, OSError, subprocess.SubprocessError) as error:
            results.failures.append(f"{name}: {error}")
            print(f"  FAILED: {error}", flush=True)
        bench.say(f"({time.monotonic() - before:.0f} s)")
    document = {
        "format": 1,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": facts,
        "quick": settings.quick,
        "seconds_per_load": settings.seconds,
        "seconds": round(time.monotonic() - started, 1),
        **results.document(),
    }
    os.makedirs(os.path.dirname(settings.out), exist_ok=True)
    with open(settings.out, "w") as file:
        json.dump(document, file, indent=1)
        file.write("\n")
    drawing = os.path.splitext(settings.out)[0] + ".svg"
    with open(drawing, "w") as file:
        file.write(plot.svg(results.curves))
    print()
    print(table(results))
    print()
    if settings.quick:
        print("A quick run: it shows that everything works, and nothing about speed.")
    print(f"{results.verified:,} acknowledged events were looked for in ClickHouse; {document['seconds']:.0f} s in all")
    print(f"{settings.out}\n{drawing}")
    for failure in results.failures:
        print(f"FAILED: {failure}")
    return 1 if results.failures else 0
