"""Other programs that take events over HTTP and keep them on disk, where they are installed."""

from .bench import Bench


def measure(bench: Bench) -> None:
    """Peers on PATH, with a disk buffer."""
    bench.say("none")
