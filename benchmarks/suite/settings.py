"""What a run is to do, from the environment."""

import os
from dataclasses import dataclass, field

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


@dataclass
class Settings:
    """One run."""

    quick: bool
    seconds: float
    folder: str
    backlog_gb: float
    only: list[str]
    out: str
    binaries: str
    clickhouse_url: str
    environment: dict[str, str] = field(repr=False)

    @classmethod
    def load(cls) -> "Settings":
        """Reads the environment; relative paths count from the repository's folder."""
        given = os.environ.get
        quick = given("BENCH_QUICK", "") not in ("", "0")
        # The operator's settings are for the operator's service; here only what these scripts set is in force.
        prefixes = ("KAFKA_", "CLICKHOUSE_", "HTTP_", "JOURNAL_", "BATCH_", "INGESTD_", "BENCH_")
        return cls(
            quick=quick,
            seconds=float(given("BENCH_SECONDS") or (0.5 if quick else 5)),
            folder=os.path.join(ROOT, given("BENCH_DIR") or "."),
            backlog_gb=float(given("BENCH_BACKLOG_GB") or (0.2 if quick else 20)),
            only=[name for name in (given("BENCH_ONLY") or "").split(",") if name],
            out=os.path.join(ROOT, given("BENCH_OUT") or ".build/bench/results.json"),
            binaries=os.path.join(ROOT, given("BENCH_BINARIES") or ".build/release"),
            clickhouse_url=given("CLICKHOUSE_URL") or "",
            environment={name: value for name, value in os.environ.items() if not name.startswith(prefixes)},
        )

    def binary(self, name: str) -> str:
        """The path of one of our programs."""
        return os.path.join(self.binaries, name)
