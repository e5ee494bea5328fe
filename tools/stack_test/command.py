"""The order of things: build, start Docker, run the checks, count, and take everything away again."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from . import checks, laboratory, local_images, mesh
from .laboratory import Failure
from .pipeline import HIDDEN, Pipeline

# What hangs is ended: the checks together, and all of it (without building the programs).
LIMIT_SECONDS = int(os.environ.get("STACK_TEST_SECONDS", "2400"))


class Ended(Exception):
    """A signal, or the time is up."""


def _on_signal(number: int, _) -> None:
    # Once: what follows takes everything away and must not be interrupted.
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise Ended(f"not done after {LIMIT_SECONDS} s (STACK_TEST_SECONDS)" if number == signal.SIGALRM else "interrupted")


def main(arguments: list[str]) -> int:
    """The command; returns the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGHUP):
        signal.signal(number, _on_signal)
    if arguments[:1] == ["--inside"]:
        return _inside(arguments[1], arguments[2:])
    unknown = set(arguments) - set(checks.names())
    if unknown:
        print(f"usage: tools/stack-test [NAME...], with names of: {', '.join(checks.names())}", file=sys.stderr)
        return 64
    return _outside(arguments)


def _outside(arguments: list[str]) -> int:
    """Prepares what takes a network or time, and runs the rest in namespaces of its own."""
    if os.geteuid() != 0:
        print("stack-test: starts a Docker daemon of its own, for which it must be root", file=sys.stderr)
        print("0 passed, 1 failed")
        return 1
    # Short: paths of sockets may have 107 characters only.
    folder = tempfile.mkdtemp(prefix="stack-test-", dir=os.environ.get("TMPDIR", "/tmp"))
    os.makedirs(os.path.join(folder, "logs"))
    inside, code = None, 1
    try:
        laboratory.require(
            "dockerd", "docker", "containerd", "runc", "iptables", "ip", "unshare", "nsenter", "debootstrap", "chroot",
            "prometheus", "make",
        )  # fmt: skip
        local_images.python_packages()
        service, kafka = local_images.make_programs()
        signal.alarm(LIMIT_SECONDS)
        started = time.monotonic()
        local_images.make_bases(folder)
        print(f"base systems are there ({time.monotonic() - started:.1f} s)", flush=True)
        os.environ |= {"STACK_BINARY": service, "STACK_KAFKA_BINARY": kafka}
        inside = laboratory.enter(folder, arguments)
        code = inside.wait()
    except (Failure, Ended, subprocess.CalledProcessError) as error:
        print(f"stack-test: {error}", file=sys.stderr)
        if inside is None:
            print("0 passed, 1 failed")
    finally:
        if inside:
            laboratory.leave(inside)
        laboratory.remove_cgroups(os.path.basename(folder))
        # Made to be hidden; of a stack that is used it is not empty.
        with contextlib.suppress(OSError):
            os.rmdir(HIDDEN)
        if code == 0:
            shutil.rmtree(folder)
        else:
            _keep_logs(folder)
    return 0 if code == 0 else 1


def _keep_logs(folder: str) -> None:
    """Removes all but the logs, and says where they are."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name != "logs":
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.remove(path)
    print(f"logs: {folder}/logs", flush=True)


def _inside(folder: str, only: list[str]) -> int:
    """Runs the checks; this process is the first of its namespaces, which end with it."""
    docker = laboratory.Daemon(folder)
    pipeline = Pipeline(docker, folder)
    count = checks.Count()
    balancer = None
    try:
        docker.start()
        if mesh.kernel_has_ipvs():
            print("Swarm balances by the kernel's IPVS")
        else:
            balancer = mesh.Mesh(docker.socket, docker.exec_root)
            balancer.start()
            print("this kernel has no IPVS: iptables stand in for Swarm's load balancer")
        started = time.monotonic()
        local_images.import_bases(docker)
        local_images.build_stand_ins(docker, folder, os.environ["STACK_KAFKA_BINARY"])
        print(f"stand-ins of others' images are built ({time.monotonic() - started:.1f} s)", flush=True)
        checks.run_all(pipeline, count, only)
    except (Failure, Ended, OSError, subprocess.SubprocessError) as error:
        print(f"stack-test: {error}", flush=True)
        count.failed += 1
    finally:
        if count.failed:
            with contextlib.suppress(Failure, subprocess.SubprocessError, OSError):
                _save(pipeline, folder, balancer)
        if balancer:
            balancer.stop()
        if hasattr(docker, "process"):
            docker.stop()
        _unmount(folder)
    print(f"{count.passed} passed, {count.failed} failed", flush=True)
    return 1 if count.failed or not count.passed else 0


def _save(pipeline: Pipeline, folder: str, balancer: mesh.Mesh | None) -> None:
    """Writes down the state of tasks and the logs of containers."""
    logs = os.path.join(folder, "logs")
    with open(os.path.join(logs, "tasks.txt"), "w", encoding="utf-8") as file:
        file.write(pipeline.states() + "\n")
        if balancer:
            file.write(f"last error of the load balancer's stand-in: {balancer.last_error or 'none'}\n")
    docker = pipeline.docker
    for name in docker.run("ps", "--all", "--format", "{{.Names}}").split():
        with open(os.path.join(logs, f"{name}.log"), "wb") as file:
            subprocess.run(["docker", "logs", name], stdout=file, stderr=file, env=docker.environment, timeout=30)


def _unmount(folder: str) -> None:
    """Unmounts what the daemon has left, so that the folder can be removed."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        points = [line.split()[1] for line in file]
    for point in reversed(points):
        if point.startswith(folder + "/"):
            subprocess.run(["umount", "--lazy", point], capture_output=True)
