"""What the figures were measured on."""

import os
import platform
import subprocess

from .settings import ROOT


def facts(folder: str) -> dict[str, str]:
    """Processor, memory, system, disk, version."""
    with open("/proc/cpuinfo") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) / (1 << 20)
    disk = _output("df", "--output=fstype,size,avail", "--block-size=G", folder).splitlines()[-1].split()
    return {
        "processor": f"{len(os.sched_getaffinity(0))} x {models[0] if models else platform.machine()}",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "disk": f"{disk[0]}, {disk[1]}, {disk[2]} free",
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "commit": _output("git", "-C", ROOT, "describe", "--always", "--dirty"),
    }


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
