"""What was measured, and what was aimed at."""

from dataclasses import asdict, dataclass, field


@dataclass
class Value:
    """One figure."""

    value: float
    unit: str
    # "higher" or "lower"
    better: str


@dataclass
class Results:
    """All figures of a run, by name; curves are lists of x and y."""

    values: dict[str, Value] = field(default_factory=dict)
    curves: dict[str, dict] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    verified: int = 0

    def add(self, name: str, value: float, unit: str, better: str = "higher") -> float:
        """Notes a figure."""
        self.values[name] = Value(value, unit, better)
        return value

    def get(self, name: str) -> float | None:
        """A figure, if it was measured."""
        found = self.values.get(name)
        return found.value if found else None

    def curve(self, name: str, x_label: str, y_label: str, points: list[tuple[float, float]]) -> None:
        """Notes a curve."""
        self.curves[name] = {"x": x_label, "y": y_label, "points": points}

    def backlog(self) -> str:
        """The size of the backlog that the targets of a start and of memory were measured with."""
        size = self.get("backlog_size")
        return "10 GB" if size in (None, 10) else f"{number(size)} GB (not 10)"

    def document(self) -> dict:
        """For JSON."""
        return {
            "values": {name: asdict(value) for name, value in sorted(self.values.items())},
            "curves": self.curves,
            "failures": self.failures,
            "verified_events": self.verified,
            "targets": [
                {
                    "target": target.label(self),
                    "goal": target.goal,
                    "measured": target.measured(self),
                    "met": target.is_met(self),
                }
                for target in TARGETS
            ],
        }


@dataclass(frozen=True)
class Target:
    """A figure that is to be reached."""

    text: str
    name: str
    goal: float | None
    unit: str
    # "at least" or "at most"
    bound: str = "at least"

    def label(self, results: Results) -> str:
        """What it says in the table."""
        return self.text.replace("BACKLOG", results.backlog())

    def measured(self, results: Results) -> float | None:
        """Where it stands."""
        return results.get(self.name)

    def is_met(self, results: Results) -> bool | None:
        """None: not measured, or only reported."""
        value = self.measured(results)
        if value is None or self.goal is None:
            return None
        return value >= self.goal if self.bound == "at least" else value <= self.goal


# fmt: off
TARGETS = [
    Target("journal append, 1 MiB commits / write+fdatasync", "journal_1mib_ratio", 0.7, "ratio"),
    Target("HTTP, bodies of 1,000, 16 connections", "http_16x1000_events", 1_800_000, "events/s"),
    Target("  the same / fluent-bit with storage.sync full", "http_16x1000_to_fluent_bit", 20, "ratio"),
    Target("HTTP, single events, 256 connections / body-only Hummingbird",
           "http_256x1_hummingbird_ratio", 0.8, "ratio"),
    Target("  the same / body-only bare NIO", "http_256x1_nio_ratio", None, "ratio"),
    Target("  p99", "http_256x1_p99", 15, "ms", "at most"),
    Target("HTTP, single events, 16 connections / body-only Hummingbird",
           "http_16x1_hummingbird_ratio", 0.75, "ratio"),
    Target("  the same / body-only bare NIO", "http_16x1_nio_ratio", None, "ratio"),
    Target("  p99", "http_16x1_p99", 3, "ms", "at most"),
    Target("Kafka -> journal", "kafka_journal_events", 500_000, "events/s"),
    Target("  the same / bare consumer", "kafka_journal_ratio", 0.8, "ratio"),
    Target("  CPU per event, librdkafka's included", "kafka_journal_cpu", None, "us", "at most"),
    Target("  what source and journal add to it", "kafka_added_cpu", None, "us", "at most"),
    Target("  the same / rsyslogd with a flushed disk queue", "kafka_journal_to_rsyslogd", None, "ratio"),
    Target("journal -> ClickHouse / direct INSERTs", "drain_ratio", 0.9, "ratio"),
    Target("HTTP -> ClickHouse, both running", "http_clickhouse_events", 240_000, "events/s"),
    Target("CPU per event, ingest", "ingest_cpu", None, "us", "at most"),
    Target("CPU per event, drain", "drain_cpu", None, "us", "at most"),
    Target("anonymous memory, backlog of BACKLOG, under load", "memory_backlog", 200, "MiB", "at most"),
    Target("start with a backlog of BACKLOG until ready", "start_backlog", 1, "s", "at most"),
    Target("rate with the largest backlog / with the smallest", "backlog_rate_ratio", 0.9, "ratio"),
]
# fmt: on


def table(results: Results) -> str:
    """The targets and where each stands."""
    width = max(len(target.label(results)) for target in TARGETS)
    lines = [f"{'target':{width}}  {'wanted':>27}  {'measured':>20}"]
    for target in TARGETS:
        goal = "reported" if target.goal is None else f"{target.bound} {number(target.goal)} {target.unit}"
        value = target.measured(results)
        measured = "-" if value is None else f"{number(value)} {target.unit}"
        met = {True: "met", False: "MISSED", None: "not measured" if value is None else ""}[target.is_met(results)]
        lines.append(f"{target.label(results):{width}}  {goal:>27}  {measured:>20}  {met}".rstrip())
    return "\n".join(lines)


def number(value: float) -> str:
    """Short, with thousands separated."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
